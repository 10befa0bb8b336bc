//! The only file that releases the GIL.

use pyo3::marker::Ungil;
use pyo3::prelude::*;

/// Work below this many bytes keeps the GIL: it is done before another thread could wake up, and
/// a thread that gives the GIL away may wait a whole switch interval (5 ms) to get it back.
pub const RELEASE_BYTES: usize = 64 * 1024;

/// Runs `work`, which reads `bytes` bytes of memory, without the GIL where that is worth it.
pub fn detached<T: Ungil>(py: Python<'_>, bytes: usize, work: impl FnOnce() -> T + Ungil) -> T {
    if bytes < RELEASE_BYTES {
        work()
    } else {
        py.detach(work)
    }
}
