//! What each fault does to a world, and how it is made whole again.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use colloquy_actors::supervision::Doom;
use colloquy_protocol::ids::{ConversationId, UserId};
use futures_util::FutureExt;

use super::agents::Moods;
use super::bus::Whims;
use super::check::Invariant;
use super::course::World;
use super::evidence::whole_log;
use super::ills::Ill;
use super::network::Place;
use super::people::Device;
use super::plan::Fault;
use super::pod::Pod;
use super::trace::Kind;
use super::weather::Climate;

/// Devices that one person has at the most.
const DEVICES_OF_PERSON_MAX: usize = 3;
/// How long a pod may take to go in order.
const GOING_MAX: Duration = Duration::from_secs(60);

impl World {
    fn pod(&mut self, number: u16) -> &mut Pod {
        &mut self.pods[usize::from(number) - 1]
    }

    /// Does to the world what a fault says.
    pub(super) fn strike(&mut self, fault: &Fault) {
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
            Fault::PanicActor { pod, kind } => self.pod(*pod).doom(*kind, Some(Doom::Panic)),
            Fault::HangActor { pod, kind, length } => {
                self.pod(*pod).doom(*kind, Some(Doom::Hang(*length)));
                self.ills.add(Ill::ActorHangs(*pod, *kind), now + *length);
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
            Fault::CutPower { device, down } => {
                self.devices[*device].cut_power();
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
            Fault::AgentMoods { person, moods, length } => {
                self.around.moods.becomes(*person, *moods);
                self.ills.add(Ill::AgentMoods(*person), now + *length);
            }
            Fault::AddDevice { person } => self.add_device(*person),
            Fault::RemoveDevice { device } => self.remove_device(*device),
            Fault::Usurp { draw } => self.usurp(*draw),
        }
    }

    fn add_device(&mut self, person: usize) {
        let of_person = self.devices.iter().filter(|device| device.owner == person).count();
        if of_person < DEVICES_OF_PERSON_MAX {
            let number = self.devices.len();
            let mut device = Device::new(number, person, self.ground.seed, &self.around);
            device.start(&self.street);
            self.devices.push(device);
        }
    }

    /// Another device of the same person sees to it, as soon as it can.
    fn remove_device(&mut self, number: usize) {
        let owner = self.devices[number].owner;
        let is_other = |(at, device): &(usize, &Device)| {
            *at != number && device.owner == owner && !device.record().is_removed
        };
        let has_other = self.devices.iter().enumerate().any(|it| is_other(&it));
        let mut record = self.devices[number].record();
        if let Some(removed) = record.device_id.clone().filter(|_| has_other && !record.is_removed) {
            record.is_removed = true;
            self.around.to_remove.lock().unwrap_or_else(PoisonError::into_inner).push((owner, removed));
        }
    }

    /// Somebody else says that a conversation is theirs. Its owner learns of it when it appends.
    fn usurp(&mut self, draw: u64) {
        let users: Vec<UserId> = self.users().into_values().collect();
        let pairs = users.iter().enumerate().flat_map(|(at, one)| {
            users[..at].iter().map(|other| ConversationId::of_pair(*one, *other)).collect::<Vec<_>>()
        });
        let there: Vec<ConversationId> =
            pairs.filter(|conversation| self.end_of(*conversation) > 0).collect();
        if there.is_empty() {
            return;
        }
        let index = draw % there.len() as u64;
        let conversation = there[usize::try_from(index).unwrap_or(0)];
        let log = whole_log(&self.ground.store, conversation);
        self.usurped.push((conversation, log.iter().map(|logged| logged.message_id).collect()));
        let _ = self.ground.store.log.take_ownership(conversation).now_or_never();
    }

    fn sever(&mut self, from: Place, to: Place, until: Duration) {
        self.network.sever(from, to);
        self.ills.add(Ill::Severed(from, to), until);
    }

    /// Makes whole what was broken.
    pub(super) fn mend(&mut self, ill: Ill) {
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
            // One that nothing has come to since does not hang any more.
            Ill::ActorHangs(pod, kind) => self.pod(pod).doom(kind, None),
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
            Ill::AgentMoods(person) => self.around.moods.becomes(person, Moods::default()),
            Ill::PodGoing(pod) => {
                self.findings.expect(Invariant::Drain, false, || {
                    format!("pod-{pod} was told to go, and was still there {GOING_MAX:?} later")
                });
            }
        }
        self.trace.note(now, Kind::Repair, format!("{ill:?} is over"));
    }
}
