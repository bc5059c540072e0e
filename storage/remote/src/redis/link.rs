//! A line that is made again whenever it is lost, for as long as somebody holds the link.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::RedisResult;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Health;
use super::dial::Dialer;
use super::error::RedisFailure;
use super::line::{COMMAND_DEADLINE, Line, Wire};

/// How often it is asked whether the other end is still there, and still what it was.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long making a connection may take, with all who are asked on the way.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause before the first attempt to make a lost connection again. It doubles each time, without end ...
const RETRY_MIN: Duration = Duration::from_millis(25);
/// ... up to this, so that it works again at once when Redis is back.
const RETRY_MAX: Duration = Duration::from_millis(400);
/// Links that have to be up for Redis to be in health.
const LINKS: usize = 2;

/// How many links are up.
pub(super) struct Pulse {
    up: AtomicUsize,
    health: watch::Sender<bool>,
}

impl Pulse {
    pub(super) fn new() -> (Arc<Self>, Health) {
        let (health, receiver) = watch::channel(false);
        (Arc::new(Self { up: AtomicUsize::new(0), health }), receiver)
    }

    fn count(&self, count: impl FnOnce(&AtomicUsize) -> usize) {
        // Counted within, so that two links that change at once leave the last state behind.
        self.health.send_if_modified(|is_up| {
            count(&self.up);
            let now_up = self.up.load(Ordering::Relaxed) == LINKS;
            std::mem::replace(is_up, now_up) != now_up
        });
    }

    fn rises(&self) {
        self.count(|up| up.fetch_add(1, Ordering::Relaxed));
    }

    fn falls(&self) {
        self.count(|up| up.fetch_sub(1, Ordering::Relaxed));
    }
}

/// What a link is for.
#[async_trait]
pub(super) trait Keeping: Send + Sync + 'static {
    /// What it is called in the log.
    fn name(&self) -> &'static str;

    /// Makes a connection, which notifies `lost` when it breaks.
    async fn dial(&self, lost: &Arc<Notify>) -> RedisResult<Wire>;

    /// Hands the line to those who use it.
    async fn put_to_use(&self, line: Line, current: &watch::Sender<Option<Line>>)
    -> Result<(), RedisFailure>;
}

/// The line at the moment, if there is one.
#[derive(Clone)]
pub(super) struct Link {
    current: watch::Receiver<Option<Line>>,
}

impl Link {
    pub(super) fn keep(keeping: Box<dyn Keeping>, pulse: Arc<Pulse>) -> Self {
        let (sender, current) = watch::channel(None);
        tokio::spawn(keep(keeping, sender, pulse));
        Self { current }
    }

    pub(super) fn line(&self) -> Result<Line, RedisFailure> {
        self.current.borrow().clone().ok_or(RedisFailure::Away)
    }
}

/// Ends when nobody holds the link any more.
async fn keep(keeping: Box<dyn Keeping>, current: watch::Sender<Option<Line>>, pulse: Arc<Pulse>) {
    let mut pause = RETRY_MIN;
    // The first failure of an outage says why; the others would only repeat it.
    let mut was_said = false;
    loop {
        let connected = tokio::select! {
            () = current.closed() => return,
            connected = connect(&*keeping, &current) => connected,
        };
        match connected {
            Ok(line) => {
                tracing::info!(link = keeping.name(), "redis answers");
                pulse.rises();
                let is_closed = tokio::select! {
                    () = current.closed() => true,
                    () = break_of(&line) => false,
                };
                current.send_replace(None);
                pulse.falls();
                if is_closed {
                    return;
                }
                tracing::warn!(link = keeping.name(), "redis is lost");
                (pause, was_said) = (RETRY_MIN, false);
            }
            Err(failure) if was_said => {
                tracing::debug!(link = keeping.name(), %failure, "redis cannot be reached");
            }
            Err(failure) => {
                tracing::warn!(link = keeping.name(), %failure, "redis cannot be reached");
                was_said = true;
            }
        }
        tokio::select! {
            () = current.closed() => return,
            () = sleep(pause) => pause = RETRY_MAX.min(pause * 2),
        }
    }
}

async fn connect(keeping: &dyn Keeping, current: &watch::Sender<Option<Line>>) -> Result<Line, RedisFailure> {
    let lost = Arc::new(Notify::new());
    let dialling = async {
        let wire = keeping.dial(&lost).await?;
        wire.ping().await?;
        Ok(wire)
    };
    let dialled: RedisResult<Wire> =
        timeout(DIAL_TIMEOUT, dialling).await.map_err(|_| RedisFailure::NoAnswer)?;
    let line = Line { wire: dialled.map_err(|error| RedisFailure::from(&error))?, lost };
    keeping.put_to_use(line.clone(), current).await?;
    Ok(line)
}

/// Returns when the line is broken, or a ping is not answered in time, or not as by one that others talk to.
async fn break_of(line: &Line) {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = line.lost.notified() => return,
            _ = pings.tick() => {}
        }
        let answered = tokio::select! {
            () = line.lost.notified() => return,
            answered = timeout(COMMAND_DEADLINE, line.wire.ping()) => answered,
        };
        if !matches!(answered, Ok(Ok(()))) {
            return;
        }
    }
}

/// The link that commands on keys go over.
pub(super) struct KeysKeeping(Arc<Dialer>);

impl KeysKeeping {
    pub(super) fn boxed(dialer: Arc<Dialer>) -> Box<dyn Keeping> {
        Box::new(Self(dialer))
    }
}

#[async_trait]
impl Keeping for KeysKeeping {
    fn name(&self) -> &'static str {
        "keys"
    }

    async fn dial(&self, lost: &Arc<Notify>) -> RedisResult<Wire> {
        self.0.dial_keys(lost).await
    }

    async fn put_to_use(
        &self,
        line: Line,
        current: &watch::Sender<Option<Line>>,
    ) -> Result<(), RedisFailure> {
        current.send_replace(Some(line));
        Ok(())
    }
}
