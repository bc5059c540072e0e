//! Errands: calls that an actor makes in a task beside it, so that it goes on handling its letters.
//!
//! The actor waits for the letter an errand ends with. A supervisor sees neither a task that has panicked nor one that
//! hangs, so an errand has an answer whatever becomes of its call: no actor is left waiting for ever (ISOLATE, BOUND).

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use colloquy_storage::ports::{StoreError, StoreResult};
use futures_util::FutureExt;
use tokio::time::timeout;

/// How long a call to a store may take: longer than any adapter tries by itself.
const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// Why a call has no answer. As with a lost answer, it may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// It panicked.
    #[error("the call panicked")]
    Panicked,
    /// It took too long.
    #[error("the call was not answered in time")]
    TimedOut,
}

/// What `call` comes to within `patience`.
///
/// # Errors
/// [`Unanswered`].
pub async fn outcome<T>(patience: Duration, call: impl Future<Output = T>) -> Result<T, Unanswered> {
    match timeout(patience, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(_)) => Err(Unanswered::Panicked),
        Err(_) => Err(Unanswered::TimedOut),
    }
}

/// What a store answers.
///
/// # Errors
/// Its own; `Unavailable` if there is no answer within 30 s.
pub async fn answered<T>(call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    outcome(STORE_PATIENCE, call).await.unwrap_or_else(|why| Err(StoreError::unavailable(why)))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_errand_has_an_answer_whatever_becomes_of_its_call() {
        assert_eq!(outcome(STORE_PATIENCE, ready(7)).await, Ok(7));
        let panics = outcome::<()>(STORE_PATIENCE, async { panic!("made to panic") });
        assert_eq!(panics.await, Err(Unanswered::Panicked));
        assert_eq!(outcome::<()>(STORE_PATIENCE, pending()).await, Err(Unanswered::TimedOut));
        assert!(matches!(answered::<()>(pending()).await, Err(StoreError::Unavailable(_))));
    }
}
