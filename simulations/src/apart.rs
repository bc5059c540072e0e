//! A world in a process of its own: it begins with nothing, and has everything that is global in a process to itself.

use std::collections::BTreeMap;
use std::fmt;
use std::process::{Output, Stdio};
use std::str::FromStr;

use colloquy_mutations::Mutation;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::Failure;
use crate::world::check::Violation;
use crate::world::course::Figures;
use crate::world::plan::Size;

/// What one world has shown, as it goes from process to process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) digest: String,
    pub(crate) figures: Figures,
    pub(crate) checked: BTreeMap<String, u64>,
    pub(crate) violations: Vec<String>,
    pub(crate) wall_ms: u64,
}

impl Report {
    /// As it is printed.
    pub(crate) fn line(violation: &Violation) -> String {
        format!("{}: {}", violation.invariant.id(), violation.text)
    }
}

/// How often each invariant was checked over all of these worlds, and how often it did not hold.
pub(crate) fn checks_of(reports: &[Report]) -> BTreeMap<&str, (u64, u64)> {
    let mut checks: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for report in reports {
        for (id, count) in &report.checked {
            checks.entry(id).or_default().0 += count;
        }
        for violation in &report.violations {
            let id = violation.split(':').next().unwrap_or_default();
            checks.entry(id).or_default().1 += 1;
        }
    }
    checks
}

/// Some of a plan's faults, by their place in it.
#[derive(Clone, Debug)]
pub(crate) struct Only(pub(crate) Vec<usize>);

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let place = |text: &str| text.parse().map_err(|_| "places are numbers: 0,3,17, or none".to_owned());
        text.split(',').map(place).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(if places.is_empty() { "none".to_owned() } else { places.join(",") }.as_str())
    }
}

/// Which world.
#[derive(Clone, Debug)]
pub(crate) struct WorldApart {
    pub(crate) seed: u64,
    pub(crate) size: Size,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) only: Option<Only>,
}

/// How it has ended.
pub(crate) enum Ended {
    Reported(Report),
    /// Without a report; with the end of what it wrote instead.
    Broken(u64, String),
}

impl WorldApart {
    /// What to say to a shell to run it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { seed, size: Size { texts, faults }, mutation, only } = self;
        let mut arguments = vec!["chaos".to_owned()];
        let mut say = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        say("seed", seed.to_string());
        say("texts", texts.to_string());
        say("faults", faults.to_string());
        if let Some(mutation) = mutation {
            say("mutation", mutation.to_string());
        }
        if let Some(only) = only {
            say("only", only.to_string());
        }
        arguments
    }

    /// Runs it.
    ///
    /// # Errors
    /// The process could not be started.
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let output = self.output("--json").await?;
        Ok(match serde_json::from_slice(&output.stdout) {
            Ok(report) => Ended::Reported(report),
            Err(_) => {
                let written = String::from_utf8_lossy(&output.stderr);
                Ended::Broken(self.seed, written.lines().last().unwrap_or("it said nothing").to_owned())
            }
        })
    }

    /// Runs it, and returns what it prints.
    ///
    /// # Errors
    /// The process could not be started.
    pub(crate) async fn timeline(&self) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.output("--timeline").await?.stdout).into_owned())
    }

    async fn output(&self, format: &str) -> Result<Output, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(self.arguments()).arg(format);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(command.output().await?)
    }
}
