//! The bodies of the REST interface under `/v1` and `/admin`. Requests refuse unknown fields; answers may gain some.

pub mod accounts;
pub mod agents;
pub mod conversations;
pub mod dead_letters;
pub mod devices;
pub mod routes;
