//! `chaos --processes`: three real pods with a real MongoDB and Redis under steady traffic, and whatever a seed does to
//! their processes and links. The same seed strikes at the same times; what it meets there is the machine's.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use colloquy_tests::account::Account;
use colloquy_tests::cluster::{Cluster, ClusterOptions, pod_name};
use colloquy_tests::fleet::{Fleet, FleetOptions};
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::Failure;
use crate::page::lanes::Span;
use crate::page::processes::{self, Processes};
use crate::process::raise_file_limit;

/// Between two faults.
const PAUSE_S: std::ops::Range<f64> = 1.0..8.0;
/// How long a fault lasts.
const LASTS_S: std::ops::Range<f64> = 0.5..12.0;
/// After so long it is looked again whether a pod can be started.
const AGAIN: Duration = Duration::from_secs(1);

/// Options of `chaos --processes`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProcessesOptions {
    /// Seconds in which faults happen.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Clients, in pairs; the two of a pair are on different pods.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..=20_000))]
    clients: u64,
    /// Messages a second, of all clients together.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
}

/// Something that is broken for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ill {
    Killed(usize),
    Frozen(usize),
    RedisAway,
    MongoAway,
    CutOff,
}

impl fmt::Display for Ill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(pod) => write!(f, "{} killed", pod_name(*pod)),
            Self::Frozen(pod) => write!(f, "{} frozen", pod_name(*pod)),
            Self::RedisAway => f.write_str("Redis killed"),
            Self::MongoAway => f.write_str("MongoDB killed"),
            Self::CutOff => f.write_str("two pods cut off"),
        }
    }
}

impl Ill {
    /// Where it strikes, for a person.
    fn place(self) -> String {
        match self {
            Self::Killed(pod) | Self::Frozen(pod) => pod_name(pod),
            Self::RedisAway => "Redis".to_owned(),
            Self::MongoAway => "MongoDB".to_owned(),
            Self::CutOff => "between pods".to_owned(),
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judgement {
    /// Messages in the logs.
    pub(crate) logged: u64,
    /// Seconds from when everything was whole until nothing was missing.
    pub(crate) settled: f64,
}

/// The pods, the traffic, and what is broken.
struct Trial {
    cluster: Cluster,
    fleet: Fleet,
    rng: StdRng,
    ills: BTreeMap<Ill, Instant>,
    struck: BTreeMap<String, u64>,
    /// The same, each with its time.
    spans: Vec<Span>,
    began: Instant,
}

/// Runs it, and writes a page if one is asked for.
///
/// # Errors
/// The file limit is too low, or the page cannot be written. What does not hold ends the process with a panic that says
/// what.
pub(crate) async fn run(seed: u64, options: &ProcessesOptions, page: Option<&Path>) -> Result<(), Failure> {
    raise_file_limit()?;
    println!(
        "seed {seed}; three pods, {} clients, {} messages/s; faults for {} s",
        options.clients, options.rate, options.seconds
    );
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let fleet_options = FleetOptions {
        steady_pairs: usize::try_from(options.clients / 2)?,
        quiet_pairs: 0,
        interval: Duration::from_secs(1).mul_f64(options.clients as f64 / options.rate as f64),
    };
    let mut fleet = Fleet::start(&cluster.rest(0), &cluster.addresses(), fleet_options).await;
    fleet.flow();
    fleet.acks(options.clients).await;
    let (rng, began) = (StdRng::seed_from_u64(seed), Instant::now());
    let (ills, struck, spans) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let mut trial = Trial { cluster, fleet, rng, ills, struck, spans, began };
    trial.break_things(Duration::from_secs(options.seconds)).await;
    trial.make_whole().await;
    let judged = AssertUnwindSafe(trial.judge()).catch_unwind().await;
    let account = trial.fleet.account();
    if let Some(file) = page {
        let judgement =
            judged.as_ref().map(|judgement| *judgement).map_err(|panic| panic_text(panic.as_ref()));
        let samples = trial.cluster.scrape().await;
        let (began, spans) = (trial.began, trial.spans.as_slice());
        let shown = Processes { seed, began, spans, account: &account, judgement, samples: &samples };
        std::fs::write(file, processes::page(&shown).html())?;
    }
    match judged {
        Ok(judgement) => trial.print(judgement, &account),
        Err(panic) => resume_unwind(panic),
    }
    Ok(())
}

impl Trial {
    async fn break_things(&mut self, length: Duration) {
        let bar = ProgressBar::new(length.as_secs());
        bar.set_style(
            ProgressStyle::with_template("{bar:40} {pos}/{len} s  {msg}").expect("it is a constant"),
        );
        let end = self.began + length;
        let mut next = Instant::now();
        while Instant::now() < end {
            bar.set_position(self.began.elapsed().as_secs());
            self.mend_due().await;
            if Instant::now() >= next {
                if let Some(what) = self.strike().await {
                    bar.suspend(|| println!("{:>7.1} s  {what}", self.seconds()));
                    *self.struck.entry(what).or_default() += 1;
                }
                next = Instant::now() + Duration::from_secs_f64(self.rng.random_range(PAUSE_S));
            }
            let mend_at = self.ills.values().min().copied().unwrap_or(next);
            let wait = next.min(mend_at).min(end).saturating_duration_since(Instant::now());
            self.fleet.goes_on_for(wait).await;
        }
        bar.finish_and_clear();
    }

    /// Does what is drawn, unless something like it lasts.
    async fn strike(&mut self) -> Option<String> {
        let pod = self.rng.random_range(0..self.cluster.pods().len());
        let lasts = Duration::from_secs_f64(self.rng.random_range(LASTS_S));
        let is_whole = self.ills.is_empty();
        let (ill, until) = match self.rng.random_range(0..12) {
            0..=2 => (Ill::Killed(pod), Instant::now() + lasts),
            3..=5 => (Ill::Frozen(pod), Instant::now() + lasts),
            6 | 7 => (Ill::RedisAway, Instant::now() + lasts),
            8 if self.cluster.owns_mongo() => (Ill::MongoAway, Instant::now() + lasts),
            9 | 10 => (Ill::CutOff, Instant::now() + lasts),
            // Only a pod that can say goodbye is told to go.
            _ if is_whole => {
                let from = self.seconds();
                assert_eq!(self.cluster.terminate(pod).await, Some(0), "{} stops in order", pod_name(pod));
                self.cluster.restart(pod).await;
                let text = format!("{} restarted in order", pod_name(pod));
                let (lane, until, class) = (pod_name(pod), Some(self.seconds()), "calm");
                self.spans.push(Span { lane, from, until, class, text: text.clone() });
                return Some(text);
            }
            _ => return None,
        };
        let is_up =
            |pod| !self.ills.contains_key(&Ill::Killed(pod)) && !self.ills.contains_key(&Ill::Frozen(pod));
        match ill {
            Ill::Killed(pod) if is_up(pod) => self.cluster.kill_9(pod),
            Ill::Frozen(pod) if is_up(pod) => self.cluster.freeze(pod),
            Ill::RedisAway if !self.ills.contains_key(&ill) => self.cluster.kill_redis(),
            Ill::MongoAway if !self.ills.contains_key(&ill) => self.cluster.kill_mongo(),
            Ill::CutOff if !self.ills.contains_key(&ill) => self.cluster.cut(),
            _ => return None,
        }
        self.ills.insert(ill, until);
        let (from, lane) = (self.seconds(), ill.place());
        self.spans.push(Span { lane, from, until: None, class: "wait", text: ill.to_string() });
        Some(ill.to_string())
    }

    async fn mend_due(&mut self) {
        let now = Instant::now();
        let due: Vec<Ill> =
            self.ills.iter().filter(|(_, until)| **until <= now).map(|(ill, _)| *ill).collect();
        for ill in due {
            // A pod does not start without what it stands on.
            let stands = !self.ills.contains_key(&Ill::MongoAway) && !self.ills.contains_key(&Ill::RedisAway);
            if matches!(ill, Ill::Killed(_)) && !stands {
                self.ills.insert(ill, now + AGAIN);
            } else {
                self.ills.remove(&ill);
                self.mend(ill).await;
            }
        }
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    async fn mend(&mut self, ill: Ill) {
        match ill {
            Ill::Killed(pod) => self.cluster.restart(pod).await,
            Ill::Frozen(pod) => self.cluster.thaw(pod),
            Ill::RedisAway => self.cluster.restart_redis().await,
            Ill::MongoAway => self.cluster.restart_mongo().await,
            Ill::CutOff => self.cluster.heal(),
        }
        let (now, lane) = (self.seconds(), ill.place());
        let lasted = |span: &&mut Span| span.lane == lane && span.until.is_none();
        if let Some(span) = self.spans.iter_mut().rfind(lasted) {
            span.until = Some(now);
        }
    }

    async fn make_whole(&mut self) {
        let (pods, rest): (Vec<Ill>, Vec<Ill>) =
            std::mem::take(&mut self.ills).into_keys().partition(|ill| matches!(ill, Ill::Killed(_)));
        for ill in rest.into_iter().chain(pods) {
            self.mend(ill).await;
        }
        println!("{:>7.1} s  everything is whole", self.seconds());
        self.cluster.links().await;
    }

    /// Waits until everything that was said is everywhere, and looks at all of it.
    async fn judge(&mut self) -> Judgement {
        let whole = Instant::now();
        self.fleet.settle().await;
        let settled = whole.elapsed().as_secs_f64();
        let logged = self.fleet.check(&self.cluster.rest(0)).await;
        self.cluster.assert_no_invariant_is_broken().await;
        Judgement { logged, settled }
    }

    fn print(&self, Judgement { logged, settled }: Judgement, account: &Account) {
        println!("{account}");
        println!("{logged} messages in the logs; quiet {settled:.1} s after everything was whole");
        let faults: u64 = self.struck.values().sum();
        println!("{faults} faults:");
        for (what, count) in &self.struck {
            println!("  {count:>4}  {what}");
        }
        println!(
            "ORDER, ONCE, NOLOSS and FENCE hold over the full record; pods have seen nothing broken themselves"
        );
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a check failed")
}
