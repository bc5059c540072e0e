//! A server for as long as a demo takes: a process of its own, on a free port, with data that is thrown away.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long it may take until it can be reached.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to stop; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// What its clients have to go elsewhere, ms. They have gone by then.
const DRAIN_WINDOW_MS: &str = "2000";

/// The running process. Killed when dropped.
pub(crate) struct OwnServer {
    process: Child,
    url: String,
    operations_url: String,
    /// Its data and its log; deleted at the end.
    folder: TempDir,
}

impl OwnServer {
    /// Starts it, and waits until it can be reached.
    ///
    /// # Errors
    /// In words, with what it wrote last.
    pub(crate) async fn start() -> Result<Self, String> {
        let folder =
            tempfile::tempdir().map_err(|error| format!("no temporary folder can be made: {error}"))?;
        let log = folder.path().join("log");
        let mut process =
            spawn(&folder, &log).map_err(|error| format!("no server can be started: {error}"))?;
        let output = process.stdout.take().ok_or("the server has no output")?;
        let mut lines = BufReader::new(output).lines();
        let line = match timeout(START_TIMEOUT, lines.next_line()).await {
            Ok(Ok(line)) => line.unwrap_or_default(),
            Ok(Err(_)) | Err(_) => String::new(),
        };
        let Some((url, operations_url)) = urls_in(&line) else {
            let told = std::fs::read_to_string(&log).unwrap_or_default();
            let last = told.lines().next_back().unwrap_or("it said nothing");
            return Err(format!("the server did not start: {last}"));
        };
        Ok(Self { process, url, operations_url, folder })
    }

    /// Where it can be reached.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where its health, metrics and administration are.
    pub(crate) fn operations_url(&self) -> &str {
        &self.operations_url
    }

    /// Where its data is, and the key that it signs tokens with.
    pub(crate) fn data_dir(&self) -> PathBuf {
        data_dir(&self.folder)
    }

    /// Stops it by SIGTERM, and waits for it.
    ///
    /// # Errors
    /// In words, if it had to be killed or ended badly.
    pub(crate) async fn stop(mut self) -> Result<(), String> {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok());
        let told = id.is_some_and(|id| kill(Pid::from_raw(id), Signal::SIGTERM).is_ok());
        match timeout(STOP_TIMEOUT, self.process.wait()).await {
            Ok(Ok(status)) if told && status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the server ended by itself, or badly: {}", in_words(status))),
            Ok(Err(error)) => Err(format!("the server cannot be waited for: {error}")),
            Err(_) => Err(format!("the server did not stop within {} s", STOP_TIMEOUT.as_secs())),
        }
    }
}

fn spawn(folder: &TempDir, log: &std::path::Path) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    // What is set for another server is not meant for this one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COLLOQUY_")) {
        command.env_remove(name);
    }
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir(folder))
        .env("COLLOQUY_DRAIN__WINDOW_MS", DRAIN_WINDOW_MS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log)?)
        .kill_on_drop(true)
        .spawn()
}

fn data_dir(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

/// The public address, and that for operations, in the line a server prints once it can be reached.
fn urls_in(line: &str) -> Option<(String, String)> {
    let (public, operations) = line.strip_prefix("colloquy listening on ")?.split_once(" operations on ")?;
    let is_url = |url: &str| url.starts_with("http://");
    (is_url(public) && is_url(operations)).then(|| (public.to_owned(), operations.trim().to_owned()))
}

fn in_words(status: ExitStatus) -> String {
    status.code().map_or_else(|| "killed".to_owned(), |code| format!("exit code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_where_it_can_be_reached() {
        let line = "colloquy listening on http://127.0.0.1:8080 operations on http://127.0.0.1:9464";
        let urls = ("http://127.0.0.1:8080".to_owned(), "http://127.0.0.1:9464".to_owned());
        assert_eq!(urls_in(line), Some(urls));
        for other in ["", "colloquy listening on ", "colloquy: cannot listen", "colloquy listening on x y"] {
            assert_eq!(urls_in(other), None, "{other}");
        }
    }
}
