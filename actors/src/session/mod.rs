//! The session actor: one WebSocket connection of one device.
//!
//! | file | noun |
//! |---|---|
//! | `line` | what passes between the actor and the task that owns the socket |
//! | `opening` | from `auth` to `auth_success`, and what the device has missed |
//! | `frames` | what an authenticated client may ask |
//! | `deliver` | messages, live and from the log, on their way to the device |
//! | `delivery` | where the device stands in each conversation (pure) |
//! | `counting` | which of its own numbers have an answer (pure) |
//! | `patience` | how many refused frames are borne (pure) |
//! | `murmurs` | how often anything that is for now or never is passed on (pure) |
//! | `typing` | how often typing is passed on (pure) |
//! | `drain` | where clients go when the node goes away |
//! | `handle` | how the rest of the node reaches a session |
//! | `live` | the sessions that are open on this node |
//! | `resync` | looking for what was lost on its way here |
//! | `reach` | the sessions of users, wherever they are connected |
//! | `supervisor` | the parent of all sessions |
//!
//! All states of a connection stand in [`Phase`]. A session holds no truth: whatever it is when it ends, by whatever
//! end, its client reconnects and resumes from its cursors (NOLOSS).

mod counting;
mod deliver;
mod delivery;
mod drain;
mod frames;
mod handle;
mod line;
mod live;
mod murmurs;
mod opening;
mod patience;
mod reach;
mod resync;
mod supervisor;
mod typing;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use colloquy_accounts::access_token::TokenIssuer;
use colloquy_accounts::authenticate::Authenticator;
use colloquy_protocol::close::CloseCode;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, RefusedFrame};
use colloquy_protocol::frame::server::{ErrorPayload, Migration, ServerFrame};
use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{Accounts, Agents, Conversations, Cursors, KeyDirectory, MessageLog};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::time::Instant;

use crate::cluster::Registrar;
use crate::conversation::{Answer, Doorway};
use crate::metrics::Metrics;
use crate::presence::{TrackerMessage, Trackers};
use crate::supervision::{ActorKind, Address, ExitReason, Letter, Mailbox, befall};

pub use counting::Counting;
pub use delivery::{Delivery, Live, Run};
pub use drain::Drain;
pub use handle::{Closing, SessionHandle};
pub use line::{Credit, Credits, Line, OUTBOUND_MAX_FRAMES, Outlet, SocketEnd};
pub use live::LiveSessions;
pub use patience::Patience;
pub use reach::Reach;
pub use supervisor::{Nothing, SessionSupervisor, SessionSupervisorArguments};

use delivery::Run as LogRun;
use murmurs::MurmurThrottle;
use typing::TypingThrottle;

/// Letters that may wait at one session. One more and the session is closed as a slow consumer.
const MAILBOX_CAPACITY: usize = 1024;
/// Message ids a session remembers the place of, so that an ack by id needs no look-up.
const RECENT_IDS_MAX: usize = 256;
/// Wait this long, the client is told, before it sends a message again that met a full queue or a dead actor.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What sessions use.
#[derive(Clone)]
pub struct SessionServices {
    /// Who is asking.
    pub authenticator: Authenticator,
    /// Tokens for a client that has to move.
    pub issuer: Arc<TokenIssuer>,
    /// Who else is connected here.
    pub sessions: LiveSessions,
    /// The way to conversations.
    pub doorway: Doorway,
    /// The presence trackers.
    pub trackers: Trackers,
    /// Who talks with whom.
    pub directory: Arc<dyn Conversations>,
    /// What was said.
    pub log: Arc<dyn MessageLog>,
    /// Where everybody stands.
    pub cursors: Arc<dyn Cursors>,
    /// Devices.
    pub keys: Arc<dyn KeyDirectory>,
    /// Users.
    pub accounts: Arc<dyn Accounts>,
    /// Which of them are agents.
    pub agents: Arc<dyn Agents>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Clock,
    /// Session ids.
    pub entropy: Entropy,
    /// Where a new session finds its parent.
    pub supervisor: Address<Nothing>,
    /// How often a client is told to send `heartbeat`.
    pub heartbeat_interval: Duration,
    /// Whether clients are to go elsewhere.
    pub drain: Drain,
    /// Lets other pods know who is connected here.
    pub registrar: Option<Registrar>,
}

/// What a session is told.
#[derive(Debug)]
pub enum SessionMessage {
    /// The socket brought a frame.
    Received(Result<ClientFrame, RefusedFrame>, Credit),
    /// The handshake carried a token.
    Preauthenticated(Preauthentication),
    /// The socket is gone.
    SocketEnded,
    /// Go on reading from the log: there is room, or it is our turn again.
    Continue,
    /// Messages were stored in a conversation, in order.
    Delivered(Arc<[Arc<Message>]>),
    /// A conversation has a new owner, and its log reaches up to here: an earlier owner may have died between the
    /// store's answer and telling anybody.
    LogReaches(ConversationId, u64),
    /// Messages of this session have their answers.
    Answered(Vec<(u64, Answer)>),
    /// An actor died with a message of this session.
    Lost(u64),
    /// A text to pass on as it is.
    Push(Arc<str>),
    /// A text that may be lost: passed on if the socket has room.
    Whisper(Arc<str>),
    /// Somebody watched came or went; of several notices of one user the newest counts.
    Presence(UserId, Arc<str>),
    /// A presence tracker starts over; announce yourself to it.
    Announce(usize),
    /// The node is going away: see [`Drain`].
    Migrate,
    /// Something may have been lost on its way here: look for what was missed, and whether the log-in still stands.
    Resync,
    /// As [`Self::Resync`], after the store did not answer.
    ResyncAgain,
}

/// A token that came with the handshake instead of an `auth` frame.
#[derive(Clone)]
pub struct Preauthentication {
    /// The access token.
    pub token: String,
    /// The device.
    pub device_id: DeviceId,
}

impl std::fmt::Debug for Preauthentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Preauthentication(..)")
    }
}

/// The actor.
pub struct SessionActor;

/// What a session is started with.
pub struct SessionArguments {
    services: Arc<SessionServices>,
    outlet: Outlet,
}

/// Its state.
pub struct SessionState {
    services: Arc<SessionServices>,
    outlet: Outlet,
    patience: Patience,
    phase: Phase,
}

/// Every state of a connection.
enum Phase {
    /// Nobody knows yet who this is.
    Opening,
    /// Authenticated.
    Open(Box<OpenSession>),
}

/// An authenticated session.
struct OpenSession {
    attendance: Attendance,
    delivery: Delivery,
    /// A `Continue` is on its way to ourselves.
    continuing: bool,
    retransmits: VecDeque<LogRun>,
    counting: Counting,
    pending: HashMap<u64, PendingSend>,
    next_token: u64,
    recent: VecDeque<(MessageId, ConversationId, u64)>,
    typing: TypingThrottle,
    murmurs: MurmurThrottle,
    /// Is the user an agent? Looked up when it matters first.
    is_agent: Option<bool>,
    /// Presence that the socket has no room for yet; bounded by what the session watches.
    notices: BTreeMap<UserId, Arc<str>>,
    /// A `ResyncAgain` is on its way to ourselves, because the store did not answer the last one.
    resyncing: bool,
}

/// A message of this session that has no answer yet.
struct PendingSend {
    client_message_id: String,
    conversation_id: ConversationId,
    client_sequence: Option<u64>,
    _credit: Credit,
}

/// Being found by others. Dropped, however the session ends, it takes the session out everywhere.
struct Attendance {
    handle: Arc<SessionHandle>,
    services: Arc<SessionServices>,
    watched: BTreeSet<UserId>,
}

impl Attendance {
    fn begin(handle: Arc<SessionHandle>, services: &Arc<SessionServices>) -> Self {
        services.sessions.enter(Arc::clone(&handle));
        let attendance = Self { handle, services: Arc::clone(services), watched: BTreeSet::new() };
        attendance.join();
        attendance
    }

    /// Returns when other pods can find the session, or that cannot be known.
    async fn is_known_elsewhere(&self) {
        if let Some(registrar) = &self.services.registrar {
            registrar.enter(&self.handle).await;
        }
    }

    fn join(&self) {
        let join = TrackerMessage::Join(Arc::clone(&self.handle));
        self.services.trackers.announce(self.handle.user_id, join);
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let SessionServices { sessions, doorway, trackers, registrar, .. } = &*self.services;
        let (user_id, session_id) = (self.handle.user_id, self.handle.session_id);
        self.handle.ended.store(true, Ordering::SeqCst);
        sessions.leave(&self.handle);
        if let Some(registrar) = registrar {
            registrar.leave(&self.handle);
        }
        doorway.session_ended(session_id);
        trackers.announce(user_id, TrackerMessage::Leave(user_id, session_id));
        for (share, users) in trackers.by_share(self.watched.iter().copied()).into_iter().enumerate() {
            if !users.is_empty() {
                trackers.announce_to_share(share, TrackerMessage::Unwatch(session_id, users));
            }
        }
    }
}

/// Why a session could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sessions' parent is being restarted, or the node is stopping.
    #[error("no session can be started now")]
    NoSupervisor,
    /// The actor did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnErr),
}

/// Starts the session of a socket that has just been upgraded.
///
/// # Errors
/// [`StartError`]; the socket is then closed with [`CloseCode::Internal`].
pub async fn start(
    services: Arc<SessionServices>,
    preauthentication: Option<Preauthentication>,
) -> Result<SocketEnd, StartError> {
    let supervisor = services.supervisor.mailbox().ok_or(StartError::NoSupervisor)?;
    let (outlet, outbound, line) = line::lay();
    let metrics = Arc::clone(&services.metrics);
    let arguments = SessionArguments { services, outlet };
    let (actor, _) = Actor::spawn_linked(None, SessionActor, arguments, supervisor.cell()).await?;
    let mailbox = Mailbox::new(actor, metrics.depth_of(ActorKind::Session), MAILBOX_CAPACITY);
    if let Some(preauthentication) = preauthentication {
        let _ = mailbox.cast_beyond_capacity(SessionMessage::Preauthenticated(preauthentication));
    }
    Ok(SocketEnd::new(mailbox, outbound, line))
}

// ractor boxes one future per actor, as large as its largest handler. What is rare is boxed by itself, so that an idle
// session does not keep room for it.
impl Actor for SessionActor {
    type Msg = Letter<SessionMessage>;
    type State = SessionState;
    type Arguments = SessionArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: SessionArguments,
    ) -> Result<SessionState, ActorProcessingErr> {
        let SessionArguments { services, outlet } = arguments;
        Ok(SessionState { services, outlet, patience: Patience::new(Instant::now()), phase: Phase::Opening })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.metrics, ActorKind::Session).await;
        let (message, _handling) = letter.open();
        match message {
            SessionMessage::Received(frame, credit) => {
                if let Some(later) = state.at_once(frame, credit) {
                    Box::pin(state.later(&myself, later)).await;
                }
            }
            SessionMessage::Preauthenticated(preauthentication) => {
                Box::pin(state.preauthenticated(&myself, preauthentication)).await;
            }
            SessionMessage::SocketEnded => myself.stop(ExitReason::Done.as_stop_reason()),
            SessionMessage::Continue => {
                if let Phase::Open(open) = &mut state.phase {
                    open.continuing = false;
                }
                Box::pin(state.read_on(&myself)).await;
            }
            SessionMessage::Delivered(messages) => state.delivered(&myself, &messages),
            SessionMessage::LogReaches(conversation_id, end) => {
                if let Phase::Open(open) = &mut state.phase {
                    open.delivery.catch_up(conversation_id, end);
                }
                state.keep_reading(&myself);
            }
            SessionMessage::Answered(answers) => state.answered(answers),
            SessionMessage::Lost(token) => {
                state.answered(vec![(token, Answer::Refused(ErrorCode::Unavailable))]);
            }
            SessionMessage::Push(text) => {
                state.services.metrics.frames_sent.inc();
                state.outlet.control(String::from(&*text));
            }
            SessionMessage::Whisper(text) => {
                if state.outlet.message(|| String::from(&*text)) {
                    state.services.metrics.frames_sent.inc();
                }
            }
            SessionMessage::Presence(user_id, text) => {
                if let Phase::Open(open) = &mut state.phase {
                    open.notices.insert(user_id, text);
                }
                state.tell_notices();
            }
            SessionMessage::Announce(share) => state.announce(share),
            SessionMessage::Resync => {
                if let Phase::Open(open) = &state.phase {
                    open.attendance.handle.resyncing();
                }
                Box::pin(state.resync(&myself)).await;
            }
            SessionMessage::ResyncAgain => Box::pin(state.resync_again(&myself)).await,
            SessionMessage::Migrate => {
                if let Some((new_endpoint, reconnect_after)) = state.services.drain.slot() {
                    state.migrate(&new_endpoint, reconnect_after);
                }
            }
        }
        Ok(())
    }
}

impl SessionState {
    fn announce(&mut self, share: usize) {
        let Phase::Open(open) = &self.phase else { return };
        let (attendance, trackers) = (&open.attendance, &self.services.trackers);
        let mut shares = trackers.by_share(attendance.watched.iter().copied());
        let watched = std::mem::take(&mut shares[share]);
        if !watched.is_empty() {
            let watch = TrackerMessage::Watch(Arc::clone(&attendance.handle), watched);
            // One that has just started has room for all of them.
            let _ = trackers.tell_share(share, watch);
        }
    }

    /// Tells of who has come and gone, as far as the socket has room.
    fn tell_notices(&mut self) {
        let Phase::Open(open) = &mut self.phase else { return };
        while let Some(notice) = open.notices.first_entry() {
            if !self.outlet.message(|| String::from(&**notice.get())) {
                return;
            }
            self.services.metrics.frames_sent.inc();
            notice.remove();
        }
    }

    fn migrate(&mut self, new_endpoint: &str, reconnect_after: Duration) {
        let Phase::Open(open) = &self.phase else {
            return self.outlet.line().closing().request(CloseCode::Draining);
        };
        let handle = &open.attendance.handle;
        let now = self.services.clock.now();
        let Ok(token) = self.services.issuer.issue(handle.user_id, handle.login_id, now) else {
            return self.outlet.line().closing().request(CloseCode::Draining);
        };
        self.send(&ServerFrame::Migration {
            payload: Migration {
                new_endpoint: new_endpoint.to_owned(),
                session_token: token.token,
                reconnect_after_ms: millis(reconnect_after),
            },
        });
    }

    fn send(&self, frame: &ServerFrame) {
        self.services.metrics.frames_sent.inc();
        self.outlet.control(frame.to_json());
    }

    /// Answers a refused frame. After too many the socket is closed as well.
    fn refuse(&mut self, refused: RefusedFrame) {
        self.services.metrics.frames_refused.inc();
        self.send(&error_frame(refused.code, refused.detail, refused.client_message_id));
        if self.patience.exhausted_by_refusal(Instant::now()) {
            self.outlet.line().closing().request(CloseCode::PolicyViolation);
        }
    }
}

fn refusal(code: ErrorCode, detail: &str) -> RefusedFrame {
    RefusedFrame { code, detail: detail.to_owned(), client_message_id: None, place: None }
}

fn error_frame(code: ErrorCode, message: String, client_message_id: Option<String>) -> ServerFrame {
    let retry_after_ms = code.is_retryable().then(|| millis(RETRY_AFTER));
    ServerFrame::Error {
        client_message_id,
        payload: ErrorPayload { code, message, retryable: code.is_retryable(), retry_after_ms },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
