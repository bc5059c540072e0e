//! Autobahn's WebSocket cases, run by `kosoku` against an echo server, and their report.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

/// permessage-deflate: not offered by our transport, so the cases do not apply.
const EXCLUDED: [&str; 2] = ["12.*", "13.*"];

/// What one case came to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Of the exchange of messages.
    pub behavior: String,
    /// Of the closing handshake.
    pub behavior_close: String,
}

impl Verdict {
    /// Does the case pass? What the specification leaves open (informational, non-strict) passes.
    #[must_use]
    pub fn passes(&self) -> bool {
        let good = |verdict: &str| matches!(verdict, "OK" | "NON-STRICT" | "INFORMATIONAL");
        good(&self.behavior) && good(&self.behavior_close)
    }
}

/// The verdict of every case, by the case's number.
pub type Report = BTreeMap<String, Verdict>;

/// Reads a report's `index.json`: one object per agent, one verdict per case in it.
///
/// # Errors
/// If it does not have that form.
pub fn parse_report(index: &str) -> Result<Report, serde_json::Error> {
    let agents: BTreeMap<String, Report> = serde_json::from_str(index)?;
    Ok(agents.into_values().flatten().collect())
}

/// The cases that do not pass.
#[must_use]
pub fn failures(report: &Report) -> Vec<(&String, &Verdict)> {
    report.iter().filter(|(_, verdict)| !verdict.passes()).collect()
}

/// Runs every case that applies against the server at `address`; the report goes to `folder`.
///
/// # Panics
/// If `kosoku` is not installed or does not write its report.
pub async fn run(address: SocketAddr, folder: &Path) -> Report {
    let mut command = Command::new(program());
    command.arg(address.to_string()).arg("--outdir").arg(folder).args(["--parallelism", "2"]);
    for cases in EXCLUDED {
        command.args(["--exclude", cases]);
    }
    // Its exit code only repeats what the report says in detail.
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let ended = ended.expect("kosoku can be started");
    let index = std::fs::read_to_string(folder.join("index.json"));
    let index = index.unwrap_or_else(|error| {
        panic!("kosoku wrote no report ({error}): {}", String::from_utf8_lossy(&ended.stderr))
    });
    parse_report(&index).expect("the report has the form autobahn gave it")
}

/// `kosoku` from the virtual environment that `make test` puts beside the build.
fn program() -> PathBuf {
    let executable = std::env::current_exe().expect("a running program has a path");
    let found = executable.ancestors().map(|folder| folder.join("kosoku/bin/kosoku")).find(|p| p.is_file());
    found.expect("kosoku is not installed under the target folder: run `make test-tools`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = r#"{"echo": {
        "1.1.1": {"behavior": "OK", "behaviorClose": "OK", "duration": 1},
        "6.4.1": {"behavior": "NON-STRICT", "behaviorClose": "OK"},
        "7.1.1": {"behavior": "OK", "behaviorClose": "UNCLEAN"},
        "9.1.1": {"behavior": "FAILED", "behaviorClose": "OK"}
    }}"#;

    #[test]
    fn a_case_fails_by_its_messages_or_by_its_close() {
        let report = parse_report(INDEX).unwrap();
        let failed: Vec<&str> = failures(&report).into_iter().map(|(case, _)| case.as_str()).collect();
        assert_eq!(failed, ["7.1.1", "9.1.1"]);
    }
}
