//! Agents: users who are programs, and take and give their messages as events.
//!
//! | file | noun |
//! |---|---|
//! | `router` | the parent of all agents' actors |
//! | `actor` | the actor of one agent |
//! | `cancels` | turns that an agent is being told to stop (pure) |
//! | `events` | what agents are told, and what is said of them |
//! | `courier` | finds the next turn in the log, and takes it to the agent |
//! | `dead_letters` | turns that were given up: listed, and taken to their agents once more |
//! | `routes` | which agent a message goes to |
//! | `turns` | answers on their way into conversations |
//!
//! A **turn** begins with a user's message to an agent and ends with the agent's answer. Its id is the message's; the
//! answer's idempotency key follows from it, so that a turn has one answer however often the agent gives one (ONCE).
//!
//! What is owed to an agent is what was written to it and has no answer; how far it has come is its read cursor. How that is taken
//! to it is the [`outbox`](crate::outbox)'s.

mod actor;
mod cancels;
mod courier;
mod dead_letters;
mod events;
mod router;
mod routes;
mod turns;

pub use actor::{AgentActor, AgentArguments, AgentMessage, AgentServices};
pub use cancels::Cancel;
pub use colloquy_routing::Request as RouteRequest;
pub use courier::{ANNOUNCEMENTS_MAX, Courier};
pub use dead_letters::{DeadLetterOffice, ReplayError, is_answered};
pub use router::{AgentIndex, AgentRouter, AgentRouterArguments, AgentRouterMessage};
pub use routes::{ClassifierFailed, IntentClassifier, RouteError, Routes, RoutesArguments};
pub use turns::{AnswerError, TurnAnswered, Turns};
