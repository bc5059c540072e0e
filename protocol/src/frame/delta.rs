//! Pieces of an answer while it is being written. They are for now or never: nothing of them is stored, any of them may be
//! lost, and the message that ends the turn says everything again. The same in both directions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{ConversationId, MessageId, StreamId};
use crate::limits::{CLIENT_SEQUENCE_MAX, DELTA_MAX_BYTES};

/// Payload of `delta`: what has been added to an answer, encrypted under a key that only the two users' devices know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delta {
    /// Where.
    pub conversation_id: ConversationId,
    /// The turn that is being answered.
    pub turn_id: MessageId,
    /// The try at an answer that this belongs to; of two, the later one stands.
    pub stream_id: StreamId,
    /// Counts the stream's deltas: 1, 2, ... No two are encrypted under the same number.
    pub sequence: u64,
    /// Ciphertext, unpadded base64; 1 to [`DELTA_MAX_BYTES`] bytes.
    pub body: String,
}

/// Payload of `delta_request`, `cancel_turn` and `turn_given_up`: a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnPlace {
    /// Where.
    pub conversation_id: ConversationId,
    /// The message that began it.
    pub turn_id: MessageId,
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (turn_id, sequence) = (self.turn_id, self.sequence);
        f.debug_struct("Delta")
            .field("turn_id", &turn_id)
            .field("sequence", &sequence)
            .finish_non_exhaustive()
    }
}

impl Delta {
    /// # Errors
    /// What is wrong with its form, in words for a developer.
    pub fn check_form(&self) -> Result<(), &'static str> {
        if !(1..=DELTA_MAX_BYTES).contains(&self.body.len()) {
            return Err("the body of a delta has 1 to 12288 bytes");
        }
        if !self.body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')) {
            return Err("the body of a delta is unpadded base64");
        }
        if !(1..=CLIENT_SEQUENCE_MAX).contains(&self.sequence) {
            return Err("the sequence of a delta is not between 1 and 2^53 - 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_delta_is_small_base64_and_counted_from_one() {
        let delta = |sequence, body: &str| Delta {
            conversation_id: ConversationId(Uuid::from_u128(1)),
            turn_id: MessageId(Uuid::from_u128(2)),
            stream_id: StreamId(Uuid::from_u128(3)),
            sequence,
            body: body.to_owned(),
        };
        assert_eq!(delta(1, "c2VjcmV0").check_form(), Ok(()));
        assert_eq!(delta(CLIENT_SEQUENCE_MAX, &"A".repeat(DELTA_MAX_BYTES)).check_form(), Ok(()));
        let bad =
            [(0, "A"), (CLIENT_SEQUENCE_MAX + 1, "A"), (1, ""), (1, "hello there"), (1, "QQ=="), (1, "_-")];
        for (sequence, body) in bad {
            assert!(delta(sequence, body).check_form().is_err(), "{sequence} {body}");
        }
        assert!(delta(1, &"A".repeat(DELTA_MAX_BYTES + 1)).check_form().is_err());
        assert!(!format!("{:?}", delta(1, "c2VjcmV0")).contains("c2VjcmV0"));
    }
}
