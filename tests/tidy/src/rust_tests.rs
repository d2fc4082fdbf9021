//! Tests of the scanner.

use super::*;

fn code(text: &str) -> String {
    RustFile::scan("dlog-core/src/x.rs", text).code
}

#[test]
fn comments_and_literals_are_blanked() {
    assert_eq!(code("a // b\nc").trim_end(), "a     \nc");
    assert_eq!(code("a /* b /* c */ d */ e"), format!("a{}e", " ".repeat(19)));
    assert_eq!(code(r#"a("b\"c", d)"#), "a(      , d)");
    assert_eq!(code(r##"a(r#"b"c"#, d)"##), format!("a({}, d)", " ".repeat(8)));
    assert_eq!(code("a('\"', b'\\'', d)"), "a(   ,      , d)");
    assert_eq!(code("fn a<'a>(b: &'a str)"), "fn a<'a>(b: &'a str)");
    assert_eq!(code("bar(\"x\")"), "bar(   )", "an identifier that ends in r is no raw string");
    assert_eq!(code("'ä' x"), "     x", "a character of two bytes");
}

#[test]
fn lengths_and_lines_stay() {
    let text = "let a = \"x\ny\"; // ä\n/* b\n */ c";
    let file = RustFile::scan("a/src/b.rs", text);
    assert_eq!(file.code.len(), text.len());
    assert_eq!(file.uncommented.len(), text.len());
    assert_eq!(file.line_at(text.find(" c").expect("is there")), 4);
}

#[test]
fn only_code_outside_test_modules_counts() {
    let text =
        "//! Doc.\n\nfn a() {}\n// why\nconst B: &str = \"\nx\n\";\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
    let file = RustFile::scan("a/src/b.rs", text);
    assert_eq!(file.code_lines(), 4);
    assert!(file.in_test(text.find("fn c").expect("is there")));
    assert!(!file.in_test(text.find("fn a").expect("is there")));
}

#[test]
fn test_modules_in_files_of_their_own_are_followed() {
    let named = RustFile::scan("a/src/b.rs", "#[cfg(test)]\n#[path = \"b_cases.rs\"]\nmod tests;\n");
    assert_eq!(named.test_files, ["a/src/b_cases.rs"]);
    let plain = RustFile::scan("a/src/b.rs", "#[cfg(test)]\nmod cases;\n");
    assert_eq!(plain.test_files, ["a/src/b/cases.rs", "a/src/b/cases/mod.rs"]);
    let root = RustFile::scan("a/src/lib.rs", "#[cfg(test)]\nmod cases;\n");
    assert_eq!(root.test_files, ["a/src/cases.rs", "a/src/cases/mod.rs"]);
}

#[test]
fn functions_have_their_length() {
    let text = "fn a(x: [u8; 3]) -> u8 {\n    1\n}\ntrait T {\n    fn b();\n}\ntype F = fn(u8) -> u8;\n";
    let functions = RustFile::scan("a/src/b.rs", text).functions();
    assert_eq!(functions, [Function { name: "a".into(), line: 1, lines: 3 }]);
}

#[test]
fn words_are_whole() {
    assert_eq!(find_word("HashMapper HashMap xHashMap HashMap", "HashMap"), [11, 28]);
    assert_eq!(find_word("my_std::fs std::fs::File", "std::fs"), [11]);
}

#[test]
fn attributes_are_found_with_what_they_hold() {
    let file =
        RustFile::scan("a/src/b.rs", "#![allow(x)]\n#[cfg_attr(y, allow(z, reason = \"w\"))]\nfn f() { allow(1) }");
    let inside: Vec<String> = file.attributes("allow").into_iter().map(|(_, inside)| inside).collect();
    assert_eq!(inside, ["x", "z, reason =    "]);
}
