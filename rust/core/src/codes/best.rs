//! The best of what a scan scores.

/// The best of many, without keeping more than twice as many as are wanted.
///
/// How many have each score is counted, so that what a score has to be above is known at any time
/// without sorting. They stay in the order in which they came.
pub(super) struct Best {
    wanted: usize,
    lowest: i32,
    /// What a score has to be above: that of the last of the best, or less than there can be.
    pub(super) least: i32,
    /// How many of those found are above it: fewer than are wanted.
    above: usize,
    /// How many were found of each score above it, from the lowest that there can be.
    counts: Vec<u32>,
    found: Vec<(i32, u32)>,
}

impl Best {
    /// For scores from `lowest` to `highest`.
    pub(super) fn new(wanted: usize, lowest: i32, highest: i32) -> Self {
        Self {
            wanted,
            lowest,
            least: lowest - 1,
            above: 0,
            counts: vec![0; lowest.abs_diff(highest) as usize + 1],
            found: Vec::new(),
        }
    }

    /// Takes one whose score is above `least`.
    pub(super) fn push(&mut self, score: i32, slot: u32) {
        self.found.push((score, slot));
        self.counts[score.abs_diff(self.lowest) as usize] += 1;
        self.above += 1;
        while self.above >= self.wanted {
            self.least += 1;
            self.above -= self.counts[self.least.abs_diff(self.lowest) as usize] as usize;
        }
        if self.found.len() == 2 * self.wanted {
            self.cut();
        }
    }

    /// The best, in the order in which they came; of equal ones the first.
    pub(super) fn finish(mut self) -> Vec<(i32, u32)> {
        self.cut();
        self.found
    }

    fn cut(&mut self) {
        let mut equal = self.wanted - self.above;
        self.found.retain(|(score, _)| {
            let is_one = *score > self.least || (*score == self.least && equal > 0);
            equal -= usize::from(is_one && *score == self.least);
            is_one
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Best;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_those_that_sorting_finds(
            scores in prop::collection::vec(-9_i32..=9, 0..400),
            wanted in 1_usize..40,
        ) {
            let mut best = Best::new(wanted, -9, 9);
            for (slot, score) in (0..).zip(&scores) {
                if *score > best.least {
                    best.push(*score, slot);
                }
                prop_assert!(best.found.len() < 2 * wanted);
            }
            let mut expected: Vec<(i32, u32)> = scores.iter().copied().zip(0..).collect();
            expected.sort_by_key(|(score, slot)| (-score, *slot));
            expected.truncate(wanted);
            expected.sort_by_key(|(_, slot)| *slot);
            prop_assert_eq!(best.finish(), expected);
        }
    }
}
