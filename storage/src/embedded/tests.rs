//! The embedded store passes the suite, and keeps what only it promises: crashes, reopening, locks.

use tempfile::TempDir;

use super::encoding::{id_pair, idempotency_key};
use super::keyspaces::Space;
use super::{EmbeddedOptions, EmbeddedStore, OpenError};
use crate::conformance::dead_letters::letter;
use crate::conformance::{message, pair};
use crate::model::dead_letter::DeadLetter;
use crate::model::login::Login;
use crate::ports::Store;
use crate::ports::message_log::{Append, Appended};
use colloquy_protocol::ids::{LoginId, MessageId, UserId};
use colloquy_protocol::limits::DEAD_LETTERS_MAX;
use uuid::Uuid;

async fn open() -> (Store, (EmbeddedStore, TempDir)) {
    let folder = tempfile::tempdir().unwrap();
    let opened = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default()).unwrap();
    (opened.store(), (opened, folder))
}

crate::conformance_suite!(crate::embedded::tests::open);

/// As simulations open it.
mod in_place {
    use super::*;
    use crate::ambient::Workers;

    async fn open() -> (Store, (EmbeddedStore, TempDir)) {
        let folder = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions { workers: Workers::InPlace, ..EmbeddedOptions::default() };
        let opened = EmbeddedStore::open(folder.path(), &options).unwrap();
        (opened.store(), (opened, folder))
    }

    crate::conformance_suite!(crate::embedded::tests::in_place::open);

    #[tokio::test]
    async fn what_is_written_after_the_end_is_refused() {
        let (store, (opened, _folder)) = open().await;
        opened.close().await.unwrap();
        assert!(store.logins.create(login()).await.is_err());
    }
}

#[tokio::test]
async fn an_address_that_is_given_up_is_free_for_new_accounts() {
    let (store, _alive) = open().await;
    crate::conformance::accounts::an_address_that_is_given_up_is_free_for_new_accounts(&store).await;
}

fn login() -> Login {
    Login {
        login_id: LoginId(Uuid::from_u128(1)),
        user_id: UserId(Uuid::from_u128(2)),
        device_id: None,
        generation: 0,
        rotated_at: 0,
        created_at: 0,
        rotated_by: None,
    }
}

/// Copies the directory of a store that is open, as a crash would leave it.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash_and_after_a_close() {
    let (store, (opened, folder)) = open().await;
    store.logins.create(login()).await.unwrap();
    let crashed = tempfile::tempdir().unwrap();
    copy(folder.path(), crashed.path());
    opened.close().await.unwrap();
    drop(store);
    for path in [folder.path(), crashed.path()] {
        let again = EmbeddedStore::open(path, &EmbeddedOptions::default()).unwrap();
        assert_eq!(again.store().logins.get(login().login_id).await.unwrap(), Some(login()));
    }
}

#[tokio::test]
async fn dead_letters_of_before_there_was_an_index_are_found_by_conversation_once_the_store_is_opened_again()
{
    let (store, (opened, folder)) = open().await;
    let conversation_id = pair(&store, 1, 2).await;
    let turn_id = MessageId(Uuid::from_u128(5));
    let letter = DeadLetter { conversation_id, ..letter(5, "agent-a") };
    store.dead_letters.put(letter.clone()).await.unwrap();
    let unindexed = opened.0.write(move |group| {
        group.remove(Space::DeadLetterPlaces, id_pair(conversation_id.0, turn_id.0));
        Ok(())
    });
    unindexed.await.unwrap();
    assert!(store.dead_letters.of_conversations(&[conversation_id], 1).await.unwrap().is_empty());
    opened.close().await.unwrap();
    drop(store);
    let again = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default()).unwrap();
    let letters = again.store().dead_letters;
    assert_eq!(letters.of_conversations(&[conversation_id], 1).await.unwrap(), [letter]);
}

#[tokio::test]
async fn a_list_of_dead_letters_that_is_full_leaves_room_in_the_other() {
    let (store, (opened, _folder)) = open().await;
    let filled = opened.0.write(|group| {
        for n in 0..DEAD_LETTERS_MAX as u128 {
            group.put(Space::Untold, n.to_be_bytes(), *b"whatever it says");
        }
        Ok(())
    });
    filled.await.unwrap();
    let one_more = || letter(u128::MAX, "agent-a");
    assert!(!store.untold.put(one_more()).await.unwrap());
    assert!(store.dead_letters.put(one_more()).await.unwrap());
}

#[tokio::test]
async fn a_directory_in_use_is_refused_by_name_and_a_closed_store_refuses_writes() {
    let (store, (opened, folder)) = open().await;
    let second = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    opened.close().await.unwrap();
    assert!(store.logins.create(login()).await.is_err());
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_written_and_what_was_answered_is_still_read() {
    let (store, (opened, folder)) = open().await;
    store.logins.create(login()).await.unwrap();
    let failing = opened.0.write(|group| {
        group.fail_commit = true;
        group.put(Space::Meta, *b"a full disk", *b"x");
        Ok(())
    });
    assert!(failing.await.is_err());
    opened.failed().await;
    assert!(!opened.is_writable());
    let other = Login { login_id: LoginId(Uuid::from_u128(9)), ..login() };
    assert!(store.logins.create(other).await.is_err(), "until the journal has been read back");
    assert_eq!(store.logins.get(login().login_id).await.unwrap(), Some(login()));
    opened.close().await.unwrap();
    drop(store);
    let again = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default()).unwrap();
    assert_eq!(again.store().logins.get(login().login_id).await.unwrap(), Some(login()));
}

#[tokio::test]
async fn a_stale_epoch_is_always_fenced_also_before_the_new_owner_has_appended() {
    let (store, _alive) = open().await;
    let conversation_id = pair(&store, 1, 2).await;
    let stale = store.log.take_ownership(conversation_id).await.unwrap().epoch;
    let epoch = store.log.take_ownership(conversation_id).await.unwrap().epoch;
    let append = async |epoch, after_sequence, n| {
        let messages = vec![message(conversation_id, 1, n, "text")];
        let append = Append { conversation_id, epoch, after_sequence, messages };
        store.log.append(vec![append]).await.unwrap().remove(0)
    };
    // It knows the log's end; only its epoch is against it.
    assert_eq!(append(stale, 0, 1).await, Appended::Fenced { epoch, last_sequence: 0 });
    assert!(matches!(append(epoch, 0, 2).await, Appended::Placed(_)));
    assert_eq!(append(stale, 1, 1).await, Appended::Fenced { epoch, last_sequence: 1 });
    assert!(matches!(append(epoch, 1, 3).await, Appended::Placed(_)));
    assert_eq!(store.log.end(conversation_id).await.unwrap().last_sequence, 2);
}

#[tokio::test]
async fn an_unreadable_record_stops_its_own_conversation_and_no_other_of_the_same_commit() {
    let (store, (opened, _folder)) = open().await;
    let (damaged, whole) = (pair(&store, 1, 2).await, pair(&store, 1, 3).await);
    let mut appends = Vec::new();
    for (nth, conversation_id) in [damaged, whole].into_iter().enumerate() {
        let epoch = store.log.take_ownership(conversation_id).await.unwrap().epoch;
        let messages = (0..3).map(|n| message(conversation_id, 1, nth as u128 * 10 + n, "text")).collect();
        appends.push(Append { conversation_id, epoch, after_sequence: 0, messages });
    }
    let of_the_last = &appends[0].messages[2];
    let key = idempotency_key(of_the_last.sender_id, of_the_last.idempotency_key);
    let damage = opened.0.write(move |group| {
        group.put(Space::IdempotencyKeys, key, *b"not a position");
        Ok(())
    });
    damage.await.unwrap();
    let answers = store.log.append(appends).await.unwrap();
    assert!(matches!(&answers[..], [Appended::Unreadable, Appended::Placed(placed)] if placed.len() == 3));
    assert_eq!(store.log.end(damaged).await.unwrap().last_sequence, 0);
    assert_eq!(store.log.end(whole).await.unwrap().last_sequence, 3);
}
