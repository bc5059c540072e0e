//! Which agent a message goes to. Pure: the same on a server and on a person's device, where the text is.
//!
//! | file | noun |
//! |---|---|
//! | [`table`] | the agents, and the decision between them in five levels |
//! | [`classifier`] | what somebody wants, by the examples that agents have registered |

pub mod classifier;
pub mod table;

pub use classifier::{Classifier, Guess};
pub use table::{NoRoute, Request, RoutingTable};
