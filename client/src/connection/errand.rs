//! REST calls beside the loop: device lists, keys, tokens. Each at most once at a time; the loop goes on meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, DeviceId, UserId};
use colloquy_protocol::rest::conversations::Conversations;
use colloquy_protocol::rest::devices::{ClaimedKeys, DeviceList, KeyCount, PublishKeys};
use tokio::task::JoinSet;

use super::credentials::{CredentialError, Credentials};
use crate::api::{Api, ApiError};
use crate::store::LogInRecord;

/// Errands running at once. What is needed beyond it is asked for again when one is done.
pub(super) const ERRANDS_MAX: usize = 8;

/// Something to fetch or to publish.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    FetchDevices(UserId),
    /// For sessions in a conversation.
    ClaimKeys(ConversationId, UserId, Vec<DeviceId>),
    PublishKeys(DeviceId, Box<PublishKeys>),
    RefreshTokens(String),
    /// A page of the list of conversations, from a cursor.
    ListConversations(DeviceId, Option<String>),
}

/// What an errand is about: no two for the same at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Devices(UserId),
    Keys(ConversationId, UserId),
    OwnKeys,
    Tokens,
    Conversations,
}

/// What came of an errand.
#[derive(Debug)]
pub(super) enum Done {
    Devices(UserId, Result<DeviceList, CredentialError>),
    Claimed(ConversationId, UserId, Result<ClaimedKeys, CredentialError>),
    Published(Box<PublishKeys>, Result<KeyCount, CredentialError>),
    Refreshed(Result<LogInRecord, CredentialError>),
    Listed(Option<String>, Result<Conversations, CredentialError>),
}

/// The errands that are running.
pub(super) struct Errands {
    api: Api,
    credentials: Arc<Credentials>,
    running: JoinSet<(Subject, Done)>,
    subjects: BTreeSet<Subject>,
}

impl Errands {
    pub(super) fn new(api: Api, credentials: Arc<Credentials>) -> Self {
        Self { api, credentials, running: JoinSet::new(), subjects: BTreeSet::new() }
    }

    /// Starts an errand unless one about the same is running. `false` if too many others are.
    pub(super) fn start(&mut self, errand: Errand) -> bool {
        let subject = match &errand {
            Errand::FetchDevices(user) => Subject::Devices(*user),
            Errand::ClaimKeys(conversation, user, _) => Subject::Keys(*conversation, *user),
            Errand::PublishKeys(..) => Subject::OwnKeys,
            Errand::RefreshTokens(_) => Subject::Tokens,
            Errand::ListConversations(..) => Subject::Conversations,
        };
        if self.subjects.contains(&subject) {
            return true;
        }
        if self.running.len() >= ERRANDS_MAX {
            return false;
        }
        self.subjects.insert(subject);
        let (api, credentials) = (self.api.clone(), self.credentials.clone());
        self.running.spawn(async move { (subject, run(errand, api, &credentials).await) });
        true
    }

    /// Is anything running?
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for the next one to be done; nothing if none is running. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<Done> {
        loop {
            match self.running.join_next().await? {
                Ok((subject, done)) => {
                    self.subjects.remove(&subject);
                    return Some(done);
                }
                // An errand that panicked fetched nothing: whoever needs it asks again.
                Err(_) if self.running.is_empty() => self.subjects.clear(),
                Err(_) => {}
            }
        }
    }
}

async fn run(errand: Errand, api: Api, credentials: &Credentials) -> Done {
    match errand {
        Errand::FetchDevices(user) => {
            let call = |token: String| {
                let api = api.clone();
                async move { api.devices(&token, user).await }
            };
            Done::Devices(user, with_token(credentials, call).await)
        }
        Errand::ClaimKeys(conversation, user, devices) => {
            let call = |token: String| {
                let (api, devices) = (api.clone(), devices.clone());
                async move { api.claim_keys(&token, user, devices).await }
            };
            Done::Claimed(conversation, user, with_token(credentials, call).await)
        }
        Errand::PublishKeys(device, keys) => {
            let call = |token: String| {
                let (api, device, keys) = (api.clone(), device.clone(), keys.clone());
                async move { api.publish_keys(&token, &device, &keys).await }
            };
            let outcome = with_token(credentials, call).await;
            Done::Published(keys, outcome)
        }
        Errand::ListConversations(device, cursor) => {
            let call = |token: String| {
                let (api, device, cursor) = (api.clone(), device.clone(), cursor.clone());
                async move { api.conversations(&token, &device, cursor.as_deref()).await }
            };
            let outcome = with_token(credentials, call).await;
            Done::Listed(cursor, outcome)
        }
        Errand::RefreshTokens(spent) => Done::Refreshed(match credentials.current().await {
            Ok(current) if current.access_token == spent => credentials.refresh(&spent).await,
            outcome => outcome,
        }),
    }
}

/// Calls with a good token; if the server finds it expired all the same, once more with a newer one.
pub(crate) async fn with_token<T, F: Future<Output = Result<T, ApiError>>>(
    credentials: &Credentials,
    call: impl Fn(String) -> F,
) -> Result<T, CredentialError> {
    let token = credentials.current().await?.access_token;
    match call(token.clone()).await {
        Err(error) if error.code() == Some(ErrorCode::TokenExpired) => {
            let token = credentials.refresh(&token).await?.access_token;
            Ok(call(token).await?)
        }
        outcome => Ok(outcome?),
    }
}
