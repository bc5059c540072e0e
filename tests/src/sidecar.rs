//! A sidecar process: the real `colloquy agent` beside an agent that a test makes up.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::ids::{MessageId, UserId};
use colloquy_protocol::rest::agents::{AddAgent, AddedAgent, RegisteredAgent, ReviseAgent};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::DEADLINE;
use crate::rest::Rest;
use crate::server::{Server, binary};

/// Bits of an answer that wait for whoever reads.
const STREAM_BUFFER: usize = 16;
/// Where an agent's messages go before its sidecar runs.
const NOWHERE: &str = "http://127.0.0.1:9/";

/// The process. Killed when dropped.
pub struct Sidecar {
    arguments: Vec<String>,
    address: SocketAddr,
    running: Option<(Child, Lines<BufReader<ChildStdout>>)>,
    /// Who the agent is in conversations.
    pub user_id: UserId,
    folder: TempDir,
}

impl Sidecar {
    /// Registers an agent of this name and starts its sidecar; `asked` says what it asks.
    pub async fn start(server: &Server, name: &str, asked: &[&str]) -> Self {
        Self::start_as(server, name, AgentProfile::new(name, NOWHERE), asked).await
    }

    /// The same, of an agent that says this of itself; its sink is the sidecar's.
    pub async fn start_as(server: &Server, name: &str, profile: AgentProfile, asked: &[&str]) -> Self {
        let profile = AgentProfile { sink: NOWHERE.to_owned(), ..profile };
        let agent_id = AgentId::new(name).expect("a test names its agents plainly");
        let token = server.admin_token();
        let admin = Rest::new(server.operations(), server.secrets().clone());
        let body = AddAgent { agent_id: agent_id.clone(), profile: profile.clone() };
        let added: AddedAgent = admin.post("/admin/agents", Some(&token), &body).await.read();
        server.secrets().add("agent key", &added.key);
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, &added.key).expect("the key can be written");
        let path = |path: &Path| path.to_str().expect("a path is text").to_owned();
        let mut arguments: Vec<String> = ["agent", "--id", name, "--server"].map(str::to_owned).to_vec();
        arguments.push(format!("http://{}", server.address()));
        arguments.extend([
            "--data-dir".to_owned(),
            path(folder.path()),
            "--key-file".to_owned(),
            path(&key_file),
        ]);
        arguments.extend(asked.iter().map(|argument| (*argument).to_owned()));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sidecar = Self { arguments, address, running: None, user_id: added.agent.user_id, folder };
        sidecar.restart().await;
        let profile = AgentProfile { sink: format!("http://{}/", sidecar.address), ..profile };
        let revise = ReviseAgent { revision: added.agent.revision, profile };
        let path = format!("/admin/agents/{agent_id}");
        let _: RegisteredAgent = admin.put(&path, &token, &revise).await.read();
        sidecar
    }

    /// Starts it, where it was before; it is not running.
    pub async fn restart(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        let mut child = Command::new(binary("colloquy"))
            .args(&self.arguments)
            .args(["--listen", &self.address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("the log can be opened"))
            .kill_on_drop(true)
            .spawn()
            .expect("the sidecar can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = timeout(DEADLINE, lines.next_line()).await.expect("it starts in time");
        let line = line
            .expect("its output can be read")
            .unwrap_or_else(|| panic!("it did not start: {}", self.log()));
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once('/')?.0.parse().ok());
        self.address = address.unwrap_or_else(|| panic!("it says where it listens: {line}"));
        self.running = Some((child, lines));
    }

    /// Kills it at once (SIGKILL), and waits until it is gone.
    pub async fn kill_9(&mut self) {
        let (mut child, _) = self.running.take().expect("it runs");
        child.kill().await.expect("it can be killed");
    }

    /// Where the server posts turns.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// An agent of the samples, and where it listens. Dropping the child ends it.
pub async fn sample(name: &str, arguments: &[&str]) -> (Child, String) {
    let script = format!("{}/../samples/agents/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new("python3")
        .args([script.as_str(), "--listen", "127.0.0.1:0"])
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("there is a python3");
    let mut lines = BufReader::new(python.stdout.take().expect("it is piped")).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.expect("it starts in time");
    let line = line.expect("its output can be read").expect("it says where it listens");
    let service = line.rsplit(' ').next().expect("it says where it listens").to_owned();
    (python, service)
}

/// An agent as a plain HTTP service: it answers what is asked with what `answer` makes of it. `{"stream": [...]}` is said bit by
/// bit: texts, and other objects as they are; [`BREAKS_OFF`] breaks the connection. What is asked says which try it is
/// (`try`). Dropping it closes the port.
pub struct AgentService {
    address: SocketAddr,
    answer: fn(&Value) -> Value,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What outlives a service that is replaced.
#[derive(Default)]
struct Shared {
    asked: Mutex<BTreeMap<String, usize>>,
    /// Nothing is answered meanwhile.
    holds: watch::Sender<bool>,
    /// Questions that wait for that.
    held: watch::Sender<usize>,
    /// In the middle of what it says bit by bit it waits until whoever asked has seen the beginning.
    seen: watch::Sender<Option<BTreeSet<String>>>,
}

impl AgentService {
    /// Starts one.
    pub async fn start(answer: fn(&Value) -> Value) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer, Arc::default()).await
    }

    async fn start_at(address: SocketAddr, answer: fn(&Value) -> Value, shared: Arc<Shared>) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let task = tokio::spawn(serve(listener, answer, Arc::clone(&shared)));
        Self { address, answer, shared, task }
    }

    /// Ends it and starts another one in its place.
    pub async fn replace(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        *self = Self::start_at(self.address, self.answer, Arc::clone(&self.shared)).await;
    }

    /// Answers nothing until it is let go; returns when somebody waits.
    pub async fn hold(&self) {
        self.shared.holds.send_replace(true);
        let mut held = self.shared.held.subscribe();
        held.wait_for(|held| *held > 0).await.expect("the service is there");
    }

    /// Answers whoever waits.
    pub fn let_go(&self) {
        self.shared.holds.send_replace(false);
    }

    /// From now on it waits in the middle of what it says bit by bit, until the beginning is [seen](Self::witness).
    pub fn wait_to_be_seen(&self) {
        self.shared.seen.send_replace(Some(BTreeSet::new()));
    }

    /// Tells it what has been seen.
    #[must_use]
    pub fn witness(&self) -> Witness {
        Witness(self.shared.seen.clone())
    }

    /// Its URL, with this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How often it was asked under each idempotency key.
    pub fn asked(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever sees an answer grow.
#[derive(Clone)]
pub struct Witness(watch::Sender<Option<BTreeSet<String>>>);

impl Witness {
    /// The beginning of the answer to this turn was seen.
    pub fn sees(&self, turn_id: MessageId) {
        self.0.send_if_modified(|seen| seen.as_mut().is_some_and(|seen| seen.insert(turn_id.to_string())));
    }

    /// How many were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.borrow().as_ref().map_or(0, BTreeSet::len)
    }
}

impl Drop for AgentService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, answer: fn(&Value) -> Value, shared: Arc<Shared>) {
    // Connections end with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| respond(request, answer, Arc::clone(&shared)));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A question that is not answered yet, whatever becomes of its connection.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn among(held: &'a watch::Sender<usize>) -> Self {
        held.send_modify(|held| *held += 1);
        Self(held)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

/// Instead of a bit that is said: when what comes before was seen, nothing more comes, not even the end.
pub const BREAKS_OFF: &str = "(the connection breaks)";

type Said = Either<Full<Bytes>, Channel<Bytes, Error>>;

async fn respond(
    request: Request<Incoming>,
    answer: fn(&Value) -> Value,
    shared: Arc<Shared>,
) -> Result<Response<Said>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let key = head.headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let mut question: Value = serde_json::from_slice(&body).unwrap_or_default();
    let tries = {
        let mut asked = shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = asked.entry(key.to_owned()).or_default();
        *tries += 1;
        *tries
    };
    question["try"] = json!(tries);
    question["path"] = json!(head.uri.path());
    let answered = answer(&question);
    if let Some(bits) = answered["stream"].as_array() {
        let (speaker, body) = Channel::new(STREAM_BUFFER);
        let is_model = head.uri.path().ends_with("/chat/completions");
        tokio::spawn(say(bits.clone(), is_model, key.to_owned(), Arc::clone(&shared), speaker));
        let mut response = Response::new(Either::Right(body));
        let kind = if is_model { "text/event-stream" } else { "application/x-ndjson" };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        return Ok(response);
    }
    shared.pass().await;
    let mut response = Response::new(Either::Left(Full::from(answered.to_string())));
    if answered.is_null() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

impl Shared {
    /// Waits until it is let go.
    async fn pass(&self) {
        let waiting = Waiting::among(&self.held);
        // Its sender is in `self`.
        let _ = self.holds.subscribe().wait_for(|holds| !holds).await;
        drop(waiting);
    }
}

/// Says what is to be said bit by bit: the beginning, and when that was seen, the rest.
async fn say(
    bits: Vec<Value>,
    is_model: bool,
    turn: String,
    shared: Arc<Shared>,
    mut speaker: Sender<Bytes, Error>,
) {
    let written = |bit: &Value| match (bit, is_model) {
        (Value::String(text), true) => {
            format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}, "finish_reason": null}]}))
        }
        (Value::String(text), false) => format!("{}\n", json!({"delta": text})),
        (other, true) => format!("data: {other}\n\n"),
        (other, false) => format!("{other}\n"),
    };
    let middle = bits.iter().position(|bit| bit == BREAKS_OFF).unwrap_or(bits.len() / 2);
    let (beginning, rest) = bits.split_at(middle);
    for bit in beginning {
        if speaker.send_data(written(bit).into()).await.is_err() {
            return;
        }
    }
    let is_seen = |seen: &Option<BTreeSet<String>>| seen.as_ref().is_none_or(|seen| seen.contains(&turn));
    let waiting = Waiting::among(&shared.held);
    // Both senders are in `shared`.
    let _ = shared.seen.subscribe().wait_for(is_seen).await;
    let _ = shared.holds.subscribe().wait_for(|holds| !holds).await;
    drop(waiting);
    let end = if is_model { "data: [DONE]\n\n".to_owned() } else { "{\"done\": true}\n".to_owned() };
    if rest.first().is_some_and(|bit| bit == BREAKS_OFF) {
        speaker.abort(Error::other("it breaks off"));
        return;
    }
    for line in rest.iter().map(written).chain([end]) {
        if speaker.send_data(line.into()).await.is_err() {
            return;
        }
    }
}
