//! `turns`: people who ask agents and wait for the answer: from the question to the sink, and back.
//!
//! Agents are this program's: they take an event at a sink of its own and answer at once over `/events`, so that what is
//! measured is the server. Every person has a conversation with one agent, and one question under way.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::ids::UserId;
use colloquy_tests::agent::Agent;
use colloquy_tests::device::Device;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::raw_client::RawClient;
use colloquy_tests::rest::Rest;
use colloquy_tests::server::Server;
use colloquy_tests::sink::Sink;
use futures_util::{StreamExt, stream};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use crate::Failure;
use crate::process::{cpu_seconds, raise_file_limit};
use crate::report::{latency, row, write};
use crate::tally::Latency;

/// Requests under way at once while agents and people are made.
const REQUESTS_AT_ONCE: usize = 16;
/// Agents are known everywhere after the server has looked for them; it looks more often than this.
const AGENTS_KNOWN_AFTER: Duration = Duration::from_secs(5);
/// Before anything counts.
const WARM_UP: Duration = Duration::from_secs(3);
/// Longest latency that is told apart, microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// People who ask agents.
#[derive(Args, Clone, Debug)]
pub(crate) struct TurnsOptions {
    /// Agents.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    agents: u64,
    /// People, each with a conversation with one of the agents.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    conversations: u64,
    /// Seconds that count.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What it came to.
#[derive(Debug, Serialize)]
struct TurnsReport {
    agents: u64,
    conversations: u64,
    seconds: f64,
    turns: u64,
    turns_per_second: f64,
    /// From writing a question until its event is at the sink: stored, found, posted.
    question_to_sink: Latency,
    /// From there until the answer is at the person's socket: taken, stored, shown.
    question_to_answer: Latency,
    server_cpu_seconds: f64,
    turns_per_server_cpu_second: f64,
}

/// What everybody shares.
struct Course {
    began: Instant,
    counts: AtomicBool,
    is_over: AtomicBool,
    /// When each person's question was written, microseconds from the beginning.
    asked_at_us: HashMap<UserId, AtomicU64>,
    /// From then until its event is at the sink.
    to_sink_us: Mutex<Histogram<u64>>,
}

impl Course {
    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn since_question(&self, person: UserId) -> Option<u64> {
        let asked = self.asked_at_us.get(&person)?.load(Ordering::Acquire);
        Some(self.now_us().saturating_sub(asked))
    }

    fn counts(&self) -> bool {
        self.counts.load(Ordering::Acquire)
    }
}

/// Runs it.
///
/// # Errors
/// The file limit is too low, or the figures cannot be written.
pub(crate) async fn run(options: TurnsOptions) -> Result<(), Failure> {
    raise_file_limit()?;
    let server = Server::start(ServerOptions::default()).await;
    let sink = Sink::start().await;
    let url = sink.url();
    let agents = stream::iter(0..options.agents).map(|n| {
        let (server, url) = (&server, url.as_str());
        async move { Agent::register(server, &format!("agent-{n}"), url).await }
    });
    let agents: Vec<Agent> = agents.buffered(REQUESTS_AT_ONCE).collect().await;
    let rest = server.rest();
    let people = stream::iter(0..options.conversations).map(|_| rest.register_user("Person", "phone"));
    let people: Vec<Device> = people.buffered(REQUESTS_AT_ONCE).collect().await;
    let (agents, people): (Vec<_>, Vec<_>) =
        (agents.into_iter().map(Arc::new).collect(), people.into_iter().map(Arc::new).collect());
    sleep(AGENTS_KNOWN_AFTER).await;

    let course = Arc::new(Course {
        began: Instant::now(),
        counts: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        asked_at_us: people.iter().map(|person| (person.user_id, AtomicU64::new(0))).collect(),
        to_sink_us: Mutex::new(histogram()?),
    });
    let answering = tokio::spawn(answer(sink, agents.clone(), people.clone(), rest, Arc::clone(&course)));
    let mut asking = JoinSet::new();
    for (index, person) in people.iter().enumerate() {
        let agent = Arc::clone(&agents[index % agents.len()]);
        asking.spawn(ask(server.address(), Arc::clone(person), agent, Arc::clone(&course)));
    }
    sleep(WARM_UP).await;
    let before = cpu_seconds(server.pid())?;
    course.counts.store(true, Ordering::Release);
    let measured = measure(Duration::from_secs(options.seconds)).await?;
    course.counts.store(false, Ordering::Release);
    let used = cpu_seconds(server.pid())? - before;
    course.is_over.store(true, Ordering::Release);
    let mut to_answer = histogram()?;
    while let Some(one) = asking.join_next().await {
        to_answer.add(one??)?;
    }
    answering.abort();
    let to_sink = course.to_sink_us.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let turns = to_answer.len();
    let report = TurnsReport {
        agents: options.agents,
        conversations: options.conversations,
        seconds: measured,
        turns,
        turns_per_second: turns as f64 / measured,
        question_to_sink: Latency::of(&to_sink),
        question_to_answer: Latency::of(&to_answer),
        server_cpu_seconds: used,
        turns_per_server_cpu_second: turns as f64 / used.max(0.01),
    };
    report.print();
    if let Some(file) = &options.json {
        write(&report, file)?;
    }
    Ok(())
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_max(LATENCY_MAX_US, 3)?)
}

/// Lets time pass, and says how much has.
async fn measure(length: Duration) -> Result<f64, Failure> {
    let bar = ProgressBar::new(length.as_secs());
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} s")?);
    let began = Instant::now();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.tick().await;
    while began.elapsed() < length {
        ticks.tick().await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(began.elapsed().as_secs_f64())
}

/// One person: asks, waits for the answer, and asks again.
async fn ask(
    address: std::net::SocketAddr,
    person: Arc<Device>,
    agent: Arc<Agent>,
    course: Arc<Course>,
) -> Result<Histogram<u64>, Failure> {
    let mut socket = RawClient::connect(address, &person).await;
    let mut taken = histogram()?;
    while !course.is_over.load(Ordering::Acquire) {
        let counts = course.counts();
        if let Some(asked) = course.asked_at_us.get(&person.user_id) {
            asked.store(course.now_us(), Ordering::Release);
        }
        socket.send_message(&person, &[&agent.device], "a question").await;
        let shown = socket.awaits(|frame| match frame {
            ServerFrame::Message { payload } => Some(payload.clone()),
            _ => None,
        });
        let shown = shown.await;
        if let Some(took) = course.since_question(person.user_id)
            && counts
            && course.counts()
        {
            taken.saturating_record(took);
        }
        socket.acknowledge(&shown).await;
    }
    Ok(taken)
}

/// All agents: each event is answered at once.
async fn answer(
    mut sink: Sink,
    agents: Vec<Arc<Agent>>,
    people: Vec<Arc<Device>>,
    rest: Rest,
    course: Arc<Course>,
) {
    let by_name: HashMap<String, Arc<Agent>> =
        agents.into_iter().map(|agent| (agent.agent_id.to_string(), agent)).collect();
    let by_id: HashMap<UserId, Arc<Device>> =
        people.into_iter().map(|person| (person.user_id, person)).collect();
    let rest = Arc::new(rest);
    let mut answering = JoinSet::new();
    loop {
        let event = sink.wait().await;
        let (agent, person) =
            (by_name.get(event.message.agent_id.as_str()), by_id.get(&event.message.sender_id));
        let (Some(agent), Some(person)) = (agent, person) else { continue };
        if let Some(took) = course.since_question(person.user_id).filter(|_| course.counts()) {
            let mut to_sink = course.to_sink_us.lock().unwrap_or_else(PoisonError::into_inner);
            to_sink.saturating_record(took);
        }
        let event = agent.event(&agent.answer(event.message.turn_id, &[person], "an answer"));
        let (agent, rest) = (Arc::clone(agent), Arc::clone(&rest));
        // No more than there are people: each has one question under way.
        answering.spawn(async move { agent.post_over(&rest, &event).await.status });
        while answering.try_join_next().is_some() {}
    }
}

impl TurnsReport {
    fn print(&self) {
        println!(
            "{} agents, {} people with one question under way each, {:.1} s measured",
            self.agents, self.conversations, self.seconds
        );
        row("turns", self.turns);
        row("turns/s", format!("{:.0}", self.turns_per_second));
        latency("question to sink", &self.question_to_sink);
        latency("question to answer", &self.question_to_answer);
        row("server CPU", format!("{:.2} s", self.server_cpu_seconds));
        row("turns/server-CPU-second", format!("{:.0}", self.turns_per_server_cpu_second));
    }
}
