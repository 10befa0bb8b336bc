//! SHA-256 of many messages.
//!
//! One message alone leaves a CPU with SHA instructions half idle: every round waits for the one
//! before it. So two messages go through it side by side, in two lanes, and a lane that is through
//! takes the next message, whatever their lengths. Other CPUs, and single messages, are left to
//! the crate `sha2`.

#![cfg_attr(
    all(target_arch = "x86_64", not(portable)),
    expect(unsafe_code, reason = "the SHA instructions of the CPU")
)]

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
pub type Digest = [u8; DIGEST_BYTES];

/// The length of a digest.
pub const DIGEST_BYTES: usize = 32;

/// A message in parts, hashed as if they were one.
pub type Message<'a> = [&'a [u8]; 3];

/// SHA-256 of one message.
#[must_use]
pub fn digest(message: Message<'_>) -> Digest {
    let [first, second, third] = message;
    let hash = Sha256::new_with_prefix(first).chain_update(second);
    hash.chain_update(third).finalize().into()
}

/// SHA-256 of the message of every index, into the slot of that index.
pub fn digest_all<'a>(message: impl Fn(usize) -> Message<'a>, slots: &mut [Digest]) {
    #[cfg(all(target_arch = "x86_64", not(portable)))]
    if lanes::are_supported() {
        lanes::digest_all(message, slots);
        return;
    }
    for (index, slot) in slots.iter_mut().enumerate() {
        *slot = digest(message(index));
    }
}

#[cfg(all(target_arch = "x86_64", not(portable)))]
mod lanes {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi32,
        _mm_set_epi64x, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
        _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
    };

    use sha2::block_api::compress256;

    use super::{Digest, Message, digest};

    type Block = [u8; 64];
    type State = [u32; 8];

    /// Longer messages go alone, without the copy that a lane makes.
    const LANE_BYTES: usize = 64 * 1024;

    const INITIAL: State = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];

    #[rustfmt::skip]
    const ROUNDS: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    pub fn are_supported() -> bool {
        is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1")
    }

    /// A message on its way: padded into whole blocks, of which some are done.
    struct Lane {
        state: State,
        blocks: Vec<Block>,
        done: usize,
        slot: usize,
    }

    impl Lane {
        fn new() -> Self {
            Self {
                state: INITIAL,
                blocks: Vec::new(),
                done: 0,
                slot: 0,
            }
        }

        fn rest(&self) -> usize {
            self.blocks.len() - self.done
        }

        fn take(&mut self, slot: usize, message: Message<'_>, length: usize) {
            // After the message: one bit, zeros, and its length in bits in the last 8 bytes.
            self.blocks
                .resize((length + 9).div_ceil(size_of::<Block>()), [0; 64]);
            let mut rest = self.blocks.as_flattened_mut();
            for part in message {
                let (written, behind) = rest.split_at_mut(part.len());
                written.copy_from_slice(part);
                rest = behind;
            }
            let (padding, bits) = rest.split_at_mut(rest.len() - 8);
            padding.fill(0);
            padding[0] = 0x80;
            bits.copy_from_slice(&(8 * length as u64).to_be_bytes());
            (self.state, self.done, self.slot) = (INITIAL, 0, slot);
        }

        fn finish(&mut self, slots: &mut [Digest]) {
            compress256(&mut self.state, &self.blocks[self.done..]);
            self.done = self.blocks.len();
            for (bytes, word) in slots[self.slot].chunks_exact_mut(4).zip(self.state) {
                bytes.copy_from_slice(&word.to_be_bytes());
            }
        }
    }

    pub fn digest_all<'a>(message: impl Fn(usize) -> Message<'a>, slots: &mut [Digest]) {
        let [mut a, mut b] = [Lane::new(), Lane::new()];
        for slot in 0..slots.len() {
            let message = message(slot);
            let length = message.iter().map(|part| part.len()).sum();
            if length > LANE_BYTES {
                slots[slot] = digest(message);
                continue;
            }
            let free = if a.rest() == 0 { &mut a } else { &mut b };
            free.take(slot, message, length);
            let both = a.rest().min(b.rest());
            if both == 0 {
                continue;
            }
            // SAFETY: `are_supported` was asked before anything here is called.
            unsafe { compress_both(&mut a, &mut b, both) };
            for lane in [&mut a, &mut b] {
                if lane.rest() == 0 {
                    lane.finish(slots);
                }
            }
        }
        for lane in [&mut a, &mut b] {
            if lane.rest() != 0 {
                lane.finish(slots);
            }
        }
    }

    /// Takes the next `count` blocks of both lanes through the 64 rounds.
    ///
    /// # Safety
    /// The CPU has the instructions named here.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "one kernel, one argument"
    )]
    #[expect(clippy::cast_ptr_alignment, reason = "loads and stores that need none")]
    unsafe fn compress_both(a: &mut Lane, b: &mut Lane, count: usize) {
        let blocks = [&a.blocks[a.done..][..count], &b.blocks[b.done..][..count]];
        // SAFETY: the CPU has the instructions; loads and stores need no alignment and stay inside
        // a `State` (two halves of 16 bytes), a `Block` (four quarters) and a row of `ROUNDS`.
        unsafe {
            // The rounds want the state as (a, b, e, f) and (c, d, g, h).
            let load = |state: &State| {
                let dcba = _mm_loadu_si128(state.as_ptr().cast());
                let hgfe = _mm_loadu_si128(state.as_ptr().cast::<__m128i>().add(1));
                let cdab = _mm_shuffle_epi32(dcba, 0xB1);
                let efgh = _mm_shuffle_epi32(hgfe, 0x1B);
                [
                    _mm_alignr_epi8(cdab, efgh, 8),
                    _mm_blend_epi16(efgh, cdab, 0xF0),
                ]
            };
            let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
            let mut states = [load(&a.state), load(&b.state)];
            for index in 0..count {
                let before = states;
                let mut words = [[_mm_set_epi32(0, 0, 0, 0); 4]; 2];
                for (words, blocks) in words.iter_mut().zip(blocks) {
                    for (quarter, word) in words.iter_mut().enumerate() {
                        let quarter = blocks[index].as_ptr().cast::<__m128i>().add(quarter);
                        *word = _mm_shuffle_epi8(_mm_loadu_si128(quarter), big_endian);
                    }
                }
                for (round, constants) in ROUNDS.iter().enumerate() {
                    let constants = _mm_loadu_si128(constants.as_ptr().cast());
                    for (state, words) in states.iter_mut().zip(&mut words) {
                        if round >= 4 {
                            let [oldest, second, third, newest] = *words;
                            let sum = _mm_add_epi32(
                                _mm_sha256msg1_epu32(oldest, second),
                                _mm_alignr_epi8(newest, third, 4),
                            );
                            *words = [second, third, newest, _mm_sha256msg2_epu32(sum, newest)];
                        }
                        let word = if round < 4 { words[round] } else { words[3] };
                        let keyed = _mm_add_epi32(word, constants);
                        state[1] = _mm_sha256rnds2_epu32(state[1], state[0], keyed);
                        let upper = _mm_shuffle_epi32(keyed, 0x0E);
                        state[0] = _mm_sha256rnds2_epu32(state[0], state[1], upper);
                    }
                }
                for (state, before) in states.iter_mut().zip(before) {
                    for (half, before) in state.iter_mut().zip(before) {
                        *half = _mm_add_epi32(*half, before);
                    }
                }
            }
            for (lane, [abef, cdgh]) in [(&mut *a, states[0]), (&mut *b, states[1])] {
                let feba = _mm_shuffle_epi32(abef, 0x1B);
                let dchg = _mm_shuffle_epi32(cdgh, 0xB1);
                let halves = lane.state.as_mut_ptr().cast::<__m128i>();
                _mm_storeu_si128(halves, _mm_blend_epi16(feba, dchg, 0xF0));
                _mm_storeu_si128(halves.add(1), _mm_alignr_epi8(dchg, feba, 8));
                lane.done += count;
            }
        }
    }
}
