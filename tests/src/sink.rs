//! An agent's sink: an HTTP server that takes CloudEvents, and answers what the test says.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use colloquy_protocol::event::{
    AGENT_CANCEL, AGENT_MESSAGE_DEAD, AgentCancel, AgentMessage, AgentMessageDead,
};
use colloquy_protocol::ids::MessageId;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::DEADLINE;

/// Events that may wait for the test.
const WAITING_MAX: usize = 4096;

/// An event as it came.
#[derive(Debug)]
pub struct Received {
    /// All headers, those of the event among them.
    pub headers: HeaderMap,
    /// The body, as it came.
    pub body: String,
    /// The event's data.
    pub message: AgentMessage,
}

impl Received {
    /// One header's text; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// What names the event: the same for every try.
    #[must_use]
    pub fn name(&self) -> (String, String) {
        (self.header("ce-source"), self.header("ce-id"))
    }
}

/// How events are answered.
type Manner = Arc<Mutex<Answers>>;

/// A status and headers, which turns are not wanted whatever else is, and whether messages are answered at all for now.
struct Answers {
    status: u16,
    headers: Vec<(&'static str, String)>,
    refused: BTreeSet<MessageId>,
}

/// The server. Dropping it closes the port.
pub struct Sink {
    address: SocketAddr,
    received: mpsc::Receiver<Received>,
    cancels: mpsc::Receiver<AgentCancel>,
    deaths: mpsc::Receiver<AgentMessageDead>,
    manner: Manner,
    held: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Starts one that takes everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port can be bound");
        Self::on(listener)
    }

    /// As [`Self::start`], where one was before.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::on(TcpListener::bind(address).await.expect("the port is free again"))
    }

    /// Ends it, as if it had died; says where it was.
    pub async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        // The port is free when the task is gone.
        let _ = (&mut self.task).await;
        self.address
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let (sender, received) = mpsc::channel(WAITING_MAX);
        let answers = Answers { status: 202, headers: Vec::new(), refused: BTreeSet::new() };
        let manner: Manner = Arc::new(Mutex::new(answers));
        let (cancel, cancels) = mpsc::channel(WAITING_MAX);
        let (death, deaths) = mpsc::channel(WAITING_MAX);
        let (held, is_held) = watch::channel(false);
        let told = Told {
            received: sender,
            cancels: cancel,
            deaths: death,
            manner: Arc::clone(&manner),
            held: is_held,
        };
        let task = tokio::spawn(serve(listener, told));
        Self { address, received, cancels, deaths, manner, held, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as an agent's profile has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// From now on it answers so.
    pub fn answers(&self, status: u16, headers: Vec<(&'static str, String)>) {
        let mut answers = self.manner.lock().unwrap_or_else(PoisonError::into_inner);
        (answers.status, answers.headers) = (status, headers);
    }

    /// From now on it does not want this turn, or wants it again.
    pub fn refuses(&self, turn_id: MessageId, is_refused: bool) {
        let mut answers = self.manner.lock().unwrap_or_else(PoisonError::into_inner);
        if is_refused {
            answers.refused.insert(turn_id);
        } else {
            answers.refused.remove(&turn_id);
        }
    }

    /// From now on messages come, and are not answered; or are again, those that wait as well.
    pub fn holds(&self, is_held: bool) {
        self.held.send_replace(is_held);
    }

    /// The next event.
    pub async fn next(&mut self) -> Received {
        timeout(DEADLINE, self.wait()).await.expect("an event comes")
    }

    /// The same, however long it takes.
    pub async fn wait(&mut self) -> Received {
        self.received.recv().await.expect("the sink runs")
    }

    /// The next `agent.cancel`; [`Self::next`] passes over these.
    pub async fn next_cancel(&mut self) -> AgentCancel {
        let cancel = timeout(DEADLINE, self.cancels.recv()).await.expect("it is told to stop");
        cancel.expect("the sink runs")
    }

    /// The next `agent.message.dead`; [`Self::next`] passes over these.
    pub async fn next_death(&mut self) -> AgentMessageDead {
        let death = timeout(DEADLINE, self.deaths.recv()).await.expect("it is told of a dead letter");
        death.expect("the sink runs")
    }

    /// Has nothing else come?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where events go.
#[derive(Clone)]
struct Told {
    received: mpsc::Sender<Received>,
    cancels: mpsc::Sender<AgentCancel>,
    deaths: mpsc::Sender<AgentMessageDead>,
    manner: Manner,
    held: watch::Receiver<bool>,
}

async fn serve(listener: TcpListener, told: Told) {
    // Connections end with it.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let told = told.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, told.clone()));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, told: Told) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    // In structured mode the data is a member of the body.
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let data = body.get("data").unwrap_or(&body);
    let mut turn_id = None;
    let is_a = |kind: &str| parts.headers.get("ce-type").is_some_and(|given| given == kind);
    if is_a(AGENT_MESSAGE_DEAD) {
        let death = serde_json::from_value(data.clone()).expect("the data has the documented form");
        let _ = told.deaths.send(death).await;
    } else if is_a(AGENT_CANCEL) {
        let cancel = serde_json::from_value(data.clone()).expect("the data has the documented form");
        let _ = told.cancels.send(cancel).await;
    } else if let Ok(message) = serde_json::from_value::<AgentMessage>(data.clone()) {
        turn_id = Some(message.turn_id);
        let _ =
            told.received.send(Received { headers: parts.headers, body: body.to_string(), message }).await;
        // The sink is gone, or lets go.
        let _ = told.held.clone().wait_for(|is_held| !is_held).await;
    }
    let (status, headers) = {
        let answers = told.manner.lock().unwrap_or_else(PoisonError::into_inner);
        let is_refused = turn_id.is_some_and(|turn_id| answers.refused.contains(&turn_id));
        (if is_refused { 422 } else { answers.status }, answers.headers.clone())
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::default()).expect("a test's headers are headers"))
}
