//! Each seed holds, and there are some for each target. What was found once is a seed, too.

use rcc_fuzz::TARGETS;
use std::path::Path;

#[test]
fn every_seed_holds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for target in TARGETS {
        let files: Vec<_> = std::fs::read_dir(seeds.join(target.name)).expect(target.name).flatten().collect();
        assert!(!files.is_empty(), "{}", target.name);
        for file in files {
            eprintln!("{}", file.path().display());
            (target.feed)(&std::fs::read(file.path()).expect("a seed"));
        }
    }
}

/// Or what the engine makes of it would be a difference from the start.
#[test]
fn the_listing_is_of_todays_table() {
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/listing/in-force");
    let again = "cargo run -p rcc-fuzz --example seeds tests/fuzz/seeds";
    assert_eq!(std::fs::read_to_string(seed).expect("a seed"), rcc_fuzz::listing::seed(), "{again}");
}
