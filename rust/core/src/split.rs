//! Cuts a text into pieces, losslessly: the pieces, one after the other, are the text.

use std::ops::Range;

use text_splitter::{ChunkConfig, TextSplitter};

use crate::error::{Error, Result};

/// What cut the text. It is stored with the data, since other rules would cut otherwise.
pub const SPLITTER_VERSION: &str = "text-splitter/0.29.3 lossless-1";

/// Byte ranges of the pieces of `text`: at most `chunk_chars` characters each, cut at the highest
/// of paragraph, line, sentence, word that fits.
///
/// A piece of white space alone says nothing and is joined to the piece before it (the first one
/// to the piece after it), so a piece may be longer by its white space.
///
/// # Errors
/// A `chunk_chars` of zero.
pub fn split(text: &str, chunk_chars: usize) -> Result<Vec<Range<usize>>> {
    if chunk_chars == 0 {
        return Err(Error::ZeroChunkChars);
    }
    // Most texts are short, and to look for sentences in them would cost more than all the rest.
    if text.chars().nth(chunk_chars).is_none() {
        return Ok(Vec::from_iter((!text.is_empty()).then_some(0..text.len())));
    }
    let splitter = TextSplitter::new(ChunkConfig::new(chunk_chars).with_trim(false));
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut all_blank = true;
    for (start, piece) in splitter.chunk_indices(text) {
        let (blank, end) = (is_blank(piece), start + piece.len());
        match pieces.last_mut() {
            Some(last) if blank || all_blank => last.end = end,
            _ => {
                // From the end before, not from `start`: lossless by construction.
                let start = pieces.last().map_or(0, |last| last.end);
                pieces.push(start..end);
            }
        }
        all_blank &= blank;
    }
    if let Some(last) = pieces.last_mut() {
        last.end = text.len();
    }
    Ok(pieces)
}

fn is_blank(piece: &str) -> bool {
    piece.chars().all(char::is_whitespace)
}
