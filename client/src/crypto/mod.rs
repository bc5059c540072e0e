//! End-to-end encryption, sans-I/O: no runtime, no store, no socket, no clock (E2EE).
//!
//! Callers load a [`DeviceAccount`] and the [`PeerDevice`]s a message concerns, call [`seal`] or [`open`], and
//! write what changed back in the same batch as the message itself. Nothing is cached here, so nothing can grow.
//! The one ambient thing is randomness: vodozemac draws its own keys from the operating system.
//!
//! | file | noun |
//! |---|---|
//! | [`account`] | this device's own keys, and how they are signed and published |
//! | [`peer`] | another device: its pinned keys and the sessions with it |
//! | [`plaintext`] | what is inside a ciphertext, and what it is bound to |
//! | [`sealing`] | one plaintext for a set of devices |
//! | [`opening`] | one ciphertext, and the ways it can fail |
//! | [`trust`] | pinning: what changed since a device list was last seen |
//! | [`repair`] | how often a broken session may be mended |
//! | [`stream`] | answers that are shown while they are being written |
//! | [`approval`] | what an agent asks to be allowed, and what a device signs about it |
//! | `arguments` | that what is asked for reads as one thing only |
//! | [`safety_number`] | what two people compare to know there is nobody between them |

pub mod account;
pub mod approval;
mod arguments;
pub mod opening;
pub mod peer;
pub mod plaintext;
pub mod repair;
pub mod safety_number;
pub mod sealing;
pub mod stream;
pub mod trust;

pub use account::{AccountPickle, DeviceAccount, OwnIdentity};
pub use approval::{ApprovalRequest, Asked, SignedVerdict, Statement, Verdict, VoidVerdict};
pub use opening::{DecryptionFailure, Expected, Opened, open};
pub use peer::{PeerDevice, PeerPickle, RatchetsPickle, UntrustedKey};
pub use plaintext::{Body, Plaintext, ResentItem, Text};
pub use repair::RepairBudget;
pub use safety_number::SafetyNumber;
pub use sealing::{SealError, Told, seal};
pub use trust::{IdentityChange, IdentityChangeKind, Reconciled, reconcile};

#[cfg(test)]
mod tests;
