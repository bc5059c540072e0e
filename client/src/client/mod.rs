//! The handle a program holds: one profile, its log-in, its conversations. Clones share it.
//!
//! Whatever a method promises is on disk before it returns; what needs the server happens as soon as there is a
//! connection, now or after the next start.
//!
//! | file | what a program does |
//! |---|---|
//! | `log_in` | registers, logs in and out |
//! | `composing` | writes, reads, types, watches |
//! | `deciding` | approves or denies what agents ask to be allowed |
//! | `reading` | looks at conversations, history, users and safety numbers |
//! | [`routing`] | finds the agent that a text goes to |
//! | [`turns`] | answers as an agent |

mod composing;
mod deciding;
mod log_in;
mod reading;
pub(crate) mod routing;
pub(crate) mod turns;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use colloquy_protocol::ids::{ConversationId, DeviceAddress, DeviceId, UserId};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use self::routing::KnownIntents;
use crate::api::{Api, ApiError};
use crate::connection::credentials::{CredentialError, Credentials};
use crate::connection::engine::{COMMANDS_MAX, Command, Engine, Shared};
use crate::connection::errand::with_token;
use crate::crypto::plaintext::TEXT_MAX_BYTES;
use crate::event::{EVENTS_MAX, Events};
use crate::profile::ProfileOptions;
use crate::store::{OutboxState, Store, StoreError};
use crate::surroundings::Surroundings;
use crate::sync::BackoffPolicy;

/// How long [`Client::shutdown`] waits for the connection to be closed properly.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a client method failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The store failed, or refused: see [`StoreError::WrongKey`], [`StoreError::InUse`], [`StoreError::OutboxFull`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server failed, or refused: see [`ApiError::code`].
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Nobody is logged in.
    #[error("not logged in")]
    LoggedOut,
    /// The profile is another user's; use another folder.
    #[error("this profile belongs to another user")]
    OtherUser,
    /// The profile was made with another server; use another folder.
    #[error("this profile belongs to another server")]
    OtherServer,
    /// The text is empty, or longer than [`TEXT_MAX_BYTES`].
    #[error("a text has 1 to {TEXT_MAX_BYTES} bytes")]
    BadText,
    /// A message to oneself.
    #[error("nobody to send this to")]
    NoRecipient,
    /// This device does not know the conversation.
    #[error("no such conversation")]
    UnknownConversation,
    /// The turn was not taken on, or its message is not here.
    #[error("no such turn")]
    UnknownTurn,
    /// An answer asks for what nobody could decide on: see [`turns::WantedApproval`].
    #[error("not an action with arguments and a time to decide on it")]
    BadApproval,
    /// Nobody has asked this user to approve that.
    #[error("no such request")]
    UnknownRequest,
    /// It is too late to decide.
    #[error("the request has expired")]
    RequestExpired,
    /// It was decided before, on this device or another.
    #[error("the request is decided already")]
    RequestDecided,
    /// No such message waits in the outbox.
    #[error("no such message in the outbox")]
    UnknownMessage,
}

impl From<CredentialError> for ClientError {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::LoggedOut => Self::LoggedOut,
            CredentialError::Api(error) => Self::Api(error),
            CredentialError::Store(error) => Self::Store(error),
        }
    }
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// A user; the conversation is the pair's.
    User(UserId),
    /// A conversation this device knows.
    Conversation(ConversationId),
}

impl From<UserId> for Recipient {
    fn from(user: UserId) -> Self {
        Self::User(user)
    }
}

impl From<ConversationId> for Recipient {
    fn from(conversation: ConversationId) -> Self {
        Self::Conversation(conversation)
    }
}

/// One profile. Must be used inside a tokio runtime.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    server_url: String,
    wanted_device_id: Option<DeviceId>,
    engine: Mutex<Option<Running>>,
    /// What agents answer, for a while.
    intents: Mutex<Option<KnownIntents>>,
}

#[derive(Debug)]
struct Running {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Everything it holds is in the store: stopping it anywhere loses nothing.
        self.task.abort();
    }
}

impl Client {
    /// Opens a profile. Talks to nobody.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`], [`StoreError::InUse`] and others by name; [`ApiError::BadUrl`];
    /// [`ClientError::OtherServer`].
    pub async fn open(options: ProfileOptions) -> Result<Self, ClientError> {
        Self::open_with(options, BackoffPolicy::default(), Surroundings::of_this_machine()?).await
    }

    /// As [`Client::open`], with other waits between connections, and elsewhere than on this machine.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub async fn open_with(
        options: ProfileOptions,
        backoff: BackoffPolicy,
        surroundings: Surroundings,
    ) -> Result<Self, ClientError> {
        let Surroundings { network, clock, workers } = surroundings;
        let api = Api::new(&options.server_url, network)?;
        let server_url = api.base().to_string();
        let (folder, unlock) = (options.folder, options.unlock);
        let opening = workers.run(move || Store::open(&folder, &unlock, workers));
        let store = opening.await.map_err(|_| StoreError::Interrupted)??;
        let (profile, outbox) = store.read(|tx| Ok::<_, StoreError>((tx.profile()?, tx.outbox_all()?)))?;
        if profile.is_some_and(|profile| profile.server_url != server_url) {
            return Err(ClientError::OtherServer);
        }
        let waiting = outbox.iter().filter(|r| !matches!(r.state, OutboxState::Failed(_)));
        let waiting = waiting.map(|record| record.local_id).collect();
        let shared = Shared {
            credentials: Arc::new(Credentials::new(store.clone(), api.clone(), clock.clone())),
            store,
            api,
            events: broadcast::channel(EVENTS_MAX).0,
            unsent: watch::channel(waiting).0,
            is_connected: Arc::new(AtomicBool::new(false)),
            platform: options.platform,
            clock,
            backoff,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                shared: Arc::new(shared),
                server_url,
                wanted_device_id: options.device_id,
                engine: Mutex::new(None),
                intents: Mutex::new(None),
            }),
        })
    }

    /// Starts the connection, if it is not running, and keeps it up until [`Client::shutdown`], a log-out, or a
    /// close code that says to stay away. The stream tells what happens from here on.
    ///
    /// # Errors
    /// [`ClientError::LoggedOut`].
    pub fn connect(&self) -> Result<Events, ClientError> {
        let own = self.own()?;
        if self.shared().store.read(|tx| tx.log_in())?.is_none() {
            return Err(ClientError::LoggedOut);
        }
        let events = self.events();
        let mut engine = self.inner.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if engine.as_ref().is_none_or(|running| running.task.is_finished()) {
            let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
            let task = tokio::spawn(Engine::new(self.inner.shared.clone(), own, receiver).run());
            *engine = Some(Running { commands, task });
        }
        Ok(events)
    }

    /// Another stream of the same events.
    #[must_use]
    pub fn events(&self) -> Events {
        let shared = self.shared();
        Events::new(shared.events.subscribe(), Arc::clone(&shared.is_connected))
    }

    /// This device loses its power: what its store has not synced is gone. It must be dropped next. Returns how
    /// many updates are gone.
    ///
    /// # Errors
    /// [`ClientError::Store`], if the store fails.
    #[cfg(feature = "mutations")]
    pub fn lose_unsynced(&self) -> Result<usize, ClientError> {
        Ok(self.shared().store.lose_unsynced()?)
    }

    /// Has everything been sent, or failed?
    #[must_use]
    pub fn outbox_is_empty(&self) -> bool {
        self.shared().unsent.borrow().is_empty()
    }

    /// Waits until everything has been sent, or failed. Waits for ever without a connection.
    pub async fn wait_until_sent(&self) {
        let mut unsent = self.shared().unsent.subscribe();
        // The sender lives as long as this client: waiting cannot fail.
        let _ = unsent.wait_for(BTreeSet::is_empty).await;
    }

    /// The user of this profile; nothing before the first log-in.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn user_id(&self) -> Result<Option<UserId>, ClientError> {
        Ok(self.shared().store.read(|tx| tx.profile())?.map(|profile| profile.user_id))
    }

    /// This device; nothing before the first log-in.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn device_id(&self) -> Result<Option<DeviceId>, ClientError> {
        Ok(self.shared().store.read(|tx| tx.profile())?.map(|profile| profile.device_id))
    }

    /// Is there a log-in?
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn is_logged_in(&self) -> Result<bool, ClientError> {
        Ok(self.shared().store.read(|tx| tx.log_in())?.is_some())
    }

    /// Closes the connection. What waits in the outbox is sent after the next start.
    pub async fn shutdown(&self) {
        self.stop().await;
    }

    async fn stop(&self) {
        let running = self.inner.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut running) = running {
            let _ = running.commands.send(Command::Shutdown).await;
            let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, &mut running.task).await;
        }
    }

    async fn tell(&self, command: Command) {
        let commands = {
            let engine = self.inner.engine.lock().unwrap_or_else(PoisonError::into_inner);
            engine.as_ref().map(|running| running.commands.clone())
        };
        if let Some(commands) = commands {
            // An engine that has stopped finds everything that matters in the store when it starts again.
            let _ = commands.send(command).await;
        }
    }

    async fn call<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        call: impl Fn(Api, String) -> F,
    ) -> Result<T, CredentialError> {
        let shared = self.shared();
        with_token(&shared.credentials, |token| call(shared.api.clone(), token)).await
    }

    fn own(&self) -> Result<DeviceAddress, ClientError> {
        let profile = self.shared().store.read(|tx| tx.profile())?.ok_or(ClientError::LoggedOut)?;
        Ok(DeviceAddress { user_id: profile.user_id, device_id: profile.device_id })
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    fn api(&self) -> &Api {
        &self.inner.shared.api
    }
}
