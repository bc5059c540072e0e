//! Subscriptions, kept over outages, and publishing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_storage::ports::live::{Channel, Signal};
use colloquy_storage::ports::signals::SignalSender;
use redis::{Cmd, PushInfo, PushKind, RedisResult, Value, cmd, from_redis_value};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::dial::{Dialer, Listener};
use super::error::RedisFailure;
use super::interest::{Batch, Change, Interest};
use super::line::{COMMAND_DEADLINE, Line, PIPELINE_MAX_COMMANDS, Wire};
use super::link::{Keeping, Link, Pulse};
use super::names::Names;

/// Channels in one SUBSCRIBE or UNSUBSCRIBE.
const SUBSCRIBE_MAX_CHANNELS: usize = 1024;

/// What is published and heard.
pub(super) struct Bus {
    names: Names,
    link: Link,
    heard: Arc<Heard>,
}

/// What is heard, for those who change it and for the link that keeps it.
#[derive(Default)]
struct Heard {
    interest: Mutex<Interest>,
    /// Held by the one who speaks. What is changed meanwhile is said together by the next, so thousands who subscribe
    /// at once take a few round trips.
    saying: tokio::sync::Mutex<()>,
}

impl Heard {
    fn interest(&self) -> MutexGuard<'_, Interest> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus {
    pub(super) fn start(dialer: Arc<Dialer>, names: Names, signals: SignalSender, pulse: Arc<Pulse>) -> Self {
        let heard = Arc::<Heard>::default();
        let keeping = BusKeeping {
            dialer,
            names: names.clone(),
            heard: Arc::clone(&heard),
            signals,
            dialled: Arc::default(),
            was_up: AtomicBool::new(false),
        };
        Self { names, link: Link::keep(Box::new(keeping), pulse), heard }
    }

    pub(super) async fn publish(&self, signals: &[(Channel, Bytes)]) -> Result<Vec<u64>, RedisFailure> {
        let mut counts = Vec::with_capacity(signals.len());
        for signals in signals.chunks(PIPELINE_MAX_COMMANDS) {
            let commands: Vec<Cmd> = signals.iter().map(|(to, body)| self.publication(to, body)).collect();
            for answer in self.link.line()?.run(&commands).await? {
                counts.push(from_redis_value(answer).map_err(|_| RedisFailure::Nonsense)?);
            }
        }
        Ok(counts)
    }

    fn publication(&self, channel: &Channel, body: &Bytes) -> Cmd {
        let mut publication = cmd("PUBLISH");
        publication.arg(self.names.channel(channel)).arg(&body[..]);
        publication
    }

    /// Channels that are to be heard, or not any more. Takes effect also if it fails: when the link is back.
    pub(super) async fn change(&self, change: Change, channels: &[Channel]) -> Result<(), RedisFailure> {
        self.heard.interest().note(change, channels.iter().map(|channel| self.names.channel(channel)));
        let saying = timeout(COMMAND_DEADLINE, self.heard.saying.lock());
        let _saying = saying.await.map_err(|_| RedisFailure::NoAnswer)?;
        let line = match self.link.line() {
            Ok(line) => line,
            Err(away) => {
                self.heard.interest().line_is_gone();
                return Err(away);
            }
        };
        let unsaid = self.heard.interest().unsaid();
        // Nothing if another has said it meanwhile, or a new line was made.
        say(&line, &unsaid).await?;
        self.heard.interest().said(&unsaid);
        Ok(())
    }
}

/// Returns when the server has confirmed it.
async fn say(line: &Line, batch: &Batch) -> Result<(), RedisFailure> {
    let Some(connection) = line.wire.to_one() else { return Err(RedisFailure::Nonsense) };
    let saying = async {
        for names in batch.subscribe.chunks(SUBSCRIBE_MAX_CHANNELS) {
            line.attempt(connection.clone().subscribe(names)).await?;
        }
        for names in batch.unsubscribe.chunks(SUBSCRIBE_MAX_CHANNELS) {
            line.attempt(connection.clone().unsubscribe(names)).await?;
        }
        Ok(())
    };
    let said = saying.await;
    if said.is_err() {
        // What is heard over this line is not known any more; a new one begins with what is wanted.
        line.lost.notify_one();
    }
    said
}

/// The link that signals go over.
struct BusKeeping {
    dialer: Arc<Dialer>,
    names: Names,
    heard: Arc<Heard>,
    signals: SignalSender,
    /// Attempts so far. What a line hears counts until the next attempt.
    dialled: Arc<AtomicU64>,
    was_up: AtomicBool,
}

impl BusKeeping {
    fn listener(&self) -> Listener {
        let (names, signals, dialled) = (self.names.clone(), self.signals.clone(), Arc::clone(&self.dialled));
        let ours = dialled.fetch_add(1, Ordering::AcqRel) + 1;
        Box::new(move |said| {
            if dialled.load(Ordering::Acquire) == ours
                && let Some(signal) = signal(&names, said)
            {
                signals.offer(signal);
            }
        })
    }
}

fn signal(names: &Names, said: PushInfo) -> Option<Signal> {
    if said.kind != PushKind::Message {
        return None;
    }
    let [Value::BulkString(channel), Value::BulkString(body)]: [Value; 2] = said.data.try_into().ok()? else {
        return None;
    };
    let channel = names.channel_named(std::str::from_utf8(&channel).ok()?)?;
    Some(Signal::Published(channel, Bytes::from(body)))
}

#[async_trait]
impl Keeping for BusKeeping {
    fn name(&self) -> &'static str {
        "bus"
    }

    async fn dial(&self, lost: &Arc<Notify>) -> RedisResult<Wire> {
        self.dialer.dial_server(lost, self.listener()).await
    }

    async fn put_to_use(
        &self,
        line: Line,
        current: &watch::Sender<Option<Line>>,
    ) -> Result<(), RedisFailure> {
        let _saying = self.heard.saying.lock().await;
        let all = self.heard.interest().anew();
        say(&line, &all).await?;
        current.send_replace(Some(line));
        // Nothing was missed by one who has not asked for anything yet.
        if self.was_up.swap(true, Ordering::Relaxed) || !all.is_empty() {
            self.signals.offer(Signal::Gap);
        }
        Ok(())
    }
}
