//! The device's own encrypted database: one fjall database per profile, used by one process at a time.
//!
//! Every value is sealed with XChaCha20-Poly1305 under a key that only the passphrase or key file unwraps; its
//! record key is authenticated with it, so records cannot be swapped. Ids in record keys are replaced by a keyed
//! hash; sequence numbers stay readable, because the order of history is read from them.
//!
//! Everything is written through [`Store::update`]: one writer at a time, one atomic batch, fsynced before it
//! returns, except for what the server tells again: see [`Store::update_without_sync`]. A ratchet that advanced, the
//! message it decrypted and the cursor behind it are one batch (DURABLE).
//!
//! | file | noun |
//! |---|---|
//! | [`database`] | the database and its transactions |
//! | [`master_key`] | passphrase or key file, and the keys derived from them |
//! | [`sealer`] | sealing values, blinding ids |
//! | [`table`] | which tables there are, and how their keys are made |
//! | [`settings`] | the profile, the log-in, the account |
//! | [`peers`] | other devices and device lists |
//! | [`conversations`] | conversations, their marks and cursors |
//! | [`messages`] | decrypted messages, and which ids were seen |
//! | [`outbox`] | what is to be sent |
//! | [`repairs`] | what could not be decrypted and is to be asked for |
//! | [`turns`] | what an agent has taken on and not answered |
//! | [`decisions`] | what was decided on requests for approval |
//! | `power` | a power cut, for simulations |

pub mod conversations;
pub mod database;
pub mod decisions;
pub mod master_key;
pub mod messages;
pub mod outbox;
pub mod peers;
#[cfg(feature = "mutations")]
mod power;
pub mod repairs;
pub mod sealer;
pub mod settings;
pub mod table;
pub mod turns;

pub use conversations::ConversationRecord;
pub use database::{Store, StoreError, Transaction};
pub use decisions::DecisionRecord;
pub use master_key::Unlock;
pub use messages::{MessageContent, MessageRecord};
pub use outbox::{LocalMessageId, OutboxRecord, OutboxState, SendFailure};
pub use peers::DeviceListRecord;
pub use settings::{LogInRecord, ProfileRecord};
pub use turns::TurnRecord;

#[cfg(test)]
mod tests;
