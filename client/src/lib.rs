//! The client SDK: end-to-end encryption, an encrypted local store, and a connection that comes back.
//!
//! A program opens a profile, logs in, connects, and from then on reads events and sends texts:
//!
//! ```no_run
//! # use colloquy_client::{Client, Event, Identifier, ProfileOptions, Unlock, UserQuery};
//! # async fn example() -> Result<(), colloquy_client::ClientError> {
//! let client = Client::open(ProfileOptions {
//!     folder: "profile".into(),
//!     unlock: Unlock::passphrase("correct horse battery staple"),
//!     server_url: "https://chat.example".into(),
//!     device_id: None,
//!     platform: "terminal".into(),
//! })
//! .await?;
//! client.log_in(Identifier::Email("left@example.org".into()), "a password".into()).await?;
//! let mut events = client.connect()?;
//! let grace = client.find_user(UserQuery::Email("grace@example.org".into())).await?;
//! client.send_text(grace.user_id, "hello").await?;
//! while let Some(event) = events.next().await {
//!     if let Event::MessageReceived(message) = event {
//!         client.mark_read(message.conversation_id).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it is | I/O |
//! |---|---|---|
//! | [`client`] | the handle a program holds | all of it |
//! | [`event`], [`message`], [`profile`] | what is told, shown and asked for | none |
//! | [`crypto`] | keys, sessions, plaintexts, safety numbers | none |
//! | [`sync`] | order in, order out, backoff: pure machines | none |
//! | [`store`] | the encrypted local database | disk |
//! | [`api`] | the REST interface | network |
//! | [`network`], [`surroundings`], [`ambient`] | what is around it: the machine's, or a simulation's | all of it |
//! | [`terminal`] | the client in a terminal | terminal |
//! | `connection` | the task that drives the machines | network |

pub mod ambient;
pub mod api;
pub mod client;
mod connection;
pub mod crypto;
pub mod event;
pub mod message;
pub mod network;
pub mod profile;
pub mod store;
pub mod surroundings;
pub mod sync;
pub mod terminal;

pub use api::ApiError;
pub use api::accounts::UserQuery;
pub use client::routing::RouteHints;
pub use client::turns::{
    APPROVAL_GOOD_FOR_MAX, Answer, AnswerStream, Decision, NOTES_MAX, Note, Turn, TurnContent, WantedApproval,
};
pub use client::{Client, ClientError, Recipient};
pub use connection::credentials::CredentialError;
pub use crypto::approval::{ACTION_MAX_BYTES, ARGUMENTS_MAX_BYTES};
pub use crypto::plaintext::{ANSWER_MAX_BYTES, TEXT_MAX_BYTES};
pub use crypto::{
    ApprovalRequest, DecryptionFailure, IdentityChange, IdentityChangeKind, SafetyNumber, Verdict,
    VoidVerdict,
};
pub use event::{DisconnectReason, Event, Events, GrowingAnswer};
pub use message::{ConversationSummary, Message, MessageState, ShownContent, ShownRequest};
pub use profile::{Identifier, ProfileOptions, Registration};
pub use store::{LocalMessageId, SendFailure, StoreError, Unlock};
pub use surroundings::Surroundings;
