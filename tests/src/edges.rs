//! The dependency directions between our crates, and the few other crates that have one place each.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Which of our crates a crate may depend on. A crate that does not stand here may not exist.
const ALLOWED: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    // Which agent a message goes to: the same on a server and on a device.
    ("routing", &["protocol"]),
    ("storage", &["protocol", "mutations"]),
    // Processes that tests start: depends on none of ours.
    ("tests/services", &[]),
    ("storage/remote", &["protocol", "storage", "test-services"]),
    ("accounts", &["protocol", "storage"]),
    ("actors", &["protocol", "routing", "storage", "accounts", "mutations"]),
    ("gateway-http", &["protocol", "storage", "accounts", "actors"]),
    ("runtime", &["protocol", "storage", "storage-remote", "accounts", "actors", "gateway-http"]),
    ("client", &["protocol", "routing", "mutations"]),
    // What stands beside an agent: the client SDK, a sink, and the agent as plain HTTP.
    ("sidecar", &["protocol", "client"]),
    ("cli", &["protocol", "client", "sidecar", "runtime"]),
    // Chaos needs the actors in the test's own process.
    ("tests", &["protocol", "client", "actors", "runtime", "test-services"]),
    // Worlds are made of everything; the load generator starts servers and makes users as the tests do.
    (
        "simulations",
        &[
            "protocol",
            "storage",
            "accounts",
            "actors",
            "gateway-http",
            "runtime",
            "client",
            "tests",
            "simulated-entropy",
            "mutations",
        ],
    ),
    // Randomness that repeats, for worlds on virtual time.
    ("simulations/entropy", &[]),
    // Defects made on purpose: optional wherever it is not the simulations'.
    ("simulations/mutations", &[]),
];

/// Crates of others that only some of ours may name: everything behind a boundary has one place.
const CONFINED: &[(&str, &[&str])] = &[
    ("vodozemac", &["client", "tests", "simulations"]),
    ("axum", &["gateway-http"]),
    ("fjall", &["storage", "client"]),
    ("ratatui", &["client", "cli"]),
    ("crossterm", &["client", "cli"]),
    ("ractor", &["actors"]),
    ("ractor_cluster", &["actors"]),
    ("mongodb", &["storage/remote"]),
    ("redis", &["storage/remote"]),
    ("jsonwebtoken", &["accounts", "gateway-http", "tests"]),
    ("reqwest", &["client", "sidecar", "cli", "runtime", "tests", "simulations"]),
    // The protocol has no I/O, no clock and no runtime.
    (
        "tokio",
        &[
            "storage",
            "storage/remote",
            "accounts",
            "actors",
            "gateway-http",
            "runtime",
            "client",
            "sidecar",
            "cli",
            "tests",
            "simulations",
        ],
    ),
];

/// Features that no manifest may ask for, by crate, and why.
const FORBIDDEN_FEATURES: &[(&str, &str, &str)] =
    &[("ractor", "async-trait", "it boxes every handler of every actor")];

/// Crates with lints of their own, because the workspace forbids `unsafe`: it gives functions of the C library another
/// body, for simulations alone.
const OWN_LINTS: &[&str] = &["simulations/entropy"];

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
    if !OWN_LINTS.contains(&folder) && !takes_workspace_lints(&manifest) {
        findings.push(format!("{folder} has lints of its own: say `[lints] workspace = true`"));
    }
    findings.extend(check_features(folder, &manifest));
    findings
}

/// Everything wrong with the workspace's own manifest.
///
/// # Panics
/// If it does not parse.
#[must_use]
pub fn check_workspace(manifest: &str) -> Vec<String> {
    let manifest: Table = manifest.parse().expect("the workspace's manifest parses");
    let workspace = manifest.get("workspace").and_then(Value::as_table).cloned().unwrap_or_default();
    let mut findings = check_features("the workspace", &workspace);
    let dependencies = workspace.get("dependencies").and_then(Value::as_table);
    for (name, feature, why) in FORBIDDEN_FEATURES {
        let dependency = dependencies.and_then(|dependencies| dependencies.get(*name));
        // What is on by default today may bring the feature tomorrow.
        if dependency.is_some_and(|it| it.get("default-features").and_then(Value::as_bool) != Some(false)) {
            findings.push(format!("{name} has its default features, perhaps {feature}: {why}"));
        }
    }
    findings
}

fn takes_workspace_lints(manifest: &Table) -> bool {
    let lints = manifest.get("lints").and_then(Value::as_table);
    lints.is_some_and(|lints| lints.len() == 1 && lints.get("workspace") == Some(&Value::Boolean(true)))
}

fn check_features(of: &str, manifest: &Table) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, dependency) in sections(manifest).flat_map(Table::iter) {
        let asked = dependency.get("features").and_then(Value::as_array).into_iter().flatten();
        for feature in asked.filter_map(Value::as_str) {
            let real = real_name(name, dependency);
            for (_, _, why) in FORBIDDEN_FEATURES.iter().filter(|(n, f, _)| *n == real && *f == feature) {
                findings.push(format!("{of} asks for {feature} of {real}: {why}"));
            }
        }
    }
    findings
}

/// Everything a manifest depends on, in every section and for every target.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    sections(manifest).flat_map(|section| section.iter().map(|(key, value)| real_name(key, value))).collect()
}

/// Every section of dependencies, for every target.
fn sections(manifest: &Table) -> impl Iterator<Item = &Table> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(|targets| targets.values().filter_map(Value::as_table));
    std::iter::once(manifest)
        .chain(targets)
        .flat_map(|table| ["dependencies", "dev-dependencies", "build-dependencies"].map(|s| table.get(s)))
        .filter_map(|section| section.and_then(Value::as_table))
}

/// A dependency may be renamed; its `package` is what it is.
fn real_name(key: &str, value: &Value) -> String {
    value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn findings(folder: &str, dependencies: &str) -> usize {
        check_manifest(folder, &format!("{LINTS}[dependencies]\n{dependencies}")).len()
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
        for section in ["dev-dependencies", "target.'cfg(unix)'.dependencies"] {
            let manifest = format!("{LINTS}[{section}]\ncolloquy-actors = \"1\"\n");
            assert_eq!(check_manifest("storage", &manifest).len(), 1, "{section}");
        }
    }

    #[test]
    fn a_confined_crate_outside_its_place_is_found() {
        assert_eq!(findings("actors", "vodozemac = \"1\""), 1);
        assert_eq!(findings("client", "vodozemac = \"1\""), 0);
        assert_eq!(findings("runtime", "axum = \"1\""), 1);
        assert_eq!(findings("accounts", "fjall = \"1\""), 1);
        for name in ["tokio", "reqwest", "ractor", "jsonwebtoken"] {
            assert_eq!(findings("protocol", &format!("{name}.workspace = true")), 1, "{name}");
        }
    }

    #[test]
    fn a_crate_without_a_place_in_the_order_is_found() {
        assert_eq!(findings("extras", ""), 1);
    }

    #[test]
    fn a_crate_with_lints_of_its_own_or_without_any_is_found() {
        for lints in ["", "[lints]\nworkspace = false\n", "[lints.rust]\nunsafe_code = \"allow\"\n"] {
            assert_eq!(check_manifest("storage", lints).len(), 1, "{lints}");
        }
        assert_eq!(check_manifest("storage", LINTS).len(), 0);
    }

    #[test]
    fn a_forbidden_feature_is_found_wherever_it_is_asked_for() {
        let asked = "{ workspace = true, features = [\"async-trait\"] }";
        assert_eq!(findings("actors", &format!("ractor = {asked}")), 1);
        assert_eq!(findings("actors", "ractor.workspace = true"), 0);
        let workspace =
            |it: &str| check_workspace(&format!("[workspace.dependencies]\nractor = {it}\n")).len();
        assert_eq!(
            workspace("{ version = \"1\", default-features = false, features = [\"async-trait\"] }"),
            1
        );
        assert_eq!(workspace("{ version = \"1\", default-features = false }"), 0);
        assert_eq!(workspace("\"1\""), 1);
        assert_eq!(workspace("{ version = \"1\", features = [\"async-trait\"] }"), 2);
    }
}
