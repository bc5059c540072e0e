//! The records that the ports keep.

pub mod account;
pub mod agent;
pub mod conversation;
pub mod cursor;
pub mod dead_letter;
pub mod device;
pub mod live;
pub mod login;
pub mod message;
pub mod outgoing;
