//! The dependency directions between our crates, and the few other crates that have one place each.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Which of our crates a crate may depend on. A crate that does not stand here may not exist.
const ALLOWED: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("storage", &["protocol"]),
    ("accounts", &["protocol", "storage"]),
    ("actors", &["protocol", "storage", "accounts"]),
    ("gateway-http", &["protocol", "storage", "accounts", "actors"]),
    ("runtime", &["protocol", "storage", "accounts", "actors", "gateway-http"]),
    ("client", &["protocol"]),
    ("cli", &["protocol", "client", "runtime"]),
    // Chaos needs the actors in the test's own process.
    ("tests", &["protocol", "client", "actors", "runtime"]),
    // The load generator starts servers and makes users as the tests do.
    ("simulations", &["protocol", "client", "tests"]),
];

/// Crates of others that only some of ours may name: everything behind a boundary has one place.
const CONFINED: &[(&str, &[&str])] = &[
    ("vodozemac", &["client", "tests", "simulations"]),
    ("axum", &["gateway-http"]),
    ("fjall", &["storage", "client"]),
    ("ratatui", &["client", "cli"]),
    ("crossterm", &["client", "cli"]),
];

/// The prefix of our packages' names.
const OURS: &str = "colloquy-";

/// Everything wrong with the dependencies of the crate in `folder`, whose manifest is `manifest`.
#[must_use]
pub fn check_manifest(folder: &str, manifest: &str) -> Vec<String> {
    let manifest: Table = match manifest.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{folder}/Cargo.toml does not parse: {error}")],
    };
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == folder) else {
        return vec![format!("{folder} has no place in the dependency order")];
    };
    let mut findings = Vec::new();
    for name in dependencies(&manifest) {
        if let Some(ours) = name.strip_prefix(OURS)
            && ours != folder
            && !allowed.contains(&ours)
        {
            findings.push(format!("{folder} depends on {ours}: the other way round, or not at all"));
        }
        if let Some((_, places)) = CONFINED.iter().find(|(confined, _)| *confined == name)
            && !places.contains(&folder)
        {
            findings.push(format!("{folder} depends on {name}, which only {places:?} may"));
        }
    }
    findings
}

/// Everything a manifest depends on, in every section and for every target.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(|targets| targets.values().filter_map(Value::as_table));
    std::iter::once(manifest)
        .chain(targets)
        .flat_map(|table| ["dependencies", "dev-dependencies", "build-dependencies"].map(|s| table.get(s)))
        .filter_map(|section| section.and_then(Value::as_table))
        .flat_map(|section| section.iter().map(|(key, value)| real_name(key, value)))
        .collect()
}

/// A dependency may be renamed; its `package` is what it is.
fn real_name(key: &str, value: &Value) -> String {
    value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(folder: &str, dependencies: &str) -> usize {
        check_manifest(folder, &format!("[dependencies]\n{dependencies}")).len()
    }

    #[test]
    fn an_edge_against_the_order_is_found() {
        assert_eq!(findings("storage", "colloquy-protocol.workspace = true"), 0);
        assert_eq!(findings("storage", "colloquy-actors.workspace = true"), 1);
        assert_eq!(findings("client", "colloquy-storage = { path = \"../storage\" }"), 1);
        assert_eq!(findings("protocol", "x = { package = \"colloquy-storage\", version = \"1\" }"), 1);
        assert_eq!(findings("runtime", "colloquy-client.workspace = true"), 1);
    }

    #[test]
    fn an_edge_that_only_tests_or_one_target_have_is_found_too() {
        let dev = "[dev-dependencies]\ncolloquy-actors = \"1\"\n";
        assert_eq!(check_manifest("storage", dev).len(), 1);
        let target = "[target.'cfg(unix)'.dependencies]\ncolloquy-actors = \"1\"\n";
        assert_eq!(check_manifest("storage", target).len(), 1);
    }

    #[test]
    fn a_confined_crate_outside_its_place_is_found() {
        assert_eq!(findings("actors", "vodozemac = \"1\""), 1);
        assert_eq!(findings("client", "vodozemac = \"1\""), 0);
        assert_eq!(findings("runtime", "axum = \"1\""), 1);
        assert_eq!(findings("accounts", "fjall = \"1\""), 1);
    }

    #[test]
    fn a_crate_without_a_place_in_the_order_is_found() {
        assert_eq!(findings("extras", ""), 1);
    }
}
