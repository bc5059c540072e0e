//! Collections of features that are still to come, so that one migration serves them all.
//!
//! Each is found by its entity's id, which is the document's `_id`; here is what else will be looked for.

use std::time::Duration;

use mongodb::bson::doc;

use super::conversations::CONVERSATIONS;
use super::index::{Index, index};

/// Groups of people.
const GROUPS: &str = "groups";
/// What is known of media: the files are elsewhere.
const MEDIA: &str = "media";
/// Requests that make no message, by their keys (ONCE): messages have their own.
const IDEMPOTENCY_KEYS: &str = "idempotency_keys";

/// `keep_keys` is how long a request's key is remembered.
pub(in crate::mongo) fn indexes(keep_keys: Duration) -> Vec<Index> {
    vec![
        index(CONVERSATIONS, "with_agent", doc! { "user_id": 1, "agent_id": 1 })
            .only_with("agent_id")
            .build(),
        index(GROUPS, "of_participant", doc! { "participants": 1, "_id": 1 }).build(),
        index(MEDIA, "of_owner", doc! { "owner_id": 1, "created_at": -1 }).build(),
        index(IDEMPOTENCY_KEYS, "retention", doc! { "created_at": 1 }).expires_after(keep_keys).build(),
    ]
}
