//! A child process that says when it is ready.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Lines of its output that are shown when a process ends before it is ready.
const LINES_SHOWN: usize = 20;

/// A running process. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
}

/// What a process prints until it is ready.
pub(crate) struct Output {
    name: String,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Process {
    /// Starts `command`, in a process group of its own: an interrupt at the keyboard is for the test, which then ends
    /// what it has started.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn start(mut command: Command) -> (Self, Output) {
        let name = command.get_program().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = child.stdout.take().expect("standard output is piped");
        let output = Output { name, lines: BufReader::new(output).lines(), seen: Vec::new() };
        (Self { child }, output)
    }

    /// Ends it at once, as a power cut would (SIGKILL), and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it where it stands (SIGSTOP): its sockets stay open and nobody answers. Returns when it stands still.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let stopped = waitpid(self.id(), Some(WaitPidFlag::WUNTRACED)).expect("it is a child of ours");
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "it ended: {stopped:?}");
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(self.id(), signal).expect("the process is there");
    }

    fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id fits in an i32"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Output {
    /// Waits for a line in which `find` finds something.
    ///
    /// # Panics
    /// If the process ends before that.
    pub(crate) fn wait_for<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        for line in self.lines.by_ref().map_while(Result::ok) {
            if let Some(found) = find(&line) {
                return found;
            }
            self.seen.push(line);
        }
        let shown = self.seen.len().saturating_sub(LINES_SHOWN);
        panic!("{} ended before it was ready:\n{}", self.name, self.seen[shown..].join("\n"));
    }

    /// Reads and forgets the rest, until the process ends: a full pipe would stop it.
    pub(crate) fn drain(self) {
        thread::spawn(move || self.lines.map_while(Result::ok).for_each(drop));
    }
}

/// A port of the loopback address that was free a moment ago.
///
/// # Panics
/// If there is none.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("a listener has an address").port()
}

/// Where an executable lies on PATH.
pub(crate) fn on_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
