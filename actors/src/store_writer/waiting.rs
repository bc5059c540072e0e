//! Batches that wait for the next commit. Pure.

use std::collections::VecDeque;

use colloquy_storage::ports::message_log::Append;

use super::OwedToOwner;

/// Messages that may wait at one writer. A batch that finds no room is dropped.
const WAITING_MAX_MESSAGES: usize = 65_536;
/// Messages in one group ...
const GROUP_MAX_MESSAGES: usize = 8_192;
/// ... and their weight, bytes: they are in memory until they are on disk.
const GROUP_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Batches in the order they came. Generic over who is owed the answer, so that tests need no actor.
#[derive(Debug)]
pub(super) struct Waiting<O = OwedToOwner> {
    batches: VecDeque<(Append, O)>,
    messages: usize,
}

impl<O> Default for Waiting<O> {
    fn default() -> Self {
        Self { batches: VecDeque::new(), messages: 0 }
    }
}

impl<O> Waiting<O> {
    /// Takes in a batch if there is room; says whether there was.
    pub(super) fn push(&mut self, append: Append, owner: O) -> bool {
        if self.messages + append.messages.len() > WAITING_MAX_MESSAGES {
            return false;
        }
        self.messages += append.messages.len();
        self.batches.push_back((append, owner));
        true
    }

    /// Takes out the next group; `None` if nothing waits. No conversation is in it twice: a new owner's batch waits for
    /// the group after the one its dead predecessor's is in.
    pub(super) fn next_group(&mut self) -> Option<(Vec<O>, Vec<Append>)> {
        let (mut owners, mut appends) = (Vec::new(), Vec::<Append>::new());
        let (mut messages, mut bytes) = (0, 0);
        let mut named = std::collections::HashSet::new();
        while let Some((append, _)) = self.batches.front() {
            messages += append.messages.len();
            bytes += append.messages.iter().map(|message| message.weight()).sum::<usize>();
            let full = messages > GROUP_MAX_MESSAGES || bytes > GROUP_MAX_BYTES;
            if !named.insert(append.conversation_id) || (full && !appends.is_empty()) {
                break;
            }
            if let Some((append, owner)) = self.batches.pop_front() {
                self.messages -= append.messages.len();
                appends.push(append);
                owners.push(owner);
            }
        }
        (!appends.is_empty()).then_some((owners, appends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::envelope::{Algorithm, Envelope};
    use colloquy_protocol::frame::MessageType;
    use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};
    use colloquy_storage::model::message::Message;
    use uuid::Uuid;

    fn message(conversation_id: ConversationId) -> Message {
        Message {
            message_id: MessageId(Uuid::nil()),
            sequence_number: 0,
            conversation_id,
            sender_id: UserId(Uuid::nil()),
            sender_device_id: DeviceId::new("phone").unwrap(),
            receiver_id: UserId(Uuid::nil()),
            idempotency_key: "9f8b1d4e-6f0a-4c3b-8a1d-2e3f4a5b6c7d".parse().unwrap(),
            r#type: MessageType::Text,
            content: Envelope {
                algorithm: Algorithm::OlmV1,
                sender_key: String::new(),
                ciphertexts: Vec::new(),
            },
            media_url: None,
            reply_to_message_id: None,
            sent_at: 0,
            created_at: 0,
        }
    }

    fn batch(conversation: u128, messages: usize) -> Append {
        let conversation_id = ConversationId(Uuid::from_u128(conversation));
        let messages = vec![message(conversation_id); messages];
        Append { conversation_id, epoch: 1, after_sequence: 0, messages }
    }

    #[test]
    fn a_group_names_no_conversation_twice_and_keeps_the_order() {
        let mut waiting = Waiting::default();
        for (owner, conversation) in [(1, 10), (2, 11), (3, 10), (4, 12)] {
            assert!(waiting.push(batch(conversation, 1), owner));
        }
        assert_eq!(waiting.next_group().unwrap().0, [1, 2]);
        assert_eq!(waiting.next_group().unwrap().0, [3, 4]);
        assert!(waiting.next_group().is_none());
    }

    #[test]
    fn a_group_is_bounded_and_so_is_what_waits() {
        let mut waiting = Waiting::default();
        let batches = WAITING_MAX_MESSAGES / 256;
        for n in 0..batches {
            assert!(waiting.push(batch(n as u128, 256), ()));
        }
        assert!(!waiting.push(batch(u128::MAX, 1), ()));
        let (_, group) = waiting.next_group().unwrap();
        assert_eq!(group.len(), GROUP_MAX_MESSAGES / 256);
        assert!(waiting.push(batch(u128::MAX, 1), ()), "what has left makes room");
    }
}
