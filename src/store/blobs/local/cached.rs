//! Small reads of what is in the page cache, without a hop to a thread for blocking work.
//!
//! COST: the blocks of checkpoints that a flush reads were mostly written seconds ago. Open, pread and close
//! take some five microseconds then; to wake a thread and be woken by it takes several times that, and on a
//! busy machine milliseconds. The kernel is asked not to wait: neither for the folders on the way
//! (`RESOLVE_CACHED`) nor for the bytes (`RWF_NOWAIT`).

use super::Blob;
use std::path::Path;

/// Longer ranges are copied on a thread that may take its time.
const LEN_MAX: u64 = 64 << 10;

/// The bytes of a range that lies within the file and in memory. None for any other reason: then the read
/// that may wait says what there is.
#[cfg(target_os = "linux")]
pub(super) fn range(path: &Path, start: u64, len: u64) -> Option<Blob> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::{ReadWriteFlags, preadv2};
    use std::io::IoSliceMut;

    // The highest offset means the current one to the kernel.
    if len > LEN_MAX || i64::try_from(start).is_err() {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let read = preadv2(&file, &mut [IoSliceMut::new(&mut bytes)], start, ReadWriteFlags::NOWAIT).ok()?;
    (read == bytes.len()).then_some(bytes)
}

/// Other systems cannot be asked not to wait.
#[cfg(not(target_os = "linux"))]
pub(super) fn range(_: &Path, _: u64, _: u64) -> Option<Blob> {
    None
}
