//! The course of a world: people come, things break, everything is made whole, and in the end it must be quiet and complete.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use colloquy_actors::metrics::KindFigures;
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_simulated_entropy::set_time_of_this_thread;
use colloquy_storage::ambient::Workers;
use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::local::LocalBus;
use futures_util::FutureExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;
use tokio::sync::watch;

use super::agents::{MoodBoard, registered};
use super::archive::Archive;
use super::check::{Findings, Invariant};
use super::evidence::is_stored;
use super::forgery::{FORGERIES_SALT, Forgeries};
use super::host::Host;
use super::ills::{Ill, Ills};
use super::network::Network;
use super::people::{Around, Delay, Device, NEEDLE};
use super::plan::Plan;
use super::pod::{GENESIS, Ground, Pod};
use super::time::WorldTime;
use super::trace::{Kind, Note, Trace};
use super::weather::Struck;

/// How long pods may take to come up, and people to be connected.
const SET_UP_MAX: Duration = Duration::from_secs(60);
/// How long it may take after everything was made whole until everything is everywhere.
const QUIET_MAX: Duration = Duration::from_secs(240);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is looked whether every message can be read: that costs reading them all.
const REPAIR_LOOK: Duration = Duration::from_secs(2);
/// After how long a process that has ended by itself is started again.
const RESTART: Duration = Duration::from_secs(1);

/// What a run has shown.
pub(crate) struct Outcome {
    pub(crate) findings: Findings,
    pub(crate) digest: String,
    pub(crate) notes: Vec<Note>,
    pub(crate) figures: Figures,
    /// When faults began, ms.
    pub(crate) faults_from_ms: u64,
    pub(crate) delays: Vec<Delay>,
    /// What actors have counted, kind by kind, over all pods and processes.
    pub(crate) supervision: Vec<KindFigures>,
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
    /// How often more of an answer was seen while it was being written.
    pub(crate) grown: u64,
    /// Answers and pieces of them by those whose turn it was not, that a pod has looked at.
    pub(crate) forged: u64,
    /// Turns that were given up, and answered when agents were given them once more.
    pub(crate) replayed: u64,
    /// Messages that whoever is told of all of them was told again, though it knew them; and those that were given up first.
    pub(crate) told_again: u64,
    pub(crate) told_late: u64,
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

/// A world on its course.
pub(super) struct World {
    pub(super) time: WorldTime,
    pub(super) trace: Trace,
    pub(super) network: Network,
    pub(super) ground: Ground,
    pub(super) bus: LocalBus,
    pub(super) bus_health: watch::Sender<bool>,
    pub(super) street: Host,
    pub(super) pods: Vec<Pod>,
    pub(super) devices: Vec<Device>,
    pub(super) around: Arc<Around>,
    pub(super) ills: Ills,
    pub(super) findings: Findings,
    pub(super) struck: Struck,
    pub(super) befallen_signals: u64,
    pub(super) planned_faults: u64,
    pub(super) faults_from: Duration,
    pub(super) usurped: Vec<(ConversationId, Vec<MessageId>)>,
    /// Turns that were given up, and that agents were given once more.
    pub(super) replayed: BTreeSet<MessageId>,
    /// Messages that were given up, and that the archive was told of once more.
    pub(super) told_late: BTreeSet<MessageId>,
    /// Drawn from for who forges what.
    pub(super) forging: StdRng,
    pub(super) embedded: EmbeddedStore,
    pub(super) folder: TempDir,
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
        let forgeries = Forgeries::default();
        let ground = Ground {
            network: network.clone(),
            store: store.clone(),
            bus: bus.clone(),
            bus_health: health,
            forgeries: forgeries.clone(),
            archive: Archive::new(plan.seed, time.clone(), trace.clone()),
            seed: plan.seed,
        };
        let pods = (1..=plan.pods).map(|number| Pod::new(number, plan, &time)).collect();
        let senders = u32::try_from(plan.devices.len()).unwrap_or(u32::MAX);
        // Everything is written within the time of the faults.
        let per_device = plan.length * senders / u32::try_from(plan.texts.max(1)).unwrap_or(u32::MAX);
        let around = Arc::new(Around {
            network: network.clone(),
            time: time.clone(),
            trace: trace.clone(),
            folder: folder.path().to_owned(),
            pods: plan.pods,
            agents: (0..plan.people).map(|person| plan.is_agent(person)).collect(),
            moods: MoodBoard::default(),
            forgeries,
            interval: per_device,
            texts_left: AtomicU64::new(0),
            is_stored: Box::new(move |conversation, number, message| {
                is_stored(&store, conversation, number, message)
            }),
            users: Mutex::new(vec![None; plan.people]),
            to_remove: Mutex::default(),
        });
        let device = |(number, owner): (usize, &usize)| Device::new(number, *owner, plan.seed, &around);
        let devices = plan.devices.iter().enumerate().map(device).collect();
        Self {
            street: Host::start(Duration::ZERO, "street"),
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
            faults_from: Duration::ZERO,
            usurped: Vec::new(),
            replayed: BTreeSet::new(),
            told_late: BTreeSet::new(),
            forging: StdRng::seed_from_u64(plan.seed ^ FORGERIES_SALT),
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
        let next = self.time.next();
        self.street.run_until(next);
        for pod in &mut self.pods {
            if let Some(running) = &mut pod.running {
                running.host.run_until(next);
            }
        }
        self.time.set(next);
        set_time_of_this_thread(Duration::from_millis(GENESIS) + next, next);
        self.forge();
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
        for (person, user_id) in self.agents() {
            let created = self.ground.store.agents.create(registered(person, user_id)).now_or_never();
            created.and_then(Result::ok).expect("a store in memory does not fail");
        }
        is_connected
    }

    fn break_things(&mut self, plan: &Plan) {
        let began = self.time.now();
        self.faults_from = began;
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

    fn make_whole(&mut self) {
        for ill in self.ills.take_all() {
            if !matches!(ill, Ill::PodGoing(_)) {
                self.mend(ill);
            }
        }
        self.network.mend_all();
        self.ground.archive.becomes_whole();
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
            is_quiet = self.until(Duration::from_secs(2), |world| world.lacking().is_empty())
                && self.unreadable().is_empty()
                && self.unanswered().is_empty()
                && self.unknown_to_archive().is_empty();
            if !is_quiet {
                self.replay();
                self.until(REPAIR_LOOK, |_| false);
            }
        }
        let mut lacking = self.lacking();
        lacking.extend(self.unreadable());
        lacking.extend(self.unanswered());
        lacking.extend(self.unknown_to_archive());
        self.findings.expect(Invariant::NoLoss, is_quiet, || {
            format!("{QUIET_MAX:?} after everything was whole: {}", lacking.join("; "))
        });
        self.trace.note(self.time.now(), Kind::Phase, if is_quiet { "it is quiet" } else { "time is up" });
    }
}

/// A folder in memory, where the machine has one: what is on it need not survive the machine.
fn memory_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder can be made")
}
