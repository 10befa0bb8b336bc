//! Where a text is found again: the chunks that had a vector of it, by the first bytes of its hash.
//!
//! In memory, since a B-tree over hashes is written all over: with one in the file a drain into
//! 50,000 rows wrote twice as many pages, and more with every row. What is found may be gone, or of
//! another text with the same first bytes, so whoever asks compares the whole hash with the ledger;
//! what was added is always found.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

type ByPrefix<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

/// Keys of chunks by the first eight bytes of a hash.
#[derive(Debug, Default)]
pub struct ContentIndex {
    // Most texts are there once: a set for each would be several times the memory.
    first: ByPrefix<i64>,
    others: ByPrefix<BTreeSet<i64>>,
    count: usize,
}

impl ContentIndex {
    /// Notes that a chunk has a vector of the text of this hash; once is enough.
    pub fn add(&mut self, hash: &[u8], key: i64) {
        let prefix = prefix(hash);
        let is_new = match self.first.get(&prefix) {
            None => self.first.insert(prefix, key).is_none(),
            Some(&first) => first != key && self.others.entry(prefix).or_default().insert(key),
        };
        self.count += usize::from(is_new);
    }

    /// At most so many of the chunks that were noted for the text of this hash, the greatest keys
    /// first: they are the newest, and most likely still there.
    #[must_use]
    pub fn find(&self, hash: &[u8], most: usize) -> Vec<i64> {
        let prefix = prefix(hash);
        let others = self.others.get(&prefix).into_iter().flatten().rev();
        let mut keys: Vec<i64> = others.take(most).copied().collect();
        if keys.len() < most {
            keys.extend(self.first.get(&prefix));
        }
        keys
    }

    /// How many chunks were noted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The bytes of a SHA-256 need no hash of their own.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = prefix(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn prefix(hash: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let size = hash.len().min(8);
    bytes[..size].copy_from_slice(&hash[..size]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::ContentIndex;

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
}
