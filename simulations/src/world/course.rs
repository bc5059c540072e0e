//! The course of a world: people come, things break, everything is made whole, and in the end it must be quiet and complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use colloquy_client::Client;
use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_simulated_entropy::set_time_of_this_thread;
use colloquy_storage::ambient::Workers;
use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::local::LocalBus;
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::sync::watch;

use super::bus::Whims;
use super::check::{Evidence, Findings, Invariant, Seen, check};
use super::evidence::{at_rest, histories, is_stored, whole_log};
use super::host::Host;
use super::ills::{Ill, Ills};
use super::network::{Network, Place};
use super::people::{Around, Device, NEEDLE};
use super::plan::{Fault, Plan};
use super::pod::{GENESIS, Ground, Pod};
use super::time::WorldTime;
use super::trace::{Kind, Note, Trace};
use super::weather::{Climate, Struck};

/// How far the hosts run before they hear of each other.
const TICK: Duration = Duration::from_millis(1);
/// How long pods may take to come up, and people to be connected.
const SET_UP_MAX: Duration = Duration::from_secs(60);
/// How long it may take after everything was made whole until everything is everywhere.
const QUIET_MAX: Duration = Duration::from_secs(240);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(250);
/// After how long a process that has ended by itself is started again.
const RESTART: Duration = Duration::from_secs(1);
/// How long a pod may take to go in order.
const GOING_MAX: Duration = Duration::from_secs(60);

/// What a run has shown.
pub(crate) struct Outcome {
    pub(crate) findings: Findings,
    pub(crate) digest: String,
    pub(crate) notes: Vec<Note>,
    pub(crate) figures: Figures,
}

/// Counts of a run.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Figures {
    /// Texts that were written and taken.
    pub(crate) texts: u64,
    /// Messages in all logs, those that clients write by themselves among them.
    pub(crate) messages: u64,
    /// Messages that devices were shown.
    pub(crate) shown: u64,
    /// Faults that were on the plan and have happened.
    pub(crate) planned_faults: u64,
    /// Calls and signals that something has befallen.
    pub(crate) befallen: u64,
    /// Connections that devices made.
    pub(crate) connections: u64,
    /// Texts that could not be read at first, and those that were sent again for it.
    pub(crate) undecryptable: u64,
    pub(crate) repaired: u64,
    /// Texts that a device has given up.
    pub(crate) failed: u64,
    /// From a text to the server's answer, ms: half of them took no longer, and 99 of 100.
    pub(crate) delay_p50_ms: u64,
    pub(crate) delay_p99_ms: u64,
    /// Times that bytes were put on a wire.
    pub(crate) parcels: u64,
    /// How long the world has existed, ms of its own time.
    pub(crate) lasted_ms: u64,
}

/// Runs a world from its beginning to its end; every parcel is written to `record`, if there is one.
pub(crate) fn run(plan: &Plan, record: Option<File>) -> Outcome {
    set_time_of_this_thread(Duration::from_millis(GENESIS), Duration::ZERO);
    let world = World::new(plan);
    if let Some(file) = record {
        world.trace.write_to(file);
    }
    world.run(plan)
}

struct World {
    time: WorldTime,
    trace: Trace,
    network: Network,
    ground: Ground,
    bus: LocalBus,
    bus_health: watch::Sender<bool>,
    street: Host,
    pods: Vec<Pod>,
    devices: Vec<Device>,
    around: Arc<Around>,
    ills: Ills,
    findings: Findings,
    struck: Struck,
    befallen_signals: u64,
    planned_faults: u64,
    embedded: EmbeddedStore,
    folder: TempDir,
}

impl World {
    fn new(plan: &Plan) -> Self {
        let folder = memory_folder();
        let (time, trace) = (WorldTime::new(), Trace::default());
        let network =
            Network::new(time.clone(), plan.seed ^ 0x6e65_7477, plan.network_delay.clone(), trace.clone());
        let options = EmbeddedOptions { workers: Workers::InPlace, ..EmbeddedOptions::default() };
        let embedded = EmbeddedStore::open(&folder.path().join("store"), &options)
            .expect("a new folder holds a new store");
        let store = embedded.store();
        let clock = time.clone();
        let bus = LocalBus::with_clock(move || clock.instant());
        let (bus_health, health) = watch::channel(true);
        let ground = Ground {
            network: network.clone(),
            store: store.clone(),
            bus: bus.clone(),
            bus_health: health,
            seed: plan.seed,
        };
        let delays = || [plan.store_delay.clone(), plan.bus_delay.clone()];
        let pods = (1..=plan.pods).map(|number| Pod::new(number, plan.seed, delays())).collect();
        let senders = u32::try_from(plan.devices.len()).unwrap_or(u32::MAX);
        // Everything is written within the time of the faults.
        let per_device = plan.length * senders / u32::try_from(plan.texts.max(1)).unwrap_or(u32::MAX);
        let around = Arc::new(Around {
            network: network.clone(),
            time: time.clone(),
            folder: folder.path().to_owned(),
            pods: plan.pods,
            people: plan.people,
            interval: per_device,
            texts_left: AtomicU64::new(0),
            is_stored: Box::new(move |conversation, number, message| {
                is_stored(&store, conversation, number, message)
            }),
            users: Mutex::new(vec![None; plan.people]),
        });
        let device = |(number, owner): (usize, &usize)| Device::new(number, *owner, plan.seed, &around);
        let devices = plan.devices.iter().enumerate().map(device).collect();
        Self {
            street: Host::start(Duration::ZERO),
            time,
            trace,
            network,
            ground,
            bus,
            bus_health,
            pods,
            devices,
            around,
            ills: Ills::default(),
            findings: Findings::default(),
            struck: Struck::default(),
            befallen_signals: 0,
            planned_faults: 0,
            embedded,
            folder,
        }
    }

    fn run(mut self, plan: &Plan) -> Outcome {
        if self.set_up() {
            self.network.listen_for(NEEDLE.as_bytes());
            self.around.texts_left.store(plan.texts, Ordering::Relaxed);
            self.break_things(plan);
            self.make_whole();
            self.settle();
        }
        self.judge()
    }

    /// Lets everything run for one tick.
    fn step(&mut self) {
        self.network.arrive();
        let next = self.time.now() + TICK;
        self.street.run_until(next);
        for pod in &mut self.pods {
            if let Some(running) = &mut pod.running {
                running.host.run_until(next);
            }
        }
        self.time.set(next);
        set_time_of_this_thread(Duration::from_millis(GENESIS) + next, next);
        for index in 0..self.pods.len() {
            if self.pods[index].has_ended() {
                self.ended(index);
            }
        }
    }

    fn ended(&mut self, index: usize) {
        let (now, pod) = (self.time.now(), &mut self.pods[index]);
        pod.crash();
        let number = pod.place.0;
        let went = self.ills.remove(Ill::PodGoing(number));
        self.ills.add(Ill::PodDown(number), now + RESTART);
        let how = if went { "has gone" } else { "has ended by itself" };
        self.trace.note(now, Kind::Repair, format!("pod-{number} {how}"));
        if went {
            self.findings.expect(Invariant::Drain, true, String::new);
        }
    }

    /// Steps until something is so, or time is up.
    fn until(&mut self, at_most: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let end = self.time.now() + at_most;
        let mut look = self.time.now();
        while self.time.now() < end {
            self.step();
            if self.time.now() >= look {
                if is_so(self) {
                    return true;
                }
                look = self.time.now() + LOOK;
            }
        }
        is_so(self)
    }

    fn set_up(&mut self) -> bool {
        for pod in &mut self.pods {
            pod.start(self.time.now(), &self.ground);
        }
        let up = |world: &Self| world.pods.iter().all(|pod| world.network.is_listening(pod.address()));
        let is_up = self.until(SET_UP_MAX, up);
        for device in &mut self.devices {
            device.start(&self.street);
        }
        let is_connected =
            is_up && self.until(SET_UP_MAX, |world| world.devices.iter().all(|it| it.record().is_connected));
        self.findings.expect(Invariant::NoLoss, is_connected, || {
            "not everybody was connected though nothing was broken".to_owned()
        });
        self.trace.note(self.time.now(), Kind::Phase, "everybody is connected");
        is_connected
    }

    fn break_things(&mut self, plan: &Plan) {
        let began = self.time.now();
        let mut faults = plan.faults.iter().peekable();
        while self.time.now() < began + plan.length {
            for ill in self.ills.take_due(self.time.now()) {
                self.mend(ill);
            }
            while let Some(planned) = faults.next_if(|planned| began + planned.at <= self.time.now()) {
                self.planned_faults += 1;
                self.trace.note(self.time.now(), Kind::Fault, &planned.fault);
                self.strike(&planned.fault);
            }
            self.step();
        }
    }

    fn pod(&mut self, number: u16) -> &mut Pod {
        &mut self.pods[usize::from(number) - 1]
    }

    fn strike(&mut self, fault: &Fault) {
        let now = self.time.now();
        match fault {
            Fault::CrashPod { pod, down } => {
                self.pod(*pod).crash();
                self.ills.remove(Ill::PodFrozen(*pod));
                self.ills.remove(Ill::PodGoing(*pod));
                self.ills.add(Ill::PodDown(*pod), now + *down);
            }
            Fault::FreezePod { pod, length } => {
                if let Some(running) = &mut self.pod(*pod).running {
                    running.host.freeze();
                    // A pod that stands still is not held to its time.
                    self.ills.remove(Ill::PodGoing(*pod));
                    self.ills.add(Ill::PodFrozen(*pod), now + *length);
                }
            }
            Fault::DrainPod { pod } => {
                let pod = self.pod(*pod);
                let (number, is_awake) = (pod.place.0, pod.is_awake());
                if let Some(running) = &pod.running
                    && is_awake
                {
                    running.drain();
                    self.ills.add(Ill::PodGoing(number), now + GOING_MAX);
                }
            }
            Fault::SetClock { pod, ms } => {
                self.pod(*pod).set.fetch_add(*ms, Ordering::Relaxed);
            }
            Fault::KillActor { pod, kind } => {
                if let Some(running) = &self.pod(*pod).running {
                    running.kill(*kind);
                }
            }
            Fault::Sever { pods: (from, to), one_way, length } => {
                self.sever(Place(*from), Place(*to), now + *length);
                if !one_way {
                    self.sever(Place(*to), Place(*from), now + *length);
                }
            }
            Fault::ResetPods { pods: (one, other) } => self.network.reset(Place(*one), Place(*other)),
            Fault::StoreWeather { pod, climate, length } => {
                self.pod(*pod).store_weather.becomes(*climate);
                self.ills.add(Ill::StoreWeather(*pod), now + *length);
            }
            Fault::StoreOut { length } => {
                self.pods.iter().for_each(|pod| pod.store_weather.set_out(true));
                self.ills.add(Ill::StoreOut, now + *length);
            }
            Fault::BusWeather { pod, climate, whims, length } => {
                let pod_of = self.pod(*pod);
                pod_of.bus_weather.becomes(*climate);
                pod_of.post.becomes(*whims);
                self.ills.add(Ill::BusWeather(*pod), now + *length);
            }
            Fault::BusOut { length } => {
                self.bus.cut();
                self.bus_health.send_replace(false);
                self.ills.add(Ill::BusOut, now + *length);
            }
            Fault::BusForgets => self.bus.forget(),
            Fault::CrashDevice { device, down } => {
                self.devices[*device].crash();
                self.ills.add(Ill::DeviceDown(*device), now + *down);
            }
            Fault::CutDevice { device, length } => {
                let place = self.devices[*device].place;
                for pod in 1..=self.pods.len() {
                    let pod = Place(u16::try_from(pod).unwrap_or(u16::MAX));
                    self.network.sever(place, pod);
                    self.network.sever(pod, place);
                }
                self.ills.add(Ill::DeviceCut(*device), now + *length);
            }
            Fault::ResetDevice { device } => {
                let place = self.devices[*device].place;
                for pod in &self.pods {
                    self.network.reset(place, pod.place);
                }
            }
            Fault::SetDeviceClock { device, ms } => {
                self.devices[*device].set.fetch_add(*ms, Ordering::Relaxed);
            }
        }
    }

    fn sever(&mut self, from: Place, to: Place, until: Duration) {
        self.network.sever(from, to);
        self.ills.add(Ill::Severed(from, to), until);
    }

    fn mend(&mut self, ill: Ill) {
        let now = self.time.now();
        match ill {
            Ill::PodDown(pod) => {
                let ground = self.ground.clone();
                let pod = self.pod(pod);
                if pod.running.is_none() {
                    pod.start(now, &ground);
                }
            }
            Ill::PodFrozen(pod) => {
                if let Some(running) = &mut self.pod(pod).running {
                    running.host.thaw(now);
                }
            }
            Ill::Severed(from, to) => self.network.mend(from, to),
            Ill::StoreWeather(pod) => self.pod(pod).store_weather.becomes(Climate::default()),
            Ill::StoreOut => self.pods.iter().for_each(|pod| pod.store_weather.set_out(false)),
            Ill::BusWeather(pod) => {
                let pod = self.pod(pod);
                pod.bus_weather.becomes(Climate::default());
                pod.post.becomes(Whims::default());
            }
            Ill::BusOut => {
                self.bus.mend();
                self.bus_health.send_replace(true);
            }
            Ill::DeviceDown(device) => {
                if self.devices[device].life.is_none() {
                    self.devices[device].start(&self.street);
                }
            }
            Ill::DeviceCut(device) => {
                let place = self.devices[device].place;
                for pod in &self.pods {
                    self.network.mend(place, pod.place);
                    self.network.mend(pod.place, place);
                }
            }
            Ill::PodGoing(pod) => {
                self.findings.expect(Invariant::Drain, false, || {
                    format!("pod-{pod} was told to go, and was still there {GOING_MAX:?} later")
                });
            }
        }
        self.trace.note(now, Kind::Repair, format!("{ill:?} is over"));
    }

    fn make_whole(&mut self) {
        for ill in self.ills.take_all() {
            if !matches!(ill, Ill::PodGoing(_)) {
                self.mend(ill);
            }
        }
        self.network.mend_all();
        for pod in &self.pods {
            pod.set.store(0, Ordering::Relaxed);
        }
        for device in &self.devices {
            device.set.store(0, Ordering::Relaxed);
        }
        self.trace.note(self.time.now(), Kind::Phase, "everything is whole");
    }

    /// Waits until everything that was written is everywhere.
    fn settle(&mut self) {
        // What was not written yet is not missing.
        self.around.texts_left.store(0, Ordering::Relaxed);
        let end = self.time.now() + QUIET_MAX;
        let mut is_quiet = false;
        while !is_quiet && self.time.now() < end {
            for ill in self.ills.take_due(self.time.now()) {
                self.mend(ill);
            }
            is_quiet = self.until(Duration::from_secs(2), |world| world.lacking().is_empty());
        }
        let lacking = self.lacking();
        self.findings.expect(Invariant::NoLoss, is_quiet, || {
            format!("{QUIET_MAX:?} after everything was whole: {}", lacking.join("; "))
        });
        self.trace.note(self.time.now(), Kind::Phase, if is_quiet { "it is quiet" } else { "time is up" });
    }

    /// What keeps the world from being quiet.
    fn lacking(&self) -> Vec<String> {
        let mut lacking = Vec::new();
        let users: BTreeSet<UserId> = self.users().into_values().collect();
        for (number, device) in self.devices.iter().enumerate() {
            let Some(client) = device.client() else {
                lacking.push(format!("device {number} is not there"));
                continue;
            };
            if !device.record().is_connected {
                lacking.push(format!("device {number} is not connected"));
            }
            if !client.outbox_is_empty() {
                lacking.push(format!("device {number} has something to send"));
            }
            let Some(own) = device.record().user_id else { continue };
            let held: BTreeMap<ConversationId, u64> = client
                .conversations()
                .unwrap_or_default()
                .into_iter()
                .map(|it| (it.conversation_id, it.held_through))
                .collect();
            for other in users.iter().filter(|other| **other != own) {
                let conversation = ConversationId::of_pair(own, *other);
                let (end, has) = (self.end_of(conversation), held.get(&conversation).copied().unwrap_or(0));
                if has < end {
                    lacking.push(format!("device {number} holds {has} of {end} of {conversation}"));
                }
            }
        }
        lacking
    }

    fn users(&self) -> BTreeMap<usize, UserId> {
        let named = self.devices.iter().filter_map(|device| Some((device.owner, device.record().user_id?)));
        named.collect()
    }

    fn end_of(&self, conversation: ConversationId) -> u64 {
        let end = self.ground.store.log.end(conversation).now_or_never();
        end.and_then(Result::ok).map_or(0, |end| end.last_sequence)
    }

    fn judge(mut self) -> Outcome {
        let users: Vec<UserId> = self.users().into_values().collect();
        let mut logs = BTreeMap::new();
        for (index, one) in users.iter().enumerate() {
            for other in &users[..index] {
                let conversation = ConversationId::of_pair(*one, *other);
                let log = whole_log(&self.ground.store, conversation);
                if !log.is_empty() {
                    logs.insert(conversation, log);
                }
            }
        }
        let mut figures = Figures {
            messages: logs.values().map(|log| log.len() as u64).sum(),
            planned_faults: self.planned_faults,
            parcels: self.trace.parcels(),
            lasted_ms: u64::try_from(self.time.now().as_millis()).unwrap_or(u64::MAX),
            ..Figures::default()
        };
        for pod in &self.pods {
            self.struck.add(pod.store_weather.take_struck());
            self.struck.add(pod.bus_weather.take_struck());
            self.befallen_signals += pod.post.take_count();
        }
        figures.befallen = self.struck.total() + self.befallen_signals;
        let clients: Vec<Option<Client>> = self.devices.iter().map(Device::client).collect();
        // Everything lets go of the store before it is looked through.
        self.pods.iter_mut().for_each(Pod::crash);
        let records: Vec<_> = self.devices.iter().map(Device::record).collect();
        let mut devices = Vec::new();
        for (number, (record, client)) in records.iter().zip(&clients).enumerate() {
            let texts = record.written.iter().filter(|text| text.is_taken).count() as u64;
            figures.texts += texts;
            figures.shown += record.shown.iter().map(|life| life.len() as u64).sum::<u64>();
            figures.connections += record.connections;
            figures.undecryptable += record.undecryptable;
            figures.repaired += record.repaired;
            figures.failed += record.failed;
            let (Some(user_id), Some(device_id), Some(client)) =
                (record.user_id, record.device_id.clone(), client)
            else {
                continue;
            };
            devices.push(Seen {
                number,
                user_id,
                device_id,
                record,
                history: histories(client).unwrap_or_default(),
            });
        }
        let in_clear = self.network.overheard() + at_rest(self.folder.path());
        let evidence = Evidence { logs, devices, in_clear };
        check(&evidence, &mut self.findings);
        for violation in &self.findings.violations {
            let text = format!("{}: {}", violation.invariant.id(), violation.text);
            self.trace.note(self.time.now(), Kind::Violation, text);
        }
        let mut delays_ms: Vec<u64> =
            records.iter().flat_map(|record| record.delays_ms.iter().copied()).collect();
        delays_ms.sort_unstable();
        let of_100 = |share: usize| delays_ms.get(delays_ms.len() * share / 100).copied().unwrap_or(0);
        (figures.delay_p50_ms, figures.delay_p99_ms) = (of_100(50), of_100(99));
        let (digest, notes) = (self.trace.digest(), self.trace.notes());
        drop(evidence);
        drop(records);
        drop(self.embedded);
        Outcome { findings: self.findings, digest, notes, figures }
    }
}

/// A folder in memory, where the machine has one: what is on it need not survive the machine.
fn memory_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder can be made")
}
