//! `colloquy`: the one binary. Its verbs are thin; what they do lives in the runtime and in the client.

mod advice;
mod chat;
mod demo;
mod enrolment;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use colloquy_runtime::config::Config;
use colloquy_runtime::service::Service;
use colloquy_runtime::telemetry;

/// Where `make run` starts a server.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// Messaging for people and AI agents, end to end encrypted.
#[derive(Parser)]
#[command(name = "colloquy", version, about, propagate_version = true)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a server on the embedded store.
    Serve(Serve),
    /// Write to people, in the terminal.
    Chat(Box<chat::Chat>),
    /// Watch two people hold a conversation over a running server.
    Demo(demo::Demo),
    /// Check or print a configuration.
    #[command(subcommand)]
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
enum ConfigVerb {
    /// Say whether a configuration can be used, and if not, why.
    Check {
        /// The file to check; without it, defaults and environment are checked.
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
    let mut config = Config::load(options.config.as_deref())?;
    config.data_dir = options.data_dir.unwrap_or(config.data_dir);
    config.listen = options.listen.unwrap_or(config.listen);
    config.operations.listen = options.operations_listen.unwrap_or(config.operations.listen);
    telemetry::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut service = Service::start(&config).await?;
        let (public, operations) = (service.public_address(), service.operations_address());
        say(&format!("colloquy listening on http://{public} operations on http://{operations}"));
        tokio::select! {
            signal = told_to_stop() => signal?,
            failed = service.failed() => return Err(format!("{failed}; the log says why").into()),
        }
        service.stop().await;
        Ok(())
    })
}

async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn configure(verb: ConfigVerb) -> Outcome {
    match verb {
        ConfigVerb::Check { file } => {
            Config::load(file.as_deref())?;
            say("the configuration is good");
        }
        ConfigVerb::Default => say(Config::default_file().trim_end()),
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "what a command is asked for goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr, reason = "why a command failed goes to standard error")]
fn complain(text: &str) {
    eprintln!("colloquy: {text}");
}
