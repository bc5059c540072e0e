//! What a participant says that is for now or never: it is passed on to whoever is there, and nothing of it is kept.

use colloquy_protocol::frame::TypingState;
use colloquy_protocol::frame::delta::Delta;
use colloquy_protocol::ids::MessageId;
use serde::{Deserialize, Serialize};

/// Something of that kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ephemeral {
    /// The user is composing, or no longer.
    Typing(TypingState),
    /// A piece of an agent's answer. People have none: theirs goes nowhere.
    Delta(Box<Delta>),
    /// The beginning of an answer is not there.
    DeltaRequest(MessageId),
    /// The agent is to stop answering this turn.
    CancelTurn(MessageId),
    /// The agent was not able to take this turn. Said on its behalf by whoever gives the turn up; no frame of a client is it.
    TurnGivenUp(MessageId),
}
