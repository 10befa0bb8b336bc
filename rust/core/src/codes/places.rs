//! Where the code of a key is.

const EMPTY: u32 = u32::MAX;

/// The slot of each key: a table of slots alone, whose keys are where the slots are. At most seven
/// eighths of it are in use, so that a key costs 5 to 6 bytes; the five bits that a slot leaves free
/// are of the key's hash, so that hardly a wrong key is ever looked at.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) table: Vec<u32>,
    pub(super) count: usize,
}

/// Bits of a slot: 134,217,727 rows.
const SLOT_BITS: u32 = 27;
pub(super) const SLOT: u32 = (1 << SLOT_BITS) - 1;

impl Places {
    pub(super) fn of_size(size: usize) -> Self {
        Self {
            table: vec![EMPTY; size.max(64)],
            count: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= self.table.len() / 8 * 7
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        let there = self.table.iter().filter(|entry| **entry != EMPTY);
        there.map(|entry| entry & SLOT)
    }

    /// Where a key belongs, and the bits that are kept beside its slot.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within the table, and five bits"
    )]
    pub(super) fn home(&self, key: i64) -> (usize, u32) {
        // Keys follow one another: multiplied by an odd number they are spread.
        let spread = key.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let home = ((spread >> 32) * self.table.len() as u64) >> 32;
        // Of bits that do not make the home: those are alike in neighbours.
        (home as usize, spread as u32 & !SLOT)
    }

    pub(super) fn next(&self, at: usize) -> usize {
        if at + 1 == self.table.len() {
            0
        } else {
            at + 1
        }
    }

    pub(super) fn locate(&self, key: i64, key_of: impl Fn(u32) -> i64) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let (mut at, mark) = self.home(key);
        while self.table[at] != EMPTY {
            let entry = self.table[at];
            if entry & !SLOT == mark && key_of(entry & SLOT) == key {
                return Some(at);
            }
            at = self.next(at);
        }
        None
    }

    pub(super) fn insert(&mut self, key: i64, slot: u32) {
        let (mut at, mark) = self.home(key);
        while self.table[at] != EMPTY {
            at = self.next(at);
        }
        self.table[at] = mark | slot;
        self.count += 1;
    }

    /// Empties a place, and moves back those that went on because it was taken.
    pub(super) fn remove(&mut self, at: usize, key_of: impl Fn(u32) -> i64) {
        let (mut hole, mut at) = (at, at);
        let size = self.table.len();
        let steps = |from: usize, to: usize| {
            if to < from {
                to + size - from
            } else {
                to - from
            }
        };
        loop {
            at = self.next(at);
            let entry = self.table[at];
            if entry == EMPTY {
                break;
            }
            let (wanted, _) = self.home(key_of(entry & SLOT));
            if steps(wanted, at) >= steps(hole, at) {
                self.table[hole] = entry;
                hole = at;
            }
        }
        self.table[hole] = EMPTY;
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{Places, SLOT};
    use std::cell::Cell;

    #[test]
    fn hardly_a_wrong_key_is_looked_at() {
        let keys = 100_000_u32;
        let mut places = Places::of_size(keys as usize / 7 * 8 + 8);
        for slot in 0..keys {
            places.insert(i64::from(slot), slot);
        }
        let looked = Cell::new(0_u32);
        let key_of = |slot: u32| {
            looked.set(looked.get() + 1);
            i64::from(slot & SLOT)
        };
        for missing in keys..2 * keys {
            assert_eq!(places.locate(i64::from(missing), key_of), None);
        }
        assert!(looked.get() < keys / 3, "{}", looked.get());
    }
}
