//! The server process: configuration, composition root, start and stop, telemetry.
//!
//! | module | noun |
//! |---|---|
//! | [`config`] | what an operator can set, and its defaults |
//! | [`composition`] | which adapter stands behind which port, and what is handed to whom |
//! | [`pod`] | what makes the node one of several |
//! | [`store`] | the store that is configured, and its migration |
//! | [`service`] | start order, readiness, stop order |
//! | [`drain`] | clients and conversations sent elsewhere |
//! | [`telemetry`] | logs |
//! | [`sinks`] | events posted to agents over HTTP |
//! | [`admin`] | who may administer the installation |

pub mod admin;
pub mod classifier;
pub mod composition;
pub mod config;
pub mod drain;
pub mod pod;
pub mod service;
pub mod sinks;
pub mod store;
pub mod telemetry;
