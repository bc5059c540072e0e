//! What Colloquy says on its wires: identifiers, envelopes, frames, close codes, problems and REST bodies.
//!
//! Pure data. Nothing here does I/O, reads a clock or knows a runtime, so servers, clients, simulations and
//! tests share one definition of every byte that crosses a boundary.
//!
//! | module | noun |
//! |---|---|
//! | [`agent`] | what an agent says of itself |
//! | [`ids`] | who and what: users, devices, conversations, messages, sessions |
//! | [`limits`] | every bound that both ends must know |
//! | [`envelope`] | end-to-end encrypted content and its form |
//! | [`frame`] | the WebSocket frames, both directions |
//! | [`dead_letter`] | why a turn was given up |
//! | [`close`] | close codes and what a client does about each |
//! | [`event`] | events between the server and agents |
//! | [`error_code`] | the stable codes of everything that can be refused |
//! | [`problem`] | RFC 9457 problem documents |
//! | [`rest`] | the bodies of the REST interface |
//! | [`signing`] | the exact bytes a device signs when it publishes a key |
//! | [`window`] | bounded runs of sequence numbers |

pub mod agent;
pub mod close;
pub mod dead_letter;
pub mod envelope;
pub mod error_code;
pub mod event;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod problem;
pub mod rest;
pub mod signing;
pub mod window;

/// Milliseconds since the Unix epoch, as every timestamp on the wire is given.
pub type UnixMillis = u64;
