//! What a seed stands for: the size of the world, its delays, and every fault with its time. Drawn before anything runs, so
//! that a run can be repeated with fewer of its faults and everything else the same.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use colloquy_actors::supervision::{ActorKind, HANG_MAX};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use super::agents::Moods;
use super::bus::Whims;
use super::weather::Climate;

/// A world and what befalls it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) pods: u16,
    pub(crate) people: usize,
    /// The last so many of them are agents.
    pub(crate) agents: usize,
    /// The owner of each device.
    pub(crate) devices: Vec<usize>,
    /// Texts that are written while faults happen.
    pub(crate) texts: u64,
    /// How long faults happen.
    pub(crate) length: Duration,
    pub(crate) network_delay: Range<Duration>,
    pub(crate) store_delay: Range<Duration>,
    pub(crate) bus_delay: Range<Duration>,
    /// In the order of their times.
    pub(crate) faults: Vec<Planned>,
}

/// A fault at its time, from the beginning of the phase of faults.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
}

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// A pod's process ends, and another one starts later.
    CrashPod { pod: u16, down: Duration },
    /// A pod stands still.
    FreezePod { pod: u16, length: Duration },
    /// A pod goes away in order, and comes back.
    DrainPod { pod: u16 },
    /// A pod's clock is set.
    SetClock { pod: u16, ms: i64 },
    /// An actor is killed.
    KillActor { pod: u16, kind: ActorKind },
    /// An actor panics over what it takes up next.
    PanicActor { pod: u16, kind: ActorKind },
    /// An actor stands still over what it takes up next.
    HangActor { pod: u16, kind: ActorKind, length: Duration },
    /// What one place sends to the other is held; the other way too, if it is not one-way.
    Sever { pods: (u16, u16), one_way: bool, length: Duration },
    /// Connections between two pods break.
    ResetPods { pods: (u16, u16) },
    /// The store misbehaves for a pod.
    StoreWeather { pod: u16, climate: Climate, length: Duration },
    /// The store is away, for every pod.
    StoreOut { length: Duration },
    /// The bus misbehaves for a pod.
    BusWeather { pod: u16, climate: Climate, whims: Whims, length: Duration },
    /// The bus is away, and forgets everything.
    BusOut { length: Duration },
    /// The bus forgets everything.
    BusForgets,
    /// A device's process ends, and starts again later.
    CrashDevice { device: usize, down: Duration },
    /// As [`Self::CrashDevice`], and what it has written and not synced is gone.
    CutPower { device: usize, down: Duration },
    /// A device has no network.
    CutDevice { device: usize, length: Duration },
    /// A device's connections break.
    ResetDevice { device: usize },
    /// A device's clock is set.
    SetDeviceClock { device: usize, ms: i64 },
    /// An agent does what it should not.
    AgentMoods { person: usize, moods: Moods, length: Duration },
    /// Somebody logs in on one more device.
    AddDevice { person: usize },
    /// Somebody removes a device, if they have another.
    RemoveDevice { device: usize },
    /// A conversation has a second owner for a moment; which one is drawn from those there are.
    Usurp { draw: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashPod { pod, down } => write!(f, "pod-{pod} killed, down for {down:?}"),
            Self::FreezePod { pod, length } => write!(f, "pod-{pod} frozen for {length:?}"),
            Self::DrainPod { pod } => write!(f, "pod-{pod} told to go"),
            Self::SetClock { pod, ms } => write!(f, "pod-{pod}'s clock set by {ms} ms"),
            Self::KillActor { pod, kind } => write!(f, "pod-{pod}: a {kind:?} killed"),
            Self::PanicActor { pod, kind } => write!(f, "pod-{pod}: a {kind:?} made to panic"),
            Self::HangActor { pod, kind, length } => {
                write!(f, "pod-{pod}: a {kind:?} made to hang for {length:?}")
            }
            Self::Sever { pods: (a, b), one_way, length } => {
                let arrow = if *one_way { "to" } else { "and" };
                write!(f, "pod-{a} {arrow} pod-{b} severed for {length:?}")
            }
            Self::ResetPods { pods: (a, b) } => write!(f, "connections of pod-{a} and pod-{b} broken"),
            Self::StoreWeather { pod, climate, length } => {
                write!(f, "pod-{pod}'s store for {length:?}: {climate}")
            }
            Self::StoreOut { length } => write!(f, "store away for {length:?}"),
            Self::BusWeather { pod, climate, whims, length } => {
                write!(f, "pod-{pod}'s bus for {length:?}: {climate}; {whims}")
            }
            Self::BusOut { length } => write!(f, "bus away for {length:?}"),
            Self::BusForgets => f.write_str("bus forgets everything"),
            Self::CrashDevice { device, down } => write!(f, "device {device} killed, down for {down:?}"),
            Self::CutPower { device, down } => write!(f, "device {device} without power for {down:?}"),
            Self::CutDevice { device, length } => write!(f, "device {device} without network for {length:?}"),
            Self::ResetDevice { device } => write!(f, "connections of device {device} broken"),
            Self::SetDeviceClock { device, ms } => write!(f, "device {device}'s clock set by {ms} ms"),
            Self::AgentMoods { person, moods, length } => {
                write!(f, "agent {person} for {length:?}: {moods}")
            }
            Self::AddDevice { person } => write!(f, "person {person} logs in on one more device"),
            Self::RemoveDevice { device } => write!(f, "device {device} is removed by its owner"),
            Self::Usurp { .. } => f.write_str("a conversation is taken over"),
        }
    }
}

impl Fault {
    /// Where it strikes, for a person.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::CrashPod { pod, .. }
            | Self::FreezePod { pod, .. }
            | Self::DrainPod { pod }
            | Self::SetClock { pod, .. }
            | Self::KillActor { pod, .. }
            | Self::PanicActor { pod, .. }
            | Self::HangActor { pod, .. } => format!("pod-{pod}"),
            Self::StoreWeather { pod, .. } => format!("pod-{pod}'s store"),
            Self::BusWeather { pod, .. } => format!("pod-{pod}'s bus"),
            Self::Sever { .. } | Self::ResetPods { .. } => "between pods".to_owned(),
            Self::StoreOut { .. } | Self::Usurp { .. } => "store".to_owned(),
            Self::BusOut { .. } | Self::BusForgets => "bus".to_owned(),
            Self::CrashDevice { device, .. }
            | Self::CutPower { device, .. }
            | Self::CutDevice { device, .. }
            | Self::ResetDevice { device }
            | Self::SetDeviceClock { device, .. }
            | Self::RemoveDevice { device } => format!("device {device}"),
            Self::AgentMoods { person, .. } => format!("agent {person}"),
            Self::AddDevice { .. } => "devices".to_owned(),
        }
    }

    /// How long, if it is not over at once.
    pub(crate) fn lasts(&self) -> Option<Duration> {
        match self {
            Self::CrashPod { down: length, .. }
            | Self::CrashDevice { down: length, .. }
            | Self::CutPower { down: length, .. }
            | Self::FreezePod { length, .. }
            | Self::HangActor { length, .. }
            | Self::Sever { length, .. }
            | Self::StoreWeather { length, .. }
            | Self::StoreOut { length }
            | Self::BusWeather { length, .. }
            | Self::BusOut { length }
            | Self::AgentMoods { length, .. }
            | Self::CutDevice { length, .. } => Some(*length),
            Self::DrainPod { .. }
            | Self::SetClock { .. }
            | Self::KillActor { .. }
            | Self::PanicActor { .. }
            | Self::ResetPods { .. }
            | Self::BusForgets
            | Self::ResetDevice { .. }
            | Self::SetDeviceClock { .. }
            | Self::AddDevice { .. }
            | Self::RemoveDevice { .. }
            | Self::Usurp { .. } => None,
        }
    }
}

/// How large a world is to be.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Size {
    /// Texts that are written.
    pub(crate) texts: u64,
    /// Faults on the plan, about.
    pub(crate) faults: usize,
}

/// Tells what is drawn for agents from everything else.
const AGENTS_SALT: u64 = 0x61_6765_6e74;
/// Other faults for each time that an agent is in a mood.
const FAULTS_PER_MOOD: usize = 8;

/// Kinds of faults, by how much there is to break in them.
const KINDS: [(FaultKind, u32); 22] = [
    (FaultKind::CrashPod, 6),
    (FaultKind::FreezePod, 4),
    (FaultKind::DrainPod, 4),
    (FaultKind::SetClock, 2),
    (FaultKind::KillActor, 20),
    (FaultKind::PanicActor, 8),
    (FaultKind::HangActor, 6),
    (FaultKind::Sever, 8),
    (FaultKind::ResetPods, 4),
    (FaultKind::StoreWeather, 12),
    (FaultKind::StoreOut, 2),
    (FaultKind::BusWeather, 8),
    (FaultKind::BusOut, 2),
    (FaultKind::BusForgets, 2),
    (FaultKind::CrashDevice, 7),
    (FaultKind::CutPower, 5),
    (FaultKind::CutDevice, 8),
    (FaultKind::ResetDevice, 6),
    (FaultKind::SetDeviceClock, 2),
    (FaultKind::AddDevice, 1),
    (FaultKind::RemoveDevice, 1),
    (FaultKind::Usurp, 8),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    CrashPod,
    FreezePod,
    DrainPod,
    SetClock,
    KillActor,
    PanicActor,
    HangActor,
    Sever,
    ResetPods,
    StoreWeather,
    StoreOut,
    BusWeather,
    BusOut,
    BusForgets,
    CrashDevice,
    CutPower,
    CutDevice,
    ResetDevice,
    SetDeviceClock,
    AddDevice,
    RemoveDevice,
    Usurp,
}

impl Plan {
    /// What this seed stands for.
    pub(crate) fn draw(seed: u64, size: Size) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let pods = *[1, 2, 3, 3, 3, 4].choose(&mut rng).expect("it is not empty");
        let people = rng.random_range(3..=6);
        let devices =
            (0..people).flat_map(|person| vec![person; if rng.random_bool(0.4) { 2 } else { 1 }]).collect();
        let length = Duration::from_secs(rng.random_range(40..=80));
        let millis = |low: u64, high: u64| Duration::from_millis(low)..Duration::from_millis(high);
        let network_delay = if rng.random_bool(0.2) { millis(20, 120) } else { millis(1, 6) };
        let store_delay = if rng.random_bool(0.2) { millis(10, 40) } else { millis(1, 4) };
        let bus_delay = millis(1, 3);
        let mut plan = Self {
            seed,
            pods,
            people,
            agents: 0,
            devices,
            texts: size.texts,
            length,
            network_delay,
            store_delay,
            bus_delay,
            faults: Vec::new(),
        };
        // Which kinds there are in this world, and how many: some worlds have many of few.
        let kinds: Vec<(FaultKind, u32)> = KINDS.into_iter().filter(|_| rng.random_bool(0.7)).collect();
        let count = rng.random_range(size.faults / 2..=size.faults + size.faults / 2);
        for _ in 0..count {
            let Ok((kind, _)) = kinds.choose_weighted(&mut rng, |(_, weight)| *weight) else { break };
            let at = plan.length.mul_f64(rng.random());
            let fault = plan.draw_fault(&mut rng, *kind);
            plan.faults.extend(fault.map(|fault| Planned { at, fault }));
        }
        plan.draw_agents(size.faults);
        plan.faults.sort_by_key(|planned| planned.at);
        plan
    }

    /// From a seed of their own: a world with agents is otherwise the same as it is without them.
    fn draw_agents(&mut self, faults: usize) {
        let mut rng = StdRng::seed_from_u64(self.seed ^ AGENTS_SALT);
        // Two people at least have each other to write to.
        self.agents = rng.random_range(0..=2).min(self.people - 2);
        if self.agents == 0 {
            return;
        }
        for _ in 0..faults.div_ceil(FAULTS_PER_MOOD) {
            let person = self.people - 1 - rng.random_range(0..self.agents);
            let moods = Moods {
                fails: share(&mut rng, 0.5),
                refuses: share(&mut rng, 0.3),
                denies: share(&mut rng, 0.3),
                hangs: share(&mut rng, 0.2),
                forgets: share(&mut rng, 0.3),
                late: share(&mut rng, 0.3),
                doubled: share(&mut rng, 0.5),
                loathes: share(&mut rng, 0.9),
            };
            let at = self.length.mul_f64(rng.random());
            let length = Duration::from_secs_f64(20.0 * rng.random::<f64>());
            self.faults.push(Planned { at, fault: Fault::AgentMoods { person, moods, length } });
        }
    }

    /// Is this person an agent?
    pub(crate) fn is_agent(&self, person: usize) -> bool {
        person >= self.people - self.agents
    }

    fn draw_fault(&self, rng: &mut StdRng, kind: FaultKind) -> Option<Fault> {
        let pod = rng.random_range(1..=self.pods);
        let other = (pod + rng.random_range(0..self.pods.max(2) - 1)) % self.pods + 1;
        let device = rng.random_range(0..self.devices.len());
        let seconds =
            |rng: &mut StdRng, most: f64| Duration::from_secs_f64(most * rng.random::<f64>().powi(2));
        let is_alone = self.pods == 1;
        Some(match kind {
            FaultKind::CrashPod => Fault::CrashPod { pod, down: seconds(rng, 8.0) },
            FaultKind::FreezePod => Fault::FreezePod { pod, length: seconds(rng, 20.0) },
            FaultKind::DrainPod => Fault::DrainPod { pod },
            FaultKind::SetClock => Fault::SetClock { pod, ms: rng.random_range(-60_000..=60_000) },
            FaultKind::KillActor => Fault::KillActor { pod, kind: actor(rng) },
            FaultKind::PanicActor => Fault::PanicActor { pod, kind: actor(rng) },
            FaultKind::HangActor => {
                Fault::HangActor { pod, kind: actor(rng), length: seconds(rng, HANG_MAX.as_secs_f64()) }
            }
            FaultKind::Sever | FaultKind::ResetPods if is_alone => return None,
            FaultKind::Sever => {
                Fault::Sever { pods: (pod, other), one_way: rng.random_bool(0.5), length: seconds(rng, 25.0) }
            }
            FaultKind::ResetPods => Fault::ResetPods { pods: (pod, other) },
            FaultKind::StoreWeather => {
                Fault::StoreWeather { pod, climate: climate(rng), length: seconds(rng, 15.0) }
            }
            FaultKind::StoreOut => Fault::StoreOut { length: seconds(rng, 12.0) },
            FaultKind::BusWeather => Fault::BusWeather {
                pod,
                climate: climate(rng),
                whims: Whims { lost: share(rng, 0.3), late: share(rng, 0.3), doubled: share(rng, 0.3) },
                length: seconds(rng, 15.0),
            },
            FaultKind::BusOut => Fault::BusOut { length: seconds(rng, 12.0) },
            FaultKind::BusForgets => Fault::BusForgets,
            FaultKind::CrashDevice => Fault::CrashDevice { device, down: seconds(rng, 10.0) },
            FaultKind::CutPower => Fault::CutPower { device, down: seconds(rng, 10.0) },
            FaultKind::CutDevice => Fault::CutDevice { device, length: seconds(rng, 20.0) },
            FaultKind::ResetDevice => Fault::ResetDevice { device },
            FaultKind::SetDeviceClock => {
                Fault::SetDeviceClock { device, ms: rng.random_range(-600_000..=600_000) }
            }
            FaultKind::AddDevice => Fault::AddDevice { person: self.devices[device] },
            FaultKind::RemoveDevice => Fault::RemoveDevice { device },
            FaultKind::Usurp => Fault::Usurp { draw: rng.random() },
        })
    }
}

/// Nothing at all about half of the time, and otherwise up to `most`.
fn share(rng: &mut StdRng, most: f64) -> f64 {
    if rng.random_bool(0.5) { 0.0 } else { most * rng.random::<f64>() }
}

/// Any but the root, without which there is no pod.
fn actor(rng: &mut StdRng) -> ActorKind {
    *ActorKind::ALL[1..].choose(rng).expect("it is not empty")
}

fn climate(rng: &mut StdRng) -> Climate {
    Climate {
        refused: share(rng, 0.2),
        unanswered: share(rng, 0.2),
        slow: share(rng, 0.1),
        panics: share(rng, 0.02),
        hangs: share(rng, 0.02),
        conflicts: share(rng, 0.2),
    }
}
