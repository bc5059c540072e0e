//! The live directory, the signal bus and the cache on Redis: one server, Sentinel, or Cluster.
//!
//! | module | holds |
//! |---|---|
//! | `options` | where Redis is |
//! | `names` | keys and channels |
//! | `entry` | what stands in the values (pure) |
//! | `scripts` | what has to be compared and written in one step |
//! | `dial` | how a connection is made, in each mode |
//! | `line` | a connection, and how long an answer may take |
//! | `link` | a line that is made again whenever it is lost |
//! | `interest` | what is to be heard, and what of it the server has not been told yet (pure) |
//! | `bus` | subscriptions, kept over outages, and publishing |
//! | `live` | the port of the live directory and the bus |
//! | `cache` | that of the cache |
//! | `error` | the library's errors without what stands in them (PRIVATE) |
//!
//! Nothing here is truth: a Redis that comes back empty is filled again by those who say things for a time. Entries end
//! by the server's clock (`TIME`), so pods' clocks need not agree.
//!
//! There are two links. Commands on keys go over one of them; what is published and heard goes over the other, to one
//! server, so that it stays in order in a Cluster too. The library's own reconnecting is not used: it gives up after a
//! few attempts, and does not say where signals may be missing.

mod bus;
mod cache;
mod dial;
mod entry;
mod error;
mod interest;
mod line;
mod link;
mod live;
mod names;
mod options;
mod scripts;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use colloquy_storage::ports::live::SignalReceiver;
use colloquy_storage::ports::signals::signals;
use colloquy_storage::ports::{Cache, LiveDirectory};
use tokio::sync::watch;
use tokio::time::timeout;

pub use error::RedisFailure;
pub use options::{RedisMode, RedisOptions};

use bus::Bus;
use dial::Dialer;
use link::{KeysKeeping, Link, Pulse};
use names::Names;

/// Does Redis answer? Both links are up, and the last PING on each was answered in time. In a Cluster every primary
/// has to answer.
pub type Health = watch::Receiver<bool>;

/// How long opening waits for a Redis that does not answer. Afterwards it goes on being called.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);

/// Why a Redis cannot be used, however long one waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not an address of Redis. It is not shown: there may be a password in it (PRIVATE).
    #[error("not a redis address")]
    Address,
    /// Sentinel and Cluster have at least one address.
    #[error("no redis address")]
    NoAddress,
    /// What is needed to connect safely is missing.
    #[error("the library refuses these redis addresses")]
    Refused,
}

/// What one pod has of Redis. The link that signals go over ends with `live`, and the one for keys with `live` and
/// `cache`.
pub struct RedisLive {
    /// The pod's handle.
    pub live: Arc<dyn LiveDirectory>,
    /// Where it hears what it subscribes to.
    pub signals: SignalReceiver,
    /// Whether Redis answers.
    pub health: Health,
    /// What the pods of an installation keep for a while.
    pub cache: Arc<dyn Cache>,
}

impl RedisLive {
    /// Waits a moment for Redis, and opens without it then: while it is away every method fails, and losing it loses
    /// nothing.
    ///
    /// # Errors
    /// See [`OpenError`]. Not that Redis is away.
    pub async fn open(options: &RedisOptions) -> Result<Self, OpenError> {
        let dialer = Arc::new(Dialer::new(&options.mode)?);
        let names = Names::new(&options.key_prefix);
        let (sender, signals) = signals(options.signals_max_waiting);
        let (pulse, mut health) = Pulse::new();
        let keys = Link::keep(KeysKeeping::boxed(Arc::clone(&dialer)), Arc::clone(&pulse));
        let bus = Bus::start(dialer, names.clone(), sender, pulse);
        // Without an answer it is opened all the same.
        let _ = timeout(OPEN_PATIENCE, health.wait_for(|is_up| *is_up)).await;
        let cache = cache::redis_cache(names.clone(), keys.clone());
        Ok(Self { live: live::redis_live(names, keys, bus), signals, health, cache })
    }
}
