//! libFuzzer on one of the targets, the one that the environment variable `SNAPFOLD_FUZZ` names. One binary
//! for all of them, because building is what takes long. Started by `fuzz/run`.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use cap::Cap;
use std::alloc::System;
use std::sync::LazyLock;
use targets::{TARGETS, Target};

/// Refuses more than a target may hold, which ends the process, and libFuzzer keeps the input.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("SNAPFOLD_FUZZ").unwrap_or_default();
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("SNAPFOLD_FUZZ is `{name}`, none of {names:?}"))
});

libfuzzer_sys::fuzz_target!(init: {
    // Telling about a panic takes more heap than some inputs may have.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        HEAP.set_limit(usize::MAX).expect("more than is allocated");
        tell(info);
    }));
}, |data: &[u8]| {
    let target = *TARGET;
    HEAP.set_limit(HEAP.allocated() + (target.bytes_max)(data.len())).expect("more than is allocated");
    (target.check)(data);
    HEAP.set_limit(usize::MAX).expect("more than is allocated");
});
