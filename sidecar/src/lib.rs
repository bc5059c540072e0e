//! What stands beside an agent, so that the agent needs no cryptography: holds its keys, takes its turns, asks it in plain
//! HTTP, and sends what it answers, end to end encrypted.
//!
//! ```text
//!  server ── CloudEvent: it is your turn ──> sink ──> desk ── question and history ──> upstream (the agent)
//!     ^                                                 │ <─────────── answer ────────────────┘
//!     └── WebSocket: messages both ways, encrypted ── client
//! ```
//!
//! Turns that were taken are on disk until they are answered: a sidecar that is killed goes on where it was. The agent is
//! asked again then, under the same idempotency key; people get one answer, whatever happens.
//!
//! | file | noun |
//! |---|---|
//! | [`sink`] | takes the server's CloudEvents |
//! | [`desk`] | who is asked what, and when again |
//! | [`draft`] | an answer while the agent is giving it |
//! | `interrupted` | turns that something newer was written after |
//! | `noted` | turns that the server has told something of |
//! | `parts` | an answer in as many messages as it takes |
//! | [`prompt`] | a question with what was said before |
//! | [`upstream`] | the agent: a model behind `/chat/completions`, any HTTP service, or one that is built in |

pub mod desk;
pub mod draft;
mod interrupted;
mod noted;
mod parts;
pub mod prompt;
pub mod sink;
#[cfg(test)]
mod test_message;
pub mod upstream;

pub use desk::{DeskOptions, SidecarError, run};
pub use upstream::Upstream;
