//! Where truth is kept: the ports, the records they speak of, and the adapters behind them.
//!
//! | module | holds |
//! |---|---|
//! | [`ambient`] | the clock and the source of randomness, as arguments |
//! | [`model`] | the records: messages, conversations, users, log-ins, devices |
//! | [`ports`] | one trait per kind of truth; every adapter passes [`conformance`] |
//! | [`embedded`] | all ports on one fjall database in a data directory |
//! | [`cached_agents`] | a cache before the registry of agents |
//! | [`local`] | what is only true now, in this process |
//! | `conformance` | the suite every adapter of a port has to pass (feature `conformance`) |

pub mod ambient;
pub mod cached_agents;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod local;
pub mod model;
pub mod ports;
