//! Agents: users who are programs, and take and give their messages as events.
//!
//! | file | noun |
//! |---|---|
//! | `turns` | answers on their way into conversations |
//!
//! A **turn** begins with a user's message to an agent and ends with the agent's answer. Its id is the message's; the
//! answer's idempotency key follows from it, so that a turn has one answer however often the agent gives one (ONCE).

mod turns;

pub use turns::{AnswerError, TurnAnswered, Turns};
