//! The suite, and what only a server that can go away can show.

use async_trait::async_trait;
use colloquy_storage::conformance::live::{Joined, Meeting};
use colloquy_test_services::{RedisProcess, start_redis};

use super::{RedisLive, RedisOptions};

/// One Redis that nobody else uses.
struct OneServer {
    redis: RedisProcess,
}

#[async_trait]
impl Meeting for OneServer {
    async fn join(&self) -> Joined {
        let (live, signals, health) =
            RedisLive::open(&RedisOptions::standalone(&self.redis.url)).await.unwrap();
        assert!(*health.borrow(), "it answers");
        (live, signals)
    }
}

async fn open() -> OneServer {
    OneServer { redis: start_redis() }
}

colloquy_storage::live_conformance_suite!(crate::redis::tests::open);
