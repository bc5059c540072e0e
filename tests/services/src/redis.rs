//! Redis: the machine's own `redis-server`, without persistence: one server, a primary with a replica under Sentinel, or
//! a Cluster.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Output, Process, free_port, on_path};

/// A Redis that runs, or was killed and can be started again on the same port. It keeps nothing.
pub struct RedisProcess {
    /// `redis://127.0.0.1:port`.
    pub url: String,
    port: u16,
    /// What it is started with, besides what every one is.
    options: Vec<String>,
    directory: TempDir,
    process: Option<Process>,
}

/// Starts a Redis.
///
/// # Panics
/// If there is no `redis-server` on PATH, or it does not start.
#[must_use]
pub fn start_redis() -> RedisProcess {
    let mut redis = RedisProcess::new(&[]);
    redis.restart();
    redis
}

/// A primary, a replica, and a Sentinel that makes the replica the primary when that is gone for half a second.
pub struct RedisUnderSentinel {
    /// The first primary.
    pub primary: RedisProcess,
    /// Its replica.
    pub replica: RedisProcess,
    /// Who watches them.
    pub sentinel: RedisProcess,
}

impl RedisUnderSentinel {
    /// The name the Sentinel knows the primary by.
    pub const MASTER: &str = "colloquy";
}

/// Starts a primary, a replica and a Sentinel that knows both.
///
/// # Panics
/// If there is no `redis-server` on PATH, or one does not start.
#[must_use]
pub fn start_redis_under_sentinel() -> RedisUnderSentinel {
    let mut primary = RedisProcess::new(&["--repl-diskless-sync-delay", "0"]);
    primary.restart();
    let mut replica = RedisProcess::new(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let mut output = replica.start();
    output.wait_for(|line| line.contains("sync: Finished with success").then_some(()));
    output.drain();
    let mut sentinel = RedisProcess::new(&["--sentinel"]);
    let master = RedisUnderSentinel::MASTER;
    let configuration = [
        format!("sentinel monitor {master} 127.0.0.1 {} 1", primary.port),
        format!("sentinel down-after-milliseconds {master} 500"),
        format!("sentinel failover-timeout {master} 2000"),
    ];
    std::fs::write(sentinel.configuration(), configuration.join("\n")).expect("it can be written");
    let mut output = sentinel.spawn();
    output.wait_for(|line| line.contains("+slave").then_some(()));
    output.drain();
    // It would ask them how they are every ten seconds, and promote none that it has not asked.
    sentinel.tell("SENTINEL DEBUG INFO-PERIOD 100");
    RedisUnderSentinel { primary, replica, sentinel }
}

/// Starts a Cluster of three primaries.
///
/// # Panics
/// If there is no `redis-server` on PATH, or it does not start.
#[must_use]
pub fn start_redis_cluster() -> Vec<RedisProcess> {
    // By default nodes talk on their port + 10000, which may not exist.
    let bus_ports = [free_port(), free_port(), free_port()];
    let mut nodes: Vec<(RedisProcess, Output)> = Vec::new();
    for (bus_port, slots) in bus_ports.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
        let mut node = RedisProcess::new(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
        node.options.extend(["--cluster-port".to_owned(), bus_port.to_string()]);
        node.options.extend(["--cluster-announce-ip", "127.0.0.1"].map(str::to_owned));
        let output = node.start();
        node.tell(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
        nodes.push((node, output));
    }
    let meetings: Vec<String> = nodes
        .iter()
        .zip(bus_ports)
        .map(|((node, _), bus_port)| format!("CLUSTER MEET 127.0.0.1 {} {bus_port}", node.port))
        .collect();
    meetings.iter().skip(1).for_each(|meeting| nodes[0].0.tell(meeting));
    let known = |(node, mut output): (RedisProcess, Output)| {
        output.wait_for(|line| line.contains("Cluster state changed: ok").then_some(()));
        output.drain();
        node
    };
    nodes.into_iter().map(known).collect()
}

impl RedisProcess {
    fn new(options: &[&str]) -> Self {
        let port = free_port();
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { url: format!("redis://127.0.0.1:{port}"), port, options, directory, process: None }
    }

    /// Ends it at once (SIGKILL). Whoever is connected notices.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, empty; ends it first if it runs.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.start().drain();
    }

    /// Starts it and waits until it is ready.
    fn start(&mut self) -> Output {
        let mut output = self.spawn();
        output.wait_for(|line| line.contains("Ready to accept connections").then_some(()));
        output
    }

    fn spawn(&mut self) -> Output {
        self.process = None;
        let program = on_path("redis-server").expect("redis-server is on PATH: run tests/install-services");
        let mut command = Command::new(program);
        // A Sentinel has its configuration in a file, which it writes to.
        if self.configuration().is_file() {
            command.arg(self.configuration());
        }
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--port").arg(self.port.to_string()).arg("--dir").arg(self.directory.path());
        command.args(&self.options);
        let (process, output) = Process::start(command);
        self.process = Some(process);
        output
    }

    fn configuration(&self) -> std::path::PathBuf {
        self.directory.path().join("redis.conf")
    }

    /// Gives it a command that it answers with OK.
    fn tell(&self, command: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("it reads");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("it answers");
        assert_eq!(answer, "+OK\r\n", "{command}");
    }

    /// Stops it where it stands: its sockets stay open and nobody answers.
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").freeze();
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw(&self) {
        self.process.as_ref().expect("it runs").thaw();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(redis: &RedisProcess) -> bool {
        TcpStream::connect(("127.0.0.1", redis.port)).is_ok()
    }

    #[test]
    fn a_redis_comes_back_on_its_port() {
        let mut redis = start_redis();
        assert!(answers(&redis));
        redis.kill();
        assert!(!answers(&redis));
        redis.restart();
        assert!(answers(&redis));
    }

    #[test]
    fn a_sentinel_and_those_it_watches_run() {
        let watched = start_redis_under_sentinel();
        assert!([&watched.primary, &watched.replica, &watched.sentinel].map(answers).iter().all(|it| *it));
    }

    #[test]
    fn a_cluster_is_of_three() {
        let mut nodes = start_redis_cluster();
        assert_eq!(nodes.iter().filter(|node| answers(node)).count(), 3);
        nodes[1].kill();
        nodes[1].restart();
        assert!(answers(&nodes[1]));
    }
}
