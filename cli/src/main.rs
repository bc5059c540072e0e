//! `colloquy`: the one binary. Its verbs are thin; what they do lives in the runtime and in the client.

mod admin;
mod advice;
mod agent;
mod chat;
mod dead_letters;
mod demo;
mod demo_agent;
mod demo_model;
mod enrolment;
mod help;
mod operator;
mod own_server;
mod signals;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use colloquy_runtime::config::Config;
use colloquy_runtime::service::Service;
use colloquy_runtime::store;
use colloquy_runtime::telemetry;

use crate::signals::StopSignals;

/// A message is many small allocations that end on another thread than they began on. With this allocator a server
/// carries a fifth to two fifths more messages per CPU-second than with the C library's, at 200 pairs with window 16; an idle
/// connection costs it 3 to 4 KiB more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where `make run` starts a server.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// Longest configuration read from standard input, bytes.
const CONFIG_MAX_BYTES: u64 = 1024 * 1024;

/// Messaging for people and AI agents, end to end encrypted.
#[derive(Parser)]
#[command(name = "colloquy", version, about, propagate_version = true, after_help = help::COLLOQUY)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a server.
    #[command(after_help = help::SERVE)]
    Serve(Serve),
    /// Write to people, in the terminal.
    #[command(after_help = help::chat())]
    Chat(Box<chat::Chat>),
    /// Watch two people hold a conversation, or a person and an agent.
    #[command(after_help = help::DEMO)]
    Demo(demo::Demo),
    /// Stand beside an agent: take its turns, ask it in plain HTTP, answer encrypted.
    #[command(after_help = help::AGENT)]
    Agent(Box<agent::Agent>),
    /// Prepare what a server needs, and say which agents there are.
    #[command(subcommand, after_help = help::ADMIN)]
    Admin(AdminVerb),
    /// Check or print a configuration.
    #[command(subcommand, after_help = help::CONFIG)]
    Config(ConfigVerb),
}

#[derive(Args)]
struct Serve {
    /// A TOML file; `colloquy config default` prints one to start from.
    #[arg(long, value_name = "FILE", env = "COLLOQUY_CONFIG")]
    config: Option<PathBuf>,
    /// Where data is kept [default: .colloquy].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where health and metrics are served [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDRESS")]
    operations_listen: Option<SocketAddr>,
}

#[derive(Subcommand)]
enum AdminVerb {
    /// Make the collections and indexes that the database lacks.
    #[command(after_help = help::ADMIN_MIGRATE)]
    Migrate {
        /// A TOML file; `colloquy config default` prints one to start from.
        #[arg(long, value_name = "FILE", env = "COLLOQUY_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Register, change and remove agents of a running server.
    #[command(after_help = help::ADMIN_AGENTS)]
    Agents(Box<admin::Agents>),
    /// List, replay and drop messages that agents, or the feed's sink, did not take.
    #[command(after_help = help::ADMIN_DEAD_LETTERS)]
    DeadLetters(dead_letters::DeadLetters),
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Say whether a configuration can be used, and if not, why.
    #[command(after_help = help::CONFIG_CHECK)]
    Check {
        /// The file to check, `-` for standard input; without it, defaults and environment are checked.
        file: Option<PathBuf>,
    },
    /// Print every value with its default.
    Default,
}

fn main() -> ExitCode {
    // Before anything can ask for TLS: with two providers in the build, none is the default by itself.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match Command::parse().verb {
        Verb::Serve(options) => serve(options),
        Verb::Chat(options) => chat::run(*options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Agent(options) => agent::run(*options),
        Verb::Admin(AdminVerb::Migrate { config }) => migrate(config.as_deref()),
        Verb::Admin(AdminVerb::Agents(options)) => admin::run(*options),
        Verb::Admin(AdminVerb::DeadLetters(options)) => dead_letters::run(options),
        Verb::Config(verb) => configure(verb),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why.to_string());
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn serve(options: Serve) -> Outcome {
    let mut config = Config::read(options.config.as_deref())?;
    config.data_dir = options.data_dir.unwrap_or(config.data_dir);
    config.listen = options.listen.unwrap_or(config.listen);
    config.operations.listen = options.operations_listen.unwrap_or(config.operations.listen);
    config.check()?;
    telemetry::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(Box::pin(run(&config)));
    // After a proper stop nothing is left to wait for; after a second signal nothing is to be waited for.
    runtime.shutdown_background();
    done
}

/// A node, from its start until it has stopped.
async fn run(config: &Config) -> Outcome {
    // Before anything is started: a signal meanwhile stops the node as any other does.
    let mut signals = StopSignals::new()?;
    for doubt in config.doubts() {
        tracing::warn!(%doubt, "a configuration that harms clients");
    }
    let mut service = Service::start(config).await?;
    let (public, operations) = (service.public_address(), service.operations_address());
    say(&format!("colloquy listening on http://{public} operations on http://{operations}"));
    tokio::select! {
        () = signals.next() => {}
        failed = service.failed() => return Err(format!("{failed}; the log says why").into()),
    }
    tokio::select! {
        () = Box::pin(service.stop()) => Ok(()),
        () = signals.next() => Err("a second signal came while draining: stopped at once".into()),
    }
}

fn migrate(config: Option<&Path>) -> Outcome {
    let config = Config::load(config)?;
    telemetry::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(store::migrate(&config))?;
    say(&done.to_string());
    Ok(())
}

fn configure(verb: ConfigVerb) -> Outcome {
    match verb {
        ConfigVerb::Check { file } => {
            check(file.as_deref())?;
            say("the configuration is good");
        }
        ConfigVerb::Default => say(Config::default_file().trim_end()),
    }
    Ok(())
}

fn check(file: Option<&Path>) -> Outcome {
    let config = match file {
        Some(file) if file == Path::new("-") => Config::read_text(&read_input()?)?,
        file => Config::read(file)?,
    };
    config.check()?;
    match config.doubts().into_iter().next() {
        Some(doubt) => Err(doubt.into()),
        None => Ok(()),
    }
}

/// Standard input, up to [`CONFIG_MAX_BYTES`].
pub(crate) fn read_input() -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(CONFIG_MAX_BYTES).read_to_string(&mut text);
    read.map(|_| text).map_err(|error| format!("standard input cannot be read: {error}"))
}

#[allow(clippy::print_stdout, reason = "what a command is asked for goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stdout, reason = "what a command is asked for goes to standard output")]
fn say_on(text: &str) {
    print!("{text}");
    // Nobody reads any more: the next line says so.
    let _ = std::io::stdout().flush();
}

#[allow(clippy::print_stderr, reason = "why a command failed goes to standard error")]
fn complain(text: &str) {
    eprintln!("colloquy: {text}");
}
