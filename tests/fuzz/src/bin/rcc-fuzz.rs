//! The engine, with all targets in it; [`rcc_fuzz::TARGET`] names the one that runs. `cargo xtask fuzz` builds it with
//! the compiler's counters and starts it.

#![no_main]

use rcc_fuzz::{TARGET, TARGETS};
use std::sync::LazyLock;

static FEED: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var(TARGET).expect("cargo xtask fuzz names the target");
    TARGETS.iter().find(|t| t.name == name).expect("a target of that name").feed
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| FEED(bytes));
