//! Several pods as one: what passes between them.

pub mod bridge;
