//! The habits of the repository, held by a machine. What each check finds is shown beside it in the library.

use std::path::{Path, PathBuf};
use std::process::Command;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_tests::edges::{check_manifest, check_workspace};
use colloquy_tests::habits::{check_source, rust_files, snake_case, variants_of};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn dependencies_point_one_way() {
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let findings: Vec<String> = members
        .iter()
        .map(|member| member.as_str().unwrap())
        .flat_map(|folder| check_manifest(folder, &read(&format!("{folder}/Cargo.toml"))))
        .collect();
    assert!(members.len() >= 10);
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn no_feature_is_asked_for_that_may_not_be() {
    let findings = check_workspace(&read("Cargo.toml"));
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn what_is_shipped_has_no_defects_made_on_purpose() {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(root()).args(["tree", "--offline", "--package", "colloquy", "--edges", "normal"]);
    let tree = tree.output().expect("cargo can be run");
    let crates = String::from_utf8_lossy(&tree.stdout);
    assert!(tree.status.success() && crates.contains("colloquy-actors"), "{tree:?}");
    assert!(!crates.contains("colloquy-mutations"), "{crates}");
}

#[test]
fn every_source_file_keeps_the_habits() {
    let files = rust_files(&root());
    assert!(files.len() >= 30, "the walk finds the sources");
    let findings: Vec<String> =
        files.iter().flat_map(|path| check_source(path, &read(path.to_str().unwrap()))).collect();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn every_error_code_is_documented_with_its_status() {
    let page = read("docs/errors.md");
    let row = |code: &ErrorCode| {
        let retry = if code.is_retryable() { "yes" } else { "no" };
        format!("| `{code}` | {} | {retry} |", code.http_status())
    };
    let missing: Vec<String> = ErrorCode::ALL.iter().map(row).filter(|row| !page.contains(row)).collect();
    assert!(missing.is_empty(), "docs/errors.md lacks {missing:#?}");
    let documented = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(documented, ErrorCode::ALL.len(), "docs/errors.md has codes that do not exist");
}

#[test]
fn every_frame_is_documented() {
    let page = read("docs/frames.md");
    let sources =
        [("ClientFrame", "protocol/src/frame/client.rs"), ("ServerFrame", "protocol/src/frame/server.rs")];
    for (name, path) in sources {
        let frames = variants_of(&read(path), name);
        assert!(frames.len() >= 10, "{name}: {frames:?}");
        for frame in frames.iter().map(|frame| snake_case(frame)) {
            assert!(page.contains(&format!("| `{frame}` |")), "docs/frames.md lacks {frame} of {name}");
        }
    }
}

#[test]
fn every_close_code_is_documented() {
    let page = read("docs/frames.md");
    let source = read("protocol/src/close.rs");
    let codes = variants_of(&source, "CloseCode");
    assert!(codes.len() >= 12, "{codes:?}");
    for code in codes {
        let number = source.split_once(&format!("    {code} = ")).and_then(|(_, rest)| rest.split_once(','));
        let (number, _) = number.expect("a close code has a number");
        let row = format!("| {number} | `{}` |", snake_case(&code));
        assert!(page.contains(&row), "docs/frames.md lacks {row}");
    }
}
