//! The suite every adapter of a port has to pass: free functions over a [`Store`], each a behaviour whose name says it,
//! and one macro that makes a test of each for an adapter.
//!
//! ```ignore
//! async fn open() -> (Store, impl Drop) { /* a store with nothing in it, and what keeps it alive */ }
//! colloquy_storage::conformance_suite!(crate::open);
//! ```
#![allow(missing_docs, reason = "a behaviour's name is its sentence")]
#![allow(clippy::unwrap_used, reason = "a behaviour fails by panicking, as a test does")]

pub mod accounts;
pub mod agents;
pub mod cache;
pub mod conversations;
pub mod cursors;
pub mod dead_letters;
pub mod key_directory;
pub mod live;
pub mod log_model;
pub mod logins;
pub mod message_log;
pub mod outbox;

use colloquy_protocol::envelope::{Algorithm, CiphertextKind, DeviceCiphertext, Envelope};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use uuid::Uuid;

use crate::model::message::Message;
use crate::ports::Store;

/// Makes one test of each behaviour. `$open` is the path of an async function that returns an empty [`Store`] and
/// whatever has to live as long.
#[macro_export]
macro_rules! conformance_suite {
    ($open:path) => {
        $crate::conformance_suite! { @ $open;
            message_log {
                numbers_are_contiguous_and_start_at_one
                a_retry_gets_the_first_message_and_uses_no_number
                the_second_of_two_equal_keys_in_one_append_is_a_duplicate
                a_key_with_another_body_is_told_from_a_retry
                the_same_key_of_another_sender_is_another_message
                many_conversations_are_appended_to_at_once
                a_stale_owner_is_fenced_or_the_new_one_is_told_what_it_stored
                an_owner_that_missed_a_message_is_fenced
                an_owner_learns_when_the_newest_message_was_stored
                a_read_stops_at_its_bounds
                messages_are_found_by_id_and_by_key
                two_owners_that_race_leave_no_hole_and_no_repeat
            }
            log_model {
                any_run_of_appends_leaves_what_the_model_holds
            }
            conversations {
                a_pair_has_one_conversation_however_many_open_it_at_once
                lists_show_the_newest_activity_first_and_page_on
                a_walk_visits_every_conversation_once
                users_share_a_conversation_or_not
            }
            cursors {
                cursors_only_move_forward_in_whatever_order_they_come
                cursors_are_found_by_conversation_and_by_user
            }
            accounts {
                of_a_hundred_that_want_one_phone_number_one_gets_it
                an_address_that_is_given_up_is_free
                an_account_that_is_made_again_stays_as_it_is
                last_seen_never_moves_back
            }
            agents {
                an_agent_is_found_by_id_and_by_user_as_it_was_registered
                of_fifty_that_want_one_name_one_gets_it
                a_change_is_made_to_what_its_maker_has_seen_or_not_at_all
                agents_are_listed_in_the_order_of_their_ids_page_by_page
                a_name_that_is_given_up_is_free
            }
            dead_letters {
                a_dead_letter_is_kept_as_it_was_first_put_until_it_is_removed
                a_dead_letter_that_is_replayed_says_when
                dead_letters_are_listed_by_age_of_one_agent_or_of_all_page_by_page
                the_newest_dead_letters_of_each_of_many_conversations_are_found_at_once
                what_is_in_one_list_is_not_in_the_other
            }
            outbox {
                positions_only_move_forward_in_whatever_order_they_come
                a_walk_visits_every_conversation_with_messages_once_with_its_end_and_position
                a_walk_shows_what_was_written_after_it_was_told
            }
            logins {
                of_fifty_concurrent_refreshes_one_rotates_and_the_others_are_retries
                a_refresh_under_its_own_name_is_answered_again_however_late_and_after_a_clock_was_set_back
                a_generation_used_long_ago_revokes_its_log_in
                a_log_in_is_bound_to_one_device_and_goes_with_it
                only_its_owner_revokes_a_log_in
            }
            key_directory {
                versions_grow_as_devices_come_and_go
                a_removed_device_is_named_as_a_former_one_until_its_id_is_used_again
                the_newest_former_devices_are_named_and_no_more
                a_removed_identity_never_comes_back_and_with_it_no_key_that_was_claimed
                a_device_with_other_keys_is_a_conflict_and_with_the_same_a_retry
                no_one_time_key_is_ever_given_out_twice
                a_claimed_key_does_not_come_back_by_publishing_it_again
                bounds_on_devices_and_keys_hold
                publications_that_cross_leave_no_more_keys_than_allowed
            }
        }
    };
    (@ $open:path; $($port:ident { $($behaviour:ident)* })*) => {
        $(mod $port {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let (store, _alive) = $open().await;
                $crate::conformance::$port::$behaviour(&store).await;
            })*
        })*
    };
}

/// User number `n`.
fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(0x1000 + n))
}

/// The device called `name`.
fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

/// Idempotency key number `n`.
fn key(n: u128) -> IdempotencyKey {
    IdempotencyKey::new(uuid::Builder::from_random_bytes(n.to_be_bytes()).into_uuid()).unwrap()
}

/// The conversation of users `a` and `b`, opened.
pub(crate) async fn pair(store: &Store, a: u128, b: u128) -> ConversationId {
    store.conversations.open_pair(user(a), user(b), 1).await.unwrap().0.conversation_id
}

/// A message of user `sender` under key `n` that says `text`; its id is made of sender and `n`.
pub(crate) fn message(conversation_id: ConversationId, sender: u128, n: u128, text: &str) -> Message {
    Message {
        message_id: MessageId(Uuid::from_u128((sender << 64) | n)),
        sequence_number: 0,
        conversation_id,
        sender_id: user(sender),
        sender_device_id: device("phone"),
        receiver_id: user(99),
        idempotency_key: key(n),
        r#type: MessageType::Text,
        content: Envelope {
            algorithm: Algorithm::OlmV1,
            sender_key: "A".repeat(43),
            ciphertexts: vec![DeviceCiphertext {
                user_id: user(99),
                device_id: device("laptop"),
                kind: CiphertextKind::Normal,
                body: text.to_owned(),
            }],
        },
        media_url: None,
        reply_to_message_id: None,
        sent_at: 1,
        created_at: u64::try_from(n).unwrap(),
    }
}
