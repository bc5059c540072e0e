//! What a handler asks a request for. Each extractor answers a bad request with a problem document of its own.

mod caller;
mod client_address;
mod events;
mod json;
mod path;
mod query;

pub use caller::Caller;
pub(crate) use caller::bearer_token;
pub use client_address::{ClientAddress, PeerAddress, TrustForwardedFor};
pub(crate) use events::{EventData, events_of, is_signed, parsed};
pub use json::{BODY_MAX_BYTES, Json};
pub use path::Path;
pub use query::Query;
