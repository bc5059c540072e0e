//! The actors: every connection, every conversation, and what stands above them.
//!
//! | folder | actor |
//! |---|---|
//! | [`node`] | the tree: who starts whom, in which order |
//! | [`supervision`] | restarting, counting exits, bounded mailboxes |
//! | [`session`] | one WebSocket connection |
//! | [`cluster`] | several pods: which owns what, and what they say to each other |
//! | [`conversation`] | owner and sequencer of one conversation |
//! | [`agent`] | users who are programs: what they are told, and what they answer |
//! | [`feed`] | telling all messages to whoever is to be told |
//! | [`outbox`] | how both post: in order, again and again, and what was given up |
//! | [`store_writer`] | group commit over all conversations |
//! | [`presence`] | who is online |
//! | [`account_changes`] | what revoked log-ins and changed devices mean to all of them |
//! | [`metrics`] | what operators see of all of them |
//!
//! In each folder `mod.rs` holds the messages and a thin ractor shell; the machines beside it are pure: they take
//! the time as an argument and return what is to be done.

pub mod account_changes;
pub mod agent;
pub mod cluster;
pub mod conversation;
pub mod feed;
pub mod metrics;
pub mod node;
pub mod outbox;
pub mod presence;
pub mod session;
pub mod store_writer;
pub mod supervision;
