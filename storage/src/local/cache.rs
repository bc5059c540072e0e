//! A cache of this process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::ports::StoreResult;
use crate::ports::cache::{CACHED_MAX_BYTES, Cache, CacheKey};

/// Values that are kept at once: 64 MiB, if each is as large as it may be. The one that was put longest ago makes room
/// (BOUND).
pub const CACHE_MAX_ENTRIES: usize = 1024;

/// What pods of one process, or a node alone, keep for a while.
#[derive(Default)]
pub struct LocalCache(Mutex<Entries>);

/// Pure: the time is handed in. What has ended stays until it makes room.
#[derive(Default)]
struct Entries {
    next: u64,
    entries: HashMap<CacheKey, Entry>,
    /// In the order they were put. By that and not by their ends, or those of the shortest time would make room for all
    /// others.
    turns: BTreeMap<u64, CacheKey>,
}

struct Entry {
    turn: u64,
    end: Instant,
    value: Bytes,
}

impl LocalCache {
    /// A cache with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn get(&self, key: &CacheKey, now: Instant) -> Option<Bytes> {
        let entry = self.entries.get(key)?;
        (now < entry.end).then(|| entry.value.clone())
    }

    fn put(&mut self, key: CacheKey, value: Bytes, end: Instant) {
        self.forget(&key);
        if self.entries.len() == CACHE_MAX_ENTRIES
            && let Some((_, oldest)) = self.turns.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let turn = self.next;
        self.next += 1;
        self.turns.insert(turn, key);
        self.entries.insert(key, Entry { turn, end, value });
    }

    fn forget(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.turns.remove(&entry.turn);
        }
    }
}

#[async_trait]
impl Cache for LocalCache {
    async fn get(&self, key: &CacheKey) -> StoreResult<Option<Bytes>> {
        Ok(self.lock().get(key, Instant::now()))
    }

    async fn put(&self, key: &CacheKey, value: Bytes) -> StoreResult<()> {
        if value.len() > CACHED_MAX_BYTES {
            return self.forget(key).await;
        }
        // A part of a larger buffer would keep all of it.
        let value = Bytes::copy_from_slice(&value);
        self.lock().put(*key, value, Instant::now() + key.ttl());
        Ok(())
    }

    async fn forget(&self, key: &CacheKey) -> StoreResult<()> {
        self.lock().forget(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::conformance::cache::{agent, intent, session};

    async fn open() -> (Arc<dyn Cache>, ()) {
        (Arc::new(LocalCache::new()), ())
    }

    crate::cache_conformance_suite!(crate::local::cache::tests::open);

    async fn holds(cache: &LocalCache, key: CacheKey) -> bool {
        cache.get(&key).await.unwrap().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_kept_for_its_time_as_tokio_counts_it() {
        const MOMENT: Duration = Duration::from_millis(1);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (key, ttl) in [(agent(1), minutes(5)), (intent(1), minutes(60)), (session(1), minutes(60))] {
            let cache = LocalCache::new();
            cache.put(&key, "value".into()).await.unwrap();
            tokio::time::advance(ttl - MOMENT).await;
            assert!(holds(&cache, key).await, "{key:?}");
            tokio::time::advance(MOMENT).await;
            assert!(!holds(&cache, key).await, "{key:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_begins_anew_when_a_value_is_put_and_not_when_it_is_read() {
        let cache = LocalCache::new();
        let most_of_it = agent(1).ttl() * 2 / 3;
        cache.put(&agent(1), "first".into()).await.unwrap();
        tokio::time::advance(most_of_it).await;
        cache.put(&agent(1), "second".into()).await.unwrap();
        tokio::time::advance(most_of_it).await;
        assert!(holds(&cache, agent(1)).await);
        tokio::time::advance(most_of_it).await;
        assert!(!holds(&cache, agent(1)).await);
    }

    #[tokio::test]
    async fn what_was_put_longest_ago_makes_room_whatever_its_kind() {
        let cache = LocalCache::new();
        let max = CACHE_MAX_ENTRIES as u128;
        cache.put(&agent(0), "agent".into()).await.unwrap();
        for n in 1..max {
            cache.put(&intent(n), "intent".into()).await.unwrap();
        }
        // It is put again: now the first of the intents is the oldest, then the second.
        cache.put(&agent(0), "agent".into()).await.unwrap();
        assert!(holds(&cache, intent(1)).await);
        cache.put(&intent(max), "intent".into()).await.unwrap();
        assert!(!holds(&cache, intent(1)).await);
        // One that is forgotten has made room.
        cache.forget(&intent(5)).await.unwrap();
        cache.put(&intent(max + 1), "intent".into()).await.unwrap();
        assert!(holds(&cache, intent(2)).await && holds(&cache, agent(0)).await);
        let entries = cache.lock();
        assert_eq!((entries.entries.len(), entries.turns.len()), (CACHE_MAX_ENTRIES, CACHE_MAX_ENTRIES));
    }
}
