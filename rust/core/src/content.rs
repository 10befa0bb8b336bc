//! Where a text is found again: the chunks that had a vector of it, by the first bytes of its hash.
//!
//! In memory, since a B-tree over hashes is written all over: with one in the file a drain into
//! 50,000 rows wrote twice as many pages, and more with every row. So it is small: six bytes a chunk.
//! What is found may be gone, or of another text with the same first bytes, so whoever asks compares
//! the whole hash with the ledger; what was added is always found.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

/// Parts of the index by the first bits of a hash: a small one finds room where a great one, which
/// moves as it grows, leaves a gap of its size behind.
const PARTS: usize = 64;
const BUCKETS: usize = (1 << 16) / PARTS;
/// New entries are sorted in when they are more than this share of a part: each moves as often.
const RECENT_SHARE: usize = 64;
const RECENT_LEAST: usize = 32;

/// Keys of chunks by the first four bytes of a hash.
#[derive(Debug)]
pub struct ContentIndex {
    parts: Vec<Part>,
    /// Those whose keys are no 32 bits: below 0, or beyond four billion.
    wide: BTreeSet<(u32, i64)>,
}

impl Default for ContentIndex {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            wide: BTreeSet::new(),
        }
    }
}

impl ContentIndex {
    /// Notes that a chunk has a vector of the text of this hash; once is enough.
    pub fn add(&mut self, hash: &[u8], key: i64) {
        let hash = prefix(hash);
        if let Ok(narrow) = u32::try_from(key) {
            self.parts[bucket(hash) / BUCKETS].add(hash, narrow);
        } else {
            self.wide.insert((hash, key));
        }
    }

    /// At most so many of the chunks that were noted for the text of this hash, the greatest keys
    /// first: they are the newest, and most likely still there.
    #[must_use]
    pub fn find(&self, hash: &[u8], most: usize) -> Vec<i64> {
        let hash = prefix(hash);
        let part = &self.parts[bucket(hash) / BUCKETS];
        let sorted = part.keys[part.run(hash, part.keys.len())].iter().rev();
        let recent = part.recent.range((hash, 0)..=(hash, u32::MAX)).rev();
        let wide = self.wide.range((hash, i64::MIN)..=(hash, i64::MAX)).rev();
        let mut keys: Vec<i64> = sorted.take(most).map(|&key| i64::from(key)).collect();
        keys.extend(recent.take(most).map(|&(_, key)| i64::from(key)));
        keys.extend(wide.take(most).map(|&(_, key)| key));
        keys.sort_unstable_by_key(|&key| Reverse(key));
        keys.truncate(most);
        keys
    }

    /// How many chunks were noted.
    #[must_use]
    pub fn len(&self) -> usize {
        let narrow = self
            .parts
            .iter()
            .map(|part| part.keys.len() + part.recent.len());
        narrow.sum::<usize>() + self.wide.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The entries whose hashes begin with the same bits.
#[derive(Debug)]
struct Part {
    // Sorted by hash, then key. The first half of a hash is its bucket, the rest is in `rests`.
    starts: Vec<usize>,
    rests: Vec<u16>,
    keys: Vec<u32>,
    recent: BTreeSet<(u32, u32)>,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            starts: vec![0; BUCKETS + 1],
            rests: Vec::new(),
            keys: Vec::new(),
            recent: BTreeSet::new(),
        }
    }
}

impl Part {
    fn add(&mut self, hash: u32, key: u32) {
        let run = self.run(hash, self.keys.len());
        if self.keys[run].binary_search(&key).is_err() {
            self.recent.insert((hash, key));
            if self.recent.len() > RECENT_LEAST.max(self.keys.len() / RECENT_SHARE) {
                self.sort_in();
            }
        }
    }

    /// Where the sorted entries of this hash are, of those `before` a place.
    fn run(&self, hash: u32, before: usize) -> Range<usize> {
        let (bucket, rest) = (bucket(hash) % BUCKETS, rest(hash));
        let (start, end) = (self.starts[bucket], self.starts[bucket + 1].min(before));
        let rests = &self.rests[start..end];
        let first = start + rests.partition_point(|&other| other < rest);
        let count = self.rests[first..end].partition_point(|&other| other == rest);
        first..first + count
    }

    /// Moves the recent entries to where they belong, in place: a copy would be all of it twice.
    fn sort_in(&mut self) {
        let recent: Vec<_> = std::mem::take(&mut self.recent).into_iter().collect();
        let old = self.keys.len();
        let mut to = old + recent.len();
        self.rests.reserve_exact(recent.len());
        self.keys.reserve_exact(recent.len());
        self.rests.resize(to, 0);
        self.keys.resize(to, 0);
        let mut from = old;
        for &(hash, key) in recent.iter().rev() {
            // What lies beyond was moved already.
            let run = self.run(hash, from);
            let at = run.start + self.keys[run].partition_point(|&other| other < key);
            to -= from - at;
            self.rests.copy_within(at..from, to);
            self.keys.copy_within(at..from, to);
            (from, to) = (at, to - 1);
            (self.rests[to], self.keys[to]) = (rest(hash), key);
        }
        let mut added = recent
            .iter()
            .map(|&(hash, _)| bucket(hash) % BUCKETS)
            .peekable();
        let mut before = 0;
        for (bucket, end) in self.starts[1..].iter_mut().enumerate() {
            while added.next_if_eq(&bucket).is_some() {
                before += 1;
            }
            *end += before;
        }
    }
}

/// The first four bytes of a SHA-256, which need no hash of their own.
fn prefix(hash: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    let size = hash.len().min(4);
    bytes[..size].copy_from_slice(&hash[..size]);
    u32::from_be_bytes(bytes)
}

fn bucket(hash: u32) -> usize {
    let [high, low, _, _] = hash.to_be_bytes();
    usize::from(u16::from_be_bytes([high, low]))
}

/// What an entry keeps of its hash beside its bucket.
fn rest(hash: u32) -> u16 {
    let [_, _, high, low] = hash.to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::ContentIndex;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn what_was_added_is_found_once_and_the_newest_first() {
        let mut index = ContentIndex::default();
        for key in [3, 7, 3, 5, 7] {
            index.add(&[1; 32], key);
        }
        index.add(&[2; 32], 3);
        assert_eq!(index.find(&[1; 32], 9), [7, 5, 3]);
        assert_eq!(index.find(&[1; 32], 2), [7, 5]);
        assert_eq!(index.find(&[2; 32], 9), [3]);
        assert!(index.find(&[3; 32], 9).is_empty());
        assert_eq!(index.len(), 4);
    }

    #[test]
    fn what_was_sorted_in_is_found_as_what_is_new() {
        let mut index = ContentIndex::default();
        let mut expected: BTreeMap<u32, BTreeSet<i64>> = BTreeMap::new();
        let mut state = 20_261_123_u32;
        for n in 0..40_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Few and many of a hash, first and last buckets among them, and keys of every width.
            let hash = match state >> 24 {
                0..=50 => state | 0xFFFF_0000,
                51..=99 => state & 0x0000_FFFF,
                100..=150 => 7 << (state >> 30),
                _ => state.rotate_left(16),
            };
            let key = match state & 15 {
                0 => -1 - i64::from(state),
                1 => i64::from(state) << 8,
                2 => i64::from(u32::MAX),
                _ => i64::from(n % 30_000),
            };
            index.add(&hash.to_be_bytes(), key);
            expected.entry(hash).or_default().insert(key);
        }
        assert!(
            index
                .parts
                .iter()
                .any(|part| !part.keys.is_empty() && !part.recent.is_empty())
        );
        assert!(!index.wide.is_empty());
        assert_eq!(
            index.len(),
            expected.values().map(BTreeSet::len).sum::<usize>()
        );
        for (hash, keys) in expected {
            let newest: Vec<i64> = keys.into_iter().rev().collect();
            assert_eq!(index.find(&hash.to_be_bytes(), usize::MAX), newest);
            assert_eq!(
                index.find(&hash.to_be_bytes(), 3),
                newest[..newest.len().min(3)]
            );
        }
    }
}
