//! Subscriptions, kept over outages, and publishing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_storage::ports::live::{Channel, Signal};
use colloquy_storage::ports::signals::SignalSender;
use redis::{Cmd, PushInfo, PushKind, RedisResult, Value, cmd, from_redis_value};
use tokio::sync::{Mutex, MutexGuard, Notify, watch};
use tokio::time::timeout;

use super::dial::{Dialer, Listener};
use super::error::RedisFailure;
use super::line::{COMMAND_DEADLINE, Line, PIPELINE_MAX_COMMANDS, Wire};
use super::link::{Keeping, Link, Pulse};
use super::names::Names;

/// Channels in one SUBSCRIBE or UNSUBSCRIBE.
const SUBSCRIBE_MAX_CHANNELS: usize = 1024;

/// The names of the channels that are to be heard. Bounded by those who subscribe: a few for each session.
type Wanted = BTreeSet<String>;

/// What is published and heard.
pub(super) struct Bus {
    names: Names,
    link: Link,
    /// Locked while a line is brought to it, so that a channel is either among those a new line begins with, or said
    /// on that line.
    wanted: Arc<Mutex<Wanted>>,
}

impl Bus {
    pub(super) fn start(dialer: Arc<Dialer>, names: Names, signals: SignalSender, pulse: Arc<Pulse>) -> Self {
        let wanted = Arc::default();
        let keeping = BusKeeping {
            dialer,
            names: names.clone(),
            wanted: Arc::clone(&wanted),
            signals,
            dialled: Arc::default(),
            was_up: AtomicBool::new(false),
        };
        Self { names, link: Link::keep(Box::new(keeping), pulse), wanted }
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

    pub(super) async fn subscribe(&self, channels: &[Channel]) -> Result<(), RedisFailure> {
        let names = self.named(channels);
        let mut wanted = self.wanted().await?;
        wanted.extend(names.iter().cloned());
        say(&self.link.line()?, Change::Subscribe, &names).await
    }

    pub(super) async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), RedisFailure> {
        let names = self.named(channels);
        let mut wanted = self.wanted().await?;
        names.iter().for_each(|name| drop(wanted.take(name)));
        say(&self.link.line()?, Change::Unsubscribe, &names).await
    }

    fn named(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| self.names.channel(channel)).collect()
    }

    async fn wanted(&self) -> Result<MutexGuard<'_, Wanted>, RedisFailure> {
        timeout(COMMAND_DEADLINE, self.wanted.lock()).await.map_err(|_| RedisFailure::NoAnswer)
    }
}

#[derive(Clone, Copy)]
enum Change {
    Subscribe,
    Unsubscribe,
}

/// Returns when the server has confirmed it.
async fn say(line: &Line, change: Change, names: &[String]) -> Result<(), RedisFailure> {
    let Wire::Single(connection) = &line.wire else { return Err(RedisFailure::Nonsense) };
    for names in names.chunks(SUBSCRIBE_MAX_CHANNELS) {
        let mut connection = connection.clone();
        let saying = async {
            match change {
                Change::Subscribe => connection.subscribe(names).await,
                Change::Unsubscribe => connection.unsubscribe(names).await,
            }
        };
        if let Err(failure) = line.attempt(saying).await {
            // What is heard over this line is not known any more; a new one begins with what is wanted.
            line.lost.notify_one();
            return Err(failure);
        }
    }
    Ok(())
}

/// The link that signals go over.
struct BusKeeping {
    dialer: Arc<Dialer>,
    names: Names,
    wanted: Arc<Mutex<Wanted>>,
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
    async fn dial(&self, lost: &Arc<Notify>) -> RedisResult<Wire> {
        self.dialer.dial_server(lost, self.listener()).await.map(Wire::Single)
    }

    async fn put_to_use(
        &self,
        line: Line,
        current: &watch::Sender<Option<Line>>,
    ) -> Result<(), RedisFailure> {
        let wanted = self.wanted.lock().await;
        let names: Vec<String> = wanted.iter().cloned().collect();
        say(&line, Change::Subscribe, &names).await?;
        current.send_replace(Some(line));
        // Nothing was missed by one who has not asked for anything yet.
        if self.was_up.swap(true, Ordering::Relaxed) || !names.is_empty() {
            self.signals.offer(Signal::Gap);
        }
        Ok(())
    }
}
