//! Agents: people whose devices answer what is written to them, once their sink is told that it is their turn. The devices of
//! one agent stand in for each other: whichever listens is told, and each answers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_actors::outbox::{Event, Posted, Sinks};
use colloquy_client::{AnswerStream, Client, Turn};
use colloquy_protocol::agent::{AgentId, AgentLimits, AgentProfile};
use colloquy_protocol::event::AgentMessage;
use colloquy_protocol::ids::{MessageId, UserId};
use colloquy_storage::model::agent::Agent;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Method, Request, Url};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::archive::Archive;
use super::forgery::{FORGED, Forgeries, Target};
use super::network::{Listener, Network, Place, Stream};
use super::people::NEEDLE;
use super::pod::GENESIS;
use super::wires::ask;

/// How long a pod waits for a sink, and a sink that hangs makes it wait.
const POST_PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const HANG: Duration = Duration::from_secs(15);
/// After how long without an answer a turn is posted again. Short: a world lives for minutes.
const TURN_TIMEOUT: Duration = Duration::from_secs(8);
/// Answers that come late.
const LATE: Duration = Duration::from_secs(30);
/// How long an agent thinks, otherwise.
const THINKS: Duration = Duration::from_millis(800);
/// Share of answers that are shown while they are thought about.
const SHOWN: f64 = 0.25;
/// Before a device tries to listen again where another one does.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// How often an agent does what it should not, each between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moods {
    /// It says that it cannot now, and has taken nothing.
    pub(crate) fails: f64,
    /// It says that it does not want this.
    pub(crate) refuses: f64,
    /// It does not want these turns, however often it is given them.
    pub(crate) loathes: f64,
    /// It has taken the turn, and says that it could not.
    pub(crate) denies: f64,
    /// It says nothing for [`HANG`].
    pub(crate) hangs: f64,
    /// It takes the turn and forgets it.
    pub(crate) forgets: f64,
    /// It answers after up to [`LATE`].
    pub(crate) late: f64,
    /// It answers twice, and not the same.
    pub(crate) doubled: f64,
}

impl fmt::Display for Moods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fails, refuses, loathes, denies, hangs, forgets, late, doubled } = self;
        write!(
            f,
            "fails {fails:.2}, refuses {refuses:.2}, loathes {loathes:.2}, denies {denies:.2}, hangs {hangs:.2}, forgets {forgets:.2}, \
             late {late:.2}, doubled {doubled:.2}"
        )
    }
}

/// The moods of every agent, by the number of the person. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct MoodBoard(Arc<Mutex<BTreeMap<usize, Moods>>>);

impl MoodBoard {
    /// An agent is like this from now on.
    pub(crate) fn becomes(&self, person: usize, moods: Moods) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(person, moods);
    }

    fn of(&self, person: usize) -> Moods {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&person).copied().unwrap_or_default()
    }
}

/// Where the sink of an agent is, whichever of its devices listens.
fn sink_address(person: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, u8::try_from(person).unwrap_or(u8::MAX)], 9000))
}

/// An agent as it is registered.
pub(crate) fn registered(person: usize, user_id: UserId) -> Agent {
    let mut profile =
        AgentProfile::new(format!("Agent {person}"), format!("http://{}/", sink_address(person)));
    let turn_timeout_ms = u64::try_from(TURN_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
    profile.limits = AgentLimits { turn_timeout_ms, ..AgentLimits::default() };
    Agent {
        agent_id: AgentId::new(&format!("agent-{person}")).expect("a letter, a hyphen and digits"),
        user_id,
        revision: 1,
        profile,
        created_at: GENESIS,
        changed_at: GENESIS,
    }
}

/// A pod's way to sinks.
pub(crate) struct PodSinks {
    pub(crate) network: Network,
    pub(crate) place: Place,
    pub(crate) archive: Archive,
}

#[async_trait]
impl Sinks for PodSinks {
    async fn post(&self, sink: &str, event: &Event) -> Posted {
        let Ok(url) = Url::parse(sink) else { return Posted::Forbidden };
        let Some(address) = url.socket_addrs(|| None).ok().and_then(|it| it.first().copied()) else {
            return Posted::Forbidden;
        };
        let mut request = Request::new(Method::POST, url);
        *request.body_mut() = Some(event.data.clone().into());
        let exchange = async {
            let stream = self.network.connect(self.place, address).await?;
            ask(stream, request).await
        };
        match timeout(POST_PATIENCE, exchange).await {
            Ok(Ok((status, _))) if status.is_success() => Posted::Taken,
            Ok(Ok((status, _))) if status.is_client_error() => Posted::Refused { status: status.as_u16() },
            Ok(_) | Err(_) => Posted::SILENT,
        }
    }

    async fn announce(&self, _: &Event) -> Posted {
        Posted::Taken
    }

    async fn publish(&self, event: &Event) -> Posted {
        timeout(POST_PATIENCE, self.archive.take(self.place, event)).await.unwrap_or(Posted::SILENT)
    }
}

/// What one device of an agent needs to be its sink.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) network: Network,
    pub(crate) place: Place,
    pub(crate) person: usize,
    pub(crate) moods: MoodBoard,
    pub(crate) forgeries: Forgeries,
    pub(crate) client: Client,
    /// A turn was taken.
    pub(crate) taken: Arc<Notify>,
    /// Turns that are forgotten until they come again.
    pub(crate) forgotten: Arc<Mutex<BTreeSet<MessageId>>>,
    pub(crate) rng: Arc<Mutex<StdRng>>,
}

impl Sink {
    /// Listens for as long as it is polled, unless another device of the agent does.
    pub(crate) async fn serve(self) {
        loop {
            if let Ok(listener) = self.network.listen(self.place, sink_address(self.person)) {
                self.accept(listener).await;
            }
            sleep(LISTEN_AGAIN).await;
        }
    }

    async fn accept(&self, listener: Listener) {
        // They end with the listener.
        let mut connections = JoinSet::new();
        loop {
            let stream = listener.accept().await;
            connections.spawn(self.clone().connection(stream));
            while connections.try_join_next().is_some() {}
        }
    }

    async fn connection(self, stream: Stream) {
        let service = service_fn(|request: hyper::Request<Incoming>| async {
            let body = request.into_body().collect().await?.to_bytes();
            let status = self.take(&body).await;
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = status;
            Ok::<_, hyper::Error>(response)
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn take(&self, body: &[u8]) -> StatusCode {
        let moods = self.moods.of(self.person);
        if self.strikes(moods.fails) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        if self.strikes(moods.refuses) {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        if self.strikes(moods.hangs) {
            sleep(HANG).await;
        }
        let Ok(message) = serde_json::from_slice::<AgentMessage>(body) else {
            return StatusCode::BAD_REQUEST;
        };
        let turn_id = message.turn_id;
        if is_among(turn_id, moods.loathes) {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        if self.client.take_turn(turn_id, message.conversation_id).await.is_err() {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        if self.strikes(FORGED)
            && let Ok(Some(agent)) = self.client.user_id()
        {
            self.forgeries.tempt(Target { turn_id, agent, asker: message.sender_id });
        }
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        if self.strikes(moods.forgets) {
            forgotten.insert(turn_id);
        } else {
            forgotten.remove(&turn_id);
        }
        drop(forgotten);
        self.taken.notify_one();
        if self.strikes(moods.denies) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::ACCEPTED }
    }

    fn strikes(&self, share: f64) -> bool {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).random_bool(share)
    }
}

/// Is a message among those of this share of all? The end of its id is random.
pub(crate) fn is_among(message_id: MessageId, share: f64) -> bool {
    let (_, random) = message_id.0.as_u64_pair();
    ((random << 2) as f64) < share * u64::MAX as f64
}

/// What a device of an agent is about to answer.
pub(crate) struct Desk {
    sink: Sink,
    /// Ends with the device's life.
    _serving: JoinSet<()>,
    due: BTreeMap<MessageId, Due>,
}

/// A turn that is thought about.
struct Due {
    /// When it is to be answered ...
    at: Instant,
    /// ... and how often.
    times: u32,
    /// What is shown meanwhile.
    shown: Option<AnswerStream>,
    /// Words of it that are shown.
    words: usize,
}

/// What is shown of an answer while it is thought about.
pub(crate) fn draft_of(turn_id: MessageId) -> String {
    format!("{NEEDLE} is thinking about {turn_id} and has not come to an end")
}

impl Desk {
    /// Begins to listen.
    pub(crate) fn open(sink: Sink) -> Self {
        let mut serving = JoinSet::new();
        serving.spawn(sink.clone().serve());
        Self { sink, _serving: serving, due: BTreeMap::new() }
    }

    /// The next time that something is to be answered.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.values().map(|due| due.at).min()
    }

    /// Waits until a turn is taken.
    pub(crate) fn taken(&self) -> Arc<Notify> {
        Arc::clone(&self.sink.taken)
    }

    /// Looks what is to be answered, and when.
    pub(crate) async fn look(&mut self) {
        let turns = self.sink.client.due_turns().await.unwrap_or_default();
        let open: BTreeSet<MessageId> = turns.iter().map(|turn: &Turn| turn.turn_id).collect();
        self.due.retain(|turn, _| open.contains(turn));
        let moods = self.sink.moods.of(self.sink.person);
        let forgotten = self.sink.forgotten.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for turn in turns.iter().filter(|turn| !forgotten.contains(&turn.turn_id)) {
            if let Some(due) = self.due.get_mut(&turn.turn_id) {
                due.think(turn.turn_id);
                continue;
            }
            let longest = if self.sink.strikes(moods.late) { LATE } else { THINKS };
            let times = if self.sink.strikes(moods.doubled) { 2 } else { 1 };
            let thinks =
                longest.mul_f64(self.sink.rng.lock().unwrap_or_else(PoisonError::into_inner).random());
            let shown = match self.sink.strikes(SHOWN) {
                true => self.sink.client.show_answer(turn.turn_id).await.ok(),
                false => None,
            };
            let mut due = Due { at: Instant::now() + thinks, times, shown, words: 0 };
            due.think(turn.turn_id);
            self.due.insert(turn.turn_id, due);
        }
    }

    /// The turns whose time has come, each as often as it is to be answered.
    pub(crate) fn take_due(&mut self) -> Vec<MessageId> {
        let now = Instant::now();
        let due: Vec<(MessageId, u32)> =
            self.due.iter().filter(|(_, due)| due.at <= now).map(|(turn, due)| (*turn, due.times)).collect();
        let mut turns = Vec::new();
        for (turn, times) in due {
            self.due.remove(&turn);
            turns.extend((0..times).map(|_| turn));
        }
        turns
    }
}

impl Due {
    /// Shows one word more.
    fn think(&mut self, turn_id: MessageId) {
        let draft = draft_of(turn_id);
        if let (Some(shown), Some(word)) = (&self.shown, draft.split_inclusive(' ').nth(self.words)) {
            shown.append(word);
            self.words += 1;
        }
    }
}

/// The randomness of one device's sink.
pub(crate) fn rng_of(rng: &mut StdRng) -> Arc<Mutex<StdRng>> {
    Arc::new(Mutex::new(StdRng::from_rng(rng)))
}
