//! Simulations: worlds that break in every way there is, and a load generator that measures a running server from outside.
//!
//! | module | noun |
//! |---|---|
//! | [`chaos`] | worlds, one for each seed |
//! | [`mutations`] | worlds with a defect in them: how soon it is found |
//! | [`page`] | results as a page to look at |
//! | [`apart`] | a world in a process of its own |
//! | [`shrink`] | which of its faults it takes to find what it has found |
//! | [`world`] | pods and clients in one process, on virtual time, and what befalls them |
//! | [`processes`] | real pods, and what a seed does to their processes |
//! | [`cluster`] | three pods and a load balancer, to try things on |
//! | [`load`] | pairs, or groups, that send as fast as their window allows: throughput, latencies, CPU |
//! | [`crowd`] | many devices with a socket each, which they do little with |
//! | [`idle`] | sockets that only send heartbeats: memory per connection |
//! | [`storm`] | sockets that are all cut off and all come back at once |
//! | [`turns`] | people who ask agents and wait for the answer |
//! | [`rolling`] | every pod of three restarted under traffic: what is lost, and how long clients wait |
//! | [`group`] | who of a group writes to whom, and in which order |
//! | [`traffic`] | one socket of a group: sends, acknowledges, notes latencies |
//! | [`tally`] | what was counted and timed |
//! | [`socket`] | a WebSocket client that costs next to nothing |
//! | [`template`] | a message that is encoded once and patched for every send |
//! | [`scan`] | the few bytes of a server frame that a load generator reads |
//! | [`target`] | the server under load, spawned or named |
//! | [`population`] | registered users with devices |
//! | [`process`] | what the kernel says of a process |
//! | [`stages`] | the server's own histograms over the measured time |
//! | [`report`] | the figures, as a table and as JSON |
#![allow(clippy::print_stdout, reason = "a command line tool prints its results")]

mod apart;
mod chaos;
mod cluster;
mod crowd;
mod group;
mod idle;
mod load;
mod mutations;
mod page;
mod population;
mod process;
mod processes;
mod report;
mod rolling;
mod route;
mod scan;
mod shrink;
mod socket;
mod stages;
mod storm;
mod tally;
mod target;
mod template;
mod traffic;
mod turns;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What goes wrong in a measurement ends it; there is nobody to handle it but the reader.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Breaks and measures Colloquy.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pods and clients in one process, on virtual time, that break in every way: the same seed, the same run.
    Chaos(chaos::ChaosOptions),
    /// As `chaos`, and writes what came of it as a page to look at, `report.html`.
    Report(chaos::ReportOptions),
    /// Worlds with a defect put into them, each kind until it is found: that the checks bite.
    Mutations(mutations::MutationsOptions),
    /// Three pods, Redis, MongoDB and a load balancer, until they are told to stop.
    Cluster(cluster::ClusterArguments),
    /// Pairs or groups of users send each other messages as fast as a window allows.
    Load(load::LoadOptions),
    /// Authenticated sockets that only send heartbeats.
    Idle(idle::IdleOptions),
    /// Sockets that are all cut off and all come back at once.
    Storm(storm::StormOptions),
    /// People who ask agents and wait for the answer.
    Turns(turns::TurnsOptions),
    /// People find out which agent to write to.
    Route(route::RouteOptions),
    /// Three pods under steady traffic, each restarted in turn.
    Rolling(rolling::RollingOptions),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let measured = match Arguments::parse().command {
        Command::Chaos(options) => Box::pin(chaos::chaos(options)).await,
        Command::Report(options) => Box::pin(chaos::report(options)).await,
        Command::Mutations(options) => Box::pin(mutations::run(options)).await,
        Command::Cluster(arguments) => Box::pin(cluster::run(arguments)).await,
        Command::Load(options) => Box::pin(load::run(options)).await,
        Command::Idle(options) => Box::pin(idle::run(options)).await,
        Command::Storm(options) => Box::pin(storm::run(options)).await,
        Command::Turns(options) => Box::pin(turns::run(options)).await,
        Command::Route(options) => Box::pin(route::run(options)).await,
        Command::Rolling(options) => Box::pin(rolling::run(options)).await,
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("failed: {failure}");
            ExitCode::FAILURE
        }
    }
}
