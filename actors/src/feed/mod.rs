//! The feed: every message that is stored is told to whoever the installation names, as an event.
//!
//! | file | noun |
//! |---|---|
//! | `actor` | the feed's actor, and the way to it |
//! | `publisher` | reads on in a conversation's log, and publishes what it finds |
//! | `events` | what is told of a message |
//! | `dead_letters` | messages that were not taken: listed, and told once more |
//! | `positions` | how far conversations have been told, until that is written (pure) |
//!
//! What is to be told is what stands in a log after the position up to which its conversation has been told. A message is told at
//! least once, those of a conversation in order; whoever is told twice knows by the event's `source` and `id`. How it is posted is
//! the [`outbox`](crate::outbox)'s, to which a message is a turn that is over as soon as it is taken.

mod actor;
mod dead_letters;
mod events;
mod positions;
mod publisher;
#[cfg(test)]
pub(crate) mod stage;

pub use actor::{Feed, FeedActor, FeedArguments, FeedMessage};
pub use dead_letters::FeedOffice;
pub use publisher::Publisher;
