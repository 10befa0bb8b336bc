//! The best of what a scan scores.

/// The best of many, without keeping more than twice as many as are wanted.
pub(super) struct Best {
    pub(super) wanted: usize,
    /// What a score has to be above.
    pub(super) least: i32,
    pub(super) found: Vec<(i32, u32)>,
}

impl Best {
    pub(super) fn new(wanted: usize) -> Self {
        Self {
            wanted,
            least: i32::MIN,
            found: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, score: i32, slot: u32) {
        self.found.push((score, slot));
        if self.found.len() == 2 * self.wanted {
            self.cut();
        }
    }

    pub(super) fn cut(&mut self) {
        let by_score = |one: &(i32, u32), other: &(i32, u32)| other.cmp(one);
        let (_, last, _) = self.found.select_nth_unstable_by(self.wanted - 1, by_score);
        self.least = last.0;
        self.found.truncate(self.wanted);
    }

    pub(super) fn finish(mut self) -> Vec<(i32, u32)> {
        if self.found.len() > self.wanted {
            self.cut();
        }
        self.found
    }
}
