//! The `snapfold` binary: parse, run, exit code. Nothing else.

fn main() {
    println!("snapfold {}", env!("CARGO_PKG_VERSION"));
}
