//! Which vectors are worth a look: a code of each, small enough to be kept and scanned in memory.
//!
//! A code is the sign of every number, one bit each, and, where there is room, the number itself in
//! a byte with one scale for all. A query is brought to four bits a number and compared with all
//! signs, which is counting bits; the nearest by that are compared by their bytes, and what is left
//! is for the caller to compare with the vectors themselves. Any number of threads may search while
//! one changes rows: a search sees a row as it was or as it is, and which rows changed meanwhile
//! the caller knows.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use half::f16;

use crate::error::{Error, Result};

mod best;
pub mod kernels;
mod key_set;
mod places;

use best::Best;
use kernels::{Kernel, LANES, PLANES};
pub use key_set::KeySet;
use places::{Places, SLOT};

/// Rows that are locked at once, and room for rows that is made at once: a scan of them takes 3 us.
const SEGMENT_ROWS: usize = 1024;
/// Rows that are scored at once, so that the scores stay in the nearest cache.
const SCORED_ROWS: usize = 512;
/// Rows of bytes that are fetched before they are compared: each is another page of memory.
const FETCHED_AHEAD: usize = 12;
/// The key of a place without a row.
const NOBODY: i64 = i64::MIN;
/// The greatest number that a query has in four bits with a sign.
const QUERY_TOP: f32 = 7.0;
const FLOAT_BYTES: usize = 4;

/// The codes of the vectors of one index, by key.
#[derive(Debug)]
pub struct CodeIndex {
    dimension: usize,
    has_bytes: bool,
    kernel: Kernel,
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    segments: Vec<Arc<RwLock<Segment>>>,
    places: Places,
    free: Vec<u32>,
    /// Places that were ever taken.
    taken: u32,
    /// Keys that were put or removed since loading began: what is loaded is older than they are.
    touched: Option<HashSet<i64>>,
}

#[derive(Debug)]
struct Segment {
    keys: Box<[i64]>,
    signs: Box<[u64]>,
    bytes: Box<[i8]>,
    steps: Box<[f16]>,
}

/// What a vector becomes.
#[derive(Debug)]
struct Code {
    numbers: Vec<f32>,
    signs: Vec<u64>,
    bytes: Vec<i8>,
    step: f16,
}

impl CodeIndex {
    /// An empty index of vectors of so many numbers, whose rows are yet to be loaded.
    ///
    /// # Errors
    /// [`Error::ZeroDimension`].
    pub fn new(dimension: usize, has_bytes: bool) -> Result<Self> {
        Self::with_kernel(dimension, has_bytes, Kernel::best())
    }

    /// The same with a kernel of one's choice.
    ///
    /// # Errors
    /// [`Error::ZeroDimension`].
    pub fn with_kernel(dimension: usize, has_bytes: bool, kernel: Kernel) -> Result<Self> {
        if dimension == 0 {
            return Err(Error::ZeroDimension);
        }
        let rows = Mutex::new(Rows {
            touched: Some(HashSet::new()),
            ..Rows::default()
        });
        Ok(Self {
            dimension,
            has_bytes,
            kernel,
            rows,
        })
    }

    /// The numbers of a vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// How many vectors it has codes of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows().places.count
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that it holds, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rows = self.rows();
        let row = 8 + 8 * self.words() + usize::from(self.has_bytes) * (self.dimension + 2);
        rows.segments.len() * SEGMENT_ROWS * row
            + 4 * (rows.places.table.len() + rows.free.capacity())
    }

    /// All keys, in no order.
    #[must_use]
    pub fn keys(&self) -> Vec<i64> {
        let segments = self.rows().segments.clone();
        let mut keys = Vec::new();
        for segment in &segments {
            let segment = read(segment);
            keys.extend(segment.keys.iter().copied().filter(|key| *key != NOBODY));
        }
        keys
    }

    /// Adds what a block of sqlite-vec's own table has, but for keys that changed since; as read,
    /// `validity` has a bit a row, `keys` eight bytes and `vectors` four bytes a number.
    ///
    /// # Errors
    /// [`Error::BlockShape`] where they do not fit together, [`Error::NotFinite`] where a vector is
    /// none. What was added before stays.
    pub fn load(&self, validity: &[u8], keys: &[u8], vectors: &[u8]) -> Result<()> {
        let row_bytes = FLOAT_BYTES * self.dimension;
        let count = keys.len() / 8;
        if !keys.len().is_multiple_of(8)
            || validity.len() * 8 < count
            || vectors.len() != count * row_bytes
        {
            return Err(Error::BlockShape {
                validity: validity.len(),
                keys: keys.len(),
                vectors: vectors.len(),
                dimension: self.dimension,
            });
        }
        let mut code = self.new_code();
        let mut rows = self.rows();
        let (keys, _) = keys.as_chunks::<8>();
        for (n, (key, vector)) in keys.iter().zip(vectors.chunks_exact(row_bytes)).enumerate() {
            let key = i64::from_le_bytes(*key);
            let is_there = validity[n / 8] >> (n % 8) & 1 == 1;
            let is_older = matches!(&rows.touched, Some(touched) if touched.contains(&key));
            if is_there && !is_older {
                if !self.encode(vector, &mut code) {
                    return Err(Error::NotFinite { key });
                }
                self.store(&mut rows, key, &code)?;
            }
        }
        Ok(())
    }

    /// Ends loading: from now on it is as if all had been put.
    pub fn finish_loading(&self) {
        self.rows().touched = None;
    }

    /// Stores the codes of vectors, replacing those of the same keys: of each key the row of `blob`
    /// at its place.
    ///
    /// # Errors
    /// [`Error::BlobLength`] where the blob has no such row, [`Error::NotFinite`] where a vector is
    /// none. What was stored before stays.
    pub fn put(&self, keys: &[i64], blob: &[u8], places: &[usize]) -> Result<()> {
        let row_bytes = FLOAT_BYTES * self.dimension;
        let (vectors, rest) = (blob.chunks_exact(row_bytes), blob.len() % row_bytes);
        let (there, wrong) = (vectors.len(), |index| Error::BlobLength {
            index,
            bytes: blob.len(),
            dimension: self.dimension,
        });
        if rest != 0 {
            return Err(wrong(there));
        }
        if let Some(place) = places.iter().find(|place| **place >= there) {
            return Err(wrong(*place));
        }
        let mut code = self.new_code();
        let mut rows = self.rows();
        for (key, place) in keys.iter().zip(places) {
            let first = place * row_bytes;
            if !self.encode(&blob[first..first + row_bytes], &mut code) {
                return Err(Error::NotFinite { key: *key });
            }
            self.store(&mut rows, *key, &code)?;
            if let Some(touched) = &mut rows.touched {
                touched.insert(*key);
            }
        }
        Ok(())
    }

    /// Forgets the codes of these keys; those that it does not have are fine.
    pub fn remove(&self, keys: &[i64]) {
        let mut rows = self.rows();
        for key in keys {
            if let Some(slot) = rows.take(*key) {
                write(&rows.segments[segment_of(slot)]).keys[place_of(slot)] = NOBODY;
                rows.free.push(slot);
            }
            if let Some(touched) = &mut rows.touched {
                touched.insert(*key);
            }
        }
    }

    /// At most `most` keys, the nearest first, of the `candidates` whose signs are nearest.
    ///
    /// # Errors
    /// [`Error::BlobLength`] where the query has another number of numbers.
    pub fn search(
        &self,
        query: &[u8],
        candidates: usize,
        most: usize,
        within: Option<&KeySet>,
    ) -> Result<Vec<i64>> {
        if query.len() != FLOAT_BYTES * self.dimension {
            return Err(Error::BlobLength {
                index: 0,
                bytes: query.len(),
                dimension: self.dimension,
            });
        }
        let query: Vec<f32> = floats(query).collect();
        let segments = self.rows().segments.clone();
        let found = self.nearest(&segments, &query, candidates.max(most).max(1), within);
        let mut ranked: Vec<(f32, i64)> = Vec::with_capacity(found.len());
        // They come in the order of their places, so each segment is locked once.
        for of_one in found.chunk_by(|one, other| segment_of(one.1) == segment_of(other.1)) {
            let segment = read(&segments[segment_of(of_one[0].1)]);
            let bytes_of = |slot: u32| {
                let first = place_of(slot) * self.dimension;
                &segment.bytes[first..first + self.dimension]
            };
            for (n, (score, slot)) in of_one.iter().enumerate() {
                let place = place_of(*slot);
                let score = if self.has_bytes {
                    if let Some((_, later)) = of_one.get(n + FETCHED_AHEAD) {
                        kernels::fetch(bytes_of(*later));
                    }
                    f32::from(segment.steps[place]) * self.kernel.dot(&query, bytes_of(*slot))
                } else {
                    #[expect(clippy::cast_precision_loss, reason = "7 times a dimension fits")]
                    let score = *score as f32;
                    score
                };
                if segment.keys[place] != NOBODY {
                    ranked.push((score, segment.keys[place]));
                }
            }
        }
        let nearest_first = |one: &(f32, i64), other: &(f32, i64)| {
            other.0.total_cmp(&one.0).then(one.1.cmp(&other.1))
        };
        if (1..ranked.len()).contains(&most) {
            ranked.select_nth_unstable_by(most, nearest_first);
        }
        ranked.truncate(most);
        ranked.sort_unstable_by(nearest_first);
        Ok(ranked.into_iter().map(|(_, key)| key).collect())
    }

    /// How many rows have signs as near as those of a row that is truly near, at worst.
    ///
    /// Asked for `samples` rows of its own, each with the `nearest` to it by their bytes. It says how
    /// well signs tell vectors of this kind apart: a few hundred where numbers are dense and of both
    /// signs, half of all rows where most of them are zero. 0 without bytes.
    #[must_use]
    pub fn candidates_needed(&self, samples: usize, nearest: usize) -> usize {
        let (segments, taken) = {
            let rows = self.rows();
            (rows.segments.clone(), rows.taken as usize)
        };
        if !self.has_bytes {
            return 0;
        }
        let slots = (0..samples.min(taken)).map(|n| n * taken / samples.min(taken));
        let rank = slots.map(|slot| {
            let place = slot % SEGMENT_ROWS;
            let first = place * self.dimension;
            let query: Vec<f32> = {
                let segment = read(&segments[slot / SEGMENT_ROWS]);
                let bytes = &segment.bytes[first..first + self.dimension];
                bytes.iter().map(|byte| f32::from(*byte)).collect()
            };
            self.worst_rank(&segments, &query, nearest)
        });
        rank.max().unwrap_or(0)
    }

    fn worst_rank(
        &self,
        segments: &[Arc<RwLock<Segment>>],
        query: &[f32],
        nearest: usize,
    ) -> usize {
        let planes = planes(query);
        let length = query.iter().map(|x| x * x).sum::<f32>().sqrt();
        let mut scores = vec![0; segments.len() * SEGMENT_ROWS];
        // (cosine, place in `scores`), the nearest first.
        let mut near: Vec<(f32, usize)> = Vec::with_capacity(nearest + 1);
        for (number, segment) in segments.iter().enumerate() {
            let (segment, first) = (read(segment), number * SEGMENT_ROWS);
            let scores = &mut scores[first..first + SEGMENT_ROWS];
            self.kernel.score(&segment.signs, &planes, scores);
            let rows = segment.bytes.chunks_exact(self.dimension);
            for (n, (row, step)) in rows.zip(&segment.steps).enumerate() {
                if segment.keys[n] != NOBODY {
                    let cosine = f32::from(*step) * self.kernel.dot(query, row) / length;
                    if near.len() < nearest || near.last().is_some_and(|last| cosine > last.0) {
                        let at = near.partition_point(|other| other.0 >= cosine);
                        near.insert(at, (cosine, first + n));
                        near.truncate(nearest);
                    }
                }
            }
        }
        let worst = near.iter().map(|(_, at)| scores[*at]).min();
        worst.map_or(0, |worst| {
            scores.iter().filter(|score| **score >= worst).count()
        })
    }

    /// The rows whose signs are nearest: (score, slot), in the order of slots.
    fn nearest(
        &self,
        segments: &[Arc<RwLock<Segment>>],
        query: &[f32],
        count: usize,
        within: Option<&KeySet>,
    ) -> Vec<(i32, u32)> {
        let planes = planes(query);
        let (lowest, highest) = score_range(self.dimension);
        let mut best = Best::new(count, lowest, highest);
        let mut scores = [0; SCORED_ROWS];
        for (number, segment) in segments.iter().enumerate() {
            let segment = read(segment);
            let blocks = segment.signs.chunks_exact(SCORED_ROWS * self.words());
            for (part, blocks) in blocks.enumerate() {
                self.kernel.score(blocks, &planes, &mut scores);
                let keys = &segment.keys[part * SCORED_ROWS..];
                for (group, scores) in scores.as_chunks::<LANES>().0.iter().enumerate() {
                    if scores.iter().all(|score| *score <= best.least) {
                        continue;
                    }
                    for (n, score) in (group * LANES..).zip(scores) {
                        let is_one = *score > best.least
                            && keys[n] != NOBODY
                            && within.is_none_or(|within| within.has(keys[n]));
                        if is_one {
                            #[expect(clippy::cast_possible_truncation, reason = "slots are u32")]
                            best.push(
                                *score,
                                (number * SEGMENT_ROWS + part * SCORED_ROWS + n) as u32,
                            );
                        }
                    }
                }
            }
        }
        best.finish()
    }

    fn store(&self, rows: &mut Rows, key: i64, code: &Code) -> Result<()> {
        let slot = match rows.find(key) {
            Some(slot) => slot,
            None => rows.add(key, self)?,
        };
        let (place, words) = (place_of(slot), self.words());
        let mut segment = write(&rows.segments[segment_of(slot)]);
        segment.keys[place] = key;
        let first = place / LANES * LANES * words + place % LANES;
        for (word, signs) in code.signs.iter().enumerate() {
            segment.signs[first + word * LANES] = *signs;
        }
        if self.has_bytes {
            let first = place * self.dimension;
            segment.bytes[first..first + self.dimension].copy_from_slice(&code.bytes);
            segment.steps[place] = code.step;
        }
        Ok(())
    }

    fn new_code(&self) -> Code {
        let bytes = if self.has_bytes { self.dimension } else { 0 };
        Code {
            numbers: vec![0.0; self.dimension],
            signs: vec![0; self.words()],
            bytes: vec![0; bytes],
            step: f16::ZERO,
        }
    }

    /// Takes the code of a vector, little-endian f32; false where a number is not finite.
    fn encode(&self, vector: &[u8], code: &mut Code) -> bool {
        for (number, x) in code.numbers.iter_mut().zip(floats(vector)) {
            *number = x;
        }
        let step = self
            .kernel
            .encode(&code.numbers, &mut code.signs, &mut code.bytes);
        code.step = step.unwrap_or_default();
        step.is_some()
    }

    fn words(&self) -> usize {
        self.dimension.div_ceil(64)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_segment(&self) -> Segment {
        let bytes = if self.has_bytes { SEGMENT_ROWS } else { 0 };
        Segment {
            keys: vec![NOBODY; SEGMENT_ROWS].into(),
            signs: vec![0; SEGMENT_ROWS * self.words()].into(),
            bytes: vec![0; bytes * self.dimension].into(),
            steps: vec![f16::ZERO; bytes].into(),
        }
    }
}

fn read(segment: &RwLock<Segment>) -> RwLockReadGuard<'_, Segment> {
    segment.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(segment: &RwLock<Segment>) -> RwLockWriteGuard<'_, Segment> {
    segment.write().unwrap_or_else(PoisonError::into_inner)
}

fn segment_of(slot: u32) -> usize {
    slot as usize / SEGMENT_ROWS
}

fn place_of(slot: u32) -> usize {
    slot as usize % SEGMENT_ROWS
}

fn floats(blob: &[u8]) -> impl Iterator<Item = f32> {
    let (numbers, _) = blob.as_chunks::<FLOAT_BYTES>();
    numbers.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

/// The least and the most that a row of signs can score.
fn score_range(dimension: usize) -> (i32, i32) {
    let most = i32::try_from(dimension.next_multiple_of(64)).unwrap_or(i32::MAX / 8);
    (-7 * most, 7 * most)
}

/// A query's numbers in four bits each, as whole numbers from -7 to 7 of the greatest of them.
fn planes(query: &[f32]) -> Vec<[u64; PLANES]> {
    let top = query.iter().fold(0.0_f32, |top, x| top.max(x.abs()));
    let scale = if top > 0.0 { QUERY_TOP / top } else { 0.0 };
    let mut planes = vec![[0; PLANES]; query.len().div_ceil(64)];
    for (n, x) in query.iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "from -7 to 7")]
        let number = (x * scale).round_ties_even() as i32;
        for (bit, plane) in planes[n / 64].iter_mut().enumerate() {
            *plane |= u64::from(number >> bit & 1 == 1) << (n % 64);
        }
    }
    planes
}

impl Rows {
    fn key(&self, slot: u32) -> i64 {
        read(&self.segments[segment_of(slot)]).keys[place_of(slot)]
    }

    fn find(&self, key: i64) -> Option<u32> {
        let at = self.places.locate(key, |slot| self.key(slot))?;
        Some(self.places.table[at] & SLOT)
    }

    /// Gives a key a slot of its own.
    fn add(&mut self, key: i64, index: &CodeIndex) -> Result<u32> {
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else {
            if self.taken == SLOT {
                return Err(Error::TooLarge {
                    rows: SLOT as usize + 1,
                    dimension: index.dimension,
                });
            }
            if self.taken as usize == self.segments.len() * SEGMENT_ROWS {
                let segment = Arc::new(RwLock::new(index.new_segment()));
                self.segments.push(segment);
            }
            self.taken += 1;
            self.taken - 1
        };
        if self.places.is_full() {
            let mut larger = Places::of_size(self.places.table.len() / 4 * 5);
            for slot in self.places.slots() {
                larger.insert(self.key(slot), slot);
            }
            self.places = larger;
        }
        self.places.insert(key, slot);
        Ok(slot)
    }

    /// Takes a key's slot away from it.
    fn take(&mut self, key: i64) -> Option<u32> {
        let at = self.places.locate(key, |slot| self.key(slot))?;
        let slot = self.places.table[at] & SLOT;
        let keys = |slot| read(&self.segments[segment_of(slot)]).keys[place_of(slot)];
        self.places.remove(at, keys);
        Some(slot)
    }
}
