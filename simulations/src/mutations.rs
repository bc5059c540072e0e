//! `mutations`: that the checks bite. Each defect is put into worlds, one seed after the other, until a check finds it.

use std::collections::BTreeMap;
use std::time::Instant as WallClock;

use clap::Args;
use colloquy_mutations::Mutation;
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Failure;
use crate::apart::{Ended, WorldApart};
use crate::world::plan::Size;

/// Options of `mutations`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MutationsOptions {
    /// Only this one.
    #[arg(long)]
    only: Option<Mutation>,
    /// Seeds that are tried before a defect counts as not found.
    #[arg(long, default_value_t = 1_000)]
    within: u64,
    /// Worlds at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Texts that are written in one world.
    #[arg(long, default_value_t = 300)]
    texts: u64,
    /// Faults on the plan of one world, about.
    #[arg(long, default_value_t = 60)]
    faults: usize,
}

/// Which seed found a defect, and what it found.
struct Caught {
    seed: u64,
    violations: BTreeMap<String, u64>,
    first: String,
}

/// Puts every defect into worlds until it is found.
///
/// # Errors
/// One was not.
pub(crate) async fn run(options: MutationsOptions) -> Result<(), Failure> {
    #[allow(clippy::disallowed_methods, reason = "how long it takes is the machine's time, not the world's")]
    let began = WallClock::now();
    let all: Vec<Mutation> = options.only.map_or_else(|| Mutation::ALL.to_vec(), |only| vec![only]);
    println!("{:<24} {:>6}  found by", "defect", "seeds");
    let mut missed = Vec::new();
    for mutation in all {
        match find(&options, mutation).await? {
            Some(Caught { seed, violations, first }) => {
                let counts: Vec<String> =
                    violations.iter().map(|(id, count)| format!("{id} {count}")).collect();
                println!("{:<24} {seed:>6}  {}; first: {first}", mutation.name(), counts.join(", "));
            }
            None => {
                println!("{:<24} {:>6}  nothing", mutation.name(), format!(">{}", options.within));
                missed.push(mutation.name());
            }
        }
    }
    println!("{:.1} s", began.elapsed().as_secs_f64());
    if missed.is_empty() { Ok(()) } else { Err(format!("not found: {}", missed.join(", ")).into()) }
}

async fn find(options: &MutationsOptions, mutation: Mutation) -> Result<Option<Caught>, Failure> {
    let bar = ProgressBar::new(options.within).with_message(mutation.name());
    bar.set_style(ProgressStyle::with_template("{msg:24} {pos}/{len} worlds, {elapsed}")?);
    let size = Size { texts: options.texts, faults: options.faults };
    let world = |seed| WorldApart { seed, size, mutation: Some(mutation), only: None };
    let worlds = (1..=options.within).map(|seed| world(seed).run());
    // In the order of the seeds, so that it is the same one that finds it every time.
    let mut worlds = stream::iter(worlds).buffered(options.jobs.max(1));
    let mut caught = None;
    while let (None, Some(world)) = (&caught, worlds.next().await) {
        bar.inc(1);
        caught = match world? {
            Ended::Reported(report) if report.violations.is_empty() => None,
            Ended::Reported(report) => {
                let mut violations = BTreeMap::new();
                for violation in &report.violations {
                    let id = violation.split(':').next().unwrap_or_default();
                    *violations.entry(id.to_owned()).or_default() += 1;
                }
                Some(Caught { seed: report.seed, violations, first: report.violations[0].clone() })
            }
            Ended::Broken(seed, last_words) => {
                return Err(format!("seed {seed} came to no end: {last_words}").into());
            }
        };
    }
    bar.finish_and_clear();
    Ok(caught)
}
