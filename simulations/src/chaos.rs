//! `chaos`: worlds, one for each seed. One runs in this process; many run in processes of their own, so that each begins
//! with nothing and has everything that is global in a process to itself.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant as WallClock};

use clap::Args;
use colloquy_mutations::Mutation;
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

use crate::Failure;
use crate::apart::{Ended, Only, Report, WorldApart, checks_of};
use crate::page::{world, worlds};
use crate::processes::ProcessesOptions;
use crate::shrink::shrink;
use crate::world::course::{Figures, run};
use crate::world::plan::{Plan, Size};
use crate::world::stories::STORIES;
use crate::world::trace::Kind;

/// Violations of one world that are printed, where there are many worlds.
const VIOLATIONS_SHOWN_MAX: usize = 8;

/// Options of `report`: what [`chaos`] takes, and a file.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReportOptions {
    /// The page that is written.
    #[arg(default_value = "report.html")]
    file: PathBuf,
    #[command(flatten)]
    of_chaos: ChaosOptions,
}

/// Runs what is asked for and writes it as a page, also if an invariant did not hold.
///
/// # Errors
/// As [`chaos`].
pub(crate) async fn report(mut options: ReportOptions) -> Result<(), Failure> {
    let file = options.of_chaos.page.get_or_insert(options.file).clone();
    let done = chaos(options.of_chaos).await;
    if file.exists() {
        println!("the page is {}", file.display());
    }
    done
}

/// Options of `chaos`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ChaosOptions {
    /// The one world to run.
    #[arg(long, default_value_t = 1, conflicts_with = "seeds")]
    seed: u64,
    /// A world that once found a defect, by its name; `list` lists them.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "only"])]
    story: Option<String>,
    /// Many worlds instead: `1..200` is 1 to 200.
    #[arg(long, value_parser = parse_range)]
    seeds: Option<(u64, u64)>,
    /// Worlds at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Texts that are written in one world.
    #[arg(long, default_value_t = 2_000)]
    texts: u64,
    /// Faults on the plan of one world, about.
    #[arg(long, default_value_t = 60)]
    faults: usize,
    /// Only these faults of the plan, by their place in it: `0,3,17`, or `none`.
    #[arg(long, conflicts_with = "seeds")]
    only: Option<Only>,
    /// Of many worlds, the first that finds something is run up to so many times more, with fewer and fewer of its faults.
    #[arg(long, default_value_t = 100)]
    shrink: usize,
    /// Put this defect into every pod and client.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// Print what happened, line by line.
    #[arg(long, conflicts_with = "seeds")]
    timeline: bool,
    /// Write down every parcel that goes over a wire, one line each.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    record: Option<PathBuf>,
    /// Print what is logged meanwhile, by a filter such as `colloquy_client=debug` or `info`, with the world's time.
    #[arg(long, value_name = "FILTER", conflicts_with = "seeds")]
    log: Option<String>,
    /// Write what came of it as a page to look at, one HTML file.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Three real pods with a real MongoDB and Redis instead of a world, and what the seed does to their processes.
    #[arg(long, conflicts_with_all = ["seeds", "only", "story", "mutation", "timeline", "record", "log", "json"])]
    processes: bool,
    #[command(flatten)]
    of_processes: ProcessesOptions,
    /// Print one line of JSON and nothing else.
    #[arg(long, conflicts_with = "seeds")]
    json: bool,
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let parse = |text: &str| text.parse::<u64>().map_err(|_| "seeds are numbers: 1..200".to_owned());
    let (first, last) = text.split_once("..").ok_or("two numbers with `..` between them: 1..200")?;
    let (first, last) = (parse(first)?, parse(last)?);
    if first > last { Err("the first seed comes before the last".to_owned()) } else { Ok((first, last)) }
}

/// Runs what is asked for.
///
/// # Errors
/// An invariant did not hold, or a process could not be run.
pub(crate) async fn chaos(options: ChaosOptions) -> Result<(), Failure> {
    if options.processes {
        return crate::processes::run(options.seed, &options.of_processes, options.page.as_deref()).await;
    }
    match options.seeds {
        Some((first, last)) => many(&options, first, last).await,
        None => one(&options).await,
    }
}

fn plan_of(options: &ChaosOptions) -> Result<Plan, Failure> {
    if let Some(name) = &options.story {
        let Some(story) = STORIES.iter().find(|story| story.name == name) else {
            let list: Vec<String> =
                STORIES.iter().map(|story| format!("{}: {}", story.name, story.defect)).collect();
            return Err(format!("stories that can be told:\n{}", list.join("\n")).into());
        };
        println!("{}: {}", story.name, story.defect);
        return Ok(story.plan());
    }
    let mut plan = Plan::draw(options.seed, Size { texts: options.texts, faults: options.faults });
    if let Some(only) = &options.only {
        let all = std::mem::take(&mut plan.faults);
        plan.faults =
            all.into_iter().enumerate().filter(|(at, _)| only.0.contains(at)).map(|(_, it)| it).collect();
    }
    Ok(plan)
}

async fn one(options: &ChaosOptions) -> Result<(), Failure> {
    let plan = plan_of(options)?;
    if !options.json {
        describe(&plan);
    }
    #[allow(clippy::disallowed_methods, reason = "how long it takes is the machine's time, not the world's")]
    let began = WallClock::now();
    let seed = plan.seed;
    if let Some(filter) = &options.log {
        let filter = EnvFilter::try_new(filter)?;
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    if let Some(mutation) = options.mutation {
        colloquy_mutations::make(mutation);
    }
    let record = options.record.as_ref().map(File::create).transpose()?;
    let world = std::thread::Builder::new().name("world".to_owned()).spawn(move || {
        colloquy_simulated_entropy::seed_this_thread(seed);
        quiet_panics();
        (run(&plan, record), plan)
    })?;
    let (outcome, plan) = world.join().map_err(|_| "the world itself has panicked")?;
    if let Some(file) = &options.page {
        std::fs::write(file, world::page(&plan, &outcome).html())?;
    }
    let violations: Vec<String> = outcome.findings.violations.iter().map(Report::line).collect();
    let report = Report {
        seed,
        digest: outcome.digest,
        figures: outcome.figures,
        checked: outcome.findings.checked.iter().map(|(it, count)| (it.id().to_owned(), *count)).collect(),
        violations,
        wall_ms: millis(began.elapsed()),
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    for note in outcome.notes.iter().filter(|note| options.timeline || note.kind == Kind::Violation) {
        println!("{:>9.3}  {:<9}  {}", note.at_ms as f64 / 1e3, format!("{:?}", note.kind), note.text);
    }
    print_summary(std::slice::from_ref(&report));
    let Figures { delay_p50_ms, delay_p99_ms, .. } = report.figures;
    println!("text to answer: p50 {delay_p50_ms} ms, p99 {delay_p99_ms} ms");
    println!("trace {}", report.digest);
    if report.violations.is_empty() { Ok(()) } else { Err("an invariant did not hold".into()) }
}

/// A panic that was made to happen is no news.
fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<&str>().copied().unwrap_or_default();
        if !text.starts_with("made to panic") {
            usual(panic);
        }
    }));
}

fn describe(plan: &Plan) {
    println!("seed {}", plan.seed);
    println!(
        "{} pods, {} people with {} devices, {} of them agents; {} texts and {} faults in {:?}; delays: network {:?}, store {:?}, bus {:?}",
        plan.pods,
        plan.people,
        plan.devices.len(),
        plan.agents,
        plan.texts,
        plan.faults.len(),
        plan.length,
        plan.network_delay,
        plan.store_delay,
        plan.bus_delay
    );
}

async fn many(options: &ChaosOptions, first: u64, last: u64) -> Result<(), Failure> {
    #[allow(clippy::disallowed_methods, reason = "how long it takes is the machine's time, not the world's")]
    let began = WallClock::now();
    let bar = ProgressBar::new(last - first + 1);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} worlds, {elapsed} of about {duration}  {msg}",
    )?);
    let size = Size { texts: options.texts, faults: options.faults };
    let world = |seed| WorldApart { seed, size, mutation: options.mutation, only: None };
    let worlds = (first..=last).map(|seed| world(seed).run());
    let mut worlds = stream::iter(worlds).buffer_unordered(options.jobs.max(1));
    let (mut reports, mut broken) = (Vec::new(), Vec::new());
    while let Some(world) = worlds.next().await {
        match world? {
            Ended::Reported(report) => {
                let (seed, count) = (report.seed, report.violations.len());
                for violation in report.violations.iter().take(VIOLATIONS_SHOWN_MAX) {
                    bar.suspend(|| println!("seed {seed}: {violation}"));
                }
                if count > VIOLATIONS_SHOWN_MAX {
                    bar.suspend(|| println!("seed {seed}: and {} more", count - VIOLATIONS_SHOWN_MAX));
                }
                reports.push(report);
            }
            Ended::Broken(seed, last_words) => {
                bar.suspend(|| println!("seed {seed}: the world came to no end: {last_words}"));
                broken.push(seed);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    print_summary(&reports);
    let took = began.elapsed().as_secs_f64();
    println!("{took:.1} s");
    if let Some(file) = &options.page {
        reports.sort_unstable_by_key(|report| report.seed);
        let worlds = worlds::Worlds { reports: &reports, broken: &broken, took };
        std::fs::write(file, worlds::page(&worlds).html())?;
    }
    let mut bad: Vec<u64> = reports.iter().filter(|it| !it.violations.is_empty()).map(|it| it.seed).collect();
    bad.extend(broken);
    bad.sort_unstable();
    let Some(first) = reports.iter().filter(|it| !it.violations.is_empty()).map(|it| it.seed).min() else {
        return if bad.is_empty() {
            Ok(())
        } else {
            Err(format!("seeds that came to no end: {bad:?}").into())
        };
    };
    if options.shrink > 0 {
        println!("{}", shrink(world(first), options.shrink, options.jobs).await?);
    }
    Err(format!("seeds that found something: {bad:?}").into())
}

fn print_summary(reports: &[Report]) {
    let sum = |figure: fn(&Figures) -> u64| reports.iter().map(|report| figure(&report.figures)).sum::<u64>();
    println!(
        "{} worlds: {} texts, {} messages, {} shown; {} faults planned, {} calls and signals befallen; {} connections",
        reports.len(),
        sum(|it| it.texts),
        sum(|it| it.messages),
        sum(|it| it.shown),
        sum(|it| it.planned_faults),
        sum(|it| it.befallen),
        sum(|it| it.connections),
    );
    println!(
        "answers seen to grow {} times, forged {} times; {} turns given up and replayed; {} messages told again, {} not taken at first; undecryptable at first {}, repaired {}, not sent {}; {} parcels on wires; {:.0} s of the worlds' time, {:.1} s of the machine's",
        sum(|it| it.grown),
        sum(|it| it.forged),
        sum(|it| it.replayed),
        sum(|it| it.told_again),
        sum(|it| it.told_late),
        sum(|it| it.undecryptable),
        sum(|it| it.repaired),
        sum(|it| it.failed),
        sum(|it| it.parcels),
        sum(|it| it.lasted_ms) as f64 / 1e3,
        reports.iter().map(|report| report.wall_ms).sum::<u64>() as f64 / 1e3,
    );
    for (id, (count, violations)) in checks_of(reports) {
        println!("  {id:<8} {count:>10} checked {violations:>6} violated");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
