//! Telling the open sockets that a log-in or a device is gone, before the request that did it is answered.
//!
//! A broadcast would be heard some time later, or by a slow listener never. A hook is awaited: when `DELETE` of a
//! device has been answered, nothing is delivered to it any more.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use colloquy_protocol::ids::{DeviceId, LoginId, UserId};

/// How long a request waits for a hook (BOUND). The change is stored by then and stands; what is late is logged and
/// answered all the same, because a retry could not do better: sockets that were not reached are closed when their
/// access token runs out.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Called after a change is stored and before the request that made it is answered.
///
/// A hook is called at least once for each change (again after a retry), so it must bear being called twice.
#[async_trait]
pub trait AccountHooks: Send + Sync + 'static {
    /// A log-in has been revoked: its sockets must be closed when this returns. Never called for a log-in that
    /// stands.
    async fn login_revoked(&self, user_id: UserId, login_id: LoginId);

    /// A user's device list has changed. When this returns, `removed` must receive nothing more, and senders must
    /// be told of the new list.
    async fn devices_changed(&self, user_id: UserId, version: u64, removed: Option<DeviceId>);
}

/// Does nothing: for processes without sockets, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

#[async_trait]
impl AccountHooks for NoHooks {
    async fn login_revoked(&self, _: UserId, _: LoginId) {}

    async fn devices_changed(&self, _: UserId, _: u64, _: Option<DeviceId>) {}
}

/// Waits for a hook, but no longer than [`HOOK_TIMEOUT`].
pub(crate) async fn awaited(hook: impl Future<Output = ()> + Send) {
    if tokio::time::timeout(HOOK_TIMEOUT, hook).await.is_err() {
        tracing::warn!("sockets were not told of a revocation in time");
    }
}

/// Runs `work` to its end even if whoever waits for it goes away: a client that hangs up between the store's answer
/// and the hook must not leave the sockets of a revoked log-in open.
pub(crate) async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the runtime's own end cancels the task; it is about to drop this one too.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_hangs_is_not_waited_for_without_end() {
        awaited(std::future::pending()).await;
    }

    #[tokio::test]
    async fn work_is_done_although_nobody_waits_any_more() {
        let (done, mut seen) = tokio::sync::oneshot::channel();
        let gate = std::sync::Arc::new(tokio::sync::Notify::new());
        let opened = std::sync::Arc::clone(&gate);
        let work = to_its_end(async move {
            opened.notified().await;
            done.send(()).unwrap();
        });
        let mut work = Box::pin(work);
        assert!(futures_poll_once(&mut work).await.is_none());
        drop(work);
        assert!(seen.try_recv().is_err());
        gate.notify_one();
        seen.await.unwrap();
    }

    async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
