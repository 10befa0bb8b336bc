//! Which keys may be found.

/// Sets of keys become a bit each where their span is no longer than this (8 MiB).
const LONGEST_SPAN: u64 = 1 << 26;

/// A set of keys: a bit each from the least to the greatest where that is short enough.
#[derive(Debug)]
pub enum KeySet {
    /// A bit for each key from the first on.
    Bits(i64, Vec<u64>),
    /// The keys in order.
    Sorted(Vec<i64>),
}

impl KeySet {
    /// The set of these keys.
    #[must_use]
    pub fn of(mut keys: Vec<i64>) -> Self {
        let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) else {
            return Self::Sorted(keys);
        };
        let (first, last) = (*first, *last);
        if last.abs_diff(first) > LONGEST_SPAN {
            keys.sort_unstable();
            return Self::Sorted(keys);
        }
        #[expect(clippy::cast_possible_truncation, reason = "the span is short")]
        let place = |key: i64| key.abs_diff(first) as usize;
        let mut bits = vec![0; place(last) / 64 + 1];
        for key in keys {
            bits[place(key) / 64] |= 1 << (place(key) % 64);
        }
        Self::Bits(first, bits)
    }

    /// Whether a key is in it.
    #[must_use]
    pub fn has(&self, key: i64) -> bool {
        match self {
            Self::Bits(first, bits) => {
                let n = key.abs_diff(*first);
                key >= *first
                    && usize::try_from(n / 64)
                        .ok()
                        .and_then(|word| bits.get(word))
                        .is_some_and(|word| word >> (n % 64) & 1 == 1)
            }
            Self::Sorted(keys) => keys.binary_search(&key).is_ok(),
        }
    }
}
