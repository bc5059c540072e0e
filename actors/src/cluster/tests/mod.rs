//! Several pods, in one process.

mod lists;
mod overtaking;
pub(super) mod pods;
mod refusals;
pub(super) mod stage;
mod two_pods;
