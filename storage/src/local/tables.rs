//! Who is alive and where, and when each entry's time is up. Pure: the time is handed in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use colloquy_protocol::ids::{DeviceId, UserId};
use tokio::time::Instant;

use crate::model::live::{Connection, Member, PodId, Presence};

/// Something that is true until then.
struct Until<T> {
    end: Instant,
    value: T,
}

impl<T> Until<T> {
    fn get(&self, now: Instant) -> Option<&T> {
        (now < self.end).then_some(&self.value)
    }
}

/// Bounded by the pods, their sockets, and the users whose presence was set.
#[derive(Default)]
pub(super) struct Tables {
    members: BTreeMap<PodId, Until<Member>>,
    /// The generation of each device's connection to each pod.
    connections: HashMap<UserId, BTreeMap<(DeviceId, PodId), Until<u64>>>,
    presences: HashMap<UserId, Until<Presence>>,
}

impl Tables {
    /// Drops what nobody can see any more too: pods announce themselves for as long as they run.
    pub(super) fn announce(&mut self, member: &Member, now: Instant, end: Instant) {
        self.members.insert(member.pod_id.clone(), Until { end, value: member.clone() });
        self.members.retain(|_, member| now < member.end);
        self.presences.retain(|_, presence| now < presence.end);
        self.connections.retain(|_, entries| {
            entries.retain(|_, entry| now < entry.end);
            !entries.is_empty()
        });
    }

    pub(super) fn withdraw(&mut self, pod_id: &PodId, incarnation: u64) {
        if self.members.get(pod_id).is_some_and(|member| member.value.incarnation == incarnation) {
            self.members.remove(pod_id);
        }
    }

    pub(super) fn members(&self, now: Instant) -> Vec<Member> {
        self.members.values().filter_map(|member| member.get(now)).cloned().collect()
    }

    /// Says whether it was not there.
    pub(super) fn enter(&mut self, connection: &Connection, now: Instant, end: Instant) -> bool {
        let place = (connection.device_id.clone(), connection.pod_id.clone());
        let entries = self.connections.entry(connection.user_id).or_default();
        let entered = entries.get(&place).and_then(|entry| entry.get(now));
        let is_fresh = entered.is_none();
        if entered.is_none_or(|generation| *generation <= connection.generation) {
            entries.insert(place, Until { end, value: connection.generation });
        }
        is_fresh
    }

    pub(super) fn leave(&mut self, connection: &Connection) {
        let Some(entries) = self.connections.get_mut(&connection.user_id) else { return };
        let place = (connection.device_id.clone(), connection.pod_id.clone());
        if entries.get(&place).is_some_and(|entry| entry.value <= connection.generation) {
            entries.remove(&place);
        }
        if entries.is_empty() {
            self.connections.remove(&connection.user_id);
        }
    }

    pub(super) fn pods_of(&self, user_id: UserId, now: Instant) -> Vec<PodId> {
        let entries = self.connections.get(&user_id).into_iter().flatten();
        let alive = entries.filter(|(_, entry)| entry.get(now).is_some());
        let pods: BTreeSet<&PodId> = alive.map(|((_, pod_id), _)| pod_id).collect();
        pods.into_iter().cloned().collect()
    }

    pub(super) fn set_presence(&mut self, user_id: UserId, presence: Presence, end: Instant) {
        self.presences.insert(user_id, Until { end, value: presence });
    }

    pub(super) fn presence_of(&self, user_id: UserId, now: Instant) -> Option<Presence> {
        self.presences.get(&user_id)?.get(now).copied()
    }
}
