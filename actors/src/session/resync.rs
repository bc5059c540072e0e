//! Looking for what was lost on its way here: messages that were stored and not told (NOLOSS), a log-in that was revoked
//! (AUTHZ).

use std::time::Duration;

use colloquy_protocol::close::CloseCode;
use colloquy_storage::ports::StoreResult;
use ractor::ActorRef;

use super::opening::WALK_PAGE;
use super::{Phase, SessionMessage, SessionState};
use crate::supervision::Letter;

/// How long until it is looked again if the store did not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

impl SessionState {
    /// Looks; again later if the store does not answer.
    pub(super) async fn resync(&mut self, myself: &ActorRef<Letter<SessionMessage>>) {
        // One that is not yet open has not yet looked for the first time.
        let Phase::Open(open) = &mut self.phase else { return };
        // It is looked again soon anyway.
        if open.resyncing {
            return;
        }
        if let Err(error) = self.look_for_what_was_lost().await {
            tracing::debug!(%error, "what was missed cannot be looked for");
            let Phase::Open(open) = &mut self.phase else { return };
            open.resyncing = true;
            myself.send_after(RETRY_PAUSE, || Letter::uncounted(SessionMessage::ResyncAgain));
        }
        self.keep_reading(myself);
    }

    /// The pause after a failure is over.
    pub(super) async fn resync_again(&mut self, myself: &ActorRef<Letter<SessionMessage>>) {
        if let Phase::Open(open) = &mut self.phase {
            open.resyncing = false;
        }
        self.resync(myself).await;
    }

    async fn look_for_what_was_lost(&mut self) -> StoreResult<()> {
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        let handle = &open.attendance.handle;
        let (user_id, login_id) = (handle.user_id, handle.login_id);
        // Of a device that was removed, every log-in is revoked.
        if !self.services.authenticator.stands(login_id).await? {
            self.outlet.line().closing().request(CloseCode::TokenRevoked);
            return Ok(());
        }
        let mut after = None;
        loop {
            let page = self.services.directory.walk(user_id, after, WALK_PAGE).await?;
            for at_end in &page {
                if at_end.end.last_sequence > 0 {
                    open.delivery.catch_up(at_end.conversation.conversation_id, at_end.end.last_sequence);
                }
            }
            match page.last() {
                Some(last) if page.len() == WALK_PAGE => after = Some(last.conversation.conversation_id),
                _ => return Ok(()),
            }
        }
    }
}
