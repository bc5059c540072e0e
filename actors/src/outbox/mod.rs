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
//! | `rounds` | when everything is looked through for what was missed (pure) |
//! | `dead_letters` | what was given up: put among the dead letters, and posted once more |
//!
//! **The log is the outbox.** What is owed to somebody is what stands in it after the place to which they have come, so nothing is
//! written beside the message itself, and nothing can be lost between the two (NOLOSS). [`agent`](crate::agent) and
//! [`feed`](crate::feed) say who is owed what.

mod breaker;
mod dead_letters;
mod lanes;
mod pages;
mod rounds;
mod sinks;
mod vain;

pub use breaker::Breaker;
pub(crate) use dead_letters::{buried, message_of, next_page, what_came_of};
pub use lanes::{Lanes, Outcome, Start};
pub(crate) use pages::{Page, page_after};
pub(crate) use rounds::Rounds;
pub use sinks::{Event, NoSinks, Posted, Sinks};
pub use vain::{Death, Tried};
