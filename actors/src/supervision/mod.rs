//! Supervision: who restarts whom, how often, and what is counted when an actor ends.
//!
//! | file | noun |
//! |---|---|
//! | `kind` | the kinds of actor there are |
//! | `doom` | faults that simulations bring about inside actors |
//! | `errand` | an actor's call beside itself, answered whatever becomes of it |
//! | `exit` | why an actor ended |
//! | `intensity` | how many restarts in how long, and how long to wait before each (pure) |
//! | `mailbox` | a bounded mailbox with a depth counter and a `Busy` answer |
//! | `meters` | what the mailboxes of one kind of actor are measured by |
//! | `address` | a name for a permanent actor that outlives its restarts |
//! | `children` | the many children of one parent, as they are counted |
//! | `supervisor` | one_for_one over an ordered list of children |

mod address;
mod children;
mod doom;
mod errand;
mod exit;
mod intensity;
mod kind;
mod mailbox;
mod meters;
mod supervisor;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use children::Children;
#[cfg(feature = "mutations")]
pub(crate) use doom::Dooms;
pub(crate) use doom::befall;
#[cfg(feature = "mutations")]
pub use doom::{Doom, HANG_MAX};
pub use errand::{Unanswered, answered, outcome};
pub use exit::{ExitReason, Fault, exit_reason};
pub use intensity::{RestartDecision, RestartIntensity, RestartPolicy};
pub use kind::ActorKind;
pub use mailbox::{Depth, Handling, Letter, Mailbox, Refused};
pub use meters::Meters;
pub use supervisor::{ChildSpec, StartChild, Supervisor, SupervisorArguments, SupervisorMessage};
