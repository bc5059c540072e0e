//! The store as one pod sees it: everything it asks goes through the weather.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, LoginId, MessageId, UserId};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::model::account::{Taken, User, UserChange};
use colloquy_storage::model::agent::{Agent, Revised};
use colloquy_storage::model::conversation::{Conversation, ConversationAtEnd, ListPosition, LogEnd};
use colloquy_storage::model::cursor::Cursor;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::model::device::{
    ClaimedKey, Device, DeviceList, Publication, PublishedKey, Registration,
};
use colloquy_storage::model::login::{Login, Presented, Rotation};
use colloquy_storage::model::message::Message;
use colloquy_storage::model::outgoing::Outgoing;
use colloquy_storage::ports::message_log::{Append, Appended, Located, Ownership};
use colloquy_storage::ports::{
    Accounts, Agents, Conversations, Cursors, DeadLetters, KeyDirectory, Logins, MessageLog, Outbox, Store,
    StoreResult,
};

use super::weather::{Contested, Weather};

/// A port behind the weather.
struct Behind<P: ?Sized> {
    weather: Weather,
    port: Arc<P>,
}

/// The store as a pod sees it.
pub(crate) fn behind(weather: &Weather, store: &Store) -> Store {
    Store {
        log: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.log) }),
        conversations: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.conversations) }),
        cursors: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.cursors) }),
        accounts: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.accounts) }),
        logins: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.logins) }),
        keys: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.keys) }),
        agents: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.agents) }),
        dead_letters: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.dead_letters) }),
        outbox: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.outbox) }),
        untold: Arc::new(Behind { weather: weather.clone(), port: Arc::clone(&store.untold) }),
    }
}

/// Every method of a port, each through the weather, and those that are written out.
macro_rules! behind {
    ($port:ident { $($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)* } $($written_out:tt)*) => {
        #[async_trait]
        impl $port for Behind<dyn $port> {
            $(async fn $name(&self, $($argument: $type),*) -> StoreResult<$answer> {
                self.weather.befall(self.port.$name($($argument),*)).await
            })*
            $($written_out)*
        }
    };
}

behind!(MessageLog {
    take_ownership(conversation_id: ConversationId) -> Ownership;
    read(conversation_id: ConversationId, window: SequenceWindow, max_messages: usize, max_bytes: usize) -> Vec<Arc<Message>>;
    oldest(conversation_id: ConversationId) -> Option<u64>;
    end(conversation_id: ConversationId) -> LogEnd;
    locate(message_ids: &[MessageId]) -> Vec<Located>;
    find_by_key(sender_id: UserId, key: IdempotencyKey) -> Option<Arc<Message>>;
}
    async fn append(&self, appends: Vec<Append>) -> StoreResult<Vec<Appended>> {
        self.weather.befall(append_contested(&self.weather, &*self.port, appends)).await
    }
);

/// Some of it meets another write to the same conversation, and nobody can say whether it was done.
async fn append_contested(
    weather: &Weather,
    log: &dyn MessageLog,
    appends: Vec<Append>,
) -> StoreResult<Vec<Appended>> {
    let fates: Vec<Option<Contested>> = appends.iter().map(|_| weather.contest()).collect();
    let is_done = |fate: &Option<Contested>| *fate != Some(Contested::NotDone);
    let done = appends.into_iter().zip(&fates).filter(|(_, fate)| is_done(fate)).map(|(append, _)| append);
    let mut answers = log.append(done.collect()).await?.into_iter();
    let answer = |fate: Option<Contested>| {
        let answer = if is_done(&fate) { answers.next() } else { None };
        answer.filter(|_| fate.is_none()).unwrap_or(Appended::Unknown)
    };
    Ok(fates.into_iter().map(answer).collect())
}

behind!(Conversations {
    open_pair(a: UserId, b: UserId, now: UnixMillis) -> (Conversation, bool);
    get(conversation_id: ConversationId) -> Option<Conversation>;
    list(user_id: UserId, after: Option<ListPosition>, limit: usize) -> Vec<ConversationAtEnd>;
    walk(user_id: UserId, after: Option<ConversationId>, limit: usize) -> Vec<ConversationAtEnd>;
    share_one(a: UserId, b: UserId) -> bool;
});

behind!(Cursors {
    advance(cursors: Vec<Cursor>) -> ();
    of_conversation(conversation_id: ConversationId) -> Vec<Cursor>;
    of_user(user_id: UserId) -> Vec<Cursor>;
});

behind!(Accounts {
    create(user: User) -> Result<(), Taken>;
    get(user_id: UserId) -> Option<User>;
    find_by_phone(phone: &str) -> Option<User>;
    find_by_email(email: &str) -> Option<User>;
    change(user_id: UserId, change: UserChange) -> Result<Option<User>, Taken>;
    seen(seen: Vec<(UserId, UnixMillis)>) -> ();
});

behind!(Logins {
    create(login: Login) -> ();
    get(login_id: LoginId) -> Option<Login>;
    list(user_id: UserId) -> Vec<Login>;
    rotate(login_id: LoginId, presented: Presented, now: UnixMillis, grace: Duration) -> Rotation;
    bind(login_id: LoginId, device_id: &DeviceId) -> bool;
    revoke(user_id: UserId, login_id: LoginId) -> bool;
    revoke_device(user_id: UserId, device_id: &DeviceId) -> Vec<LoginId>;
});

behind!(Agents {
    create(agent: Agent) -> bool;
    get(agent_id: &AgentId) -> Option<Agent>;
    of_user(user_id: UserId) -> Option<Agent>;
    list(after: Option<&AgentId>, limit: usize) -> Vec<Agent>;
    revise(agent_id: &AgentId, revision: u64, profile: AgentProfile, now: UnixMillis) -> Revised;
    remove(agent_id: &AgentId) -> bool;
});

behind!(KeyDirectory {
    register(user_id: UserId, device: Device, one_time_keys: Vec<PublishedKey>, fallback_key: PublishedKey) -> Registration;
    publish(user_id: UserId, device_id: &DeviceId, one_time_keys: Vec<PublishedKey>, fallback_key: Option<PublishedKey>) -> Publication;
    remove(user_id: UserId, device_id: &DeviceId) -> Option<u64>;
    devices(user_id: UserId) -> DeviceList;
    claim(user_id: UserId, device_ids: &[DeviceId]) -> Vec<ClaimedKey>;
    one_time_keys(user_id: UserId, device_id: &DeviceId) -> u64;
});

behind!(DeadLetters {
    put(letter: DeadLetter) -> bool;
    get(turn_id: MessageId) -> Option<DeadLetter>;
    list(agent_id: Option<&AgentId>, after: Option<MessageId>, limit: usize) -> Vec<DeadLetter>;
    of_conversations(conversation_ids: &[ConversationId], limit: usize) -> Vec<DeadLetter>;
    replayed(turn_id: MessageId, now: UnixMillis) -> ();
    remove(turn_id: MessageId) -> bool;
});

behind!(Outbox {
    walk(after: Option<ConversationId>, limit: usize) -> Vec<Outgoing>;
    told(conversation_id: ConversationId) -> u64;
    advance(told: Vec<(ConversationId, u64)>) -> ();
});
