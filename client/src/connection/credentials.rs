//! Tokens that are always fresh. A refresh happens once, whoever needs it, and is stored before it is used: a
//! refresh token used twice costs the log-in.

use std::sync::atomic::{AtomicI64, Ordering};

use colloquy_protocol::UnixMillis;
use colloquy_protocol::error_code::ErrorCode;
use tokio::sync::Mutex;

use crate::ambient::{self, Clock};
use crate::api::{Api, ApiError};
use crate::store::{LogInRecord, Store, StoreError};

/// A token with less than this left is refreshed first, ms.
pub(crate) const REFRESH_BEFORE_MS: u64 = 60_000;
/// Times a refresh without an answer is tried again with the same token; the server honours that for ten seconds.
const REFRESH_ATTEMPTS_MAX: u32 = 2;

/// Why there is no good token.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Nobody is logged in, or the log-in is no longer good.
    #[error("not logged in")]
    LoggedOut,
    /// The server could not be asked.
    #[error("the tokens could not be refreshed")]
    Api(#[from] ApiError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Gives out access tokens that are good for a while.
#[derive(Debug)]
pub(crate) struct Credentials {
    store: Store,
    api: Api,
    clock: Clock,
    refreshing: Mutex<()>,
    /// The server's clock minus this device's, ms.
    skew_ms: AtomicI64,
}

impl Credentials {
    pub(crate) fn new(store: Store, api: Api, clock: Clock) -> Self {
        Self { store, api, clock, refreshing: Mutex::new(()), skew_ms: AtomicI64::new(0) }
    }

    /// The server says what time it is: tokens run out by its clock.
    pub(crate) fn learn_time(&self, server: UnixMillis) {
        let skew = i64::try_from(server).unwrap_or(0) - i64::try_from(self.clock.now()).unwrap_or(0);
        self.skew_ms.store(skew, Ordering::Relaxed);
    }

    /// Does a token that runs out then need a refresh by now?
    pub(crate) fn is_due(&self, expires_at: UnixMillis) -> bool {
        let server_now = self.clock.now().saturating_add_signed(self.skew_ms.load(Ordering::Relaxed));
        expires_at <= server_now.saturating_add(REFRESH_BEFORE_MS)
    }

    /// A log-in whose access token is good for at least a while.
    pub(crate) async fn current(&self) -> Result<LogInRecord, CredentialError> {
        let record = self.stored()?;
        if self.is_due(record.access_token_expires_at) {
            self.refresh(&record.access_token).await
        } else {
            Ok(record)
        }
    }

    /// A newer log-in than the one whose access token is `spent`.
    pub(crate) async fn refresh(&self, spent: &str) -> Result<LogInRecord, CredentialError> {
        let _single = self.refreshing.lock().await;
        let record = self.stored()?;
        if record.access_token != spent {
            // Somebody else refreshed it while this call waited for its turn.
            return Ok(record);
        }
        let mut attempt = 0;
        let tokens = loop {
            attempt += 1;
            match self.api.refresh(&record.refresh_token, record.refresh_request_id).await {
                Err(ApiError::Unreachable(_)) if attempt < REFRESH_ATTEMPTS_MAX => {}
                outcome => break outcome,
            }
        };
        match tokens {
            Ok(tokens) => {
                let fresh = LogInRecord::new(tokens, ambient::request_id());
                let stored = fresh.clone();
                self.store
                    .update_off_thread(move |tx| {
                        tx.put_log_in(&stored);
                        Ok::<_, StoreError>(())
                    })
                    .await?;
                Ok(fresh)
            }
            Err(error) if is_final(error.code()) => {
                self.forget().await?;
                Err(CredentialError::LoggedOut)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The log-in is no longer good.
    pub(crate) async fn forget(&self) -> Result<(), StoreError> {
        self.store
            .update_off_thread(|tx| {
                tx.remove_log_in();
                Ok::<_, StoreError>(())
            })
            .await
    }

    fn stored(&self) -> Result<LogInRecord, CredentialError> {
        self.store.read(|tx| tx.log_in())?.ok_or(CredentialError::LoggedOut)
    }
}

fn is_final(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        Some(
            ErrorCode::InvalidToken
                | ErrorCode::TokenExpired
                | ErrorCode::TokenRevoked
                | ErrorCode::RefreshTokenReused
        )
    )
}
