//! What goes out as events: in order within a conversation, many conversations at once, again and again until it is taken or
//! given up.
//!
//! | file | noun |
//! |---|---|
//! | `sinks` | events, and where they are taken: the port |
//! | `pages` | a log, read on from where somebody has come |
//! | `lanes` | what is under way to one sink: each conversation a lane (pure) |
//! | `vain` | tries of a turn that came to nothing, and when it is given up for them (pure) |
//! | `breaker` | a sink that fails is left alone for a while (pure) |
//! | `replay` | what was given up, and is posted once more |
//!
//! **The log is the outbox.** What is owed to somebody is what stands in it after the place to which they have come, so nothing is
//! written beside the message itself, and nothing can be lost between the two (NOLOSS). [`agent`](crate::agent) and
//! [`feed`](crate::feed) say who is owed what.

mod breaker;
mod lanes;
mod pages;
mod replay;
mod sinks;
mod vain;

pub use breaker::Breaker;
pub use lanes::{Lanes, Outcome, Start};
pub(crate) use pages::{Page, page_after};
pub(crate) use replay::{message_of, next_page, what_came_of};
pub use sinks::{Cancel, Event, NoSinks, Posted, Sinks};
pub use vain::{Death, Tried};
