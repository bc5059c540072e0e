//! The REST interface over the embedded store, without sockets except where sockets are the point.

#![allow(
    clippy::unwrap_used,
    reason = "a whole test crate; clippy's own exception covers test functions only"
)]

mod accounts;
mod agents;
mod connections;
mod conversations;
mod dead_letters;
mod description;
mod devices;
mod fixture;
mod refusals;
mod tokens;
