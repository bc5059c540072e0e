//! The `cloudevents` SDK of PyPI: another implementation, which makes events and reads those that we make.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::DEADLINE;

/// What it is asked through.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cloudevents_peer.py");

/// How an event is put into a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in headers, data in the body.
    Binary,
    /// All in the body.
    Structured,
    /// A list of events in the body; here a list of one.
    Batch,
}

/// A request that holds an event.
#[derive(Debug, Deserialize)]
pub struct Request {
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

/// An event as the SDK understands it.
#[derive(Debug, Deserialize)]
pub struct Understood {
    /// `type`, `source`, `id` and so on, extensions among them.
    pub attributes: BTreeMap<String, String>,
    /// JSON.
    pub data: Value,
}

/// The running SDK. Killed when dropped.
pub struct CloudEventsSdk {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl CloudEventsSdk {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        let mut process = Command::new(python())
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the SDK can be started");
        let input = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        Self { _process: process, input, output }
    }

    /// Makes a request with an event.
    pub async fn make(&mut self, mode: Mode, attributes: &Value, data: &Value) -> Request {
        let mode = match mode {
            Mode::Binary => "binary",
            Mode::Structured => "structured",
            Mode::Batch => "batch",
        };
        let made = self.ask(&json!({"make": mode, "attributes": attributes, "data": data})).await;
        serde_json::from_str(&made).expect("it has made a request")
    }

    /// Reads the event of a request.
    pub async fn read(&mut self, headers: &BTreeMap<String, String>, body: &str) -> Understood {
        let read = self.ask(&json!({"read": {"headers": headers, "body": body}})).await;
        serde_json::from_str(&read).expect("it has read an event")
    }

    async fn ask(&mut self, command: &Value) -> String {
        let line = format!("{command}\n");
        self.input.write_all(line.as_bytes()).await.expect("it listens");
        let told = timeout(DEADLINE, self.output.next_line()).await.expect("it answers in time");
        told.expect("its answer can be read").expect("it has understood")
    }
}

/// Python of the virtual environment that `make test` puts beside the build.
fn python() -> PathBuf {
    let executable = std::env::current_exe().expect("a running program has a path");
    let mut folders = executable.ancestors().map(|folder| folder.join("cloudevents/bin/python"));
    let found = folders.find(|path| path.is_file());
    found.expect("the cloudevents SDK is not installed under the target folder: run `make test-tools`")
}
