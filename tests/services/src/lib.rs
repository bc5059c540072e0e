//! MongoDB and Redis for tests: real processes, each on a free port and a directory of its own.
//!
//! A process takes about 0.2 s to be ready, so a test starts its own and shares it with nobody; a Redis Cluster takes some
//! seconds. Dropping the handle ends it, by its own process id. `tests/install-services` installs what is started here.

mod mongo;
mod process;
mod redis;

pub use mongo::{MongoProcess, start_mongo};
pub use redis::{
    RedisProcess, RedisUnderSentinel, start_redis, start_redis_cluster, start_redis_under_sentinel,
};
