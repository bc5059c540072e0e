//! An agent's sink: an HTTP server that takes CloudEvents, and answers what the test says.

use std::net::SocketAddr;

use colloquy_protocol::event::{
    AGENT_CANCEL, AGENT_MESSAGE_DEAD, AgentCancel, AgentMessage, AgentMessageDead,
};
use hyper::header::HeaderMap;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::DEADLINE;
use crate::http_server::{FREE_PORT, HttpServer, Posted, Reply};
use crate::manner::Manner;

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

/// The server. Dropping it closes the port.
pub struct Sink {
    /// How it answers.
    pub manner: Manner,
    server: HttpServer,
    told: Told,
    received: mpsc::Receiver<Received>,
    cancels: mpsc::Receiver<AgentCancel>,
    deaths: mpsc::Receiver<AgentMessageDead>,
}

impl Sink {
    /// Starts one that takes everything.
    pub async fn start() -> Self {
        let (sender, received) = mpsc::channel(WAITING_MAX);
        let (cancel, cancels) = mpsc::channel(WAITING_MAX);
        let (death, deaths) = mpsc::channel(WAITING_MAX);
        let manner = Manner::default();
        let told = Told { received: sender, cancels: cancel, deaths: death, manner: manner.clone() };
        let server = listen(FREE_PORT, &told).await;
        Self { manner, server, told, received, cancels, deaths }
    }

    /// Ends the server, as if it had died. What has come before is still there for the test.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Starts it again, where it was.
    pub async fn restart(&mut self) {
        self.server = listen(self.address(), &self.told).await;
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its address as an agent's profile has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address())
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

/// Where events go.
#[derive(Clone)]
struct Told {
    received: mpsc::Sender<Received>,
    cancels: mpsc::Sender<AgentCancel>,
    deaths: mpsc::Sender<AgentMessageDead>,
    manner: Manner,
}

async fn listen(address: SocketAddr, told: &Told) -> HttpServer {
    let told = told.clone();
    HttpServer::start(address, move |posted| answer(posted, told.clone())).await
}

async fn answer(posted: Posted, told: Told) -> Reply {
    // In structured mode the data is a member of the body.
    let body: serde_json::Value = serde_json::from_slice(&posted.body).unwrap_or_default();
    let data = body.get("data").unwrap_or(&body);
    let is_a = |kind: &str| posted.headers.get("ce-type").is_some_and(|given| given == kind);
    if is_a(AGENT_MESSAGE_DEAD) {
        let death = serde_json::from_value(data.clone()).expect("the data has the documented form");
        let _ = told.deaths.send(death).await;
    } else if is_a(AGENT_CANCEL) {
        let cancel = serde_json::from_value(data.clone()).expect("the data has the documented form");
        let _ = told.cancels.send(cancel).await;
    } else if let Ok(message) = serde_json::from_value::<AgentMessage>(data.clone()) {
        let turn_id = message.turn_id;
        let received = Received { headers: posted.headers, body: body.to_string(), message };
        let hearing = async {
            let _ = told.received.send(received).await;
        };
        return told.manner.reply_to(turn_id, hearing).await;
    }
    told.manner.reply()
}
