//! MongoDB: `$MONGODB_URI`, else `mongod` on PATH as a replica set of one, else a stand-in that speaks its protocol.
//!
//! The stand-in (`secantusd-rs`, installed by `tests/install-services`) keeps what it has acknowledged over a SIGKILL, as
//! the real one does. It is a process of its own and part of no build.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, free_port, on_path};

/// A MongoDB that runs, or was killed and can be started again on the same port and data.
pub struct MongoProcess {
    /// Where it is reached. Every test takes a database name of its own: the server may be shared.
    pub uri: String,
    local: Option<Local>,
}

/// One of our own.
struct Local {
    program: Program,
    port: u16,
    directory: TempDir,
    process: Option<Process>,
}

enum Program {
    Mongod(PathBuf),
    StandIn(PathBuf),
}

/// Starts a MongoDB, or finds the one that `$MONGODB_URI` names.
///
/// # Panics
/// If there is none, or it does not start.
#[must_use]
pub fn start_mongo() -> MongoProcess {
    if let Some(uri) = std::env::var("MONGODB_URI").ok().filter(|uri| !uri.is_empty()) {
        return MongoProcess { uri, local: None };
    }
    let port = free_port();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut local = Local { program: Program::find(), port, directory, process: None };
    local.start();
    if let Program::Mongod(_) = local.program {
        return MongoProcess {
            uri: format!("mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"),
            local: Some(local),
        };
    }
    MongoProcess { uri: format!("mongodb://127.0.0.1:{port}/"), local: Some(local) }
}

impl MongoProcess {
    /// Can it be killed, frozen and started again? Not the one that `$MONGODB_URI` names.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.local.is_some()
    }

    /// Is it no MongoDB, but what stands in for it?
    #[must_use]
    pub fn is_stand_in(&self) -> bool {
        self.local.as_ref().is_some_and(|local| matches!(local.program, Program::StandIn(_)))
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Panics
    /// If it is not [our own](Self::is_own).
    pub fn kill(&mut self) {
        self.local.as_mut().expect("our own").process = None;
    }

    /// Starts it again on the same port and data; ends it first if it runs.
    ///
    /// # Panics
    /// If it is not [our own](Self::is_own), or does not start.
    pub fn restart(&mut self) {
        let local = self.local.as_mut().expect("our own");
        local.process = None;
        local.start();
    }

    /// Stops it where it stands: its sockets stay open and nobody answers.
    ///
    /// # Panics
    /// If it is not [our own](Self::is_own), or does not run.
    pub fn freeze(&self) {
        self.process().freeze();
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it is not [our own](Self::is_own), or does not run.
    pub fn thaw(&self) {
        self.process().thaw();
    }

    fn process(&self) -> &Process {
        self.local.as_ref().and_then(|local| local.process.as_ref()).expect("our own, and it runs")
    }
}

impl Program {
    fn find() -> Self {
        if let Some(mongod) = on_path("mongod") {
            return Self::Mongod(mongod);
        }
        let stand_in = services_folder().join("bin/secantusd-rs");
        assert!(stand_in.is_file(), "there is no MongoDB: run tests/install-services");
        Self::StandIn(stand_in)
    }
}

/// Where `tests/install-services` puts what it builds.
fn services_folder() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(services) = folder("COLLOQUY_SERVICES") {
        return services;
    }
    let home = || folder("HOME").unwrap_or_default();
    folder("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("colloquy/services")
}

impl Local {
    fn start(&mut self) {
        let data = self.directory.path().join("data");
        std::fs::create_dir_all(&data).expect("the data directory can be made");
        self.process = Some(match &self.program {
            Program::Mongod(program) => start_mongod(program, self.port, &data),
            Program::StandIn(program) => start_stand_in(program, self.port, &data),
        });
    }
}

fn start_stand_in(program: &Path, port: u16, data: &Path) -> Process {
    let mut command = Command::new(program);
    // Without --sync-on-commit it would lose what it has acknowledged.
    command.args([
        "--host",
        "127.0.0.1",
        "--sync-on-commit",
        "--cache-size",
        "256M",
        "--log-file-max",
        "8MB",
    ]);
    command.arg("--port").arg(port.to_string()).arg("--storage-path").arg(data);
    let (process, mut output) = Process::start(command);
    output.wait_for(|line| line.contains("listening on").then_some(()));
    output.drain();
    process
}

/// The name of a real server's replica set.
const REPLICA_SET: &str = "colloquy";

fn start_mongod(program: &Path, port: u16, data: &Path) -> Process {
    let is_new = std::fs::read_dir(data).is_ok_and(|mut files| files.next().is_none());
    let mut command = Command::new(program);
    command.args(["--bind_ip", "127.0.0.1", "--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", "0.25"]);
    command.arg("--port").arg(port.to_string()).arg("--dbpath").arg(data);
    let (process, mut output) = Process::start(command);
    output.wait_for(|line| line.contains("Waiting for connections").then_some(()));
    if is_new {
        initiate(port).expect("a replica set of one can be made");
    }
    output.wait_for(|line| line.contains("Transition to primary complete").then_some(()));
    output.drain();
    process
}

/// Sends `replSetInitiate`, as one OP_MSG: a driver would wait for a primary, which there is not yet.
fn initiate(port: u16) -> std::io::Result<()> {
    let member = document(&[number("_id", 0), text("host", &format!("127.0.0.1:{port}"))]);
    let members = document(&[element(DOCUMENT, "0", &member)]);
    let config = document(&[text("_id", REPLICA_SET), element(ARRAY, "members", &members)]);
    let command = document(&[element(DOCUMENT, "replSetInitiate", &config), text("$db", "admin")]);
    let mut message = Vec::new();
    // Length, request id, no request answered, OP_MSG, no flags; then one section of the kind "body".
    for word in [length(16 + 5 + command.len()), 1, 0, 2013, 0] {
        message.extend(word.to_le_bytes());
    }
    message.push(0);
    message.extend(&command);
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(&message)?;
    // What came of it is seen in the log; an answer means that the command was read.
    stream.read_exact(&mut [0; 16])
}

const TEXT: u8 = 2;
const DOCUMENT: u8 = 3;
const ARRAY: u8 = 4;
const NUMBER: u8 = 16;

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a short message")
}

fn element(kind: u8, name: &str, value: &[u8]) -> Vec<u8> {
    [&[kind], name.as_bytes(), &[0], value].concat()
}

fn number(name: &str, value: i32) -> Vec<u8> {
    element(NUMBER, name, &value.to_le_bytes())
}

fn text(name: &str, value: &str) -> Vec<u8> {
    let length = length(value.len() + 1).to_le_bytes();
    element(TEXT, name, &[&length, value.as_bytes(), &[0]].concat())
}

fn document(elements: &[Vec<u8>]) -> Vec<u8> {
    let elements = elements.concat();
    [&length(elements.len() + 5).to_le_bytes(), elements.as_slice(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(port: u16) -> bool {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    }

    #[test]
    fn a_mongodb_runs_until_it_is_killed_and_comes_back_on_its_port() {
        let mut mongo = start_mongo();
        let Some(port) = mongo.local.as_ref().map(|local| local.port) else { return };
        assert!(answers(port));
        mongo.kill();
        assert!(!answers(port));
        mongo.restart();
        assert!(answers(port));
        drop(mongo);
        assert!(!answers(port));
    }

    #[test]
    fn a_command_written_by_hand_is_read() {
        let mongo = start_mongo();
        let Some(port) = mongo.local.as_ref().map(|local| local.port) else { return };
        initiate(port).unwrap();
    }
}
