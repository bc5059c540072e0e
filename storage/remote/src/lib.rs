//! The ports over services of their own: MongoDB keeps what is true, Redis carries what is only true now.
//!
//! The only crate that names their drivers.

pub mod mongo;
pub mod redis;
