//! Every input that fuzzing has kept, through the same functions, without a fuzzer: what was found once stays
//! fixed. See CONTRIBUTING.md, and `fuzz/targets` for what is checked.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use cap::Cap;
use std::alloc::System;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use targets::TARGETS;

/// Ends the process where a target holds more than it may.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// What the fuzzer is told as well. An input of a few KiB that takes this long makes something quadratic.
const TIME_MAX: Duration = Duration::from_secs(10);

/// One test, because the limit of the heap is the process's.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long an input takes is what is asked")]
fn what_fuzzing_has_found_stays_fixed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for target in TARGETS {
        let inputs = std::fs::read_dir(folder.join(target.name)).unwrap();
        let mut inputs: Vec<PathBuf> = inputs.map(|input| input.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "`{}` has no corpus", target.name);
        for input in inputs {
            let data = std::fs::read(&input).unwrap();
            // Shown by the test only if it fails.
            println!("{}", input.strip_prefix(&folder).unwrap().display());
            let start = Instant::now();
            HEAP.set_limit(HEAP.allocated() + (target.bytes_max)(data.len())).unwrap();
            (target.check)(&data);
            HEAP.set_limit(usize::MAX).unwrap();
            assert!(start.elapsed() < TIME_MAX, "it takes {:?}", start.elapsed());
        }
    }
}
