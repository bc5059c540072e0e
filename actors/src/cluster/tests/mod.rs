//! Several pods, in one process.

mod overtaking;
pub(super) mod pods;
pub(super) mod stage;
mod two_pods;
