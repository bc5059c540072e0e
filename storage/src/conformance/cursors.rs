//! What every store of cursors does.

use super::{device, pair, user};
use crate::model::cursor::{Cursor, CursorKind};
use crate::ports::Store;

pub async fn cursors_only_move_forward_in_whatever_order_they_come(store: &Store) {
    let conversation_id = pair(store, 1, 2).await;
    let kinds = [CursorKind::Delivered(device("phone")), CursorKind::Read, CursorKind::Sent];
    for through in [5, 3, 9, 0, 9, 4] {
        let cursor = |kind| Cursor { conversation_id, user_id: user(1), kind, through };
        store.cursors.advance(kinds.iter().cloned().map(cursor).collect()).await.unwrap();
    }
    // Also within one call.
    let cursor = |through| Cursor { conversation_id, user_id: user(2), kind: CursorKind::Read, through };
    store.cursors.advance(vec![cursor(8), cursor(2)]).await.unwrap();
    let found = store.cursors.of_conversation(conversation_id).await.unwrap();
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|cursor| cursor.through == if cursor.user_id == user(1) { 9 } else { 8 }));
}

pub async fn cursors_are_found_by_conversation_and_by_user(store: &Store) {
    let (first, second) = (pair(store, 1, 2).await, pair(store, 1, 3).await);
    let cursor = |conversation_id, n, kind| Cursor { conversation_id, user_id: user(n), kind, through: 4 };
    let all = vec![
        cursor(first, 1, CursorKind::Delivered(device("phone"))),
        cursor(first, 1, CursorKind::Delivered(device("laptop"))),
        cursor(first, 2, CursorKind::Read),
        cursor(second, 1, CursorKind::Sent),
    ];
    store.cursors.advance(all.clone()).await.unwrap();
    let same = |mut found: Vec<Cursor>, mut wanted: Vec<Cursor>| {
        let order = |cursor: &Cursor| (cursor.conversation_id, cursor.user_id, cursor.kind.clone());
        found.sort_by_key(order);
        wanted.sort_by_key(order);
        assert_eq!(found, wanted);
    };
    let wanted = |fits: &dyn Fn(&Cursor) -> bool| all.iter().filter(|c| fits(c)).cloned().collect();
    same(store.cursors.of_conversation(first).await.unwrap(), wanted(&|c| c.conversation_id == first));
    same(store.cursors.of_user(user(1)).await.unwrap(), wanted(&|c| c.user_id == user(1)));
}
