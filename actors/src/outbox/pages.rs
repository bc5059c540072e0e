//! A log, read on from where somebody has come, whatever retention has taken of it.

use std::sync::Arc;

use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::limits::WINDOW_MAX;
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{MessageLog, StoreResult};

/// Messages read at once ...
const PAGE_MAX_MESSAGES: usize = 32;
/// ... and bytes of weight.
const PAGE_MAX_BYTES: usize = 1024 * 1024;

/// What comes next in a log.
pub(crate) enum Page {
    /// The next messages, in order: at least one.
    Messages(Vec<Arc<Message>>),
    /// Nothing that is kept comes before the number after this one.
    Nothing {
        /// Inclusive.
        through: u64,
    },
}

/// Reads what comes after the message of number `after`.
pub(crate) async fn page_after(
    log: &dyn MessageLog,
    conversation_id: ConversationId,
    after: u64,
) -> StoreResult<Page> {
    let page = read(log, conversation_id, after).await?;
    if !page.is_empty() {
        return Ok(Page::Messages(page));
    }
    // Retention may have taken more than a window holds, or everything.
    let mut through = after;
    let mut oldest = log.oldest(conversation_id).await?;
    if oldest.is_none() {
        // Asked for in this order: of what is stored meanwhile something is left.
        through = through.max(log.end(conversation_id).await?.last_sequence);
        oldest = log.oldest(conversation_id).await?;
    }
    match oldest {
        Some(oldest) if oldest > after => {
            let page = read(log, conversation_id, oldest - 1).await?;
            // Empty, if retention was faster.
            Ok(if page.is_empty() { Page::Nothing { through: after } } else { Page::Messages(page) })
        }
        Some(_) => Ok(Page::Nothing { through: after }),
        None => Ok(Page::Nothing { through }),
    }
}

async fn read(
    log: &dyn MessageLog,
    conversation_id: ConversationId,
    after: u64,
) -> StoreResult<Vec<Arc<Message>>> {
    match SequenceWindow::new(after + 1, after + WINDOW_MAX) {
        Ok(window) => log.read(conversation_id, window, PAGE_MAX_MESSAGES, PAGE_MAX_BYTES).await,
        Err(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use colloquy_protocol::ids::{IdempotencyKey, MessageId, UserId};
    use colloquy_storage::model::conversation::LogEnd;
    use colloquy_storage::ports::message_log::{Append, Appended, Located, Ownership};

    use super::*;
    use crate::feed::stage::{CONVERSATION, message};

    /// A log that ends at a number, and of which only the messages from `oldest` on are kept.
    struct Kept {
        oldest: u64,
        end: u64,
    }

    #[async_trait]
    impl MessageLog for Kept {
        async fn read(
            &self,
            _: ConversationId,
            window: SequenceWindow,
            max_messages: usize,
            _: usize,
        ) -> StoreResult<Vec<Arc<Message>>> {
            let numbers = window.from().max(self.oldest)..=window.to().min(self.end);
            let numbered = |n| Arc::new(Message { sequence_number: n, ..message(n.into()) });
            Ok(numbers.take(max_messages).map(numbered).collect())
        }

        async fn oldest(&self, _: ConversationId) -> StoreResult<Option<u64>> {
            Ok((self.oldest <= self.end).then_some(self.oldest))
        }

        async fn end(&self, _: ConversationId) -> StoreResult<LogEnd> {
            Ok(LogEnd { last_sequence: self.end, last_message_at: None })
        }

        async fn take_ownership(&self, _: ConversationId) -> StoreResult<Ownership> {
            unreachable!("it is only read")
        }

        async fn append(&self, _: Vec<Append>) -> StoreResult<Vec<Appended>> {
            unreachable!("it is only read")
        }

        async fn locate(&self, _: &[MessageId]) -> StoreResult<Vec<Located>> {
            unreachable!("it is read in order")
        }

        async fn find_by_key(&self, _: UserId, _: IdempotencyKey) -> StoreResult<Option<Arc<Message>>> {
            unreachable!("it is read in order")
        }
    }

    /// The numbers of the next page, or up to where there is nothing.
    async fn after(log: &Kept, number: u64) -> Result<(u64, u64), u64> {
        match page_after(log, CONVERSATION, number).await.unwrap() {
            Page::Messages(page) => Ok((page[0].sequence_number, page[page.len() - 1].sequence_number)),
            Page::Nothing { through } => Err(through),
        }
    }

    #[tokio::test]
    async fn a_log_is_read_on_page_by_page_to_its_end() {
        let log = Kept { oldest: 1, end: 40 };
        assert_eq!(after(&log, 0).await, Ok((1, 32)));
        assert_eq!(after(&log, 32).await, Ok((33, 40)));
        assert_eq!(after(&log, 40).await, Err(40));
        assert_eq!(after(&log, 50).await, Err(50));
    }

    #[tokio::test]
    async fn what_retention_has_taken_is_passed_over_however_much_it_is() {
        for oldest in [3, WINDOW_MAX, 3 * WINDOW_MAX] {
            let log = Kept { oldest, end: oldest + 1 };
            assert_eq!(after(&log, 1).await, Ok((oldest, oldest + 1)));
        }
        for end in [3, WINDOW_MAX, 3 * WINDOW_MAX] {
            assert_eq!(after(&Kept { oldest: end + 1, end }, 1).await, Err(end), "it has taken everything");
        }
        assert_eq!(after(&Kept { oldest: 1, end: 0 }, 0).await, Err(0), "nothing was ever written");
    }
}
