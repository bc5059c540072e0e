//! A conversation and its messages as one of its participants sees them. Pure: from stored records to answers.

use std::collections::BTreeMap;

use colloquy_protocol::envelope::{OwnedSealedContent, SealedContent};
use colloquy_protocol::frame::MessageStatus;
use colloquy_protocol::frame::server::{DeliveredMessage, MessageOut};
use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_protocol::rest::conversations::{Conversation as View, ConversationKind};
use colloquy_storage::model::conversation::ConversationAtEnd;
use colloquy_storage::model::cursor::{Cursor, CursorKind};
use colloquy_storage::model::message::Message;

/// Who looks, and through which of their devices.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    pub(crate) user_id: UserId,
    /// Without a device no ciphertext is theirs: contents are null.
    pub(crate) device_id: Option<DeviceId>,
}

/// How far one participant has come.
#[derive(Clone, Copy, Debug, Default)]
struct Come {
    delivered: u64,
    read: u64,
    sent: u64,
}

/// How far every participant of a conversation has come.
#[derive(Clone, Debug)]
pub(crate) struct Progress(BTreeMap<UserId, Come>);

impl Progress {
    pub(crate) fn new(participants: &[UserId], cursors: &[Cursor]) -> Self {
        let mut progress: BTreeMap<UserId, Come> =
            participants.iter().map(|user_id| (*user_id, Come::default())).collect();
        for cursor in cursors {
            let Some(come) = progress.get_mut(&cursor.user_id) else { continue };
            // A message is delivered once any of a user's devices holds it.
            let furthest = match cursor.kind {
                CursorKind::Delivered(_) => &mut come.delivered,
                CursorKind::Read => &mut come.read,
                CursorKind::Sent => &mut come.sent,
            };
            *furthest = cursor.through.max(*furthest);
        }
        // What was read was delivered, whichever of the two lazy writes came first.
        for come in progress.values_mut() {
            come.delivered = come.delivered.max(come.read);
        }
        Self(progress)
    }

    /// How far `user_id` has read.
    fn own_read_through(&self, user_id: UserId) -> u64 {
        self.0.get(&user_id).map_or(0, |come| come.read)
    }

    /// How far everybody but `user_id` has read, by the least of them.
    fn read_through(&self, user_id: UserId) -> u64 {
        self.least_of_others(user_id, |come| come.read)
    }

    /// How far everybody but `user_id` holds the messages, by the least of them.
    fn delivered_through(&self, user_id: UserId) -> u64 {
        self.least_of_others(user_id, |come| come.delivered)
    }

    fn least_of_others(&self, user_id: UserId, of: impl Fn(&Come) -> u64) -> u64 {
        self.0.iter().filter(|(id, _)| **id != user_id).map(|(_, come)| of(come)).min().unwrap_or(0)
    }

    /// Messages after what the user has read, or written themselves.
    fn unread(&self, user_id: UserId, last_sequence: u64) -> u64 {
        let seen = self.0.get(&user_id).map_or(0, |come| come.read.max(come.sent));
        last_sequence.saturating_sub(seen)
    }

    fn status(&self, message: &Message) -> MessageStatus {
        if message.sequence_number <= self.read_through(message.sender_id) {
            MessageStatus::Read
        } else if message.sequence_number <= self.delivered_through(message.sender_id) {
            MessageStatus::Delivered
        } else {
            MessageStatus::Sent
        }
    }

    /// A message as the viewer's device may see it: its own ciphertext only (E2EE).
    pub(crate) fn message(&self, viewer: &Viewer, message: &Message) -> DeliveredMessage {
        let status = self.status(message);
        match &viewer.device_id {
            Some(device_id) => delivered(&message.for_device(viewer.user_id, device_id, status)),
            None => {
                let out = message.for_device(viewer.user_id, &message.sender_device_id, status);
                delivered(&MessageOut { content: None, ..out })
            }
        }
    }

    /// The conversation as the viewer sees it, but for what was given up there.
    pub(crate) fn conversation(
        &self,
        viewer: &Viewer,
        at_end: ConversationAtEnd,
        last_message: Option<&Message>,
    ) -> View {
        let ConversationAtEnd { conversation, end } = at_end;
        View {
            conversation_id: conversation.conversation_id,
            r#type: ConversationKind::Pair,
            participants: conversation.participants,
            last_sequence_number: end.last_sequence,
            last_message_at: end.last_message_at,
            unread_count: self.unread(viewer.user_id, end.last_sequence),
            own_read_through: self.own_read_through(viewer.user_id),
            read_through: self.read_through(viewer.user_id),
            delivered_through: self.delivered_through(viewer.user_id),
            created_at: conversation.created_at,
            last_message: last_message.map(|message| self.message(viewer, message)),
            given_up: Vec::new(),
        }
    }
}

fn delivered(out: &MessageOut<'_>) -> DeliveredMessage {
    let owned = |content: SealedContent<'_>| OwnedSealedContent {
        algorithm: content.algorithm,
        sender_key: content.sender_key.to_owned(),
        kind: content.kind,
        body: content.body.to_owned(),
    };
    DeliveredMessage {
        message_id: out.message_id,
        sequence_number: out.sequence_number,
        sender_id: out.sender_id,
        sender_device_id: out.sender_device_id.clone(),
        receiver_id: out.receiver_id,
        conversation_id: out.conversation_id,
        content: out.content.map(owned),
        r#type: out.r#type,
        media_url: out.media_url.map(str::to_owned),
        reply_to_message_id: out.reply_to_message_id,
        timestamp: out.timestamp,
        status: out.status,
        idempotency_key: out.idempotency_key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::ids::ConversationId;
    use uuid::Uuid;

    const ANN: UserId = UserId(Uuid::from_u128(1));
    const BOB: UserId = UserId(Uuid::from_u128(2));

    fn progress(cursors: &[(UserId, CursorKind, u64)]) -> Progress {
        let cursor = |(user_id, kind, through): &(UserId, CursorKind, u64)| Cursor {
            conversation_id: ConversationId::of_pair(ANN, BOB),
            user_id: *user_id,
            kind: kind.clone(),
            through: *through,
        };
        Progress::new(&[ANN, BOB], &cursors.iter().map(cursor).collect::<Vec<_>>())
    }

    fn on(device: &str) -> CursorKind {
        CursorKind::Delivered(DeviceId::new(device).unwrap())
    }

    #[test]
    fn what_one_device_of_the_other_holds_is_delivered() {
        let progress = progress(&[(BOB, on("phone"), 3), (BOB, on("laptop"), 5), (ANN, on("phone"), 9)]);
        assert_eq!(progress.delivered_through(ANN), 5);
        assert_eq!(progress.read_through(ANN), 0);
    }

    #[test]
    fn what_was_read_was_delivered() {
        let progress = progress(&[(BOB, CursorKind::Read, 7), (BOB, on("phone"), 5)]);
        assert_eq!((progress.delivered_through(ANN), progress.read_through(ANN)), (7, 7));
    }

    #[test]
    fn own_messages_and_read_ones_are_not_unread() {
        let progress = progress(&[(ANN, CursorKind::Read, 3), (ANN, CursorKind::Sent, 6)]);
        assert_eq!(progress.unread(ANN, 10), 4);
        assert_eq!(progress.unread(BOB, 10), 10);
        assert_eq!(progress.unread(ANN, 5), 0, "a cursor read later than the log's end");
    }
}
