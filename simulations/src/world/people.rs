//! People and their devices: real client SDKs that write to each other, and what each of them has done and seen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use colloquy_client::ambient::{Clock, Workers};
use colloquy_client::sync::BackoffPolicy;
use colloquy_client::{
    Answer, Client, ClientError, Event, Events, Identifier, ProfileOptions, Registration, Surroundings,
    Unlock,
};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::agents::{Desk, MoodBoard, Sink, draft_of, rng_of};
use super::forgery::Forgeries;
use super::host::Host;
use super::network::{Network, Place};
use super::pod::{ENDPOINT, GENESIS, client_address};
use super::time::WorldTime;
use super::trace::{Kind, Trace};
use super::wires::{Balance, DeviceWires};

/// What every text of the world holds, and nothing on any wire or disk may (E2EE).
pub(crate) const NEEDLE: &str = "in-plain-sight";
/// Devices' places begin here.
const DEVICES_FROM: u16 = 100;
/// Waits between attempts to register or log in.
const AGAIN: Duration = Duration::from_secs(1);
/// Waits between connections: a world lives for minutes, not for days.
const BACKOFF: BackoffPolicy = BackoffPolicy { first_ms: 200, max_ms: 5_000, stable_after_ms: 10_000 };
/// What one device asks agents in one life: they answer a conversation's questions one after the other, and take their time.
const QUESTIONS_MAX: u64 = 30;
/// Share of answers that go on in further messages, ...
const GOES_ON: f64 = 0.25;
/// ... and in how many at most.
const GOES_ON_MAX: u64 = 3;
const PASSWORD: &str = "a password nobody guesses";

/// A text somebody wanted to send.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Its number among those of the device: the text names both.
    pub(crate) number: u64,
    /// The client has taken it: it must arrive. Otherwise the device died over it, and it may.
    pub(crate) is_taken: bool,
    /// It answers what somebody wrote to an agent.
    pub(crate) is_answer: bool,
    /// So many of the next ones are what this answer goes on with.
    pub(crate) goes_on: u64,
}

/// An answer the server gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) conversation_id: ConversationId,
    pub(crate) message_id: MessageId,
    pub(crate) sequence_number: u64,
    /// Was it in the store when the client heard that it was (DURABLE)?
    pub(crate) was_stored: bool,
}

/// A text that was shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) conversation_id: ConversationId,
    pub(crate) sequence_number: u64,
}

/// What a device has done and seen.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) user_id: Option<UserId>,
    pub(crate) device_id: Option<DeviceId>,
    pub(crate) is_connected: bool,
    pub(crate) written: Vec<Written>,
    pub(crate) answered: Vec<Answered>,
    /// One list for each life: what was shown before a crash may be shown again after it.
    pub(crate) shown: Vec<Vec<Shown>>,
    /// How often more of an answer was seen ...
    pub(crate) grown: u64,
    /// ... and of which turns it was not what was being written.
    pub(crate) misheard: Vec<MessageId>,
    pub(crate) failed: u64,
    pub(crate) undecryptable: u64,
    pub(crate) repaired: u64,
    pub(crate) lost: u64,
    pub(crate) connections: u64,
    pub(crate) delays: Vec<Delay>,
    pub(crate) logged_out: bool,
    /// Its owner has removed it, or is about to.
    pub(crate) is_removed: bool,
}

/// How long an answer took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delay {
    pub(crate) written_at_ms: u64,
    pub(crate) took_ms: u64,
}

/// A device, running or not.
pub(crate) struct Device {
    pub(crate) place: Place,
    pub(crate) owner: usize,
    pub(crate) record: Arc<Mutex<Record>>,
    /// How far its clock is off, ms.
    pub(crate) set: Arc<AtomicI64>,
    pub(crate) life: Option<JoinHandle<()>>,
    /// The client of the life that runs now.
    pub(crate) client: Arc<Mutex<Option<Client>>>,
    number: usize,
    lives: u64,
    /// Drawn from for what the device's owner does.
    seed: u64,
    surroundings: Arc<Around>,
}

/// What all devices of a world share.
pub(crate) struct Around {
    pub(crate) network: Network,
    pub(crate) time: WorldTime,
    pub(crate) trace: Trace,
    pub(crate) folder: PathBuf,
    pub(crate) pods: u16,
    /// Of every person: is it an agent?
    pub(crate) agents: Vec<bool>,
    pub(crate) moods: MoodBoard,
    pub(crate) forgeries: Forgeries,
    /// Between two texts of one device, on average.
    pub(crate) interval: Duration,
    /// Texts that may still be written, over all devices.
    pub(crate) texts_left: AtomicU64,
    /// Is a message in the store under this number?
    pub(crate) is_stored: Box<dyn Fn(ConversationId, u64, MessageId) -> bool + Send + Sync>,
    /// Who everybody is, once they are somebody.
    pub(crate) users: Mutex<Vec<Option<UserId>>>,
    /// Devices that their owner, of this number, is about to remove from another one.
    pub(crate) to_remove: Mutex<Vec<(usize, DeviceId)>>,
}

/// As a load balancer would: any pod that listens, the same one as before if it does.
struct AnyPod {
    around: Arc<Around>,
    rng: Mutex<(StdRng, u16)>,
}

impl Balance for AnyPod {
    fn choose(&self, _: Place) -> SocketAddr {
        let (rng, last) = &mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let listens = |pod: u16| self.around.network.is_listening(client_address(Place(pod)));
        if !listens(*last) || rng.random_bool(0.1) {
            let up: Vec<u16> = (1..=self.around.pods).filter(|pod| listens(*pod)).collect();
            if !up.is_empty() {
                *last = up[rng.random_range(0..up.len())];
            }
        }
        client_address(Place(*last))
    }
}

impl Device {
    /// Device `number` of the world, of person `owner`; nothing of it runs.
    pub(crate) fn new(number: usize, owner: usize, seed: u64, around: &Arc<Around>) -> Self {
        let place = Place(DEVICES_FROM + u16::try_from(number).unwrap_or(u16::MAX - DEVICES_FROM));
        Self {
            place,
            owner,
            record: Arc::default(),
            set: Arc::default(),
            life: None,
            client: Arc::default(),
            number,
            lives: 0,
            seed: seed ^ ((number as u64 + 1) << 24),
            surroundings: Arc::clone(around),
        }
    }

    /// Starts it.
    pub(crate) fn start(&mut self, host: &Host) {
        self.lives += 1;
        let seed = self.seed ^ (self.lives << 8);
        let life = Life {
            number: self.number,
            owner: self.owner,
            place: self.place,
            record: Arc::clone(&self.record),
            set: Arc::clone(&self.set),
            client: Arc::clone(&self.client),
            rng: StdRng::seed_from_u64(seed),
            asked: 0,
            around: Arc::clone(&self.surroundings),
        };
        self.life = Some(host.spawn(life.live()));
    }

    /// Its power is cut: it ends, and what its store has not synced is gone.
    pub(crate) fn cut_power(&mut self) {
        if let Some(client) = self.client() {
            let lost = client.lose_unsynced().expect("a store in memory does not fail");
            let text = format!("device {} has lost {lost} updates of its store", self.number);
            let around = &self.surroundings;
            around.trace.note(around.time.now(), Kind::Device, text);
        }
        self.crash();
    }

    /// Its process ends here and now.
    pub(crate) fn crash(&mut self) {
        if let Some(life) = self.life.take() {
            life.abort();
        }
        drop(self.client.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.record().is_connected = false;
    }

    /// What it has done and seen.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its client, while it runs.
    pub(crate) fn client(&self) -> Option<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The text of this number of this device: no two are alike.
pub(crate) fn text(device: usize, number: u64) -> String {
    format!("{NEEDLE} {device}/{number}")
}

/// Which text it was.
pub(crate) fn named(text: &str) -> Option<(usize, u64)> {
    let (device, number) = text.strip_prefix(NEEDLE)?.trim_start().split_once('/')?;
    Some((device.parse().ok()?, number.parse().ok()?))
}

/// From a device's start to its end.
struct Life {
    number: usize,
    owner: usize,
    place: Place,
    record: Arc<Mutex<Record>>,
    set: Arc<AtomicI64>,
    client: Arc<Mutex<Option<Client>>>,
    rng: StdRng,
    /// What it has asked agents.
    asked: u64,
    around: Arc<Around>,
}

impl Life {
    async fn live(mut self) {
        let client = self.open().await;
        while !self.is_somebody(&client).await {
            sleep(AGAIN).await;
        }
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        self.record().shown.push(Vec::new());
        let events = match client.connect() {
            Ok(events) => events,
            Err(error) => return self.note(format!("device {} cannot connect: {error}", self.number)),
        };
        self.talk(&client, events).await;
    }

    async fn open(&mut self) -> Client {
        let rng = StdRng::from_rng(&mut self.rng);
        let last = self.rng.random_range(1..=self.around.pods);
        let balance = AnyPod { around: Arc::clone(&self.around), rng: Mutex::new((rng, last)) };
        let wires = DeviceWires { network: self.around.network.clone(), place: self.place, balance };
        let (time, set) = (self.around.time.clone(), Arc::clone(&self.set));
        let now = move || {
            let now = GENESIS + u64::try_from(time.now().as_millis()).unwrap_or(u64::MAX);
            now.saturating_add_signed(set.load(Ordering::Relaxed))
        };
        let surroundings = Surroundings {
            network: Arc::new(wires),
            clock: Clock::Simulated(Arc::new(now)),
            workers: Workers::InPlace,
        };
        let folder = self.around.folder.join(format!("device-{}", self.number));
        let profile = || ProfileOptions {
            unlock: Unlock::KeyFile(self.around.folder.join(format!("device-{}.key", self.number))),
            folder: folder.clone(),
            server_url: ENDPOINT.to_owned(),
            device_id: DeviceId::new(&format!("device-{}", self.number)).ok(),
            platform: "simulation".to_owned(),
        };
        loop {
            match Client::open_with(profile(), BACKOFF, surroundings.clone()).await {
                Ok(client) => return client,
                // The life before this one lets go of the profile when it is its turn to run.
                Err(error) => {
                    self.note(format!("device {} cannot be opened: {error}", self.number));
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Registers or logs in, unless it is logged in.
    async fn is_somebody(&mut self, client: &Client) -> bool {
        if client.is_logged_in().is_ok_and(|logged_in| logged_in) {
            self.note_name(client);
            return true;
        }
        if self.record().is_removed {
            self.record().logged_out = true;
            return true;
        }
        let phone = format!("+491510000{:04}", self.owner);
        let log_in = client.log_in(Identifier::Phone(phone.clone()), PASSWORD.to_owned()).await;
        let outcome = match log_in {
            Err(ClientError::Api(error))
                if error.code().is_some() && client.user_id().is_ok_and(|id| id.is_none()) =>
            {
                let name = format!("Person {}", self.owner);
                let registration =
                    Registration { phone: Some(phone), email: None, name, password: PASSWORD.to_owned() };
                client.register(registration).await
            }
            outcome => outcome,
        };
        self.note_name(client);
        if let Err(error) = &outcome {
            self.note(format!("device {} is not logged in: {error}", self.number));
        }
        outcome.is_ok()
    }

    fn note_name(&self, client: &Client) {
        let Ok(Some(user_id)) = client.user_id() else { return };
        let mut record = self.record();
        record.user_id = Some(user_id);
        record.device_id = client.device_id().ok().flatten();
        self.around.users.lock().unwrap_or_else(PoisonError::into_inner)[self.owner] = Some(user_id);
    }

    async fn talk(&mut self, client: &Client, mut events: Events) {
        let mut next = Instant::now() + self.pause();
        let mut sent_at = BTreeMap::new();
        let mut desk = self.around.agents[self.owner].then(|| self.desk(client));
        let taken = desk.as_ref().map_or_else(Arc::default, Desk::taken);
        loop {
            let answer_at = desk.as_ref().and_then(Desk::next);
            tokio::select! {
                biased;
                event = events.next() => {
                    let Some(event) = event else { return };
                    self.heard(client, event, &mut sent_at).await;
                    if self.record().logged_out {
                        // Somebody else has to answer.
                        desk = None;
                    }
                    if let Some(desk) = &mut desk {
                        desk.look().await;
                    }
                }
                () = taken.notified(), if desk.is_some() => {
                    if let Some(desk) = &mut desk {
                        desk.look().await;
                    }
                }
                () = sleep_until(answer_at.unwrap_or(next)), if answer_at.is_some() => {
                    let mut last = None;
                    for turn_id in desk.as_mut().map(Desk::take_due).unwrap_or_default() {
                        // Another answer may be going on; some are given twice.
                        if last == Some(turn_id) || is_due(client, turn_id).await {
                            self.answer(client, turn_id, &mut sent_at).await;
                            last = Some(turn_id);
                        }
                    }
                }
                () = sleep_until(next) => {
                    self.remove_others(client).await;
                    if !self.around.agents[self.owner] {
                        self.write(client, &mut sent_at).await;
                    }
                    next = Instant::now() + self.pause();
                }
            }
        }
    }

    /// Where an agent is told that it is its turn.
    fn desk(&mut self, client: &Client) -> Desk {
        Desk::open(Sink {
            network: self.around.network.clone(),
            place: self.place,
            person: self.owner,
            moods: self.around.moods.clone(),
            forgeries: self.around.forgeries.clone(),
            client: client.clone(),
            taken: Arc::default(),
            forgotten: Arc::default(),
            rng: rng_of(&mut self.rng),
        })
    }

    async fn answer(&mut self, client: &Client, turn_id: MessageId, sent_at: &mut BTreeMap<u64, Duration>) {
        let (number, now) = (self.begin_text(true), self.around.time.now());
        let goes_on = if self.rng.random_bool(GOES_ON) { self.rng.random_range(1..=GOES_ON_MAX) } else { 0 };
        let further: Vec<u64> = (0..goes_on).map(|_| self.begin_text(true)).collect();
        let continuations = further.iter().map(|number| text(self.number, *number)).collect();
        let answer = Answer { continuations, ..text(self.number, number).into() };
        if let Ok(Some(local_id)) = client.answer_turn_with(turn_id, answer).await {
            sent_at.insert(local_id.0, now);
            let written = &mut self.record().written;
            written[usize::try_from(number).unwrap_or(0)].goes_on = goes_on;
            for number in std::iter::once(number).chain(further) {
                written[usize::try_from(number).unwrap_or(0)].is_taken = true;
            }
        }
    }

    /// The next text of this device has this number.
    fn begin_text(&self, is_answer: bool) -> u64 {
        let mut record = self.record();
        let number = record.written.len() as u64;
        record.written.push(Written { number, is_taken: false, is_answer, goes_on: 0 });
        number
    }

    /// Bursts, and long silences between them: about half of the time at three times the pace.
    fn pause(&mut self) -> Duration {
        let share = match self.rng.random_range(0..4) {
            0 => self.rng.random_range(0.0..0.1),
            1 | 2 => self.rng.random_range(0.2..1.0),
            _ => self.rng.random_range(1.0..3.6),
        };
        self.around.interval.mul_f64(share)
    }

    /// Removes a device that its owner wants to be rid of, from this one.
    async fn remove_others(&self, client: &Client) {
        let own = self.record().device_id.clone();
        let is_other =
            |(owner, device): &&(usize, DeviceId)| *owner == self.owner && Some(device) != own.as_ref();
        let wanted = || self.around.to_remove.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((owner, device)) = wanted().iter().find(is_other).cloned() else { return };
        // One whose answer was lost finds nothing to remove the next time.
        let is_gone = match client.remove_device(device.clone()).await {
            Ok(()) => true,
            Err(ClientError::Api(error)) => error.code() == Some(ErrorCode::UnknownDevice),
            Err(_) => false,
        };
        if is_gone {
            wanted().retain(|it| *it != (owner, device.clone()));
        }
    }

    async fn write(&mut self, client: &Client, sent_at: &mut BTreeMap<u64, Duration>) {
        let may_ask = self.asked < QUESTIONS_MAX;
        let is_other = |person: &usize| *person != self.owner && (may_ask || !self.around.agents[*person]);
        let others: Vec<usize> = (0..self.around.agents.len()).filter(is_other).collect();
        let to = others[self.rng.random_range(0..others.len())];
        let Some(user_id) = self.around.users.lock().unwrap_or_else(PoisonError::into_inner)[to] else {
            return;
        };
        self.asked += u64::from(self.around.agents[to]);
        let left = &self.around.texts_left;
        let may = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if may.is_err() {
            return;
        }
        let (number, now) = (self.begin_text(false), self.around.time.now());
        if let Ok(local_id) = client.send_text(user_id, text(self.number, number)).await {
            sent_at.insert(local_id.0, now);
            self.record().written[usize::try_from(number).unwrap_or(0)].is_taken = true;
        }
    }

    async fn heard(&mut self, client: &Client, event: Event, sent_at: &mut BTreeMap<u64, Duration>) {
        let now = self.around.time.now();
        match event {
            Event::Connected { .. } => {
                self.note(format!("device {} is connected", self.number));
                let mut record = self.record();
                record.is_connected = true;
                record.connections += 1;
            }
            Event::Disconnected { reason, retry_in } => {
                self.note(format!("device {}: {reason:?}, again in {retry_in:?}", self.number));
                self.record().is_connected = false;
            }
            Event::MessageSent { local_id, message_id, conversation_id, sequence_number } => {
                let was_stored = (self.around.is_stored)(conversation_id, sequence_number, message_id);
                let answered = Answered { conversation_id, message_id, sequence_number, was_stored };
                let mut record = self.record();
                record.answered.push(answered);
                if let Some(sent) = sent_at.remove(&local_id.0) {
                    record.delays.push(Delay { written_at_ms: millis(sent), took_ms: millis(now - sent) });
                }
            }
            Event::MessageReceived(message) => {
                let conversation_id = message.conversation_id;
                if let Some(sequence_number) = message.sequence_number
                    && let Some(shown) = self.record().shown.last_mut()
                {
                    shown.push(Shown { conversation_id, sequence_number });
                }
                // What an agent has read, it has done with.
                if self.rng.random_bool(0.2) && !self.around.agents[self.owner] {
                    // Read on one device is read on all; what fails is said again with the next one.
                    let _ = client.mark_read(conversation_id).await;
                }
            }
            Event::MessageFailed { conversation_id, reason, .. } => {
                self.note(format!(
                    "device {} gives up a text for {conversation_id}: {reason:?}",
                    self.number
                ));
                self.record().failed += 1;
            }
            Event::DecryptionFailed { message, failure, .. } => {
                let (number, id) = (message.sequence_number.unwrap_or(0), message.conversation_id);
                self.note(format!("device {} cannot read message {number} of {id}: {failure}", self.number));
                self.record().undecryptable += 1;
            }
            Event::AnswerGrows(answer) => {
                let mut record = self.record();
                record.grown += 1;
                if !draft_of(answer.turn_id).starts_with(&answer.text) {
                    record.misheard.push(answer.turn_id);
                }
            }
            Event::MessageRepaired(_) => self.record().repaired += 1,
            Event::MessagesLost { from, to, .. } => self.record().lost += to - from + 1,
            Event::LoggedOut => {
                self.note(format!("device {} was logged out", self.number));
                self.record().logged_out = true;
            }
            Event::MarksMoved { .. }
            | Event::PresenceChanged { .. }
            | Event::TypingChanged { .. }
            | Event::AnswerEnded { .. }
            | Event::TurnGivenUp { .. }
            | Event::IdentityChanged(_)
            | Event::StoreFailed => {}
            Event::EventsMissed { is_connected, .. } => self.record().is_connected = is_connected,
        }
    }

    fn note(&self, text: String) {
        self.around.trace.note(self.around.time.now(), Kind::Device, text);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is this turn to be answered now?
async fn is_due(client: &Client, turn_id: MessageId) -> bool {
    client.due_turns().await.is_ok_and(|due| due.iter().any(|turn| turn.turn_id == turn_id))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
