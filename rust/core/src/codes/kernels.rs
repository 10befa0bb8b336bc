//! What a scan does to every row, with the instructions that the CPU has.
//!
//! Counting bits is written for AVX-512 and AVX2 by hand, since of the portable loop the compiler
//! makes gathers and shuffles; on ARM it makes CNT of it, and NEON is always there. The rest has one
//! body, compiled for each. Sums are whole numbers, or floats in lanes of a fixed number that are
//! added in one order, so that all paths give the same to the bit.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of what the CPU was asked for")
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use half::f16;

/// Rows whose words lie side by side: as many as the widest vector has words.
pub const LANES: usize = 8;

/// Bits of a number of the query: more than four find no more (measured).
pub const PLANES: usize = 4;

/// The bits of a query's numbers, word by word of a row's signs: all lowest bits, ..., all signs.
pub type QueryBits = [[u64; PLANES]];

const BYTE_TOP: f32 = 127.0;
const FLOAT_LANES: usize = 16;
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Instructions that a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// What every CPU of the target has; the oracle of the others.
    Portable,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with VPOPCNTDQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// All that this CPU can run, the fastest last.
    #[must_use]
    pub fn every() -> Vec<Self> {
        #[allow(unused_mut, reason = "there is one path alone on other CPUs")]
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                found.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vpopcntdq")
            {
                found.push(Self::Avx512);
            }
        }
        found
    }

    /// The fastest that this CPU can run.
    #[must_use]
    pub fn best() -> Self {
        Self::every().pop().unwrap_or(Self::Portable)
    }

    /// The score of every row of `blocks` into `scores`; nearer rows have more.
    ///
    /// A block is [`LANES`] rows: the first word of each, then the second of each, and so on. The
    /// score is the sum of the query's numbers where the row's sign is set.
    pub fn score(self, blocks: &[u64], query: &QueryBits, scores: &mut [i32]) {
        match self {
            Self::Portable => score_portable(blocks, query, scores),
            // SAFETY: `every` gives this variant where the CPU has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::score_avx2(blocks, query, scores) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::score_avx512(blocks, query, scores) },
        }
    }

    /// The code of a vector: a bit for each number above zero into `signs`, and with `bytes` the
    /// numbers as bytes; returns the scale of those.
    ///
    /// The scale is that of the vector at length 1, since the nearest are told by angles. None where
    /// a number is not finite.
    pub fn encode(self, vector: &[f32], signs: &mut [u64], bytes: &mut [i8]) -> Option<f16> {
        match self {
            Self::Portable => encode(vector, signs, bytes),
            // SAFETY: `every` gives this variant where the CPU has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::encode_avx2(vector, signs, bytes) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::encode_avx512(vector, signs, bytes) },
        }
    }

    /// The dot product of a query with a row of bytes.
    #[must_use]
    pub fn dot(self, query: &[f32], row: &[i8]) -> f32 {
        match self {
            Self::Portable => dot(query, row),
            // SAFETY: `every` gives this variant where the CPU has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::dot_avx2(query, row) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::dot_avx512(query, row) },
        }
    }
}

/// Has a row come from memory while others are compared; a wish, on x86 alone.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
pub fn fetch(row: &[i8]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(CACHE_LINE) {
        // SAFETY: a prefetch reads nothing that the program sees.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr()) };
    }
}

fn score_portable(blocks: &[u64], query: &QueryBits, scores: &mut [i32]) {
    let (words, _) = blocks.as_chunks::<LANES>();
    for (block, scores) in words
        .chunks_exact(query.len())
        .zip(scores.chunks_exact_mut(LANES))
    {
        let mut counts = [[0_i32; LANES]; PLANES];
        for (words, planes) in block.iter().zip(query) {
            for (counts, plane) in counts.iter_mut().zip(planes) {
                for (count, word) in counts.iter_mut().zip(words) {
                    *count += (word & plane).count_ones().cast_signed();
                }
            }
        }
        for (lane, score) in scores.iter_mut().enumerate() {
            let [ones, twos, fours, signs] = counts.map(|counts| counts[lane]);
            *score = ones + 2 * twos + 4 * fours - 8 * signs;
        }
    }
}

#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "or it would be compiled for no CPU in particular"
)]
fn encode(vector: &[f32], signs: &mut [u64], bytes: &mut [i8]) -> Option<f16> {
    for (word, numbers) in signs.iter_mut().zip(vector.chunks(64)) {
        let bits = numbers.iter().enumerate();
        *word = bits.fold(0, |word, (n, x)| word | u64::from(*x > 0.0) << n);
    }
    let (mut squares, mut tops) = ([0.0_f32; FLOAT_LANES], [0.0_f32; FLOAT_LANES]);
    for numbers in vector.chunks(FLOAT_LANES) {
        for ((square, top), x) in squares.iter_mut().zip(&mut tops).zip(numbers) {
            *square += x * x;
            *top = if x.abs() > *top { x.abs() } else { *top };
        }
    }
    let length = squares.iter().sum::<f32>().sqrt();
    if !length.is_finite() {
        return None;
    }
    let top = tops.iter().fold(0.0_f32, |top, x| top.max(*x));
    if bytes.is_empty() || top == 0.0 {
        bytes.fill(0);
        return Some(f16::ZERO);
    }
    // The step first, as it is stored, so that the bytes are right for it.
    let step = f16::from_f32(top / length / BYTE_TOP);
    let scale = 1.0 / (length * f32::from(step));
    for (byte, x) in bytes.iter_mut().zip(vector) {
        *byte = to_byte(x * scale);
    }
    Some(step)
}

/// A number from -128 to 127, rounded. Added to this power of two its lowest bits are the number's
/// own, without the checks that a cast makes; a step that was rounded down may come to 127.06.
#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "or it would be compiled for no CPU in particular"
)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lowest byte is the number"
)]
fn to_byte(x: f32) -> i8 {
    (x + 12_582_912.0).to_bits() as u8 as i8
}

#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "or it would be compiled for no CPU in particular"
)]
fn dot(query: &[f32], row: &[i8]) -> f32 {
    let mut sums = [0.0_f32; FLOAT_LANES];
    let (wide, rest) = row.as_chunks::<FLOAT_LANES>();
    let (wide_query, rest_query) = query.as_chunks::<FLOAT_LANES>();
    for (numbers, bytes) in wide_query.iter().zip(wide) {
        for ((sum, number), byte) in sums.iter_mut().zip(numbers).zip(bytes) {
            *sum += number * f32::from(*byte);
        }
    }
    for ((sum, number), byte) in sums.iter_mut().zip(rest_query).zip(rest) {
        *sum += number * f32::from(*byte);
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi8, _mm256_add_epi64, _mm256_and_si256, _mm256_extract_epi64,
        _mm256_loadu_si256, _mm256_sad_epu8, _mm256_set1_epi8, _mm256_set1_epi64x,
        _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi64,
        _mm256_srli_epi16, _mm256_storeu_si256, _mm256_sub_epi64, _mm512_add_epi64,
        _mm512_and_si512, _mm512_cvtepi64_epi32, _mm512_loadu_si512, _mm512_popcnt_epi64,
        _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_sub_epi64,
    };

    use half::f16;

    use super::{LANES, PLANES, QueryBits};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq")]
    pub fn score_avx512(blocks: &[u64], query: &QueryBits, scores: &mut [i32]) {
        let (words, _) = blocks.as_chunks::<LANES>();
        let (scores, _) = scores.as_chunks_mut::<LANES>();
        for (block, scores) in words.chunks_exact(query.len()).zip(scores) {
            let mut sums = [_mm512_setzero_si512(); PLANES];
            for (words, planes) in block.iter().zip(query) {
                // SAFETY: the 64 bytes are there, and this load needs no alignment.
                let words = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
                for (sum, plane) in sums.iter_mut().zip(planes) {
                    let plane = _mm512_set1_epi64(plane.cast_signed());
                    let count = _mm512_popcnt_epi64(_mm512_and_si512(words, plane));
                    *sum = _mm512_add_epi64(*sum, count);
                }
            }
            let [ones, twos, fours, signs] = sums;
            let above = _mm512_add_epi64(ones, _mm512_slli_epi64::<1>(twos));
            let above = _mm512_add_epi64(above, _mm512_slli_epi64::<2>(fours));
            let sum = _mm512_sub_epi64(above, _mm512_slli_epi64::<3>(signs));
            let sum = _mm512_cvtepi64_epi32(sum);
            // SAFETY: the eight numbers are there, and this store needs no alignment.
            unsafe { _mm256_storeu_si256(scores.as_mut_ptr().cast(), sum) };
        }
    }

    /// Words whose weighted counts fit into a byte: 7 times 8 of each.
    const WORDS_A_BYTE: usize = 4;

    #[target_feature(enable = "avx2")]
    pub fn score_avx2(blocks: &[u64], query: &QueryBits, scores: &mut [i32]) {
        let (words, _) = blocks.as_chunks::<LANES>();
        let (scores, _) = scores.as_chunks_mut::<LANES>();
        for (block, scores) in words.chunks_exact(query.len()).zip(scores) {
            for half in 0..2 {
                let sum = score_half(block, query, half);
                let four = [
                    _mm256_extract_epi64::<0>(sum),
                    _mm256_extract_epi64::<1>(sum),
                    _mm256_extract_epi64::<2>(sum),
                    _mm256_extract_epi64::<3>(sum),
                ];
                for (score, sum) in scores[4 * half..].iter_mut().zip(four) {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "15 times a dimension fits"
                    )]
                    let sum = sum as i32;
                    *score = sum;
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    fn score_half(block: &[[u64; LANES]], query: &QueryBits, half: usize) -> __m256i {
        let zero = _mm256_setzero_si256();
        let mut sum = zero;
        for (block, query) in block.chunks(WORDS_A_BYTE).zip(query.chunks(WORDS_A_BYTE)) {
            let (mut above, mut below) = (zero, zero);
            for (words, planes) in block.iter().zip(query) {
                // SAFETY: the 32 bytes of this half are there, and this load needs no alignment.
                let words = unsafe { _mm256_loadu_si256(words[4 * half..].as_ptr().cast()) };
                let [ones, twos, fours, signs] = planes.map(|plane| {
                    let plane = _mm256_set1_epi64x(plane.cast_signed());
                    count_bytes(_mm256_and_si256(words, plane))
                });
                let two_fours = _mm256_add_epi8(fours, fours);
                let twos = _mm256_add_epi8(twos, two_fours);
                above = _mm256_add_epi8(above, _mm256_add_epi8(ones, _mm256_add_epi8(twos, twos)));
                below = _mm256_add_epi8(below, signs);
            }
            let below = _mm256_slli_epi64::<3>(_mm256_sad_epu8(below, zero));
            let both = _mm256_sub_epi64(_mm256_sad_epu8(above, zero), below);
            sum = _mm256_add_epi64(sum, both);
        }
        sum
    }

    /// The bits of each byte, by a table of the sixteen halves of one.
    #[target_feature(enable = "avx2")]
    fn count_bytes(bytes: __m256i) -> __m256i {
        #[rustfmt::skip]
        let bits = _mm256_setr_epi8(
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
        );
        let low = _mm256_set1_epi8(15);
        let lows = _mm256_shuffle_epi8(bits, _mm256_and_si256(bytes, low));
        let highs = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low);
        _mm256_add_epi8(lows, _mm256_shuffle_epi8(bits, highs))
    }

    #[target_feature(enable = "avx2")]
    pub fn encode_avx2(vector: &[f32], signs: &mut [u64], bytes: &mut [i8]) -> Option<f16> {
        super::encode(vector, signs, bytes)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub fn encode_avx512(vector: &[f32], signs: &mut [u64], bytes: &mut [i8]) -> Option<f16> {
        super::encode(vector, signs, bytes)
    }

    #[target_feature(enable = "avx2")]
    pub fn dot_avx2(query: &[f32], row: &[i8]) -> f32 {
        super::dot(query, row)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub fn dot_avx512(query: &[f32], row: &[i8]) -> f32 {
        super::dot(query, row)
    }
}
