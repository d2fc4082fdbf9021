//! Runs every house rule over the repository.

use dlog_tidy::assert_none;
use dlog_tidy::rules::sizes::Ratchet;
use dlog_tidy::rules::{arrows, attributes, code_map, docs, markdown, mutants, paths, purity, sizes, words};
use dlog_tidy::tree::Tree;

/// The crates whose files the code map names one by one.
const MAPPED: &[&str] = &[
    "dlog-core",
    "dlog-storage",
    "dlog-replication",
    "dlog-consensus",
    "dlog-protocol",
    "dlog-client",
    "dlog-server",
    "tests/fuzz",
    "tests/bench",
    "tests/sim",
    "tests/tidy",
];

#[test]
fn arrows_run_one_way() {
    assert_none("arrows", &arrows::check(&Tree::load().ending("Cargo.toml")));
}

#[test]
fn nothing_is_done_wrong_unless_the_simulator_is_asked_to() {
    assert_none("mutants", &mutants::check(&Tree::load().ending("Cargo.toml")));
}

#[test]
fn files_and_functions_are_short() {
    let tree = Tree::load();
    let ratchet = tree.file("tests/tidy/ratchet.toml").expect("the ratchet stands beside this crate");
    let ratchet = Ratchet::parse(&ratchet.text).unwrap_or_else(|e| panic!("tests/tidy/ratchet.toml {e}"));
    assert_none("sizes", &sizes::check(&tree.rust(), &ratchet));
}

#[test]
fn modules_and_limits_are_documented() {
    let files = Tree::load().rust();
    assert_none("module docs", &docs::check_modules(&files));
    assert_none("limit docs", &docs::check_limits(&files));
}

#[test]
fn nothing_is_left_for_later() {
    let tree = Tree::load();
    assert_none("macros", &words::check_macros(&tree.rust()));
    assert_none("marks", &words::check_marks(&tree.files));
}

#[test]
fn nothing_is_switched_off_without_a_reason() {
    assert_none("attributes", &attributes::check(&Tree::load().rust()));
}

#[test]
fn pure_crates_are_pure_and_files_are_opened_in_one_place() {
    assert_none("purity", &purity::check(&Tree::load().rust()));
}

#[test]
fn markdown_has_one_heading_and_no_dead_links() {
    let tree = Tree::load();
    let files = tree.ending(".md");
    assert_none("headings", &markdown::check_headings(&files));
    assert_none("links", &markdown::check_links(&files, &tree.paths));
}

#[test]
fn no_path_of_one_machine() {
    assert_none("paths", &paths::check(&Tree::load().files));
}

#[test]
fn the_code_map_is_true() {
    let tree = Tree::load();
    let map = tree.file(code_map::MAP).expect("the map stands at the root");
    assert_none("code map", &code_map::check(map, MAPPED, &tree.paths));
}
