//! The `snapfold` binary: parse, run, exit code. Nothing else.

use std::process::ExitCode;

/// COST: events are allocated by one thread and freed by another all the time. For that the C library's
/// allocator takes half again the processor time, and mimalloc a third more memory (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    snapfold::cli::main()
}
