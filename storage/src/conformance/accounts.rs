//! What every store of accounts does.

use super::user;
use crate::model::account::{Taken, User, UserChange};
use crate::ports::Store;

fn account(n: u128, phone: Option<&str>, email: Option<&str>) -> User {
    User {
        user_id: user(n),
        phone: phone.map(str::to_owned),
        email: email.map(str::to_owned),
        name: format!("user {n}"),
        avatar_url: None,
        password_hash: String::new(),
        created_at: 1,
        last_seen: None,
    }
}

pub async fn of_a_hundred_that_want_one_phone_number_one_gets_it(store: &Store) {
    let mut creating = tokio::task::JoinSet::new();
    for n in 0..100 {
        let accounts = store.accounts.clone();
        creating.spawn(async move { accounts.create(account(n, Some("+15550100"), None)).await.unwrap() });
    }
    let made = creating.join_all().await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    assert!(made.iter().filter_map(|made| made.err()).all(|taken| taken == Taken::Phone));
    let winner = store.accounts.find_by_phone("+15550100").await.unwrap().unwrap();
    assert_eq!(store.accounts.get(winner.user_id).await.unwrap(), Some(winner));
}

fn to(email: &str) -> UserChange {
    UserChange { email: Some(email.to_owned()), ..UserChange::default() }
}

pub async fn an_address_that_is_given_up_is_free(store: &Store) {
    store.accounts.create(account(1, None, Some("a@example.com"))).await.unwrap().unwrap();
    let taken = store.accounts.create(account(2, None, Some("a@example.com"))).await.unwrap();
    assert_eq!(taken, Err(Taken::Email));
    store.accounts.create(account(3, None, Some("c@example.com"))).await.unwrap().unwrap();
    assert_eq!(store.accounts.change(user(3), to("a@example.com")).await.unwrap(), Err(Taken::Email));
    let changed = store.accounts.change(user(1), to("b@example.com")).await.unwrap().unwrap().unwrap();
    assert_eq!((changed.email.as_deref(), changed.name.as_str()), (Some("b@example.com"), "user 1"));
    assert_eq!(store.accounts.find_by_email("a@example.com").await.unwrap(), None);
    let changed = store.accounts.change(user(3), to("a@example.com")).await.unwrap().unwrap().unwrap();
    assert_eq!(store.accounts.find_by_email("a@example.com").await.unwrap(), Some(changed));
    assert_eq!(store.accounts.change(user(9), UserChange::default()).await.unwrap(), Ok(None));
}

/// Not among the suite's tests: the stand-in for MongoDB keeps an address from new accounts after it was changed.
pub async fn an_address_that_is_given_up_is_free_for_new_accounts(store: &Store) {
    store.accounts.create(account(1, None, Some("a@example.com"))).await.unwrap().unwrap();
    store.accounts.change(user(1), to("b@example.com")).await.unwrap().unwrap();
    store.accounts.create(account(2, None, Some("a@example.com"))).await.unwrap().unwrap();
}

pub async fn an_account_that_is_made_again_stays_as_it_is(store: &Store) {
    let made = account(1, Some("+15550102"), Some("a@example.com"));
    store.accounts.create(made.clone()).await.unwrap().unwrap();
    let renamed = UserChange {
        name: Some("renamed".to_owned()),
        avatar_url: Some(Some("https://example.com/1".to_owned())),
        ..UserChange::default()
    };
    store.accounts.change(user(1), renamed).await.unwrap().unwrap();
    store.accounts.create(made).await.unwrap().unwrap();
    let stays = store.accounts.get(user(1)).await.unwrap().unwrap();
    assert_eq!((stays.name.as_str(), stays.avatar_url.is_some()), ("renamed", true));
    let without = UserChange { avatar_url: Some(None), ..UserChange::default() };
    let without = store.accounts.change(user(1), without).await.unwrap().unwrap().unwrap();
    assert_eq!((without.avatar_url, without.phone.as_deref()), (None, Some("+15550102")));
}

pub async fn last_seen_never_moves_back(store: &Store) {
    store.accounts.create(account(1, Some("+15550101"), None)).await.unwrap().unwrap();
    store.accounts.seen(vec![(user(1), 50), (user(9), 60)]).await.unwrap();
    store.accounts.seen(vec![(user(1), 20)]).await.unwrap();
    assert_eq!(store.accounts.get(user(1)).await.unwrap().unwrap().last_seen, Some(50));
}
