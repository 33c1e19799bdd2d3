//! The `snapfold` binary: parse, run, exit code. Nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    snapfold::cli::main()
}
