//! Several pods, in one process.

pub(super) mod pods;
pub(super) mod stage;
mod two_pods;
