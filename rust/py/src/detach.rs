//! The only file that releases the GIL.

use pyo3::marker::Ungil;
use pyo3::prelude::*;

/// Work below this many bytes keeps the GIL: it is done before another thread could wake up, and
/// a thread that gives the GIL away may wait a whole switch interval (5 ms) to get it back.
///
/// Measured from 4 to 256 KiB there is no size at which release begins to pay: alone it costs 0.1
/// us, and beside a thread that never stops counting a hash or pack takes 2 to 2.5 times as long,
/// while that thread keeps 70 to 90 % of its speed and not 45 to 55 %. So the size is the longest
/// that others may be kept waiting: this many bytes are hashed in 32 us and packed in 2 us.
pub const RELEASE_BYTES: usize = 64 * 1024;

/// Runs `work`, which reads `bytes` bytes of memory, without the GIL where that is worth it.
pub fn detached<T: Ungil>(py: Python<'_>, bytes: usize, work: impl FnOnce() -> T + Ungil) -> T {
    if bytes < RELEASE_BYTES {
        work()
    } else {
        py.detach(work)
    }
}
