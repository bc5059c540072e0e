//! `route`: how long it takes to find out which agent a message goes to, and how often what it wants is known already.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use colloquy_protocol::agent::{AgentProfile, Intent, IntentLabel};
use colloquy_protocol::rest::routes::{AskRoute, Route, RouteLevel};
use colloquy_tests::agent::Agent;
use colloquy_tests::metrics::sum;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::rest::Rest;
use colloquy_tests::server::Server;
use colloquy_tests::sidecar::AgentService;
use futures_util::{StreamExt, stream};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::process::cpu_seconds;
use crate::report::{latency, row, write};
use crate::tally::Latency;

/// Requests under way at once while agents are made.
const REQUESTS_AT_ONCE: usize = 16;
/// Agents are known everywhere after the server has looked for them; it looks more often than this.
const AGENTS_KNOWN_AFTER: Duration = Duration::from_secs(5);
/// Longest latency that is told apart, microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;
/// What agents' intents are made of.
const THINGS: [&str; 10] = [
    "invoice", "holiday", "laptop", "parking", "contract", "salary", "meeting", "travel", "badge", "training",
];
const WISHES: [&str; 4] = ["ask about my", "cancel the", "order a new", "complain about a"];

/// People who ask which agent to write to.
#[derive(Args, Clone, Debug)]
pub(crate) struct RouteOptions {
    /// Agents, each with four intents of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    agents: u64,
    /// Different texts.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    texts: u64,
    /// Requests under way at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256))]
    at_once: u64,
    /// Requests in all.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    requests: u64,
    /// What texts want is said by a model elsewhere: a stand-in for one, which answers at once.
    #[arg(long)]
    model: bool,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct RouteReport {
    agents: u64,
    requests: u64,
    seconds: f64,
    routes_per_second: f64,
    /// With a label that was found out on the device.
    by_label: Latency,
    /// With a text that the server finds out about.
    by_text: Latency,
    /// Share of texts whose meaning was known already.
    cache_hits: f64,
    routes_per_server_cpu_second: f64,
}

/// Runs it.
///
/// # Errors
/// The figures cannot be read or written.
pub(crate) async fn run(options: RouteOptions) -> Result<(), Failure> {
    let model = AgentService::start(classified).await;
    let mut setup = ServerOptions::default();
    if options.model {
        let (url, name) = (model.url("/v1"), "stand-in");
        setup = setup.set("agents.classifier_url", url).set("agents.classifier_model", name);
    }
    let server = Server::start(setup).await;
    let agents = stream::iter(0..options.agents).map(|n| {
        let (server, profile) = (&server, profile(n));
        async move { Agent::register_with(server, &format!("agent-{n}"), profile).await }
    });
    let agents: Vec<Agent> = agents.buffered(REQUESTS_AT_ONCE).collect().await;
    let person = Arc::new(server.rest().register_user("Person", "phone").await);
    sleep(AGENTS_KNOWN_AFTER).await;
    let (began, before) = (Instant::now(), cpu_seconds(server.pid())?);
    let mut asking = JoinSet::new();
    for n in 0..options.at_once {
        let (rest, person, options) = (server.rest(), Arc::clone(&person), options.clone());
        asking.spawn(async move { ask(n, &rest, &person.tokens.access_token, &options).await });
    }
    let (mut by_label, mut by_text) = (histogram()?, histogram()?);
    while let Some(one) = asking.join_next().await {
        let (label, text) = one??;
        by_label.add(label)?;
        by_text.add(text)?;
    }
    let (seconds, used) = (began.elapsed().as_secs_f64(), cpu_seconds(server.pid())? - before);
    let samples = server.scrape().await;
    let hits = sum(&samples, "colloquy_intents_total", &[("source", "Cache")]);
    let all = sum(&samples, "colloquy_intents_total", &[]);
    let outside = sum(&samples, "colloquy_intents_total", &[("source", "Outside")]);
    if options.model && outside == 0.0 {
        return Err("the model was never asked".into());
    }
    let requests = by_label.len() + by_text.len();
    let report = RouteReport {
        agents: agents.len() as u64,
        requests,
        seconds,
        routes_per_second: requests as f64 / seconds,
        by_label: Latency::of(&by_label),
        by_text: Latency::of(&by_text),
        cache_hits: hits / all.max(1.0),
        routes_per_server_cpu_second: requests as f64 / used.max(0.01),
    };
    println!(
        "{} agents, {} texts, {} requests, {} at once",
        agents.len(),
        options.texts,
        requests,
        options.at_once
    );
    row("routes/s", format!("{:.0}", report.routes_per_second));
    latency("by a label", &report.by_label);
    latency("by a text", &report.by_text);
    row("texts known already", format!("{:.1} %", 100.0 * report.cache_hits));
    row("routes/server-CPU-second", format!("{:.0}", report.routes_per_server_cpu_second));
    if let Some(file) = &options.json {
        write(&report, file)?;
    }
    Ok(())
}

/// What a model says that is asked for the label of a text of these.
fn classified(request: &Value) -> Value {
    let text = request["messages"][1]["content"].as_str().unwrap_or_default();
    let wish = WISHES.iter().position(|words| text.starts_with(words)).unwrap_or(0);
    let about = text.split(',').next().and_then(|about| about.rsplit(' ').next());
    let said = label(about.and_then(|n| n.parse().ok()).unwrap_or(0), wish);
    json!({"choices": [{"message": {"role": "assistant", "content": said}}]})
}

fn profile(n: u64) -> AgentProfile {
    let mut profile = AgentProfile::new(format!("Agent {n}"), "http://127.0.0.1:9/");
    let intents = WISHES.iter().enumerate().map(|(wish, words)| Intent {
        label: label(n, wish),
        examples: vec![format!("{words} {}", thing(n)), format!("please {words} {} for me", thing(n))],
    });
    profile.intents = intents.collect();
    profile
}

fn thing(n: u64) -> String {
    format!("{} {n}", THINGS[usize::try_from(n).unwrap_or(0) % THINGS.len()])
}

fn label(n: u64, wish: usize) -> IntentLabel {
    IntentLabel::new(&format!("wish-{wish}-of-{n}")).expect("it is plain")
}

type Times = (Histogram<u64>, Histogram<u64>);

/// One of those who ask: in turn by a label and by a text.
async fn ask(first: u64, rest: &Rest, token: &str, options: &RouteOptions) -> Result<Times, Failure> {
    let (mut by_label, mut by_text) = (histogram()?, histogram()?);
    let mut n = first;
    while n < options.requests {
        // Another agent and another text each time, all over the place.
        let (agent, wish) = ((n / 2 * 7919) % options.agents, usize::try_from(n / 2 % 4).unwrap_or(0));
        let is_text = n % 2 == 1;
        let asked = if is_text {
            let variant = (n / 2) % options.texts;
            AskRoute {
                text: Some(format!("{} {}, number {variant}", WISHES[wish], thing(agent))),
                ..AskRoute::default()
            }
        } else {
            AskRoute { intent: Some(label(agent, wish)), ..AskRoute::default() }
        };
        let asked_at = Instant::now();
        let route: Route = rest.post("/v1/route", Some(token), &asked).await.read();
        let took = u64::try_from(asked_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        if route.level != RouteLevel::Intent {
            return Err(format!("{asked:?} was decided by {:?}", route.level).into());
        }
        if is_text {
            by_text.saturating_record(took);
        } else {
            by_label.saturating_record(took);
        }
        n += options.at_once;
    }
    Ok((by_label, by_text))
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_max(LATENCY_MAX_US, 3)?)
}
