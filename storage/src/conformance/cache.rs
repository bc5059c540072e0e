//! What every cache does.

use bytes::Bytes;

use super::user;
use crate::ports::cache::{CACHED_MAX_BYTES, Cache, CacheKey, MessageHash};

/// Makes one test of each behaviour. `$open` is the path of an async function that returns an empty cache in an `Arc`, and
/// whatever has to live as long.
///
/// For a service that takes long to start, `in_turn` shows them one after the other within a test; `$open` is then an
/// expression that makes an empty cache each time.
#[macro_export]
macro_rules! cache_conformance_suite {
    (in_turn $open:expr) => {
        $crate::cache_conformance_suite! { @all in_turn $open }
    };
    ($open:path) => {
        $crate::cache_conformance_suite! { @all each $open }
    };
    (@all $($how:tt)*) => {
        $crate::cache_conformance_suite! { @ $($how)*;
            what_was_put_last_is_found_until_it_is_forgotten
            kinds_do_not_meet_under_one_number
            every_key_has_a_value_of_its_own
            a_value_is_kept_byte_for_byte_up_to_its_bound
            a_value_beyond_the_bound_is_not_kept_nor_the_one_before_it
        }
    };
    (@ in_turn $open:expr; $($behaviour:ident)*) => {
        $({
            let cache = $open;
            $crate::conformance::cache::$behaviour(&*cache).await;
        })*
    };
    (@ each $open:path; $($behaviour:ident)*) => {
        mod cache {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let (cache, _alive) = $open().await;
                $crate::conformance::cache::$behaviour(&*cache).await;
            })*
        }
    };
}

/// Keys on every node of a Cluster.
const MANY: u128 = 100;

/// Agent number `n`.
#[must_use]
pub fn agent(n: u128) -> CacheKey {
    CacheKey::Agent(user(n))
}

/// Message number `n`.
#[must_use]
pub fn intent(n: u128) -> CacheKey {
    let mut hash = [0; 32];
    hash[16..].copy_from_slice(&n.to_be_bytes());
    CacheKey::Intent(MessageHash(hash))
}

/// The session of user number `n`.
#[must_use]
pub fn session(n: u128) -> CacheKey {
    CacheKey::Session(user(n))
}

async fn found(cache: &dyn Cache, key: CacheKey) -> Option<Bytes> {
    cache.get(&key).await.unwrap()
}

pub async fn what_was_put_last_is_found_until_it_is_forgotten(cache: &dyn Cache) {
    for key in [agent(1), intent(1), session(1)] {
        assert_eq!(found(cache, key).await, None);
        cache.forget(&key).await.unwrap();
        cache.put(&key, "first".into()).await.unwrap();
        cache.put(&key, "second".into()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(found(cache, key).await, Some("second".into()));
        }
        cache.forget(&key).await.unwrap();
        assert_eq!(found(cache, key).await, None);
        cache.put(&key, "third".into()).await.unwrap();
        assert_eq!(found(cache, key).await, Some("third".into()));
    }
}

pub async fn kinds_do_not_meet_under_one_number(cache: &dyn Cache) {
    cache.put(&agent(1), "agent".into()).await.unwrap();
    cache.put(&session(1), "session".into()).await.unwrap();
    cache.put(&intent(1), "intent".into()).await.unwrap();
    cache.forget(&session(1)).await.unwrap();
    assert_eq!(found(cache, agent(1)).await, Some("agent".into()));
    assert_eq!(found(cache, session(1)).await, None);
    assert_eq!(found(cache, intent(1)).await, Some("intent".into()));
}

pub async fn every_key_has_a_value_of_its_own(cache: &dyn Cache) {
    for n in 0..MANY {
        cache.put(&intent(n), n.to_string().into()).await.unwrap();
    }
    for n in (0..MANY).step_by(2) {
        cache.forget(&intent(n)).await.unwrap();
    }
    for n in 0..MANY {
        let wanted = (n % 2 == 1).then(|| Bytes::from(n.to_string()));
        assert_eq!(found(cache, intent(n)).await, wanted, "{n}");
    }
}

pub async fn a_value_is_kept_byte_for_byte_up_to_its_bound(cache: &dyn Cache) {
    let every_byte = Bytes::from_iter(0..=u8::MAX);
    let largest = Bytes::from(every_byte.repeat(CACHED_MAX_BYTES / every_byte.len()));
    assert_eq!(largest.len(), CACHED_MAX_BYTES);
    for value in [Bytes::new(), every_byte, "\r\n$-1\r\n".into(), largest] {
        cache.put(&agent(1), value.clone()).await.unwrap();
        assert_eq!(found(cache, agent(1)).await, Some(value));
    }
}

pub async fn a_value_beyond_the_bound_is_not_kept_nor_the_one_before_it(cache: &dyn Cache) {
    cache.put(&agent(1), "earlier".into()).await.unwrap();
    cache.put(&agent(2), "of another".into()).await.unwrap();
    cache.put(&agent(1), Bytes::from(vec![b'a'; CACHED_MAX_BYTES + 1])).await.unwrap();
    assert_eq!(found(cache, agent(1)).await, None);
    assert_eq!(found(cache, agent(2)).await, Some("of another".into()));
    cache.put(&agent(1), "later".into()).await.unwrap();
    assert_eq!(found(cache, agent(1)).await, Some("later".into()));
}
