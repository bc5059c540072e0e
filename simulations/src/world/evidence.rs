//! What there is to look at in the end: the log, what every device holds, and what lies on the disks.

use std::collections::BTreeMap;
use std::path::Path;

use colloquy_client::message::{Message, ShownContent};
use colloquy_client::store::messages::HISTORY_PAGE_MAX;
use colloquy_client::{Client, ClientError};
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::ports::Store;
use futures_util::FutureExt;
use memchr::memmem;

use super::check::{Content, Held, Logged};
use super::people::{NEEDLE, named};

/// Messages and bytes of one page of the log.
const PAGE_MESSAGES: usize = 1000;
const PAGE_BYTES: usize = 64 * 1024 * 1024;

/// Is this message in the store under this number, now?
pub(crate) fn is_stored(
    store: &Store,
    conversation: ConversationId,
    number: u64,
    message: MessageId,
) -> bool {
    let read = store.log.message(conversation, number).now_or_never().and_then(Result::ok).flatten();
    read.is_some_and(|stored| stored.message_id == message)
}

/// A conversation as the store has it.
pub(crate) fn whole_log(store: &Store, conversation: ConversationId) -> Vec<Logged> {
    let mut log: Vec<Logged> = Vec::new();
    loop {
        let from = log.last().map_or(0, |last| last.sequence_number) + 1;
        let Ok(window) = SequenceWindow::new(from, from + PAGE_MESSAGES as u64 - 1) else { return log };
        let page = store.log.read(conversation, window, PAGE_MESSAGES, PAGE_BYTES).now_or_never();
        let page = page.and_then(Result::ok).unwrap_or_default();
        if page.is_empty() {
            return log;
        }
        log.extend(page.iter().map(|message| Logged {
            sequence_number: message.sequence_number,
            message_id: message.message_id,
            sender: message.sender_id,
            receiver: message.receiver_id,
            device: message.sender_device_id.clone(),
            key: message.idempotency_key,
            reply_to: message.reply_to_message_id,
            told: message.content.ciphertexts.iter().map(|it| (it.user_id, it.device_id.clone())).collect(),
        }));
    }
}

/// Every conversation as a device has it.
///
/// # Errors
/// Its store's.
pub(crate) fn histories(client: &Client) -> Result<BTreeMap<ConversationId, Vec<Held>>, ClientError> {
    let mut histories = BTreeMap::new();
    for conversation in client.conversations()? {
        let id = conversation.conversation_id;
        let mut pages: Vec<Vec<Message>> = vec![client.history(id, None, HISTORY_PAGE_MAX)?];
        while let Some(first) = pages.last().and_then(|page| page.first()).and_then(|it| it.sequence_number) {
            let page = client.history(id, Some(first), HISTORY_PAGE_MAX)?;
            pages.push(page);
        }
        let held = pages.into_iter().rev().flatten().map(|message| Held {
            sequence_number: message.sequence_number,
            content: match &message.content {
                ShownContent::Text(text) => {
                    named(text).map_or(Content::Foreign, |(device, number)| Content::Text(device, number))
                }
                // Nobody asks for approval there.
                ShownContent::Request(_) | ShownContent::Verdict { .. } => Content::Foreign,
                ShownContent::Undecryptable(_) => Content::Undecryptable,
                ShownContent::Unavailable => Content::Unavailable,
            },
        });
        histories.insert(id, held.collect());
    }
    Ok(histories)
}

/// How often something unencrypted lies in a folder.
pub(crate) fn at_rest(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let in_entry = |entry: std::fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() {
            return at_rest(&path);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        memmem::find_iter(&bytes, NEEDLE).count() as u64
    };
    entries.filter_map(Result::ok).map(in_entry).sum()
}
