//! docs/attacks.md says what the table says.

use std::path::Path;

#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/attacks.md");
    let wanted = rcc_attacks::doc::render();
    if std::env::var_os("RCC_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == wanted,
        "docs/attacks.md is not what the table says\nhint: RCC_UPDATE_DOCS=1 cargo test -p rcc-attacks doc"
    );
}

#[test]
fn ids_are_unique() {
    let mut ids: Vec<_> = rcc_attacks::table::CLASSES.iter().flat_map(|c| c.attacks).map(|a| a.id).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    assert!(all >= 40, "{all}");
}
