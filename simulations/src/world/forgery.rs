//! Forged answers: while an agent has a turn, somebody whose turn it is not answers it, or the agent answers a turn that
//! there is not. They come in by the server's own way for answers, and each is to be turned away (AUTHZ).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use colloquy_actors::agent::{AnswerError, Turns};
use colloquy_protocol::envelope::{Algorithm, CiphertextKind, DeviceCiphertext, Envelope};
use colloquy_protocol::event::{AgentResponse, AgentResponseDelta};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::{DeviceId, MessageId, StreamId, UserId};
use colloquy_storage::model::device::Device;
use futures_util::FutureExt;
use rand::RngExt;
use rand::seq::IndexedRandom;
use tokio::sync::mpsc;

use super::course::World;
use super::pod::GENESIS;
use super::trace::Kind;

/// Share of the times an agent takes a turn, that somebody forges an answer.
pub(crate) const FORGED: f64 = 0.25;
/// Share of the forged answers that are the agent's own, to a turn that there is not.
const NO_TURN: f64 = 0.25;
/// Forged answers that wait for a pod; what comes beyond is not tried (BOUND).
pub(crate) const WAITING_MAX: usize = 16;
/// Tells what is drawn for forgeries from everything else.
pub(crate) const FORGERIES_SALT: u64 = 0x66_6f72_6765;
/// What is said in them: ciphertext by its form.
const BODY: &str = "Zm9yZ2VkIGFuZCBub3QgdG8gYmUgcmVhZA";

/// A turn that somebody answers whose turn it is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) turn_id: MessageId,
    /// Whose turn it is.
    pub(crate) agent: UserId,
    /// Who waits for the answer.
    pub(crate) asker: UserId,
}

/// An answer by somebody whose turn it is not, and a piece of it to be shown before.
pub(crate) struct Forgery {
    /// The number of the forger's device ...
    number: usize,
    /// ... who the forger is ...
    forger: UserId,
    /// ... and what the device is called.
    device_id: DeviceId,
    delta: AgentResponseDelta,
    response: AgentResponse,
}

/// What is forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// A piece of an answer.
    Delta,
    /// The whole of it.
    Answer,
}

/// What came of a forged answer.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) attempt: Attempt,
    /// The number of the forger's device.
    pub(crate) forger: usize,
    pub(crate) turn_id: MessageId,
    pub(crate) outcome: Result<(), AnswerError>,
}

impl Tried {
    /// Has the pod looked at it? Not if its store failed.
    pub(crate) fn was_heard(&self) -> bool {
        !matches!(self.outcome, Err(AnswerError::Store(_)))
    }

    /// Was it turned away as it is to be, before anything was asked of the conversation?
    pub(crate) fn was_turned_away(&self) -> bool {
        matches!(self.outcome, Err(AnswerError::UnknownTurn))
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, forger, turn_id, outcome } = self;
        let what = match attempt {
            Attempt::Delta => "a piece of an answer",
            Attempt::Answer => "an answer",
        };
        write!(f, "{what} to {turn_id} that device {forger} has forged ")?;
        match outcome {
            Ok(()) => f.write_str("was taken"),
            Err(error) => write!(f, "ended as: {error}"),
        }
    }
}

/// Turns that somebody is about to forge an answer to, and what came of it. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Forgeries(Arc<Mutex<Book>>);

/// Bounded by the turns of a world.
#[derive(Default)]
struct Book {
    targets: Vec<Target>,
    tried: Vec<Tried>,
}

impl Forgeries {
    /// Somebody will answer this too.
    pub(crate) fn tempt(&self, target: Target) {
        self.book().targets.push(target);
    }

    /// What came of all so far.
    pub(crate) fn take_tried(&self) -> Vec<Tried> {
        std::mem::take(&mut self.book().tried)
    }

    fn take_targets(&self) -> Vec<Target> {
        std::mem::take(&mut self.book().targets)
    }

    fn note(&self, tried: Tried) {
        self.book().tried.push(tried);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a pod one forged answer after the other, for as long as it runs.
pub(crate) async fn forge(turns: Turns, mut waiting: mpsc::Receiver<Forgery>, forgeries: Forgeries) {
    while let Some(forgery) = waiting.recv().await {
        let Forgery { number: forger, forger: user_id, device_id, delta, response } = forgery;
        let turn_id = response.turn_id;
        let note = |attempt, outcome| forgeries.note(Tried { attempt, forger, turn_id, outcome });
        note(Attempt::Delta, turns.delta(user_id, delta).await);
        note(Attempt::Answer, turns.answer(user_id, device_id, response).await.map(drop));
    }
}

impl World {
    /// Whoever is about to forge an answer does it now, at one of the pods.
    pub(super) fn forge(&mut self) {
        for target in self.ground.forgeries.take_targets() {
            let Some(forgery) = self.draw_forgery(target) else { continue };
            let pod = &self.pods[self.forging.random_range(0..self.pods.len())];
            let Some(running) = &pod.running else { continue };
            let (forger, turn_id) = (forgery.number, forgery.response.turn_id);
            self.trace.note(
                self.time.now(),
                Kind::Device,
                format!("device {forger} forges an answer to {turn_id} at {}", pod.name.as_str()),
            );
            running.forge(forgery);
        }
    }

    /// As well made as it can be: with the forger's own key, for exactly the devices that a true answer would be for.
    fn draw_forgery(&mut self, target: Target) -> Option<Forgery> {
        let is_own = self.forging.random_bool(NO_TURN);
        let made_up: u128 = self.forging.random();
        let somebody: Vec<(usize, UserId, DeviceId)> = self
            .devices
            .iter()
            .enumerate()
            .filter_map(|(number, device)| {
                let record = device.record();
                Some((number, record.user_id?, record.device_id.clone()?))
            })
            .filter(|(_, user_id, _)| (*user_id == target.agent) == is_own)
            .collect();
        let (number, forger, device_id) = somebody.choose(&mut self.forging)?.clone();
        let made_up: MessageId = format!("{made_up:032x}").parse().ok()?;
        let turn_id = if is_own { made_up } else { target.turn_id };
        let own = self.published(forger);
        let sender_key = own.iter().find(|device| device.device_id == device_id)?.identity_key.clone();
        let others = own.iter().filter(|device| device.device_id != device_id);
        let ciphertext = |user_id, device: &Device| DeviceCiphertext {
            user_id,
            device_id: device.device_id.clone(),
            kind: CiphertextKind::Normal,
            body: BODY.to_owned(),
        };
        let mut ciphertexts: Vec<DeviceCiphertext> =
            others.map(|device| ciphertext(forger, device)).collect();
        if target.asker != forger {
            let askers = self.published(target.asker);
            ciphertexts.extend(askers.iter().map(|device| ciphertext(target.asker, device)));
        }
        let response = AgentResponse {
            turn_id,
            content: Envelope { algorithm: Algorithm::OlmV1, sender_key, ciphertexts },
            r#type: MessageType::Text,
            timestamp: GENESIS,
        };
        let delta = AgentResponseDelta {
            turn_id,
            stream_id: StreamId(made_up.0),
            sequence: 1,
            body: BODY.to_owned(),
        };
        Some(Forgery { number, forger, device_id, delta, response })
    }

    /// The devices of a user that others encrypt for.
    fn published(&self, user_id: UserId) -> Vec<Device> {
        let list = self.ground.store.keys.devices(user_id).now_or_never();
        list.and_then(Result::ok).map(|list| list.devices).unwrap_or_default()
    }
}
