//! The habits of the source that a machine can hold. Each needle is written in two parts, so that this file
//! does not find itself.

use std::path::{Path, PathBuf};

/// Most lines of a production file before its tests.
pub const PRODUCTION_LINES_MAX: usize = 600;

/// Production files that are larger, and how large they may be. It only ever shrinks.
pub const KNOWN_LARGER: &[(&str, usize)] = &[];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 5] = ["utils", "common", "types", "helpers", "manager"];

/// What does not stand in any source file.
const NOWHERE: [(&str, &str); 4] = [
    (concat!("#[", "ignore"), "a test that does not run proves nothing"),
    (concat!("todo", "!("), "unfinished"),
    (concat!("unimplemented", "!("), "unfinished"),
    (concat!("unbounded", "_channel"), "BOUND: every queue has a named limit"),
];

/// What does not stand in tests, wherever they are.
const NOT_IN_TESTS: [(&str, &str); 3] = [
    (concat!("time::", "sleep"), "wait for the event"),
    (concat!("sleep", "("), "wait for the event"),
    (concat!("sleep_", "until"), "wait for the event"),
];

/// Everything wrong with one source file; `path` is relative to the repository.
#[must_use]
pub fn check_source(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display();
    let mut findings = Vec::new();
    if let Some(name) = path.iter().filter_map(|part| part.to_str()).find(|part| is_empty_name(part)) {
        findings.push(format!("{shown}: `{name}` does not say what is inside"));
    }
    if !text.starts_with("//!") {
        findings.push(format!("{shown}: a file opens by saying what it is for (//!)"));
    }
    findings.extend(check_length(path, production_lines(path, text)));
    for (needle, why) in NOWHERE {
        if text.contains(needle) {
            findings.push(format!("{shown}: `{needle}`: {why}"));
        }
    }
    for (needle, why) in NOT_IN_TESTS {
        if tests_of(path, text).contains(needle) {
            findings.push(format!("{shown}: `{needle}`: {why}"));
        }
    }
    if has_literal_channel_bound(text) {
        findings.push(format!("{shown}: the bound of a channel is a named constant (BOUND)"));
    }
    findings
}

fn is_empty_name(part: &str) -> bool {
    EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part))
}

/// Lines before the file's tests; none in a module of tests.
fn production_lines(path: &Path, text: &str) -> usize {
    if is_module_of_tests(path) {
        return 0;
    }
    text.lines().take_while(|line| line.trim_end() != "#[cfg(test)]").count()
}

/// The part of a file that is tests: all of it in a crate or folder of tests and in a module of tests, and otherwise
/// what follows the first `#[cfg(test)]`.
fn tests_of<'a>(path: &Path, text: &'a str) -> &'a str {
    let is_outside = path.iter().take_while(|part| *part != "src").any(|part| part == "tests");
    if is_outside || is_module_of_tests(path) {
        return text;
    }
    text.find("#[cfg(test)]\n").map_or("", |start| &text[start..])
}

fn is_module_of_tests(path: &Path) -> bool {
    let mut in_source = path.iter().skip_while(|part| *part != "src").skip(1);
    in_source.any(|part| part == "tests" || part == "tests.rs")
}

fn check_length(path: &Path, lines: usize) -> Option<String> {
    let known = KNOWN_LARGER.iter().find(|(known, _)| path == Path::new(known));
    let max = known.map_or(PRODUCTION_LINES_MAX, |(_, max)| *max);
    if lines > max {
        return Some(format!("{}: {lines} lines, {max} are allowed", path.display()));
    }
    known
        .filter(|(_, max)| lines < *max)
        .map(|_| format!("{}: only {lines} lines by now: lower its entry in KNOWN_LARGER", path.display()))
}

/// Does a call of tokio's bounded channel name its bound by a number?
fn has_literal_channel_bound(text: &str) -> bool {
    text.split(concat!("mpsc::", "channel")).skip(1).any(|after| {
        let after = after.strip_prefix("::<").map_or(after, skip_generics);
        let argument = after.strip_prefix('(').map(str::trim_start);
        argument.is_some_and(|argument| argument.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// What follows the `>` that closes an open `<`.
fn skip_generics(text: &str) -> &str {
    let mut depth = 1;
    for (index, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[index + 1..];
        }
    }
    ""
}

/// The variants of a public enum, from its source, as they stand there.
#[must_use]
pub fn variants_of(source: &str, name: &str) -> Vec<String> {
    let opening = format!("pub enum {name} {{");
    let Some((_, body)) = source.split_once(&opening) else { return Vec::new() };
    let variant = |line: &str| {
        let rest = line.strip_prefix("    ")?;
        let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        let begins_a_variant = name.starts_with(|c: char| c.is_ascii_uppercase());
        begins_a_variant.then_some(name)
    };
    body.lines().take_while(|line| *line != "}").filter_map(variant).collect()
}

/// `DeliveryAck` as it stands on the wire: `delivery_ack`.
#[must_use]
pub fn snake_case(variant: &str) -> String {
    let mut out = String::new();
    for c in variant.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Every Rust file under `root`, relative to it; what is built or hidden is left out.
#[must_use]
pub fn rust_files(root: &Path) -> Vec<PathBuf> {
    files(root).into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs")).collect()
}

/// Every file under `root`, relative to it; what is built or hidden is left out.
///
/// # Panics
/// If a folder cannot be read.
#[must_use]
pub fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry of a folder can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == "target" || name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).expect("it lies under the root").to_path_buf());
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check_source(Path::new(path), text).len()
    }

    #[test]
    fn a_file_with_an_empty_name_or_without_an_opening_is_found() {
        assert_eq!(findings("actors/src/session.rs", "//! Sessions.\n"), 0);
        assert_eq!(findings("actors/src/utils.rs", "//! Things.\n"), 1);
        assert_eq!(findings("actors/src/helpers/mod.rs", "//! Things.\n"), 1);
        assert_eq!(findings("actors/src/session.rs", "use x;\n"), 1);
    }

    #[test]
    fn a_long_production_file_is_found_and_its_tests_do_not_count() {
        let long = format!("//! Long.\n{}", "\n".repeat(PRODUCTION_LINES_MAX));
        assert_eq!(findings("actors/src/session.rs", &long), 1);
        let tested = format!("//! Tested.\n#[cfg(test)]\n{}", "\n".repeat(PRODUCTION_LINES_MAX));
        assert_eq!(findings("actors/src/session.rs", &tested), 0);
        assert_eq!(findings("actors/src/session/tests/server.rs", &long), 0);
    }

    #[test]
    fn what_may_stand_nowhere_is_found() {
        for (needle, _) in NOWHERE {
            assert_eq!(findings("actors/src/session.rs", &format!("//! x\n{needle}")), 1, "{needle}");
        }
    }

    #[test]
    fn sleeping_is_found_in_tests_wherever_they_are_and_nowhere_else() {
        let calls = [concat!("time::", "sleep_", "until(t)"), concat!("thread::", "sleep", "(d)")];
        for call in calls {
            let text = format!("//! x\n{call}\n");
            let tested = format!("//! x\n#[cfg(test)]\nmod tests {{ {call} }}\n");
            for path in [
                "tests/tests/drain.rs",
                "tests/src/pair.rs",
                "gateway-http/tests/rest/main.rs",
                "actors/src/a/tests.rs",
            ] {
                assert_ne!(findings(path, &text), 0, "{path}: {call}");
            }
            assert_eq!(findings("actors/src/session.rs", &text), 0, "{call}");
            assert_ne!(findings("actors/src/session.rs", &tested), 0, "{call}");
        }
    }

    #[test]
    fn a_channel_bounded_by_a_bare_number_is_found() {
        let call = |bound: &str| format!("//! x\n{}{bound}", concat!("mpsc::", "channel"));
        for bad in ["(16)", "::<Vec<u8>>(16)", "( 1)"] {
            assert_eq!(findings("actors/src/session.rs", &call(bad)), 1, "{bad}");
        }
        for good in ["(OUTBOUND_MAX)", "::<Vec<u8>>(limits.outbound)", ";"] {
            assert_eq!(findings("actors/src/session.rs", &call(good)), 0, "{good}");
        }
    }

    #[test]
    fn the_variants_of_an_enum_are_read_from_its_source() {
        let source = "pub enum Frame {\n    /// A.\n    AuthSuccess {\n        payload: X,\n    },\n    Message(Y),\n    Draining = 4000,\n}\nBut\n";
        assert_eq!(variants_of(source, "Frame"), ["AuthSuccess", "Message", "Draining"]);
        assert_eq!(snake_case("AuthSuccess"), "auth_success");
    }
}
