//! The task: connects, waits, connects again, until it is told to stop or the server says to stay away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::frame::TypingState;
use colloquy_protocol::frame::client::ResumeCursor;
use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::frame::server::{MessageAck, Migration};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, UserId};
use colloquy_protocol::limits::{PRESENCE_SUBSCRIPTIONS_MAX, RESUME_CURSORS_MAX};
use colloquy_protocol::rest::devices::DeviceList;
use reqwest::Url;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use super::credentials::{CredentialError, Credentials};
use super::dispatch;
use super::errand::Errands;
use super::ingest::{Arrival, MarkMove};
use super::registration::register_device;
use super::resync::Resync;
use super::sending::Rounds;
use super::socket::Socket;
use super::streaming::{Streams, Writing};
use super::upkeep::Publishing;
use crate::ambient::{self, Clock};
use crate::api::{Api, socket_url_of};
use crate::event::{DisconnectReason, Event};
use crate::store::{LocalMessageId, OutboxState, SendFailure, Store, StoreError};
use crate::sync::{Backoff, BackoffPolicy, Inbound, Outbound, Reconnect, outbound};

/// Commands that may wait for the engine. Whoever gives one more waits for room.
pub(crate) const COMMANDS_MAX: usize = 256;

/// What the engine shares with the client's handle.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) api: Api,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) events: broadcast::Sender<Event>,
    /// Messages in the outbox that have not failed. A name may be put in again, and taken out when it is not there:
    /// the handle and the engine learn of a message in either order.
    pub(crate) unsent: watch::Sender<BTreeSet<LocalMessageId>>,
    /// Is there a connection? Then what is known of other devices is as new as can be.
    pub(crate) is_connected: Arc<AtomicBool>,
    pub(crate) platform: String,
    pub(crate) clock: Clock,
    pub(crate) backoff: BackoffPolicy,
}

impl Shared {
    /// A message is in the outbox, or about to be.
    pub(crate) fn note_unsent(&self, id: LocalMessageId) {
        self.unsent.send_if_modified(|unsent| unsent.insert(id));
    }

    /// A message has been sent, has failed, or was never written.
    pub(crate) fn note_settled(&self, id: LocalMessageId) {
        self.unsent.send_if_modified(|unsent| unsent.remove(&id));
    }

    /// A device list has come: notes it, and tells what has changed.
    pub(crate) async fn learn_devices(&self, list: DeviceList) -> Result<(), StoreError> {
        let now = self.clock.now();
        let changes = self.store.update_off_thread(move |tx| dispatch::learn_devices(tx, &list, now)).await?;
        changes.into_iter().for_each(|change| self.tell(Event::IdentityChanged(change)));
        Ok(())
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody listening is no fault: everything told is in the store.
        let _ = self.events.send(event);
    }
}

/// What the client's handle asks of the engine. What must survive a crash is in the store before it is asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// A message is in the outbox, encrypted or not.
    Enqueued(LocalMessageId, ConversationId, bool),
    MarkRead(ConversationId),
    Typing(ConversationId, TypingState),
    /// An answer is being written.
    ShowAnswer(Box<Writing>),
    /// Whoever is answering this is to stop.
    CancelTurn(TurnPlace),
    Watch(Vec<UserId>),
    Unwatch(Vec<UserId>),
    Shutdown,
}

/// How one connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    Closed(Option<u16>),
    Unreachable,
    Unresponsive,
    Migrating(Migration),
    Credentials(CredentialError),
    Store(StoreError),
    Shutdown,
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The engine's state. What is in `ready` has its number, and waits to be stored.
pub(crate) struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) own: DeviceAddress,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) inbound: Inbound<Arrival>,
    pub(super) outbound: Outbound,
    pub(super) ready: VecDeque<Arrival>,
    pub(super) acks: Vec<(LocalMessageId, MessageAck)>,
    pub(super) marks: Vec<MarkMove>,
    /// Turns that were given up, as far as that is not stored yet.
    pub(super) given_up: Vec<TurnPlace>,
    /// Messages the server did not store: for an outdated device list ...
    pub(super) stale: Vec<LocalMessageId>,
    /// ... or for good.
    pub(super) rejected: Vec<(LocalMessageId, SendFailure)>,
    pub(super) errands: Errands,
    /// Nothing is taken in before this user's device list has come, or this time.
    pub(super) blocked_on: Option<UserId>,
    pub(super) blocked_until: u64,
    pub(super) refetched: Option<UserId>,
    /// What was fetched for messages that could not be encrypted.
    pub(super) rounds: BTreeMap<LocalMessageId, Rounds>,
    /// How often the log was looked through for a message whose key was taken.
    pub(super) conflicts: BTreeMap<LocalMessageId, u32>,
    /// At most [`PRESENCE_SUBSCRIPTIONS_MAX`]; more are not watched.
    pub(super) watched: BTreeSet<UserId>,
    /// Answers that are being written, here or elsewhere.
    pub(super) streams: Streams,
    /// By the server's last count, less those that were seen to be used since.
    pub(super) one_time_keys_left: u64,
    /// Keys are being published, or are not to be before this time.
    pub(super) publishing: Publishing,
    /// Marks that may have moved unseen; nothing once they are known.
    pub(super) resync: Option<Resync>,
    backoff: Backoff,
    started: Instant,
}

impl Engine {
    pub(crate) fn new(shared: Arc<Shared>, own: DeviceAddress, commands: mpsc::Receiver<Command>) -> Self {
        Self {
            own,
            commands,
            inbound: Inbound::default(),
            outbound: Outbound::new(outbound::WINDOW),
            ready: VecDeque::new(),
            acks: Vec::new(),
            marks: Vec::new(),
            given_up: Vec::new(),
            stale: Vec::new(),
            rejected: Vec::new(),
            errands: Errands::new(shared.api.clone(), shared.credentials.clone()),
            blocked_on: None,
            blocked_until: 0,
            refetched: None,
            rounds: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            watched: BTreeSet::new(),
            streams: Streams::default(),
            one_time_keys_left: u64::MAX,
            publishing: Publishing::NotBefore(0),
            resync: None,
            backoff: Backoff::new(shared.backoff),
            started: Instant::now(),
            shared,
        }
    }

    /// Milliseconds since the engine was made, on a clock that does not go back.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Runs until told to stop, or until something has to be changed first.
    pub(crate) async fn run(mut self) {
        let mut migration = None;
        let mut spent_token = None;
        loop {
            let ended = match self.connect(migration.take(), &mut spent_token).await {
                Ok((socket, token)) => {
                    let ended = self.live(socket, token.clone()).await;
                    if matches!(ended, Ended::Closed(Some(code)) if code == CloseCode::TokenExpired.number())
                    {
                        spent_token = Some(token);
                    }
                    ended
                }
                Err(ended) => ended,
            };
            self.shared.is_connected.store(false, Ordering::Relaxed);
            self.outbound.connection_lost();
            let draw = ambient::below(u64::MAX);
            let (reason, wait) = match ended {
                Ended::Shutdown => return,
                Ended::Store(error) => {
                    tracing::error!(%error, "the client's store failed");
                    self.shared.tell(Event::StoreFailed);
                    return;
                }
                Ended::Credentials(CredentialError::LoggedOut) => {
                    self.shared.tell(Event::LoggedOut);
                    return;
                }
                Ended::Migrating(target) => {
                    let wait = self.backoff.migrated(target.reconnect_after_ms);
                    migration = Some(target);
                    (DisconnectReason::Migrating, Some(wait))
                }
                Ended::Closed(code) => {
                    let reason = code.map_or(DisconnectReason::Lost, DisconnectReason::Closed);
                    (reason, self.after(code, draw))
                }
                Ended::Unreachable => (DisconnectReason::Unreachable, self.after(None, draw)),
                Ended::Unresponsive => (DisconnectReason::Unresponsive, self.after(None, draw)),
                Ended::Credentials(_) => (DisconnectReason::NotAuthenticated, self.after(None, draw)),
            };
            self.shared.tell(Event::Disconnected { reason, retry_in: wait });
            let Some(wait) = wait else {
                if let DisconnectReason::Closed(4500..=4502) = reason {
                    let _ = self.shared.credentials.forget().await;
                    self.shared.tell(Event::LoggedOut);
                }
                return;
            };
            if !self.wait(wait).await {
                return;
            }
        }
    }

    fn after(&mut self, close: Option<u16>, draw: u64) -> Option<Duration> {
        let now = self.now();
        match self.backoff.lost(close, now, draw) {
            Reconnect::After(wait) | Reconnect::RefreshAfter(wait) => Some(wait),
            Reconnect::Never => None,
        }
    }

    pub(super) fn connected(&mut self) {
        let now = self.now();
        self.backoff.connected(now);
    }

    /// Opens a socket with a good token, at the place a migration named if there was one.
    async fn connect(
        &mut self,
        migration: Option<Migration>,
        spent_token: &mut Option<String>,
    ) -> Result<(Socket, String), Ended> {
        if self.shared.store.read(|tx| tx.profile())?.is_some_and(|profile| !profile.is_registered) {
            // The log-in was stored, and then something ended it.
            register_device(&self.shared, true).await.map_err(Ended::Credentials)?;
        }
        let home = self.shared.api.socket_url();
        let (url, token) = match migration {
            Some(target) => (migrated_url(&target.new_endpoint, home), Some(target.session_token)),
            None => (home, None),
        };
        let token = match (token, spent_token.take()) {
            (Some(token), _) => token,
            (None, Some(spent)) => {
                self.shared.credentials.refresh(&spent).await.map_err(Ended::Credentials)?.access_token
            }
            (None, None) => self.shared.credentials.current().await.map_err(Ended::Credentials)?.access_token,
        };
        let shared = Arc::clone(&self.shared);
        let connecting = Socket::connect(shared.api.network().as_ref(), &url);
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                socket = &mut connecting => return Ok((socket.ok_or(Ended::Unreachable)?, token)),
                command = self.commands.recv() => {
                    if !self.note(command) { return Err(Ended::Shutdown) }
                }
            }
        }
    }

    /// Waits, and notes what is asked for meanwhile. `false` when told to stop.
    async fn wait(&mut self, wait: Duration) -> bool {
        let sleep = tokio::time::sleep(wait);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return true,
                command = self.commands.recv() => {
                    if !self.note(command) { return false }
                }
            }
        }
    }

    /// Notes a command while there is no connection; `false` if it is to stop.
    fn note(&mut self, command: Option<Command>) -> bool {
        match command {
            None | Some(Command::Shutdown) => return false,
            Some(Command::Enqueued(id, conversation, is_sealed)) => {
                self.outbound.add(id, conversation, is_sealed);
            }
            Some(Command::Watch(users)) => watch_more(&mut self.watched, users),
            Some(Command::Unwatch(users)) => self.watched.retain(|user| !users.contains(user)),
            Some(Command::ShowAnswer(writing)) => self.streams.begin(*writing),
            // What was read is in the store and told on the next connection; the others are for now or never.
            Some(Command::MarkRead(_) | Command::Typing(..) | Command::CancelTurn(_)) => {}
        }
        true
    }

    /// Takes every position from the store, which alone knows what is really held, and what is to be sent.
    /// Returns the cursors to resume from, those of the liveliest conversations.
    pub(super) fn restore(&mut self) -> Result<Vec<ResumeCursor>, StoreError> {
        self.ready.clear();
        self.acks.clear();
        self.marks.clear();
        self.given_up.clear();
        self.stale.clear();
        self.rejected.clear();
        self.blocked_on = None;
        self.refetched = None;
        self.resync = None;
        let (mut conversations, outbox) =
            self.shared.store.read(|tx| Ok::<_, StoreError>((tx.conversations()?, tx.outbox_all()?)))?;
        #[cfg(feature = "mutations")]
        let outbox = self.shared.store.update(|tx| super::mutated::forget_keys(tx, outbox))?;
        for record in &outbox {
            if !matches!(record.state, OutboxState::Failed(_)) {
                let is_sealed = matches!(record.state, OutboxState::Sealed(_));
                self.outbound.add(record.local_id, record.conversation_id, is_sealed);
                self.shared.note_unsent(record.local_id);
            }
        }
        self.inbound = Inbound::resumed(conversations.iter().map(|c| (c.conversation_id, c.cursor)));
        conversations.sort_unstable_by_key(|conversation| std::cmp::Reverse(conversation.last_activity_at));
        Ok(conversations
            .iter()
            .take(RESUME_CURSORS_MAX)
            .map(|c| ResumeCursor { conversation_id: c.conversation_id, after_sequence: c.cursor })
            .collect())
    }
}

pub(super) fn watch_more(watched: &mut BTreeSet<UserId>, users: Vec<UserId>) {
    for user in users {
        if watched.len() < PRESENCE_SUBSCRIPTIONS_MAX {
            watched.insert(user);
        }
    }
}

/// Where a migration leads: a WebSocket address, or a base URL. Never from an encrypted connection to a plain one.
fn migrated_url(endpoint: &str, home: Url) -> Url {
    let target = match Url::parse(endpoint) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => socket_url_of(endpoint),
        Ok(url) if matches!(url.scheme(), "ws" | "wss") => Some(url),
        _ => None,
    };
    match target {
        Some(url) if home.scheme() == "ws" || url.scheme() == "wss" => url,
        _ => home,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_never_leads_to_an_unencrypted_connection() {
        let home = || Url::parse("wss://a.example/ws").unwrap();
        assert_eq!(migrated_url("https://b.example", home()).as_str(), "wss://b.example/ws");
        assert_eq!(migrated_url("wss://b.example/ws", home()).as_str(), "wss://b.example/ws");
        for bad in ["ws://b.example/ws", "http://b.example", "nonsense", ""] {
            assert_eq!(migrated_url(bad, home()), home(), "{bad}");
        }
    }
}
