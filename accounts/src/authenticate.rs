//! From an access token to who is asking (AUTHZ).

use std::sync::Arc;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{DeviceId, LoginId, UserId};
use colloquy_storage::ports::{self, StoreError};

use crate::access_token::{InvalidToken, TokenVerifier};

/// Who is asking, and by which log-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// The user.
    pub user_id: UserId,
    /// The log-in.
    pub login_id: LoginId,
    /// The device the log-in is bound to, once one has been registered through it.
    pub device_id: Option<DeviceId>,
    /// When the access token runs out (its `exp`; it is accepted for [`crate::access_token::LEEWAY`] more).
    pub expires_at: UnixMillis,
}

/// Why a token does not say who is asking.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// Not a token of ours, or of another purpose.
    #[error("the token is not valid")]
    Invalid,
    /// It was good once; a refresh helps.
    #[error("the token has expired")]
    Expired,
    /// It is ours, and from the future: another pod may take it, or this one once its clock is right.
    #[error("the token is from the future")]
    Early,
    /// Its log-in has been revoked; a refresh does not help.
    #[error("the log-in has been revoked")]
    Revoked,
    /// The store did not say whether the log-in stands.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

/// Verifies access tokens and that their log-in still stands. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    verifier: Arc<TokenVerifier>,
    logins: Arc<dyn ports::Logins>,
}

impl Authenticator {
    /// Verifies with `verifier` and looks log-ins up in `logins`.
    #[must_use]
    pub fn new(verifier: TokenVerifier, logins: Arc<dyn ports::Logins>) -> Self {
        Self { verifier: Arc::new(verifier), logins }
    }

    /// Who is asking.
    ///
    /// One read of the store for each call, so that a revoked log-in is refused at once and not when its token runs
    /// out.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate(&self, access_token: &str) -> Result<Authenticated, AuthError> {
        let claims = self.verifier.verify(access_token).map_err(|error| match error {
            InvalidToken::Invalid => AuthError::Invalid,
            InvalidToken::Early => {
                tracing::warn!(%error, "set the clocks of all pods by one source of time");
                AuthError::Early
            }
            InvalidToken::Expired => AuthError::Expired,
        })?;
        let login = self.logins.get(claims.login_id).await?.ok_or(AuthError::Revoked)?;
        if login.user_id != claims.user_id {
            return Err(AuthError::Invalid);
        }
        Ok(Authenticated {
            user_id: login.user_id,
            login_id: login.login_id,
            device_id: login.device_id,
            expires_at: claims.expires_at,
        })
    }

    /// Has a log-in not been revoked?
    ///
    /// # Errors
    /// The store's.
    pub async fn stands(&self, login_id: LoginId) -> Result<bool, StoreError> {
        Ok(self.logins.get(login_id).await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::TestStore;
    use std::time::Duration;

    #[tokio::test]
    async fn a_token_counts_until_its_log_in_is_revoked() {
        let store = TestStore::open().await;
        let tokens = store.register("a@b.de", "correct horse").await;
        let caller = store.authenticator().authenticate(&tokens.access_token).await.unwrap();
        assert_eq!((caller.user_id, caller.login_id), (tokens.user_id, tokens.login_id));
        assert_eq!(caller.device_id, None);
        store.logins().revoke(tokens.user_id, tokens.login_id).await.unwrap();
        let refused = store.authenticator().authenticate(&tokens.access_token).await;
        assert!(matches!(refused, Err(AuthError::Revoked)));
    }

    #[tokio::test]
    async fn a_token_runs_out() {
        let store = TestStore::open().await;
        let tokens = store.register("a@b.de", "correct horse").await;
        let later = store.later(Duration::from_secs(16 * 60));
        let refused = later.authenticator().authenticate(&tokens.access_token).await;
        assert!(matches!(refused, Err(AuthError::Expired)));
    }
}
