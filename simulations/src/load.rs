//! Pairs, or groups, that send as fast as their window allows, or at a rate that does not wait for anybody: throughput, latencies, CPU.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use colloquy_protocol::limits::DEVICES_PER_USER_MAX;
use colloquy_tests::device::Device;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::Failure;
use crate::group::{GROUP_SIZE_MAX, Group, PAIR};
use crate::page::load::page;
use crate::population::{in_order, register};
use crate::process::{cpu_seconds, raise_file_limit, resident_kib};
use crate::report::{LoadReport, ProcessFigures, write};
use crate::stages::{between, scrape};
use crate::tally::{Course, Latency, Phase, Tally};
use crate::target::{Listener, Target, TargetOptions};
use crate::template::Template;
use crate::traffic::{Pace, Traffic};

/// Discarded before measuring.
const WARM_UP: Duration = Duration::from_secs(3);
/// For what is on its way when the measuring ends.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// For opening every socket.
const CONNECT_MAX: Duration = Duration::from_secs(120);
/// How often a phase is looked at.
const PHASE_TICK: Duration = Duration::from_millis(20);
/// One report for each thread (BOUND).
const THREADS_MAX: usize = 64;

/// A load run.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadOptions {
    /// Pairs of users.
    #[arg(long, default_value_t = 200)]
    pairs: usize,
    /// Groups of users instead of pairs. Each user has a conversation with each of the others, and a text for the group is
    /// one message in each of them.
    #[arg(long, conflicts_with = "pairs", requires = "group_size")]
    groups: Option<usize>,
    /// Users of each group: 2 to 32.
    #[arg(long, value_name = "USERS", requires = "groups", value_parser = parse_group_size)]
    group_size: Option<usize>,
    /// Devices of each user: a message goes to all of both users but the one that sends it.
    #[arg(long, default_value_t = 1, value_parser = parse_devices)]
    devices: usize,
    /// Messages each sender has on the way, to all others together; the server takes 64 from one socket.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=64))]
    window: u64,
    /// Messages a second in all, by senders that wait for no answer, instead of a window. Latencies count from when a
    /// message was due.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Seconds in which that rate is reached.
    #[arg(long, default_value_t = 3, requires = "rate", value_parser = clap::value_parser!(u64).range(1..=600))]
    ramp: u64,
    /// Seconds measured, after a warm-up.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Bytes of each ciphertext, base64.
    #[arg(long, default_value_t = 256, value_parser = parse_payload)]
    payload: usize,
    /// Both sides of a pair send; all members of a group do.
    #[arg(long)]
    both_ways: bool,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1, value_parser = parse_threads)]
    threads: usize,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write them as a page to look at, one HTML file.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    #[command(flatten)]
    target: TargetOptions,
}

impl LoadOptions {
    /// Sockets each message goes to.
    fn recipients(&self) -> u64 {
        2 * self.devices as u64 - 1
    }

    /// How many groups there are: a pair is a group of two.
    fn groups(&self) -> usize {
        self.groups.unwrap_or(self.pairs)
    }

    /// What each of them is.
    fn group(&self) -> Group {
        Group { members: self.group_size.unwrap_or(PAIR), devices: self.devices, all_send: self.both_ways }
    }
}

fn parse_payload(text: &str) -> Result<usize, String> {
    let bytes = text.parse().map_err(|_| "not a number")?;
    if (16..=40_000).contains(&bytes) { Ok(bytes) } else { Err("16 to 40000 bytes".into()) }
}

fn parse_devices(text: &str) -> Result<usize, String> {
    let devices = text.parse().map_err(|_| "not a number")?;
    if (1..=DEVICES_PER_USER_MAX).contains(&devices) {
        Ok(devices)
    } else {
        Err(format!("1 to {DEVICES_PER_USER_MAX}"))
    }
}

fn parse_group_size(text: &str) -> Result<usize, String> {
    let members = text.parse().map_err(|_| "not a number")?;
    if (PAIR..=GROUP_SIZE_MAX).contains(&members) {
        Ok(members)
    } else {
        Err(format!("{PAIR} to {GROUP_SIZE_MAX}"))
    }
}

fn parse_threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().map_err(|_| "not a number")?;
    if (1..=THREADS_MAX).contains(&threads) { Ok(threads) } else { Err(format!("1 to {THREADS_MAX}")) }
}

/// The devices of a group, member by member, and the number of the first member among all users.
type NumberedGroup = (Vec<Arc<Device>>, u32);

/// Runs it.
pub(crate) async fn run(options: LoadOptions) -> Result<(), Failure> {
    raise_file_limit()?;
    let target = Target::reach(&options.target).await;
    let group = options.group();
    let devices = register(&target.rest, group.members * options.groups(), options.devices).await;
    let groups = devices.chunks_exact(group.sockets()).map(<[_]>::to_vec);
    let groups: Vec<NumberedGroup> = groups.zip((0_u32..).step_by(group.members)).collect();

    let course = Arc::new(Course::new(options.recipients()));
    let (connected, mut connections) = mpsc::channel(THREADS_MAX);
    let share = groups.len().div_ceil(options.threads).max(1);
    let threads: Vec<JoinHandle<Result<Tally, Failure>>> = groups
        .chunks(share)
        .map(|groups| {
            let (groups, addresses, options) = (groups.to_vec(), target.addresses.clone(), options.clone());
            let (course, connected) = (Arc::clone(&course), connected.clone());
            std::thread::spawn(move || generate(&groups, &addresses, &options, &course, &connected))
        })
        .collect();
    for _ in &threads {
        let answer = timeout(CONNECT_MAX, connections.recv()).await?;
        answer.ok_or("a thread of the load generator ended early")??;
    }

    course.enter(Phase::WarmUp);
    sleep(options.rate.map_or(WARM_UP, |_| WARM_UP.max(Duration::from_secs(options.ramp)))).await;
    let mut report = measure(&options, &target, &course).await?;
    course.enter(Phase::Draining);
    let drained = timeout(DRAIN_MAX, async {
        let mut tick = interval(PHASE_TICK);
        while !course.is_quiet() {
            tick.tick().await;
        }
    });
    report.complete = drained.await.is_ok();
    course.enter(Phase::Over);

    let mut tally = Tally::new();
    for thread in threads {
        tally.add(thread.join().map_err(|_| "a thread of the load generator panicked")??);
    }
    report.send_to_ack = Latency::of(&tally.ack_us);
    report.send_to_delivery = Latency::of(&tally.delivery_us);
    report.due_to_written = options.rate.map(|_| Latency::of(&tally.late_us));
    report.written_to_ack = options.rate.map(|_| Latency::of(&tally.written_us));
    (report.refused, report.first_refusal, report.pages) =
        (tally.refused, tally.first_refusal.take(), tally.pages);
    report.print();
    if let Some(file) = &options.json {
        write(&report, file)?;
    }
    if let Some(file) = &options.page {
        std::fs::write(file, page(&report, &tally).html())?;
    }
    // A server that is asked for more than it can do may refuse: that is a result.
    if report.complete && (report.refused == 0 || report.rate.is_some()) {
        Ok(())
    } else {
        Err("not every message arrived".into())
    }
}

async fn measure(options: &LoadOptions, target: &Target, course: &Course) -> Result<LoadReport, Failure> {
    let own = std::process::id();
    let stages_before = match target.operations {
        Some(operations) => scrape(operations).await?,
        None => Vec::new(),
    };
    let server_before = cpu_seconds_of(&target.pids)?;
    let client_before = cpu_seconds(own)?;
    let acked_before = course.acked.load(Ordering::Acquire);
    let delivered_before = course.delivered.load(Ordering::Acquire);
    let told_before = target.listener.as_ref().map_or(0, Listener::told);
    let started = Instant::now();
    course.enter(Phase::Measuring);
    let each_second = show_progress(options.seconds, course).await;
    let seconds = started.elapsed().as_secs_f64();
    let messages = course.acked.load(Ordering::Acquire) - acked_before;
    let deliveries = course.delivered.load(Ordering::Acquire) - delivered_before;
    let told = target.listener.as_ref().map(|listener| listener.told() - told_before);
    let client_cpu_seconds = cpu_seconds(own)? - client_before;
    let server = if target.pids.is_empty() {
        None
    } else {
        let cpu_seconds = cpu_seconds_of(&target.pids)? - server_before;
        let messages_per_cpu_second = messages as f64 / cpu_seconds.max(0.01);
        let resident: Result<Vec<u64>, Failure> = target.pids.iter().map(|pid| resident_kib(*pid)).collect();
        Some(ProcessFigures { cpu_seconds, messages_per_cpu_second, resident_kib: resident?.iter().sum() })
    };
    let stages = match target.operations {
        Some(operations) => between(&stages_before, &scrape(operations).await?),
        None => Vec::new(),
    };
    let none = Latency::of(&Tally::new().ack_us);
    Ok(LoadReport {
        groups: options.groups(),
        group_size: options.group().members,
        devices: options.devices,
        window: options.window,
        rate: options.rate,
        payload_bytes: options.payload,
        both_ways: options.both_ways,
        seconds,
        messages,
        messages_per_second: messages as f64 / seconds,
        texts_per_second: messages as f64 / seconds / options.group().others() as f64,
        deliveries,
        deliveries_per_second: deliveries as f64 / seconds,
        told_per_second: told.map(|told| told as f64 / seconds),
        send_to_ack: none,
        send_to_delivery: none,
        due_to_written: None,
        written_to_ack: None,
        each_second,
        server,
        client_cpu_seconds,
        refused: 0,
        first_refusal: None,
        pages: 0,
        complete: false,
        stages,
    })
}

/// CPU seconds of all of them.
fn cpu_seconds_of(pids: &[u32]) -> Result<f64, Failure> {
    pids.iter().map(|pid| cpu_seconds(*pid)).sum()
}

/// Waits the measured seconds, and shows how fast it goes. Returns the messages of each second.
async fn show_progress(seconds: u64, course: &Course) -> Vec<u64> {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} s  {msg}");
    let bar = ProgressBar::new(seconds).with_style(style.expect("the template is a constant"));
    let mut tick = interval(Duration::from_secs(1));
    tick.tick().await;
    let mut each_second = Vec::new();
    let mut before = course.acked.load(Ordering::Acquire);
    for _ in 0..seconds {
        tick.tick().await;
        let now = course.acked.load(Ordering::Acquire);
        bar.set_message(format!("{} messages/s", now - before));
        bar.inc(1);
        each_second.push(now - before);
        before = now;
    }
    bar.finish_and_clear();
    each_second
}

/// One thread of the load generator: a runtime of its own, and nothing shared on the hot path but a few counters.
fn generate(
    groups: &[NumberedGroup],
    addresses: &[SocketAddr],
    options: &LoadOptions,
    course: &Arc<Course>,
    connected: &mpsc::Sender<Result<(), Failure>>,
) -> Result<Tally, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = Rc::new(RefCell::new(Tally::new()));
    let local = LocalSet::new();
    let generated = local.run_until(async {
        let mut traffic = Vec::new();
        let group = options.group();
        let sockets = groups.iter().flat_map(|(devices, first)| {
            (0..devices.len()).map(move |place| (devices, place, *first + group.member_at(place) as u32))
        });
        let opening = sockets.map(|(devices, place, number)| {
            let (device, member) = (&devices[place], group.member_at(place));
            let others: Vec<usize> = group.others_of(member).collect();
            let peers: Vec<&Device> =
                others.iter().map(|other| &*devices[group.places_of(*other).start]).collect();
            // The members of a group are on different pods, if there are several; so are the devices of each.
            let address = addresses[(number as usize + place % options.devices) % addresses.len()];
            let counted = options.rate.is_none();
            let template = |(at, other): (usize, &usize)| {
                let audience = group.places_of(member).chain(group.places_of(*other));
                let audience = audience.filter(|there| *there != place).map(|there| &*devices[there]);
                let audience: Vec<&Device> = audience.collect();
                Template::new(device, &audience, options.payload, (number, at), counted)
            };
            let sent_to = if group.sends(place) { others.as_slice() } else { &[] };
            let templates = sent_to.iter().enumerate().map(template).collect();
            let senders = (options.groups() * group.senders()) as f64;
            let users = (options.groups() * group.members) as f64;
            let pace = options.rate.map(|rate| {
                let rate = f64::from(rate) / senders;
                Pace { rate, ramp: options.ramp as f64, shift: f64::from(number) / (users * rate) }
            });
            let (window, shared) = (options.window, (Arc::clone(course), Rc::clone(&tally)));
            async move { Traffic::connect(address, device, &peers, templates, window, pace, shared).await }
        });
        let mut failed = None;
        for opened in in_order(opening, &ProgressBar::hidden()).await {
            match opened {
                Ok(side) => traffic.push(side),
                Err(failure) => failed = Some(failure),
            }
        }
        // The receiver is gone only if the run has failed already.
        let _ = connected.send(failed.map_or(Ok(()), Err)).await;
        let mut tick = interval(PHASE_TICK);
        while course.phase() == Phase::Connecting {
            tick.tick().await;
        }
        for side in traffic {
            tokio::task::spawn_local(side.run());
        }
        while course.phase() != Phase::Over {
            tick.tick().await;
        }
    });
    runtime.block_on(generated);
    // Ends every socket's task before its tally is read.
    drop(local);
    let tally = Rc::try_unwrap(tally).map_err(|_| "a socket outlived its thread")?;
    Ok(tally.into_inner())
}
