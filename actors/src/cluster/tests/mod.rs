//! Several pods, in one process.

pub(super) mod stage;
