//! Bridges over loopback.

mod failures;
mod stage;
mod strangers;
mod tls;
mod traffic;
