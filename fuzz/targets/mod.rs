//! What is fuzzed: one function per parser of foreign bytes. The fuzzer (`fuzz/src/main.rs`) and the test
//! that replays the kept corpus (`tests/corpus.rs`) include this folder: a finding becomes a test.
//!
//! A new target is a file with `check`, a line in [`TARGETS`] and a folder of seeds `fuzz/corpus/NAME`.
//!
//! INVARIANT: `check` is a function of its bytes alone, panics only for a fault of snapfold, and holds at
//! most `bytes_max` of its input's length on the heap: whoever runs it ends the process when it wants more.

pub(crate) mod avro;
pub(crate) mod body;
pub(crate) mod compress;
pub(crate) mod dictionary;
pub(crate) mod event_json;
pub(crate) mod footer;
pub(crate) mod pack;
pub(crate) mod reducer;
mod repair;

/// One parser under test.
pub(crate) struct Target {
    /// The folder of its corpus.
    pub(crate) name: &'static str,
    /// Feeds it; panics for a finding.
    pub(crate) check: fn(&[u8]),
    /// Rust heap that an input of this length may need. What zstd allocates itself is not in it.
    pub(crate) bytes_max: fn(usize) -> usize,
}

/// Every target.
pub(crate) const TARGETS: [Target; 8] = [
    // A value of 64 KiB of text, some of it members that are only a name and null.
    Target { name: "avro", check: avro::check, bytes_max: |len| 4 * MIB + 4_096 * len },
    Target { name: "body", check: body::check, bytes_max: |len| MIB + 256 * len },
    Target { name: "compress", check: compress::check, bytes_max: inflated },
    Target { name: "dictionary", check: dictionary::check, bytes_max: |len| inflated(4 * len) },
    Target { name: "event_json", check: event_json::check, bytes_max: |len| 4 * MIB + 4_096 * len },
    Target { name: "footer", check: footer::check, bytes_max: inflated },
    Target { name: "pack", check: pack::check, bytes_max: inflated },
    // One alias of YAML may stand for a million nodes, and one event may copy 64 MiB: both are limits.
    Target { name: "reducer", check: reducer::check, bytes_max: |_| 512 * MIB },
];

const MIB: usize = 1 << 20;

/// Room for what `len` bytes really decompress to: a block of zstd makes 128 KiB of four bytes, and Brotli
/// starts with a window of up to 16 MiB. Far less than the 128 MiB that a few bytes could claim.
fn inflated(len: usize) -> usize {
    48 * MIB + (len << 15)
}
