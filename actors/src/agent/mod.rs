//! Agents: users who are programs, and take and give their messages as events.
//!
//! | file | noun |
//! |---|---|
//! | `router` | the parent of all agents' actors |
//! | `actor` | the actor of one agent |
//! | `lanes` | what is under way to one agent: each conversation a lane (pure) |
//! | `vain` | tries of a turn that came to nothing, and when it is given up for them (pure) |
//! | `breaker` | an agent that fails is left alone for a while (pure) |
//! | `cancels` | turns that an agent is being told to stop (pure) |
//! | `courier` | finds the next turn in the log, and takes it to the agent |
//! | `dead_letters` | turns that were given up: listed, and taken to their agents once more |
//! | `routes` | which agent a message goes to |
//! | `sinks` | where agents take their messages: the port |
//! | `turns` | answers on their way into conversations |
//!
//! A **turn** begins with a user's message to an agent and ends with the agent's answer. Its id is the message's; the
//! answer's idempotency key follows from it, so that a turn has one answer however often the agent gives one (ONCE).
//!
//! **The log is the outbox.** What is owed to an agent is what was written to it and has no answer; how far it has come is
//! its read cursor. So nothing is written beside the message itself, and nothing can be lost between the two (NOLOSS).

mod actor;
mod breaker;
mod cancels;
mod courier;
mod dead_letters;
mod lanes;
mod router;
mod routes;
mod sinks;
mod turns;
mod vain;

pub use actor::{AgentActor, AgentArguments, AgentMessage, AgentServices};
pub use breaker::Breaker;
pub use colloquy_routing::Request as RouteRequest;
pub use courier::{ANNOUNCEMENTS_MAX, Courier};
pub use dead_letters::{DeadLetterOffice, ReplayError, is_answered};
pub use lanes::{Lanes, Outcome, Start};
pub use router::{AgentIndex, AgentRouter, AgentRouterArguments, AgentRouterMessage};
pub use routes::{ClassifierFailed, IntentClassifier, RouteError, Routes, RoutesArguments};
pub use sinks::{Cancel, Event, NoSinks, Posted, Sinks};
pub use turns::{AnswerError, TurnAnswered, Turns};
pub use vain::{Death, Tried};
