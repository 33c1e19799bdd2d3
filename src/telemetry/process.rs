//! What this process uses of its machine, as Linux tells it below `/proc/self`.

/// The unit of processor times in `/proc`: `USER_HZ`, which is 100 on every Linux.
const TICK_MS: u64 = 10;

/// What the process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Milliseconds of processor time, of all threads since the start.
    pub cpu_ms: u64,
    /// Bytes of memory that are in use.
    pub resident_bytes: u64,
    /// Open files and sockets.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
}

/// What the process uses now; none where there is no `/proc`.
#[must_use]
pub fn usage() -> Option<Usage> {
    let (stat, status) = (
        std::fs::read_to_string("/proc/self/stat").ok()?,
        std::fs::read_to_string("/proc/self/status").ok()?,
    );
    let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(Usage {
        cpu_ms: cpu_ms(&stat)?,
        resident_bytes: number(&status, "VmRSS:")? << 10,
        open_files,
        threads: number(&status, "Threads:")?,
    })
}

/// Fields 14 and 15; the second one, a name in brackets, may hold blanks and brackets.
fn cpu_ms(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * TICK_MS)
}

fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 1 2 3";
        assert_eq!(cpu_ms(stat), Some(3_000));
        assert_eq!(number("Name:\tx\nVmRSS:\t  2048 kB\nThreads:\t4\n", "VmRSS:"), Some(2_048));
        assert_eq!((cpu_ms("7"), number("", "VmRSS:")), (None, None));
    }

    #[test]
    fn what_is_used_more_shows() {
        let before = usage().expect("tests run on Linux");
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = usage().expect("tests run on Linux");
        // Other tests open and close files meanwhile, far fewer.
        assert!(after.open_files > before.open_files + 10, "{before:?} {after:?}");
        assert!(after.resident_bytes > before.resident_bytes + (16 << 20), "{before:?} {after:?}");
        assert!(after.cpu_ms >= before.cpu_ms && after.threads >= 1);
        drop((files, memory));
    }
}
