//! The embedded store passes the suite, and keeps what only it promises: crashes, reopening, locks.

use tempfile::TempDir;

use super::{EmbeddedOptions, EmbeddedStore, OpenError};
use crate::model::login::Login;
use crate::ports::Store;
use colloquy_protocol::ids::{LoginId, UserId};
use uuid::Uuid;

async fn open() -> (Store, (EmbeddedStore, TempDir)) {
    let folder = tempfile::tempdir().unwrap();
    let opened = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default()).unwrap();
    (opened.store(), (opened, folder))
}

crate::conformance_suite!(crate::embedded::tests::open);

fn login() -> Login {
    Login {
        login_id: LoginId(Uuid::from_u128(1)),
        user_id: UserId(Uuid::from_u128(2)),
        device_id: None,
        generation: 0,
        rotated_at: 0,
        created_at: 0,
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
async fn a_directory_in_use_is_refused_by_name_and_a_closed_store_refuses_writes() {
    let (store, (opened, folder)) = open().await;
    let second = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    opened.close().await.unwrap();
    assert!(store.logins.create(login()).await.is_err());
}
