//! The `snapfold` binary: parse, run, exit code. Nothing else.

use std::process::ExitCode;

/// Folding is mostly small allocations; this allocator takes a fraction of the C library's time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    snapfold::cli::main()
}
