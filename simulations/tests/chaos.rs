//! Worlds on virtual time: the same seed is the same run, and no invariant is ever broken.

use std::process::{Command, Output};

/// Texts and faults of one world here: small, as a build without optimisations is slow.
const SIZE: [&str; 4] = ["--texts", "300", "--faults", "60"];

fn chaos(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_colloquy-simulations"));
    command.arg("chaos").args(SIZE).args(arguments).output().expect("the simulations can be started")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte_and_another_seed_another() {
    let trace = |seed: &str| {
        let run = text(&chaos(&["--seed", seed]));
        run.lines().find(|line| line.starts_with("trace ")).map(str::to_owned).expect("a run names its trace")
    };
    let first = trace("3");
    assert_eq!(first, trace("3"));
    assert_ne!(first, trace("4"));
}

#[test]
fn no_invariant_is_broken_in_worlds_that_are_known_and_in_some_that_are_new() {
    // Worlds that are hardly ever run twice. It is named if it finds something.
    let fresh = u64::from(std::process::id()) * 1_000_003;
    for (first, last) in [(1, KNOWN), (fresh, fresh + FRESH - 1)] {
        let seeds = format!("{first}..{last}");
        let run = chaos(&["--seeds", &seeds]);
        assert!(
            run.status.success(),
            "seeds {seeds}:\n{}{}",
            text(&run),
            String::from_utf8_lossy(&run.stderr)
        );
    }
}

/// Worlds that are run each time, and new ones.
const KNOWN: u64 = 8;
const FRESH: u64 = 2;
