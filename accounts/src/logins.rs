//! Log-ins: opened with a password, kept alive by refreshing, ended by revoking.
//!
//! Every refresh moves the log-in to its next generation and makes the refresh token before it void. A void one that
//! is presented again means that two have it, so the whole log-in is revoked (RFC 9700, section 4.14.2), except within
//! [`REFRESH_GRACE`], when it is a client that did not get its answer.

use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::ids::{LoginId, UserId};
use colloquy_protocol::rest::accounts::{LogIn, Login as LoginView, Refresh, Tokens};
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::model::login::{Login, Presented, Rotation};
use colloquy_storage::ports::{self, StoreError, StoreResult};

use crate::access_token::{InvalidToken, SigningFailed, TokenIssuer, TokenOptions};
use crate::contact::{Contact, Identifier};
use crate::hooks::{AccountHooks, awaited, to_its_end};
use crate::invalid_field::InvalidField;
use crate::password::{Password, PasswordError, Passwords};
use crate::refresh_token::RefreshTokens;
use crate::signing_key::SigningKey;

/// How long after a refresh the token it was made with counts as a retry.
pub const REFRESH_GRACE: Duration = Duration::from_secs(10);
/// Log-ins one user may have (BOUND). At the limit a new one revokes the one that was not used for longest.
pub const LOGINS_PER_USER_MAX: usize = 100;

/// Why nobody was logged in.
#[derive(Debug, thiserror::Error)]
pub enum LogInError {
    /// Neither or both of phone and email, or a malformed one.
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    /// No such user, or not their password; which of the two is not said, and takes as long to say.
    #[error("wrong identifier or password")]
    InvalidCredentials,
    /// The password could not be checked now.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token could be signed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

/// Why a log-in was not opened for a user who is known already.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token could be signed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

impl From<OpenError> for LogInError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => Self::Store(error),
            OpenError::Signing(error) => Self::Signing(error),
        }
    }
}

/// Why a refresh token gave no new tokens.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// It is not one of ours, too old, or its log-in has been revoked.
    #[error("the refresh token is not valid")]
    Invalid,
    /// It is ours, and from the future: another pod may take it, or this one once its clock is right.
    #[error("the refresh token is from the future")]
    Early,
    /// It was used before; its log-in has been revoked now.
    #[error("the refresh token was used before")]
    Reused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token could be signed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

/// Why a log-in was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The user has no such log-in (any more).
    #[error("no such log-in")]
    Unknown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What [`Logins`] works with.
pub struct LoginsParts {
    /// Where users are found.
    pub accounts: Arc<dyn ports::Accounts>,
    /// Where log-ins are kept.
    pub logins: Arc<dyn ports::Logins>,
    /// Where agents are found.
    pub agents: Arc<dyn ports::Agents>,
    /// Checks passwords.
    pub passwords: Arc<Passwords>,
    /// Signs tokens.
    pub key: Arc<SigningKey>,
    /// How tokens are made.
    pub tokens: TokenOptions,
    /// Who is told of revocations.
    pub hooks: Arc<dyn AccountHooks>,
    /// The time.
    pub clock: Clock,
    /// Where ids come from.
    pub entropy: Entropy,
}

/// Opens, refreshes and ends log-ins. Cheap to clone.
#[derive(Clone)]
pub struct Logins {
    accounts: Arc<dyn ports::Accounts>,
    logins: Arc<dyn ports::Logins>,
    agents: Arc<dyn ports::Agents>,
    passwords: Arc<Passwords>,
    access: Arc<TokenIssuer>,
    refresh: Arc<RefreshTokens>,
    hooks: Arc<dyn AccountHooks>,
    clock: Clock,
    entropy: Entropy,
}

impl Logins {
    /// The service over its parts.
    #[must_use]
    pub fn new(parts: LoginsParts) -> Self {
        Self {
            accounts: parts.accounts,
            logins: parts.logins,
            agents: parts.agents,
            passwords: parts.passwords,
            access: Arc::new(TokenIssuer::new(Arc::clone(&parts.key), parts.tokens.clone())),
            refresh: Arc::new(RefreshTokens::new(parts.key, parts.tokens)),
            hooks: parts.hooks,
            clock: parts.clock,
            entropy: parts.entropy,
        }
    }

    /// Issues access tokens for log-ins that are known to stand: a `migration` frame carries one.
    #[must_use]
    pub fn issuer(&self) -> &Arc<TokenIssuer> {
        &self.access
    }

    /// Logs a user in.
    ///
    /// # Errors
    /// [`LogInError`].
    pub async fn log_in(&self, request: LogIn) -> Result<Tokens, LogInError> {
        let identifier = Identifier::exactly_one(request.phone, request.email, request.agent_id)?;
        // A password out of bounds is nobody's; saying so tells nothing that the asker does not know.
        let password = Password::new(request.password).map_err(|_| LogInError::InvalidCredentials)?;
        let user = match &identifier {
            Identifier::Contact(Contact::Phone(phone)) => self.accounts.find_by_phone(phone).await?,
            Identifier::Contact(Contact::Email(email)) => self.accounts.find_by_email(email).await?,
            Identifier::Agent(agent_id) => match self.agents.get(agent_id).await? {
                Some(agent) => self.accounts.get(agent.user_id).await?,
                None => None,
            },
        };
        let stored = user.as_ref().map(|user| user.password_hash.as_str());
        let matches = self.passwords.verify(password, stored).await?;
        match user {
            Some(user) if matches => Ok(self.open(user.user_id).await?),
            _ => Err(LogInError::InvalidCredentials),
        }
    }

    /// Opens a log-in for a user who has proved to be one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, user_id: UserId) -> Result<Tokens, OpenError> {
        let now = self.clock.now();
        let login = Login {
            login_id: LoginId(self.entropy.uuid_v7(now)),
            user_id,
            device_id: None,
            generation: 0,
            rotated_at: now,
            created_at: now,
            rotated_by: None,
        };
        let tokens = self.tokens(&login)?;
        self.logins.create(login.clone()).await?;
        self.keep_to_the_limit(&login).await?;
        Ok(tokens)
    }

    /// New tokens for the newest refresh token of a log-in.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn refresh(&self, request: Refresh) -> Result<Tokens, RefreshError> {
        let now = self.clock.now();
        let claims = self.refresh.verify(&request.refresh_token, now).map_err(|error| match error {
            InvalidToken::Early => {
                tracing::warn!(%error, "set the clocks of all pods by one source of time");
                RefreshError::Early
            }
            InvalidToken::Invalid | InvalidToken::Expired => RefreshError::Invalid,
        })?;
        let (logins, hooks) = (Arc::clone(&self.logins), Arc::clone(&self.hooks));
        let presented = Presented { generation: claims.generation, request_id: request.request_id };
        let rotation = to_its_end(async move {
            let rotation = logins.rotate(claims.login_id, presented, now, REFRESH_GRACE).await?;
            if let Rotation::Reused(login) = &rotation {
                awaited(hooks.login_revoked(login.user_id, login.login_id)).await;
            }
            StoreResult::Ok(rotation)
        });
        match rotation.await? {
            Rotation::Rotated(login) | Rotation::Repeated(login) => Ok(self.tokens(&login)?),
            Rotation::Reused(_) => Err(RefreshError::Reused),
            Rotation::Unknown => Err(RefreshError::Invalid),
        }
    }

    /// A user's log-ins, newest first; `current` is the one that asks.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, user_id: UserId, current: LoginId) -> StoreResult<Vec<LoginView>> {
        let logins = self.logins.list(user_id).await?;
        let view = |login: Login| LoginView {
            login_id: login.login_id,
            current: login.login_id == current,
            device_id: login.device_id,
            created_at: login.created_at,
            last_used_at: login.rotated_at,
        };
        Ok(logins.into_iter().map(view).collect())
    }

    /// Ends a log-in of a user. When this returns its sockets are closed; doing it again closes them again, so a
    /// retry finishes what a crash between the store and the sockets left undone.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn revoke(&self, user_id: UserId, login_id: LoginId) -> Result<(), RevokeError> {
        let (logins, hooks) = (Arc::clone(&self.logins), Arc::clone(&self.hooks));
        to_its_end(async move {
            let revoked = logins.revoke(user_id, login_id).await?;
            // Not this user's: another's, whose sockets are none of theirs (AUTHZ), or nobody's any more.
            if !revoked && logins.get(login_id).await?.is_some() {
                return Err(RevokeError::Unknown);
            }
            awaited(hooks.login_revoked(user_id, login_id)).await;
            if revoked { Ok(()) } else { Err(RevokeError::Unknown) }
        })
        .await
    }

    fn tokens(&self, login: &Login) -> Result<Tokens, SigningFailed> {
        let now = self.clock.now();
        let access = self.access.issue(login.user_id, login.login_id, now)?;
        Ok(Tokens {
            user_id: login.user_id,
            login_id: login.login_id,
            access_token: access.token,
            access_token_expires_at: access.expires_at,
            refresh_token: self.refresh.issue(login.login_id, login.generation, now)?,
        })
    }

    async fn keep_to_the_limit(&self, newest: &Login) -> StoreResult<()> {
        let mut logins = self.logins.list(newest.user_id).await?;
        if logins.len() <= LOGINS_PER_USER_MAX {
            return Ok(());
        }
        logins.sort_by_key(|login| (login.login_id == newest.login_id, login.rotated_at));
        let excess = logins.len() - LOGINS_PER_USER_MAX;
        for login in logins.into_iter().take(excess) {
            match self.revoke(login.user_id, login.login_id).await {
                // Another log-in at the same time has revoked it: as good.
                Ok(()) | Err(RevokeError::Unknown) => {}
                Err(RevokeError::Store(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::TestStore;

    #[tokio::test]
    async fn who_knows_the_password_is_logged_in_and_nobody_else() {
        let store = TestStore::open().await;
        store.register("a@b.de", "correct horse").await;
        let log_in = |email: &str, password: &str| {
            let request = LogIn {
                phone: None,
                email: Some(email.to_owned()),
                agent_id: None,
                password: password.to_owned(),
            };
            let logins = store.logins();
            async move { logins.log_in(request).await }
        };
        assert!(log_in("A@B.de", "correct horse").await.is_ok());
        for (email, password) in
            [("a@b.de", "wrong horse"), ("nobody@b.de", "correct horse"), ("a@b.de", "short")]
        {
            let refused = log_in(email, password).await;
            assert!(matches!(refused, Err(LogInError::InvalidCredentials)), "{email} {password}");
        }
    }

    fn with(refresh_token: &str) -> Refresh {
        Refresh { refresh_token: refresh_token.to_owned(), request_id: None }
    }

    #[tokio::test]
    async fn a_refresh_gives_the_next_generation_and_a_retry_the_same_one_again() {
        let store = TestStore::open().await;
        let first = store.register("a@b.de", "correct horse").await;
        let second = store.logins().refresh(with(&first.refresh_token)).await.unwrap();
        assert_ne!(first.refresh_token, second.refresh_token);
        let retried = store.logins().refresh(with(&first.refresh_token)).await.unwrap();
        assert_eq!(retried.login_id, first.login_id);
        assert!(store.logins().refresh(with(&retried.refresh_token)).await.is_ok());
    }

    #[tokio::test]
    async fn a_refresh_token_used_after_the_grace_revokes_its_log_in_and_closes_its_sockets() {
        let store = TestStore::open().await;
        let first = store.register("a@b.de", "correct horse").await;
        let second = store.logins().refresh(with(&first.refresh_token)).await.unwrap();
        let later = store.later(REFRESH_GRACE + Duration::from_secs(1));
        let reused = later.logins().refresh(with(&first.refresh_token)).await;
        assert!(matches!(reused, Err(RefreshError::Reused)));
        let after = later.logins().refresh(with(&second.refresh_token)).await;
        assert!(matches!(after, Err(RefreshError::Invalid)));
        assert_eq!(store.revoked(), [first.login_id]);
    }

    #[tokio::test]
    async fn an_access_token_refreshes_nothing() {
        let store = TestStore::open().await;
        let tokens = store.register("a@b.de", "correct horse").await;
        let refused = store.logins().refresh(with(&tokens.access_token)).await;
        assert!(matches!(refused, Err(RefreshError::Invalid)));
    }

    #[tokio::test]
    async fn a_user_revokes_their_own_log_ins_only() {
        let store = TestStore::open().await;
        let ann = store.register("a@b.de", "correct horse").await;
        let bob = store.register("b@b.de", "correct horse").await;
        let refused = store.logins().revoke(bob.user_id, ann.login_id).await;
        assert!(matches!(refused, Err(RevokeError::Unknown)));
        assert_eq!(store.logins().list(ann.user_id, ann.login_id).await.unwrap().len(), 1);
        assert!(store.revoked().is_empty(), "nor do they close another's sockets");
        store.logins().revoke(ann.user_id, ann.login_id).await.unwrap();
        assert!(store.logins().list(ann.user_id, ann.login_id).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn one_log_in_more_than_allowed_revokes_the_one_not_used_for_longest() {
        let store = TestStore::open().await;
        let first = store.register("a@b.de", "correct horse").await;
        let later = store.later(Duration::from_secs(60));
        for _ in 1..LOGINS_PER_USER_MAX {
            later.logins().open(first.user_id).await.unwrap();
        }
        assert!(store.revoked().is_empty());
        later.logins().open(first.user_id).await.unwrap();
        assert_eq!(store.revoked(), [first.login_id]);
    }
}
