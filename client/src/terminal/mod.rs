//! The client in a terminal: a screen for a person, a script for a test.
//!
//! [`Screen`] is a pure machine: keys, events and what was loaded go in, effects come out, and it is drawn from
//! what it holds. The [`shell`] owns the terminal and the [`crate::Client`] and decides nothing.
//!
//! | file | noun | I/O |
//! |---|---|---|
//! | [`screen`] | what is shown, and what changes it | none |
//! | `keys`, `happenings` | its answers to keys and commands, and to events | none |
//! | [`mod@line`] | the text being written | none |
//! | `composing` | when others are told that this user is writing | none |
//! | [`draw`], `history`, [`request`], [`wrap`] | how it looks | none |
//! | [`calendar`] | when something was, by the user's own clock | none |
//! | [`shell`] | the loop that drives it | terminal, client |
//! | [`script`], [`script_command`] | one command a line, one JSON object a line | client |
//! | [`address`] | how a person is named on a command line | none |

pub mod address;
pub mod calendar;
mod composing;
pub mod draw;
mod happenings;
mod history;
mod keys;
pub mod line;
pub mod request;
pub mod screen;
pub mod script;
pub mod script_command;
pub mod shell;
pub mod wrap;

#[cfg(test)]
mod tests;

pub use address::parse_address;
pub use calendar::Calendar;
pub use draw::KEYS;
pub use screen::{Effect, Input, Screen};
pub use script::{Script, ScriptError};
pub use script_command::SCRIPT_GRAMMAR;
pub use shell::{TerminalError, run};
