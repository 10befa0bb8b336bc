//! Cuts a text into pieces, losslessly: the pieces, one after the other, are the text.

use std::ops::Range;

use text_splitter::{ChunkConfig, TextSplitter};

use crate::error::{Error, Result};

/// What cut the text. It is stored with the data, since other rules would cut otherwise.
pub const SPLITTER_VERSION: &str = "text-splitter/0.29.3 lossless-2";

/// How many bytes the splitter sees at once, for each character of a piece: at least four pieces,
/// since a character has four bytes at most.
///
/// From the start of every piece it looks for the end of the sentence, to the end of all it sees
/// where there is none, and it sorts all the lines it sees; so it is linear only while what it
/// sees is a fixed number of pieces.
const WINDOW_BYTES_PER_CHAR: usize = 16;

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
    Ok(split_in_windows(text, chunk_chars, |window, starts| {
        starts.extend(splitter.chunk_indices(window).map(|(start, _)| start));
    }))
}

/// `find_starts` adds the offsets at which the pieces of a window start, the first one included.
fn split_in_windows(
    text: &str,
    chunk_chars: usize,
    mut find_starts: impl FnMut(&str, &mut Vec<usize>),
) -> Vec<Range<usize>> {
    let window_bytes = chunk_chars.saturating_mul(WINDOW_BYTES_PER_CHAR);
    let (mut pieces, mut starts, mut start) = (Pieces::default(), Vec::new(), 0_usize);
    while start < text.len() {
        let first = start;
        let last = floor_char_boundary(text, first.saturating_add(window_bytes));
        starts.clear();
        find_starts(&text[first..last], &mut starts);
        starts.push(last - first);
        // Where a piece ends may depend on what follows it. So the last quarter of a window, room
        // for one piece at least, is only looked at: the next window starts with the piece that
        // reaches into it, and no text is cut for the sake of a window.
        let decided = if last == text.len() {
            window_bytes
        } else {
            window_bytes / 4 * 3
        };
        for cut in starts[1..].iter().take_while(|&&cut| cut <= decided) {
            pieces.push(text, start..first + cut);
            start = first + cut;
        }
    }
    pieces.ranges
}

/// Pieces that say something.
#[derive(Default)]
struct Pieces {
    ranges: Vec<Range<usize>>,
    said: bool,
}

impl Pieces {
    fn push(&mut self, text: &str, range: Range<usize>) {
        let blank = text[range.clone()].chars().all(char::is_whitespace);
        match self.ranges.last_mut() {
            Some(last) if blank || !self.said => last.end = range.end,
            _ => self.ranges.push(range),
        }
        self.said |= !blank;
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROSE: &str = "A text is written once. It is read often, and cut by whoever reads it! \
        Nobody (not even Mr. Smith) minds 3.14 of them.\n日本語の文章です。もう一つの文。\n\n\
        Then one-line-files-without-any-space-come-along-and-are-cut-too. ภาษาไทย no less.\r\n";

    fn splitter(chunk_chars: usize) -> TextSplitter<text_splitter::Characters> {
        TextSplitter::new(ChunkConfig::new(chunk_chars).with_trim(false))
    }

    #[test]
    fn the_splitter_is_shown_a_bounded_part_of_the_text_and_no_byte_often() {
        let unbroken = "x".repeat(3000);
        let blank = " ".repeat(1500) + "x" + &" ".repeat(1500);
        let wide = "😀".repeat(750);
        for text in [
            &unbroken,
            &blank,
            &wide,
            &PROSE.repeat(10),
            &"\n".repeat(3000),
        ] {
            for chunk_chars in [1, 8, 9, 100] {
                let (splitter, mut shown) = (splitter(chunk_chars), 0);
                let pieces = split_in_windows(text, chunk_chars, |window, starts| {
                    assert!(window.len() <= 16 * chunk_chars);
                    shown += window.len();
                    starts.extend(splitter.chunk_indices(window).map(|(start, _)| start));
                });
                assert_eq!(pieces, split(text, chunk_chars).unwrap());
                assert!(shown <= 2 * text.len());
            }
        }
    }

    #[test]
    fn nothing_is_cut_for_the_sake_of_a_window() {
        let text = PROSE.repeat(20);
        for chunk_chars in [1, 2, 3, 5, 8, 9, 20, 50, 150] {
            let mut whole = Pieces::default();
            for (start, piece) in splitter(chunk_chars).chunk_indices(&text) {
                whole.push(&text, start..start + piece.len());
            }
            assert_eq!(split(&text, chunk_chars).unwrap(), whole.ranges);
        }
    }
}
