//! The cache: one key for each value, and the server lets it go when its time is up.
//!
//! How many there are is bounded by their times, and by the server's `maxmemory`: it may drop any of them for room.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_storage::ports::StoreResult;
use colloquy_storage::ports::cache::{CACHED_MAX_BYTES, Cache, CacheKey};
use redis::{Cmd, Value, cmd, from_redis_value};

use super::error::RedisFailure;
use super::link::Link;
use super::names::Names;

struct RedisCache {
    names: Names,
    keys: Link,
}

pub(super) fn redis_cache(names: Names, keys: Link) -> Arc<dyn Cache> {
    Arc::new(RedisCache { names, keys })
}

impl RedisCache {
    fn command(&self, name: &str, key: &CacheKey) -> Cmd {
        let mut command = cmd(name);
        command.arg(self.names.cached(key));
        command
    }

    async fn run(&self, command: Cmd) -> Result<Value, RedisFailure> {
        self.keys.line()?.run(&[command]).await?.pop().ok_or(RedisFailure::Nonsense)
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &CacheKey) -> StoreResult<Option<Bytes>> {
        let answer = self.run(self.command("GET", key)).await?;
        let value: Option<Vec<u8>> = from_redis_value(answer).map_err(|_| RedisFailure::Nonsense)?;
        Ok(value.map(Bytes::from))
    }

    async fn put(&self, key: &CacheKey, value: Bytes) -> StoreResult<()> {
        if value.len() > CACHED_MAX_BYTES {
            return self.forget(key).await;
        }
        let mut setting = self.command("SET", key);
        setting.arg(&value[..]).arg("EX").arg(key.ttl().as_secs());
        self.run(setting).await?;
        Ok(())
    }

    async fn forget(&self, key: &CacheKey) -> StoreResult<()> {
        self.run(self.command("DEL", key)).await?;
        Ok(())
    }
}
