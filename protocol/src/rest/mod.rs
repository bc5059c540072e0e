//! The bodies of the REST interface under `/v1`. Requests refuse unknown fields; answers may gain some.

pub mod accounts;
pub mod conversations;
pub mod devices;
