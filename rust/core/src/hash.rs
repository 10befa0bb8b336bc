//! Canonical and content hashes: SHA-256, with the CPU's own instructions where it has them.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread;

use crate::error::{Error, Result};
use crate::sha256::{Message, digest, digest_all};

pub use crate::sha256::{DIGEST_BYTES, Digest};

/// A share smaller than this gets no thread of its own. On two idle cores two threads break even at
/// 0.5 MB of texts and gain 15 % at 0.6 MB, 25 % at 1 MB, 38 % at 2 MB; on busy ones they lose 10
/// to 25 % at every size up to 1 MB. So half of 1 MB is the least that is worth one.
const BYTES_PER_THREAD: usize = 512 * 1024;

/// SHA-256 of the id, one NUL byte, and the text.
///
/// # Errors
/// Refuses an id that is empty or contains a NUL, so that no two inputs share a framing.
pub fn canonical_chunk_hash(chunk_id: &str, text: &str) -> Result<Digest> {
    check_chunk_id(0, chunk_id)?;
    Ok(digest(framed(chunk_id, text)))
}

/// One [`canonical_chunk_hash`] a pair, in order, on all cores where the batch is big.
///
/// # Errors
/// As [`canonical_chunk_hash`], naming the index; and sequences that differ in length.
pub fn canonical_chunk_hashes(chunk_ids: &[&str], texts: &[&str]) -> Result<Vec<Digest>> {
    check_batch(chunk_ids, texts)?;
    Ok(spread(texts, |index| {
        framed(chunk_ids[index], texts[index])
    }))
}

/// SHA-256 of each text alone, in order.
#[must_use]
pub fn content_hashes(texts: &[&str]) -> Vec<Digest> {
    spread(texts, |index| [texts[index].as_bytes(), &[], &[]])
}

/// The indices, ascending, whose canonical hash is not the expected one.
///
/// # Errors
/// As [`canonical_chunk_hashes`]; and an expected hash that is not 32 bytes.
pub fn verify_chunk_hashes(
    chunk_ids: &[&str],
    texts: &[&str],
    expected: &[&[u8]],
) -> Result<Vec<usize>> {
    check_lengths(chunk_ids.len(), "expected", expected.len())?;
    if let Some((index, wrong)) = expected
        .iter()
        .enumerate()
        .find(|(_, hash)| hash.len() != DIGEST_BYTES)
    {
        return Err(Error::DigestLength {
            index,
            bytes: wrong.len(),
        });
    }
    let digests = canonical_chunk_hashes(chunk_ids, texts)?;
    Ok((0..digests.len())
        .filter(|&index| digests[index] != expected[index])
        .collect())
}

/// Lowercase hex, as the API shows a digest.
#[must_use]
pub fn hex(digest: &Digest) -> String {
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

fn framed<'a>(chunk_id: &'a str, text: &'a str) -> Message<'a> {
    [chunk_id.as_bytes(), &[0], text.as_bytes()]
}

fn check_batch(chunk_ids: &[&str], texts: &[&str]) -> Result<()> {
    check_lengths(chunk_ids.len(), "texts", texts.len())?;
    chunk_ids
        .iter()
        .enumerate()
        .try_for_each(|(index, chunk_id)| check_chunk_id(index, chunk_id))
}

/// Compares how many ids there are with how many there are of what belongs to them.
///
/// # Errors
/// They are not as many.
pub fn check_lengths(chunk_ids: usize, other: &'static str, others: usize) -> Result<()> {
    if chunk_ids == others {
        return Ok(());
    }
    Err(Error::LengthsDiffer {
        other,
        chunk_ids,
        others,
    })
}

fn check_chunk_id(index: usize, chunk_id: &str) -> Result<()> {
    if chunk_id.is_empty() {
        return Err(Error::EmptyChunkId { index });
    }
    if chunk_id.as_bytes().contains(&0) {
        return Err(Error::NulInChunkId {
            index,
            chunk_id: chunk_id.to_owned(),
        });
    }
    Ok(())
}

/// The digests of one message a text, made by as many threads as the texts' bytes are worth.
///
/// Threads live for one call. A pool would be there sooner, but its threads do not survive a fork,
/// and a forked child would wait for them for ever.
fn spread<'a>(texts: &[&str], message: impl Fn(usize) -> Message<'a> + Sync) -> Vec<Digest> {
    let mut digests = vec![[0; DIGEST_BYTES]; texts.len()];
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let threads = (bytes / BYTES_PER_THREAD).clamp(1, cores());
    if threads == 1 {
        digest_all(message, &mut digests);
        return digests;
    }
    let share = bytes.div_ceil(threads);
    thread::scope(|scope| {
        let (mut rest, mut first) = (digests.as_mut_slice(), 0);
        while !rest.is_empty() {
            // Shares are equal in bytes, not in number, so that one long text does not stand last.
            let mut taken = 0;
            let fits = texts[first..].iter().take_while(|text| {
                let open = taken < share;
                taken += text.len();
                open
            });
            let (mine, others) = rest.split_at_mut(fits.count());
            let (start, message) = (first, &message);
            (rest, first) = (others, start + mine.len());
            let mut work = move || digest_all(|index| message(start + index), mine);
            if rest.is_empty() {
                work();
            } else {
                scope.spawn(work);
            }
        }
    });
    digests
}

/// How many threads may run at once; asked once, since the answer comes from files on Linux.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get))
}
