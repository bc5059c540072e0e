//! HTTP, and the only crate that knows axum: the REST interface, the operations endpoints and the server they run on.
//!
//! | module | noun |
//! |---|---|
//! | [`websocket`] | `/ws`: from an upgrade to a session |
//! | [`server`] | the accept loop: bounded connections, slow clients, graceful stop |
//! | [`routes`] | the REST interface, one file per resource with one error enum each |
//! | [`problem`] | every refusal as a problem document (RFC 9457) |
//! | [`extract`] | what a handler asks a request for: the caller, the body, the client's address |
//! | [`rate_limit`] | how often one address, identifier or user may ask |
//! | [`observe`] | request ids, metrics and the time a request may take |
//! | [`openapi`] | the description of the interface at `/openapi.json` |
//! | [`operations`] | `/metrics`, `/livez`, `/readyz`, `/startupz` |
//! | [`admin`] | `/admin`: what whoever runs the installation may do to it |
//! | `dead_letters` | its routes for turns, and messages of the feed, that were given up |
//! | [`readiness`] | whether traffic should come here |

pub mod admin;
mod dead_letters;
pub mod extract;
pub mod observe;
pub mod openapi;
pub mod operations;
pub mod problem;
pub mod rate_limit;
pub mod readiness;
pub mod routes;
pub mod server;
pub mod websocket;

pub use admin::{AdminDependencies, admin_router};
/// Routes to be served; named here so that no other crate needs axum.
pub use axum::Router;
pub use operations::operations_router;
pub use routes::{RestDependencies, RestOptions, router};
