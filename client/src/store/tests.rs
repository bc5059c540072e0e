//! Stores that are closed, reopened, opened twice, and opened with the wrong key.

use std::path::Path;

use colloquy_protocol::ids::{ConversationId, DeviceAddress, DeviceId, IdempotencyKey, MessageId, UserId};
use uuid::{Builder, Uuid};

use super::outbox::{NewMessage, OUTBOX_MAX};
use super::*;
use crate::ambient::Workers;
use crate::crypto::{Body, DeviceAccount};

fn key_file(folder: &Path) -> Unlock {
    Unlock::KeyFile(folder.join("key"))
}

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("db"), &key_file(folder), Workers::Threads).unwrap()
}

fn address() -> DeviceAddress {
    DeviceAddress { user_id: UserId(Uuid::from_u128(1)), device_id: DeviceId::new("phone").unwrap() }
}

fn conversation(n: u128) -> ConversationId {
    ConversationId(Uuid::from_u128(n))
}

fn message(id: u128, sequence_number: u64) -> MessageRecord {
    MessageRecord {
        message_id: MessageId(Uuid::from_u128(id)),
        conversation_id: conversation(1),
        sequence_number,
        sender: address(),
        local_id: None,
        timestamp: 5,
        content: MessageContent::Known(Body::Text(format!("secret words {sequence_number}").into())),
        told: Vec::new(),
        reply_to: None,
    }
}

fn new_message(n: u8) -> NewMessage {
    let key = IdempotencyKey::new(Builder::from_random_bytes([n; 16]).into_uuid()).unwrap();
    NewMessage::new(key, conversation(1), UserId(Uuid::from_u128(2)), Body::Text("secret words".into()))
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_what_was_not_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let account = DeviceAccount::generate(address());
    {
        let store = open(folder.path());
        store
            .update(|tx| {
                tx.put_account(&account);
                tx.put_message(&message(1, 1));
                tx.put_conversation(&ConversationRecord {
                    cursor: 1,
                    ..ConversationRecord::new(conversation(1), UserId(Uuid::from_u128(2)))
                });
                tx.enqueue(new_message(1), 7)?;
                Ok::<_, StoreError>(())
            })
            .unwrap();
        let failed = store.update(|tx| {
            tx.put_message(&message(2, 2));
            Err::<(), _>(StoreError::OutboxFull)
        });
        assert!(failed.is_err());
    }
    let store = open(folder.path());
    store
        .read(|tx| {
            assert_eq!(tx.account()?.unwrap().sender_key(), account.sender_key());
            assert_eq!(tx.conversation(conversation(1))?.unwrap().cursor, 1);
            assert!(tx.has_seen(message(1, 1).message_id)? && !tx.has_seen(message(2, 2).message_id)?);
            assert_eq!(tx.message(message(1, 1).message_id)?, Some(message(1, 1)));
            let waiting = tx.outbox_all()?;
            assert_eq!(waiting.len(), 1);
            assert_eq!(waiting[0].body.text(), Some("secret words"));
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[tokio::test]
async fn what_was_written_without_sync_is_there_after_the_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let write = |tx: &mut Transaction<'_>| {
        tx.put_message(&message(1, 1));
        Ok::<_, StoreError>(())
    };
    store.update_without_sync(write).await.unwrap();
    drop(store);
    let message = open(folder.path()).read(|tx| tx.message_at(conversation(1), 1)).unwrap();
    assert!(message.is_some());
}

#[test]
fn history_is_read_backwards_in_pages_and_staged_writes_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .update(|tx| {
            (1..=9).for_each(|n| tx.put_message(&message(u128::from(n), n)));
            let numbers =
                |page: Vec<MessageRecord>| page.iter().map(|m| m.sequence_number).collect::<Vec<_>>();
            assert_eq!(numbers(tx.messages_before(conversation(1), None, 2)?), vec![8, 9]);
            Ok::<_, StoreError>(())
        })
        .unwrap();
    store
        .update(|tx| {
            tx.put_message(&message(10, 10));
            let numbers =
                |page: Vec<MessageRecord>| page.iter().map(|m| m.sequence_number).collect::<Vec<_>>();
            assert_eq!(numbers(tx.messages_before(conversation(1), None, 3)?), vec![8, 9, 10]);
            assert_eq!(numbers(tx.messages_before(conversation(1), Some(3), 10)?), vec![1, 2]);
            assert_eq!(numbers(tx.messages_between(conversation(1), 4, 6, 10)?), vec![4, 5, 6]);
            assert!(tx.messages_before(conversation(2), None, 10)?.is_empty());
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[test]
fn local_ids_are_never_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let enqueue = |n| store.update(|tx| tx.enqueue(new_message(n), 0)).unwrap().local_id;
    let first = enqueue(1);
    store.update(|tx| tx.remove_outbox(first)).unwrap();
    assert!(enqueue(2) > first);
    assert_eq!(store.read(|tx| tx.outbox_all()).unwrap().len(), 1);
}

#[test]
fn an_idempotency_key_is_used_once_per_sender() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let key = new_message(1).idempotency_key;
    let try_use = |sender| store.update(|tx| tx.use_key(UserId(Uuid::from_u128(sender)), key)).unwrap();
    assert_eq!([try_use(1), try_use(1), try_use(2)], [true, false, true]);
}

#[test]
fn a_full_outbox_refuses_one_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let outcome = store.update(|tx| {
        for _ in 0..OUTBOX_MAX {
            tx.enqueue(new_message(1), 0)?;
        }
        assert!(matches!(tx.enqueue(new_message(1), 0), Err(StoreError::OutboxFull)));
        Err::<(), _>(StoreError::Interrupted)
    });
    assert!(matches!(outcome, Err(StoreError::Interrupted)));
}

#[test]
fn what_a_turn_leads_to_waits_for_room_in_the_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let outcome = store.update(|tx| {
        let turn = TurnRecord {
            further: vec![new_message(2), new_message(3)],
            ..TurnRecord::new(MessageId(Uuid::from_u128(1)), conversation(1), 0)
        };
        tx.put_turn(&turn)?;
        let first = tx.enqueue(new_message(1), 0)?.local_id;
        for _ in 2..OUTBOX_MAX {
            tx.enqueue(new_message(1), 0)?;
        }
        let followed = tx.follow_up(turn.clone(), 0)?;
        assert_eq!((followed.enqueued.len(), followed.is_done), (1, false), "there is room for one");
        let left = tx.turn(turn.turn_id)?.expect("it is not done with");
        assert_eq!((left.is_answered, &left.further[..]), (true, &turn.further[1..]));
        assert!(tx.follow_up(left.clone(), 0)?.enqueued.is_empty());
        assert_eq!(tx.turn(turn.turn_id)?.as_ref(), Some(&left));
        tx.remove_outbox(first)?;
        let followed = tx.follow_up(left, 0)?;
        assert_eq!((followed.enqueued.len(), followed.is_done), (1, true));
        assert_eq!(tx.turn(turn.turn_id)?, None);
        Err::<(), _>(StoreError::Interrupted)
    });
    assert!(matches!(outcome, Err(StoreError::Interrupted)), "{outcome:?}");
}

#[test]
fn the_wrong_passphrase_and_the_wrong_means_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    drop(Store::open(&db, &Unlock::passphrase("right"), Workers::Threads).unwrap());
    assert!(matches!(
        Store::open(&db, &Unlock::passphrase("wrong"), Workers::Threads),
        Err(StoreError::WrongKey)
    ));
    assert!(matches!(
        Store::open(&db, &key_file(folder.path()), Workers::Threads),
        Err(StoreError::NeedsPassphrase)
    ));
    assert!(Store::open(&db, &Unlock::passphrase("right"), Workers::Threads).is_ok());
}

#[test]
fn a_second_user_of_the_same_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    let second = Store::open(&folder.path().join("db"), &key_file(folder.path()), Workers::Threads);
    assert!(matches!(second, Err(StoreError::InUse)), "{second:?}");
}

#[cfg(unix)]
#[test]
fn a_key_file_is_made_for_its_owner_alone_and_refused_when_others_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let path = folder.path().join("key");
    let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    mode(0o644);
    let exposed = Store::open(&folder.path().join("db"), &key_file(folder.path()), Workers::Threads);
    assert!(matches!(exposed, Err(StoreError::KeyFileExposed)));
    mode(0o600);
    std::fs::write(&path, [7; 32]).unwrap();
    let other = Store::open(&folder.path().join("db"), &key_file(folder.path()), Workers::Threads);
    assert!(matches!(other, Err(StoreError::WrongKey)));
}

#[test]
fn a_key_file_that_a_crash_left_unfinished_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let unfinished = folder.path().join("key.unfinished");
    std::fs::write(&unfinished, [7; 5]).unwrap();
    drop(open(folder.path()));
    assert!(!unfinished.exists());
    assert_eq!(std::fs::metadata(folder.path().join("key")).unwrap().len(), 32);
    drop(open(folder.path()));
}

#[test]
fn no_file_of_the_store_holds_a_text_or_an_id_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path());
        store
            .update(|tx| {
                tx.put_message(&message(0x1122_3344_5566_7788_99aa_bbcc_ddee_ff01, 1));
                tx.enqueue(new_message(1), 0)?;
                Ok::<_, StoreError>(())
            })
            .unwrap();
    }
    let id = 0x1122_3344_5566_7788_99aa_bbcc_ddee_ff01_u128.to_be_bytes();
    let mut files = vec![folder.path().join("db")];
    let mut looked_at = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(path).unwrap();
        looked_at += bytes.len();
        assert!(!bytes.windows(12).any(|window| window == b"secret words"));
        assert!(!bytes.windows(16).any(|window| window == id));
    }
    assert!(looked_at > 0);
}
