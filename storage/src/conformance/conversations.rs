//! What every directory of conversations does.

use colloquy_protocol::ids::ConversationId;

use super::{message, pair, user};
use crate::model::conversation::ListPosition;
use crate::ports::Store;
use crate::ports::message_log::Append;

pub async fn a_pair_has_one_conversation_however_many_open_it_at_once(store: &Store) {
    let mut opening = tokio::task::JoinSet::new();
    for n in 0..50 {
        let conversations = store.conversations.clone();
        let (a, b) = if n % 2 == 0 { (user(1), user(2)) } else { (user(2), user(1)) };
        opening.spawn(async move { conversations.open_pair(a, b, 7).await.unwrap() });
    }
    let opened = opening.join_all().await;
    assert_eq!(opened.iter().filter(|(_, made)| *made).count(), 1);
    let id = ConversationId::of_pair(user(1), user(2));
    assert!(opened.iter().all(|(conversation, _)| conversation.conversation_id == id));
    let found = store.conversations.get(id).await.unwrap().unwrap();
    assert_eq!((found.participants, found.created_at), (vec![user(1), user(2)], 7));
}

pub async fn lists_show_the_newest_activity_first_and_page_on(store: &Store) {
    for peer in 2..8_u128 {
        let id = pair(store, 1, peer).await;
        let own = store.log.take_ownership(id).await.unwrap();
        // The higher the peer's number, the older its last message.
        let messages = vec![message(id, 1, 1_000 - peer, "text")];
        let append = Append { conversation_id: id, epoch: own.epoch, after_sequence: 0, messages };
        store.log.append(vec![append]).await.unwrap();
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.conversations.list(user(1), after, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        let conversation_id = last.conversation.conversation_id;
        after = Some(ListPosition { last_activity: last.last_activity(), conversation_id });
        seen.extend(page.iter().map(|at_end| at_end.conversation.peer_of(user(1)).unwrap()));
    }
    assert_eq!(seen, (2..8).map(user).collect::<Vec<_>>());
}

pub async fn a_walk_visits_every_conversation_once(store: &Store) {
    let mut ids = Vec::new();
    for peer in 2..25 {
        ids.push(pair(store, 1, peer).await);
    }
    pair(store, 30, 31).await;
    ids.sort();
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.conversations.walk(user(1), after, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.conversation.conversation_id);
        seen.extend(page.iter().map(|at_end| at_end.conversation.conversation_id));
    }
    assert_eq!(seen, ids);
}

pub async fn users_share_a_conversation_or_not(store: &Store) {
    pair(store, 1, 2).await;
    pair(store, 2, 3).await;
    assert!(store.conversations.share_one(user(1), user(2)).await.unwrap());
    assert!(store.conversations.share_one(user(2), user(1)).await.unwrap());
    assert!(!store.conversations.share_one(user(1), user(3)).await.unwrap());
}
