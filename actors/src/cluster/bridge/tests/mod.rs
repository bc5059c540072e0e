//! Bridges over loopback.

mod failures;
mod stage;
mod strangers;
mod traffic;
