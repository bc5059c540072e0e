//! What is wrong with a world: while it should become quiet, and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use colloquy_actors::metrics::{KindFigures, Metrics};
use colloquy_actors::supervision::ActorKind;
use colloquy_client::Client;
use colloquy_protocol::ids::{ConversationId, UserId};
use futures_util::FutureExt;

use super::check::{Content, Evidence, Logged, Seen, answers_by_turn, check, not_restored};
use super::course::{Figures, Outcome, World};
use super::evidence::{at_rest, histories, whole_log};
use super::people::{Delay, Device};
use super::pod::Pod;
use super::trace::Kind;

impl World {
    /// What keeps the world from being quiet.
    pub(super) fn lacking(&self) -> Vec<String> {
        let mut lacking = Vec::new();
        let users: BTreeSet<UserId> = self.users().into_values().collect();
        for (number, device) in self.devices.iter().enumerate() {
            let Some(client) = device.client() else {
                lacking.push(format!("device {number} is not there"));
                continue;
            };
            if device.record().is_removed {
                if !device.record().logged_out {
                    lacking.push(format!("device {number} was removed and does not know it"));
                }
                continue;
            }
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
        // Last, as it costs the most and this is asked at every tick.
        if lacking.is_empty() {
            lacking.extend(self.running().iter().flatten().filter_map(not_restored));
        }
        lacking
    }

    /// What the processes that run now have counted.
    fn running(&self) -> Vec<Vec<KindFigures>> {
        let running = self.pods.iter().filter(|pod| pod.running.is_some());
        let newest = running.filter_map(|pod| {
            pod.metrics.lock().unwrap_or_else(PoisonError::into_inner).last().map(|metrics| metrics.figures())
        });
        newest.collect()
    }

    /// What devices hold and cannot read.
    pub(super) fn unreadable(&self) -> Vec<String> {
        let mut unreadable = Vec::new();
        let there = self.devices.iter().enumerate().filter(|(_, device)| !device.record().is_removed);
        for (number, device) in there {
            let held = device.client().and_then(|client| histories(&client).ok()).unwrap_or_default();
            for (conversation, history) in held {
                let count = history.iter().filter(|it| it.content == Content::Undecryptable).count();
                if count > 0 {
                    unreadable
                        .push(format!("device {number} cannot read {count} messages of {conversation}"));
                }
            }
        }
        unreadable
    }

    /// What agents have not answered.
    pub(super) fn unanswered(&self) -> Vec<String> {
        let agents = self.agents();
        let who: BTreeSet<UserId> = agents.values().copied().collect();
        let mut unanswered = Vec::new();
        for (person, agent) in &agents {
            for other in self.users().into_values().filter(|user| !who.contains(user)) {
                let log = whole_log(&self.ground.store, ConversationId::of_pair(*agent, other));
                let count = answers_by_turn(&log, &who).into_values().filter(|answers| *answers == 0).count();
                if count > 0 {
                    unanswered.push(format!("agent {person} has not answered {count} messages of {other}"));
                }
            }
        }
        unanswered
    }

    /// What of the conversations the archive does not know.
    pub(super) fn unknown_to_archive(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        for (conversation, log) in self.logs() {
            let count = log.iter().filter(|logged| !self.ground.archive.knows(logged.message_id)).count();
            if count > 0 {
                unknown.push(format!("{count} messages of {conversation} were told nobody"));
            }
        }
        unknown
    }

    /// All conversations in which something was written.
    fn logs(&self) -> BTreeMap<ConversationId, Vec<Logged>> {
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
        logs
    }

    /// The users that are agents, by the number of the person.
    pub(super) fn agents(&self) -> BTreeMap<usize, UserId> {
        self.users().into_iter().filter(|(person, _)| self.around.agents[*person]).collect()
    }

    /// Whoever is somebody, by the number of the person.
    pub(super) fn users(&self) -> BTreeMap<usize, UserId> {
        let named = self.devices.iter().filter_map(|device| Some((device.owner, device.record().user_id?)));
        named.collect()
    }

    /// Where the log of a conversation ends.
    pub(super) fn end_of(&self, conversation: ConversationId) -> u64 {
        let end = self.ground.store.log.end(conversation).now_or_never();
        end.and_then(Result::ok).map_or(0, |end| end.last_sequence)
    }

    /// Looks at everything, and ends the world.
    pub(super) fn judge(mut self) -> Outcome {
        let agents: BTreeSet<UserId> = self.agents().into_values().collect();
        let logs = self.logs();
        // What a pod tells once more by itself, when the archive is whole, stays among the dead letters.
        self.told_late.extend(self.not_taken());
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
        let running = self.running();
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
            figures.grown += record.grown;
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
        let in_clear =
            self.network.overheard() + at_rest(self.folder.path()) + self.ground.archive.in_clear();
        let counted: Vec<Arc<Metrics>> = self
            .pods
            .iter()
            .flat_map(|pod| pod.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect();
        let supervision = by_kind(&counted);
        let seen_by_pods = counted.iter().flat_map(|metrics| metrics.violations()).collect();
        let forgeries = self.ground.forgeries.take_tried();
        figures.forged = forgeries.iter().filter(|tried| tried.was_heard()).count() as u64;
        figures.replayed = self.replayed.len() as u64;
        (figures.told_again, figures.told_late) = (self.ground.archive.again(), self.told_late.len() as u64);
        let usurped = std::mem::take(&mut self.usurped);
        let evidence = Evidence {
            logs,
            agents,
            devices,
            in_clear,
            usurped,
            supervision: supervision.clone(),
            running,
            seen_by_pods,
            forgeries,
            archived: self.ground.archive.told(),
            told_late: std::mem::take(&mut self.told_late),
        };
        check(&evidence, &mut self.findings);
        for violation in &self.findings.violations {
            let text = format!("{}: {}", violation.invariant.id(), violation.text);
            self.trace.note(self.time.now(), Kind::Violation, text);
        }
        let delays: Vec<Delay> = records.iter().flat_map(|record| record.delays.iter().copied()).collect();
        let mut delays_ms: Vec<u64> = delays.iter().map(|delay| delay.took_ms).collect();
        delays_ms.sort_unstable();
        let of_100 = |share: usize| delays_ms.get(delays_ms.len() * share / 100).copied().unwrap_or(0);
        (figures.delay_p50_ms, figures.delay_p99_ms) = (of_100(50), of_100(99));
        let (digest, notes) = (self.trace.digest(), self.trace.notes());
        drop(evidence);
        drop(records);
        drop(self.embedded);
        let faults_from_ms = u64::try_from(self.faults_from.as_millis()).unwrap_or(u64::MAX);
        Outcome { findings: self.findings, digest, notes, figures, faults_from_ms, delays, supervision }
    }
}

/// Of all processes together: sums, and the greatest depths.
fn by_kind(counted: &[Arc<Metrics>]) -> Vec<KindFigures> {
    let mut all: BTreeMap<ActorKind, KindFigures> = BTreeMap::new();
    for figures in counted.iter().flat_map(|metrics| metrics.figures()) {
        let sum = all.entry(figures.kind).or_insert(KindFigures {
            restarts: 0,
            exits: Default::default(),
            peak_depth: 0,
            capacity: 0,
            ..figures
        });
        sum.restarts += figures.restarts;
        sum.exits.iter_mut().zip(figures.exits).for_each(|(sum, count)| *sum += count);
        sum.peak_depth = sum.peak_depth.max(figures.peak_depth);
        sum.capacity = sum.capacity.max(figures.capacity);
    }
    all.into_values().collect()
}
