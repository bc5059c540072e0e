//! Three pods, Redis, MongoDB and a load balancer on this machine, until they are told to stop.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use colloquy_tests::cluster::{Cluster, ClusterOptions, pod_name};
use colloquy_tests::options::ServerOptions;
use colloquy_tests::rest::http_client;
use colloquy_tests::server::binary;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, timeout};

use crate::Failure;

/// The load balancer's configuration; addresses come in its environment.
const BALANCER_CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/haproxy.cfg");
/// How long the load balancer may take to find the pods.
const BALANCER_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked.
const BALANCER_TICK: Duration = Duration::from_millis(100);

/// A cluster to try.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterArguments {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    front: SocketAddr,
    /// Has two people chat across two pods, and through the load balancer, and stops.
    #[arg(long)]
    chat: bool,
}

/// Runs it.
pub(crate) async fn run(arguments: ClusterArguments) -> Result<(), Failure> {
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    println!("starting MongoDB, Redis and three pods");
    let endpoint = format!("ws://{}/ws", arguments.front);
    let server = ServerOptions::default().set("public_endpoint", endpoint);
    let cluster = Cluster::start(ClusterOptions { server, ..ClusterOptions::default() }).await;
    let balancer = balance(arguments.front, &cluster).await?;
    println!("clients connect to       http://{}", arguments.front);
    for (index, pod) in cluster.pods().iter().enumerate() {
        let (name, address, operations) = (pod_name(index), pod.address(), pod.operations());
        println!(
            "{name}, process {:>7}     http://{address}  metrics http://{operations}/metrics",
            pod.pid()
        );
    }
    if arguments.chat {
        let [one, other] = [0, 1].map(|index| format!("http://{}", cluster.pod(index).address()));
        chat(&["--server", &one, "--other-server", &other]).await?;
        chat(&["--server", &format!("http://{}", arguments.front)]).await?;
    } else {
        println!(
            "kill and stop pods as you like; everything here is gone once this is told to stop (Ctrl-C)"
        );
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    }
    drop(balancer);
    Ok(())
}

/// Starts the load balancer; it ends with the value.
async fn balance(front: SocketAddr, cluster: &Cluster) -> Result<Child, Failure> {
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(Path::new(BALANCER_CONFIG)).env("FRONT", front.to_string());
    for (number, pod) in (1..).zip(cluster.pods()) {
        command.env(format!("POD_{number}"), pod.address().to_string());
        command.env(format!("HEALTH_{number}"), pod.operations().port().to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut balancer = command.spawn().map_err(|error| format!("haproxy does not start: {error}"))?;
    let url = format!("http://{front}/openapi.json");
    let found = timeout(BALANCER_PATIENCE, async {
        let mut tick = interval(BALANCER_TICK);
        loop {
            tick.tick().await;
            let answer = http_client().get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
        }
    });
    if found.await.is_err() {
        let ended = balancer.try_wait()?.is_some();
        let why = if ended { "it has ended: is the address taken?" } else { "it finds no pod" };
        return Err(format!("the load balancer on {front} does not work: {why}").into());
    }
    Ok(balancer)
}

async fn chat(arguments: &[&str]) -> Result<(), Failure> {
    println!("\ncolloquy demo {}", arguments.join(" "));
    let chatted = Command::new(binary("colloquy")).arg("demo").args(arguments).status().await?;
    if chatted.success() { Ok(()) } else { Err("the chat failed".into()) }
}
