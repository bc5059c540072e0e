//! Bridges over loopback.

mod stage;
mod traffic;
