//! The server process under test: the real `colloquy` binary on its own data directory and ports.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use colloquy_runtime::admin::admin_token;
use colloquy_runtime::config::Config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::time::{interval, timeout};

use crate::DEADLINE;
use crate::device::CIPHERTEXT_MARK;
use crate::metrics::{Sample, samples};
use crate::options::ServerOptions;
use crate::rest::{Rest, http_client};
use crate::secrets::Secrets;

/// Lines of the log that are printed when a test fails.
const LOG_LINES_SHOWN: usize = 200;

/// How often a starting server is asked whether it is ready.
const READINESS_TICK: Duration = Duration::from_millis(20);

/// A server process. Dropping it kills it, by its own process id, and searches its log for secrets.
pub struct Server {
    options: ServerOptions,
    directory: TempDir,
    addresses: Addresses,
    state: State,
    secrets: Secrets,
}

#[derive(Clone, Copy)]
struct Addresses {
    gateway: SocketAddr,
    operations: SocketAddr,
}

enum State {
    /// The reader of its standard output is kept: closing the pipe would make the next print fail.
    Running {
        child: Child,
        _output: Lines<BufReader<ChildStdout>>,
    },
    Stopped,
}

impl Server {
    /// Starts a server on a fresh data directory and free ports, and waits until it is ready.
    pub async fn start(options: ServerOptions) -> Self {
        Self::start_sharing(options, Secrets::default()).await
    }

    /// The same, as one of several that keep the same `secrets`.
    pub async fn start_sharing(options: ServerOptions, secrets: Secrets) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("colloquy-test-")
            .tempdir()
            .expect("a temporary directory can be made");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        secrets.add("ciphertext", CIPHERTEXT_MARK);
        let addresses = Addresses { gateway: any, operations: any };
        let mut server = Self { options, directory, addresses, state: State::Stopped, secrets };
        server.launch().await;
        server
    }

    /// Starts the stopped server again, on the same data directory and the same ports.
    pub async fn restart(&mut self) {
        assert!(matches!(self.state, State::Stopped), "kill or terminate the server before restarting it");
        self.launch().await;
    }

    /// The same, with other options.
    pub async fn restart_with(&mut self, options: ServerOptions) {
        self.options = options;
        self.restart().await;
    }

    async fn launch(&mut self) {
        let config = self.directory.path().join("colloquy.toml");
        std::fs::write(&config, self.options.to_toml(self.addresses.operations))
            .expect("the configuration file can be written");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log file can be opened");
        let mut command = colloquy(&self.options);
        let mut child = command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--listen")
            .arg(self.addresses.gateway.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server binary can be started");
        let output = child.stdout.take().expect("standard output is piped");
        let output = ChildStdout::from_std(output).expect("a pipe can be read asynchronously");
        let mut output = BufReader::new(output).lines();
        let ready = timeout(DEADLINE, ready_addresses(&mut output)).await;
        self.state = State::Running { child, _output: output };
        match ready {
            Ok(Some(addresses)) => self.addresses = addresses,
            Ok(None) => panic!("the server ended before it was ready"),
            Err(_) => panic!("the server was not ready within {DEADLINE:?}"),
        }
        self.readiness().await;
    }

    /// Waits until `/readyz` says that traffic may come.
    async fn readiness(&self) {
        let (http, url) = (http_client(), format!("http://{}/readyz", self.operations()));
        let ready = timeout(DEADLINE, async {
            let mut tick = interval(READINESS_TICK);
            loop {
                tick.tick().await;
                if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
            }
        });
        ready.await.expect("a server that listens is ready soon");
    }

    /// The REST interface.
    #[must_use]
    pub fn rest(&self) -> Rest {
        Rest::new(self.addresses.gateway, self.secrets.clone())
    }

    /// Where REST and WebSocket are served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses.gateway
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn operations(&self) -> SocketAddr {
        self.addresses.operations
    }

    /// What `/metrics` says now.
    pub async fn scrape(&self) -> Vec<Sample> {
        let url = format!("http://{}/metrics", self.operations());
        let response = http_client().get(url).send().await.expect("the operations listener answers");
        assert_eq!(response.status(), 200);
        samples(&response.text().await.expect("a scrape is text"))
    }

    /// Scrapes until it `fits`: what is counted is seen a moment after it has happened.
    pub async fn scrape_until(&self, fits: impl Fn(&[Sample]) -> bool) -> Vec<Sample> {
        let scraping = async {
            loop {
                let scraped = self.scrape().await;
                if fits(&scraped) {
                    return scraped;
                }
            }
        };
        timeout(DEADLINE, scraping).await.expect("the metrics show it soon")
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.state {
            State::Running { child, .. } => child.id(),
            State::Stopped => panic!("the server is not running"),
        }
    }

    /// What must not stand in this server's log.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Where the server keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// What `/admin` takes from whoever runs this server.
    #[must_use]
    pub fn admin_token(&self) -> String {
        let config = self.options.to_toml(self.addresses.operations);
        let config: Config = toml::from_str(&config).expect("the server reads it too");
        let config = Config { data_dir: self.data_dir(), ..config };
        admin_token(&config).expect("the server has made its key")
    }

    /// Kills the process at once (SIGKILL) and waits until it is gone.
    pub fn kill_9(&mut self) {
        let State::Running { mut child, .. } = std::mem::replace(&mut self.state, State::Stopped) else {
            panic!("the server is not running")
        };
        child.kill().expect("a child that was not waited for can be killed");
        child.wait().expect("a killed child ends");
    }

    /// Sends SIGTERM; [`Server::exit_code`] waits for the end.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Stops the process where it stands (SIGSTOP): its sockets stay open and nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id fits");
        kill(Pid::from_raw(pid), signal).expect("the server's process is there");
    }

    /// Waits until the process has ended by itself.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let pid = i32::try_from(self.pid()).expect("a process id fits");
        let State::Running { mut child, _output: output } =
            std::mem::replace(&mut self.state, State::Stopped)
        else {
            panic!("the server is not running")
        };
        let ended = tokio::task::spawn_blocking(move || child.wait());
        // Twice the deadline: a drain may take 30 s by its own rules.
        let Ok(ended) = timeout(2 * DEADLINE, ended).await else {
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the server's process is there");
            panic!("the server did not end");
        };
        drop(output);
        ended.expect("waiting does not panic").expect("a child can be waited for").code()
    }

    /// SIGTERM, then the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.ask_to_stop();
        self.exit_code().await
    }

    /// Everything the server has logged, over all its runs.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("stderr.log")
    }

    /// PRIVATE: no secret of this test stands in the log.
    pub fn assert_log_is_private(&self) {
        let found = self.secrets.found_in(&self.log());
        assert!(found.is_empty(), "PRIVATE: the server's log holds a {found:?}");
    }
}

impl Drop for Server {
    #[allow(clippy::print_stderr, reason = "a failed test shows what its server said")]
    fn drop(&mut self) {
        if let State::Running { child, .. } = &mut self.state {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- the server's log, last {} of {} lines", shown.len(), lines.len());
            for line in shown {
                eprintln!("{line}");
            }
        } else {
            self.assert_log_is_private();
        }
    }
}

/// The binary, with no other environment than `options` give it: it reads `COLLOQUY_*` as configuration.
fn colloquy(options: &ServerOptions) -> Command {
    let mut command = Command::new(binary("colloquy"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COLLOQUY_")) {
        command.env_remove(name);
    }
    command.envs(options.environment().iter().map(|(name, value)| (name, value)));
    command
}

/// Runs `colloquy admin migrate` with `options` to its end; `folder` is where its configuration file goes.
#[must_use]
pub fn migrate(options: &ServerOptions, folder: &Path) -> Output {
    let config = folder.join("migrate.toml");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    std::fs::write(&config, options.to_toml(nowhere)).expect("the configuration file can be written");
    let mut command = colloquy(options);
    command.args(["admin", "migrate", "--config"]).arg(config).stdin(Stdio::null());
    command.output().expect("the binary can be started")
}

async fn ready_addresses(output: &mut Lines<BufReader<ChildStdout>>) -> Option<Addresses> {
    while let Ok(Some(line)) = output.next_line().await {
        if let Some(addresses) = parse_ready_line(&line) {
            return Some(addresses);
        }
    }
    None
}

/// `colloquy listening on http://ADDRESS operations on http://ADDRESS`
fn parse_ready_line(line: &str) -> Option<Addresses> {
    let rest = line.strip_prefix("colloquy listening on http://")?;
    let (gateway, operations) = rest.split_once(" operations on http://")?;
    Some(Addresses { gateway: gateway.trim().parse().ok()?, operations: operations.trim().parse().ok()? })
}

/// A binary of this workspace, from the same profile as the running executable.
///
/// # Panics
/// If it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("a running program has a path");
    // target/<profile>/deps/<test> for tests, target/<profile>/<program> for programs.
    let candidates = executable.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let found = candidates.into_iter().find(|path| Path::is_file(path));
    found.unwrap_or_else(|| panic!("{name} is not built beside {}: run `make test`", executable.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_tells_both_addresses() {
        let line = "colloquy listening on http://127.0.0.1:4100 operations on http://127.0.0.1:4101";
        let addresses = parse_ready_line(line).unwrap();
        assert_eq!((addresses.gateway.port(), addresses.operations.port()), (4100, 4101));
        assert!(parse_ready_line("starting").is_none());
    }
}
