//! Whoever is told of every message: takes most, and is as unreliable as sinks are until everything is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use colloquy_actors::outbox::{Event, Posted};
use colloquy_protocol::ids::{ConversationId, MessageId};
use memchr::memmem;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use tokio::time::sleep;

use super::agents::{HANG, is_among};
use super::network::Place;
use super::people::NEEDLE;
use super::time::WorldTime;
use super::trace::Trace;

/// What is drawn from a seed for nothing else.
const ARCHIVE_SALT: u64 = 0x6172_6368_6976_6521;
/// The longest that it takes to take a message, and to say so.
const PAUSE: Duration = Duration::from_millis(40);
/// Where it is: nowhere else is anybody.
const PLACE: Place = Place(u16::MAX - 1);
/// Share of times that it takes nothing and says so ...
const FAILS: f64 = 0.02;
/// ... that it takes a message and says that it could not ...
const DENIES: f64 = 0.02;
/// ... and that nothing is heard of it, though it took the message.
const HANGS: f64 = 0.002;
/// Share of messages that it does not want, however often it is told.
const LOATHES: f64 = 0.01;

/// What was told of conversations: numbers and messages in the order in which they were first told.
pub(crate) type Told = BTreeMap<ConversationId, Vec<(u64, MessageId)>>;

/// Whoever is told. Clones are the same.
#[derive(Clone)]
pub(crate) struct Archive {
    time: WorldTime,
    trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    rng: StdRng,
    is_whole: bool,
    told: Told,
    known: BTreeSet<MessageId>,
    again: u64,
    in_clear: u64,
}

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Takes,
    Fails,
    Denies,
    Hangs,
    Loathes,
}

/// As much of an event as it looks at.
#[derive(Deserialize)]
struct Heard {
    message_id: MessageId,
    sequence_number: u64,
}

impl Archive {
    /// Of the world of this seed.
    pub(crate) fn new(seed: u64, time: WorldTime, trace: Trace) -> Self {
        let inner = Inner {
            rng: StdRng::seed_from_u64(seed ^ ARCHIVE_SALT),
            is_whole: false,
            told: Told::new(),
            known: BTreeSet::new(),
            again: 0,
            in_clear: 0,
        };
        Self { time, trace, inner: Arc::new(Mutex::new(inner)) }
    }

    /// From now on it takes everything.
    pub(crate) fn becomes_whole(&self) {
        self.lock().is_whole = true;
    }

    /// A post to it. Whoever posts may be gone at any time.
    pub(crate) async fn take(&self, from: Place, event: &Event) -> Posted {
        self.trace.sent(self.time.now(), from, PLACE, &event.data);
        let Ok(heard) = serde_json::from_slice::<Heard>(&event.data) else {
            return Posted::Refused { status: 400 };
        };
        let (mood, before, after) = self.lock().draw(heard.message_id);
        sleep(before).await;
        match mood {
            Mood::Loathes => return Posted::Refused { status: 422 },
            Mood::Fails => return Posted::SILENT,
            Mood::Takes | Mood::Denies | Mood::Hangs => self.lock().note(event, &heard),
        }
        sleep(if mood == Mood::Hangs { HANG } else { after }).await;
        if mood == Mood::Takes { Posted::Taken } else { Posted::SILENT }
    }

    /// What it was told.
    pub(crate) fn told(&self) -> Told {
        self.lock().told.clone()
    }

    /// Has it been told of this message?
    pub(crate) fn knows(&self, message_id: MessageId) -> bool {
        self.lock().known.contains(&message_id)
    }

    /// How often it was told what it knew.
    pub(crate) fn again(&self) -> u64 {
        self.lock().again
    }

    /// How often it was told a text unencrypted.
    pub(crate) fn in_clear(&self) -> u64 {
        self.lock().in_clear
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn draw(&mut self, message_id: MessageId) -> (Mood, Duration, Duration) {
        let mut pause = || PAUSE.mul_f64(self.rng.random());
        let (before, after) = (pause(), pause());
        if self.is_whole {
            return (Mood::Takes, before, after);
        }
        let mood = match self.rng.random::<f64>() {
            _ if is_among(message_id, LOATHES) => Mood::Loathes,
            drawn if drawn < FAILS => Mood::Fails,
            drawn if drawn < FAILS + DENIES => Mood::Denies,
            drawn if drawn < FAILS + DENIES + HANGS => Mood::Hangs,
            _ => Mood::Takes,
        };
        (mood, before, after)
    }

    fn note(&mut self, event: &Event, heard: &Heard) {
        self.in_clear += u64::from(memmem::find(&event.data, NEEDLE.as_bytes()).is_some());
        if self.known.insert(heard.message_id) {
            let told = self.told.entry(event.conversation_id).or_default();
            told.push((heard.sequence_number, heard.message_id));
        } else {
            self.again += 1;
        }
    }
}
