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
    // Retention may have taken more than a window holds, or everything. The end is asked for first: of what is stored meanwhile
    // something is left.
    let end = log.end(conversation_id).await?.last_sequence;
    match log.oldest(conversation_id).await? {
        Some(oldest) if oldest > after => {
            let page = read(log, conversation_id, oldest - 1).await?;
            // Empty, if retention was faster.
            Ok(if page.is_empty() { Page::Nothing { through: after } } else { Page::Messages(page) })
        }
        Some(_) => Ok(Page::Nothing { through: after }),
        None => Ok(Page::Nothing { through: end.max(after) }),
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
