//! The handle a program holds: one profile, its log-in, its conversations. Clones share it.
//!
//! Whatever a method promises is on disk before it returns; what needs the server happens as soon as there is a
//! connection, now or after the next start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use colloquy_protocol::frame::TypingState;
use colloquy_protocol::ids::{ConversationId, DeviceAddress, DeviceId, UserId};
use colloquy_protocol::rest::accounts::{LogIn, Register, Tokens, UserCard};
use colloquy_protocol::rest::devices::{PublishKeys, RegisterDevice};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use crate::ambient;
use crate::api::accounts::UserQuery;
use crate::api::{Api, ApiError};
use crate::connection::credentials::{CredentialError, Credentials};
use crate::connection::dispatch;
use crate::connection::engine::{COMMANDS_MAX, Command, Engine, Shared};
use crate::connection::errand::with_token;
use crate::crypto::plaintext::TEXT_MAX_BYTES;
use crate::crypto::safety_number::DeviceFingerprint;
use crate::crypto::{Body, DeviceAccount, SafetyNumber};
use crate::event::{EVENTS_MAX, Events};
use crate::message::{ConversationSummary, Message};
use crate::profile::{Identifier, ProfileOptions, Registration};
use crate::store::outbox::NewMessage;
use crate::store::{
    ConversationRecord, LocalMessageId, LogInRecord, OutboxState, ProfileRecord, Store, StoreError,
    Transaction,
};
use crate::sync::BackoffPolicy;

/// How long [`Client::shutdown`] waits for the connection to be closed properly.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Messages looked through for the newest one that can be shown.
const LAST_MESSAGE_SCAN_MAX: usize = 16;

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
        Self::open_with(options, BackoffPolicy::default()).await
    }

    /// As [`Client::open`], with other waits between connections.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub async fn open_with(options: ProfileOptions, backoff: BackoffPolicy) -> Result<Self, ClientError> {
        let api = Api::new(&options.server_url)?;
        let server_url = api.base().to_string();
        let (folder, unlock) = (options.folder, options.unlock);
        let store = tokio::task::spawn_blocking(move || Store::open(&folder, &unlock))
            .await
            .map_err(|_| StoreError::Interrupted)??;
        let (profile, outbox) = store.read(|tx| Ok::<_, StoreError>((tx.profile()?, tx.outbox_all()?)))?;
        if profile.is_some_and(|profile| profile.server_url != server_url) {
            return Err(ClientError::OtherServer);
        }
        let waiting = outbox.iter().filter(|r| !matches!(r.state, OutboxState::Failed(_))).count();
        let shared = Shared {
            credentials: Arc::new(Credentials::new(store.clone(), api.clone())),
            store,
            api,
            events: broadcast::channel(EVENTS_MAX).0,
            unsent: watch::channel(waiting).0,
            platform: options.platform,
            backoff,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                shared: Arc::new(shared),
                server_url,
                wanted_device_id: options.device_id,
                engine: Mutex::new(None),
            }),
        })
    }

    /// Makes an account, logs in and registers this device.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `phone_taken`, `email_taken` or `invalid_field`; [`ClientError::OtherUser`] if
    /// the profile is in use already.
    pub async fn register(&self, registration: Registration) -> Result<UserId, ClientError> {
        if self.user_id()?.is_some() {
            return Err(ClientError::OtherUser);
        }
        let Registration { phone, email, name, password } = registration;
        let tokens = self.api().register(&Register { phone, email, name, password }).await?;
        self.adopt(tokens).await
    }

    /// Logs in and registers this device. A profile that was used before keeps its device, keys and history.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `invalid_credentials`; [`ClientError::OtherUser`].
    pub async fn log_in(&self, identifier: Identifier, password: String) -> Result<UserId, ClientError> {
        let (phone, email) = match identifier {
            Identifier::Phone(phone) => (Some(phone), None),
            Identifier::Email(email) => (None, Some(email)),
        };
        let tokens = self.api().log_in(&LogIn { phone, email, password }).await?;
        self.adopt(tokens).await
    }

    async fn adopt(&self, tokens: Tokens) -> Result<UserId, ClientError> {
        let user_id = tokens.user_id;
        let (server_url, wanted) = (self.inner.server_url.clone(), self.inner.wanted_device_id.clone());
        let platform = self.shared().platform.clone();
        let (device, body, again) = self
            .shared()
            .store
            .update_off_thread(move |tx| prepare_device(tx, tokens, server_url, wanted, &platform))
            .await?;
        self.call(|api, token| {
            let (device, body) = (device.clone(), body.clone());
            async move { api.register_device(&token, &device, &body).await }
        })
        .await?;
        if let Some(keys) = again {
            // A server that knows the device has changed nothing: it must hear of the keys made since.
            self.call(|api, token| {
                let (device, keys) = (device.clone(), keys.clone());
                async move { api.publish_keys(&token, &device, &keys).await }
            })
            .await?;
        }
        self.shared()
            .store
            .update_off_thread(|tx| {
                if let Some(mut account) = tx.account()? {
                    account.mark_published();
                    tx.put_account(&account);
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(user_id)
    }

    /// Ends the log-in, here and at the server. Keys and history stay, for the next log-in of the same user.
    ///
    /// # Errors
    /// [`ClientError::Store`]. A server that cannot be reached is no error: the tokens run out by themselves.
    pub async fn log_out(&self) -> Result<(), ClientError> {
        self.stop().await;
        let told = self.call(|api, token| async move { api.log_out(&token).await }).await;
        if let Err(error) = told {
            tracing::debug!(%error, "the server was not told of the log-out");
        }
        Ok(self.shared().credentials.forget().await?)
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
        Events::new(self.shared().events.subscribe())
    }

    /// Puts a text into the outbox. It is on disk when this returns, and is sent as soon as it can be; the events
    /// [`crate::Event::MessageSent`] or [`crate::Event::MessageFailed`] name the id returned here.
    ///
    /// # Errors
    /// [`ClientError::BadText`], [`StoreError::OutboxFull`], [`ClientError::UnknownConversation`],
    /// [`ClientError::NoRecipient`], [`ClientError::LoggedOut`] before the first log-in.
    pub async fn send_text(
        &self,
        to: impl Into<Recipient>,
        text: impl Into<String>,
    ) -> Result<LocalMessageId, ClientError> {
        let (to, text) = (to.into(), text.into());
        if text.is_empty() || text.len() > TEXT_MAX_BYTES {
            return Err(ClientError::BadText);
        }
        let own = self.own()?.user_id;
        let now = ambient::now();
        let (id, conversation) = self
            .shared()
            .store
            .update_off_thread(move |tx| {
                let mut conversation = resolve(tx, own, to)?;
                let record = tx.enqueue(
                    NewMessage {
                        idempotency_key: ambient::idempotency_key(),
                        conversation_id: conversation.conversation_id,
                        receiver_id: conversation.peer,
                        body: Body::Text(text),
                        only_for: None,
                    },
                    now,
                )?;
                conversation.last_activity_at = conversation.last_activity_at.max(now);
                tx.put_conversation(&conversation);
                Ok::<_, ClientError>((record.local_id, record.conversation_id))
            })
            .await?;
        self.shared().unsent.send_modify(|count| *count += 1);
        self.tell(Command::Enqueued(id, conversation)).await;
        Ok(id)
    }

    /// Sends a failed message again, under a new idempotency key: the old one may name another body by now.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`] unless it is a failed message of the outbox.
    pub async fn retry(&self, id: LocalMessageId) -> Result<LocalMessageId, ClientError> {
        let now = ambient::now();
        let record = self
            .shared()
            .store
            .update_off_thread(move |tx| {
                let failed = failed_message(tx, id)?;
                tx.remove_outbox(id)?;
                let message = NewMessage {
                    idempotency_key: ambient::idempotency_key(),
                    conversation_id: failed.conversation_id,
                    receiver_id: failed.receiver_id,
                    body: failed.body,
                    only_for: failed.only_for,
                };
                Ok::<_, ClientError>(tx.enqueue(message, now)?)
            })
            .await?;
        self.shared().unsent.send_modify(|count| *count += 1);
        self.tell(Command::Enqueued(record.local_id, record.conversation_id)).await;
        Ok(record.local_id)
    }

    /// Deletes a failed message.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`] unless it is a failed message of the outbox.
    pub async fn discard(&self, id: LocalMessageId) -> Result<(), ClientError> {
        self.shared()
            .store
            .update_off_thread(move |tx| {
                failed_message(tx, id)?;
                Ok(tx.remove_outbox(id)?)
            })
            .await
    }

    /// The user has seen everything in a conversation that this device holds.
    ///
    /// # Errors
    /// [`ClientError::UnknownConversation`].
    pub async fn mark_read(&self, conversation: ConversationId) -> Result<(), ClientError> {
        self.shared()
            .store
            .update_off_thread(move |tx| {
                let mut record = tx.conversation(conversation)?.ok_or(ClientError::UnknownConversation)?;
                record.own_read_through = record.cursor;
                record.unread = 0;
                tx.put_conversation(&record);
                Ok::<_, ClientError>(())
            })
            .await?;
        self.tell(Command::MarkRead(conversation)).await;
        Ok(())
    }

    /// The user is composing, or no longer. Forgotten if there is no connection; call it at most every
    /// [`colloquy_protocol::limits::TYPING_THROTTLE`].
    pub async fn set_typing(&self, conversation: ConversationId, is_typing: bool) {
        let state = if is_typing { TypingState::Started } else { TypingState::Stopped };
        self.tell(Command::Typing(conversation, state)).await;
    }

    /// Tells when these users come and go, for as long as the engine runs; at most
    /// [`colloquy_protocol::limits::PRESENCE_SUBSCRIPTIONS_MAX`] in all, those beyond are not watched.
    pub async fn watch_presence(&self, users: Vec<UserId>) {
        self.tell(Command::Watch(users)).await;
    }

    /// No longer.
    pub async fn unwatch_presence(&self, users: Vec<UserId>) {
        self.tell(Command::Unwatch(users)).await;
    }

    /// All conversations, the liveliest first.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn conversations(&self) -> Result<Vec<ConversationSummary>, ClientError> {
        let Ok(own) = self.own() else { return Ok(Vec::new()) };
        self.shared().store.read(|tx| {
            let queued = tx.outbox_all()?;
            let mut summaries = Vec::new();
            for record in tx.conversations()? {
                let id = record.conversation_id;
                let newest_queued = queued
                    .iter()
                    .rev()
                    .filter(|queued| queued.conversation_id == id)
                    .find_map(|queued| Message::queued(queued, own.user_id, &own.device_id));
                let last_message = match newest_queued {
                    Some(message) => Some(message),
                    None => tx
                        .messages_before(id, None, LAST_MESSAGE_SCAN_MAX)?
                        .iter()
                        .rev()
                        .find_map(|message| Message::stored(message, own.user_id, &record)),
                };
                summaries.push(ConversationSummary {
                    conversation_id: id,
                    peer: record.peer,
                    peer_name: tx.user_card(record.peer)?.map(|card| card.name),
                    last_message,
                    unread: record.unread,
                    last_activity_at: record.last_activity_at,
                });
            }
            summaries.sort_by_key(|summary| std::cmp::Reverse(summary.last_activity_at));
            Ok(summaries)
        })
    }

    /// A page of a conversation, oldest first: at most `limit` messages (and
    /// [`crate::store::messages::HISTORY_PAGE_MAX`]) numbered below `before`. Without `before` it is the newest,
    /// followed by what waits in the outbox. Control messages are left out, so a page may be shorter; it is the
    /// last one when empty, or when its first message has number 1.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn history(
        &self,
        conversation: ConversationId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Message>, ClientError> {
        let own = self.own()?;
        self.shared().store.read(|tx| {
            let Some(record) = tx.conversation(conversation)? else { return Ok(Vec::new()) };
            let mut page: Vec<Message> = Vec::new();
            let mut below = before;
            // A run of control messages must not look like the end of the history.
            while page.is_empty() {
                let messages = tx.messages_before(conversation, below, limit)?;
                let Some(first) = messages.first() else { break };
                below = Some(first.sequence_number);
                page.extend(messages.iter().filter_map(|m| Message::stored(m, own.user_id, &record)));
            }
            if before.is_none() {
                let queued = tx.outbox_all()?;
                let queued = queued.iter().filter(|queued| queued.conversation_id == conversation);
                page.extend(queued.filter_map(|q| Message::queued(q, own.user_id, &own.device_id)));
            }
            Ok(page)
        })
    }

    /// Looks a user up at the server, and remembers the name.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_user`; [`ClientError::LoggedOut`].
    pub async fn find_user(&self, query: UserQuery) -> Result<UserCard, ClientError> {
        let card = self
            .call(|api, token| {
                let query = query.clone();
                async move { api.find_user(&token, &query).await }
            })
            .await?;
        let stored = card.clone();
        self.shared()
            .store
            .update_off_thread(move |tx| {
                tx.put_user_card(&stored);
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(card)
    }

    /// The safety number of this user and another, of the devices both have now.
    ///
    /// # Errors
    /// [`ApiError`] if the device lists cannot be fetched; [`ClientError::LoggedOut`].
    pub async fn safety_number(&self, user: UserId) -> Result<SafetyNumber, ClientError> {
        let own = self.own()?;
        for id in [own.user_id, user] {
            let list = self.call(|api, token| async move { api.devices(&token, id).await }).await?;
            let now = ambient::now();
            let changes = self
                .shared()
                .store
                .update_off_thread(move |tx| dispatch::learn_devices(tx, &list, now))
                .await?;
            for change in changes {
                self.shared().tell(crate::Event::IdentityChanged(change));
            }
        }
        self.shared().store.read(|tx| {
            let account = tx.account()?.ok_or(ClientError::LoggedOut)?;
            let keys = account.identity_keys();
            let mut ours = fingerprints(tx, own.user_id)?;
            ours.push(DeviceFingerprint { identity_key: keys.curve25519, signing_key: keys.ed25519 });
            let theirs = fingerprints(tx, user)?;
            Ok(SafetyNumber::between((own.user_id, &ours), (user, &theirs)))
        })
    }

    /// Has everything been sent, or failed?
    #[must_use]
    pub fn outbox_is_empty(&self) -> bool {
        *self.shared().unsent.borrow() == 0
    }

    /// Waits until everything has been sent, or failed. Waits for ever without a connection.
    pub async fn wait_until_sent(&self) {
        let mut unsent = self.shared().unsent.subscribe();
        // The sender lives as long as this client: waiting cannot fail.
        let _ = unsent.wait_for(|count| *count == 0).await;
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

/// Stores a log-in, and the profile and keys if it is the first one; returns what registers the device.
fn prepare_device(
    tx: &mut Transaction<'_>,
    tokens: Tokens,
    server_url: String,
    wanted: Option<DeviceId>,
    platform: &str,
) -> Result<(DeviceId, RegisterDevice, Option<PublishKeys>), ClientError> {
    let user_id = tokens.user_id;
    let before = tx.profile()?;
    let was_used = before.is_some();
    let profile = match before {
        Some(profile) if profile.user_id != user_id => return Err(ClientError::OtherUser),
        Some(profile) => profile,
        None => ProfileRecord {
            server_url,
            user_id,
            device_id: wanted.unwrap_or_else(|| random_device_id(platform)),
            fallback_rotated_at: ambient::now(),
        },
    };
    let address = DeviceAddress { user_id, device_id: profile.device_id.clone() };
    let mut account = tx.account()?.unwrap_or_else(|| DeviceAccount::generate(address));
    let body = account.registration(platform);
    let again = was_used.then(|| account.unpublished());
    tx.put_account(&account);
    tx.put_profile(&profile);
    tx.put_log_in(&LogInRecord::from(tokens));
    Ok((profile.device_id, body, again))
}

fn random_device_id(platform: &str) -> DeviceId {
    let mut bytes = [0; 6];
    ambient::fill(&mut bytes);
    let suffix: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    DeviceId::new(&format!("{platform}-{suffix}"))
        .or_else(|_| DeviceId::new(&format!("device-{suffix}")))
        .expect("hexadecimal digits and hyphens make a device id")
}

fn resolve(tx: &Transaction<'_>, own: UserId, to: Recipient) -> Result<ConversationRecord, ClientError> {
    match to {
        Recipient::User(user) if user == own => Err(ClientError::NoRecipient),
        Recipient::User(user) => {
            let id = ConversationId::of_pair(own, user);
            Ok(tx.conversation(id)?.unwrap_or_else(|| ConversationRecord::new(id, user)))
        }
        Recipient::Conversation(id) => tx.conversation(id)?.ok_or(ClientError::UnknownConversation),
    }
}

fn failed_message(
    tx: &Transaction<'_>,
    id: LocalMessageId,
) -> Result<crate::store::OutboxRecord, ClientError> {
    tx.outbox(id)?
        .filter(|record| matches!(record.state, OutboxState::Failed(_)))
        .ok_or(ClientError::UnknownMessage)
}

fn fingerprints(tx: &Transaction<'_>, user: UserId) -> Result<Vec<DeviceFingerprint>, StoreError> {
    let current = tx.peers(user)?.into_iter().filter(|peer| !peer.is_removed());
    Ok(current
        .map(|peer| DeviceFingerprint { identity_key: peer.identity_key(), signing_key: peer.signing_key() })
        .collect())
}
