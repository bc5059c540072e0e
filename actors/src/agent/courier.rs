//! Finds the next turn of a conversation in its log, and takes it to the agent.

use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::dead_letter::DeadReason;
use colloquy_protocol::ids::{ConversationId, IdempotencyKey, UserId};
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::agent::Agent;
use colloquy_storage::model::cursor::CursorKind;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{Cursors, DeadLetters, MessageLog, StoreResult};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::cancels::Cancel;
use crate::cluster::Cluster;
use crate::conversation::{Doorway, Ephemeral, Moved};
use crate::outbox::{Death, Event, Outcome, Page, Posted, Sinks, Start, Tried, buried, page_after};

/// A message as old as this that its agent cannot take is given up.
const TURN_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Dead letters that are being told of at the same time. One more is not told of; it is in the list all the same.
pub const ANNOUNCEMENTS_MAX: usize = 16;
/// How often an agent is told to stop, and whoever is to hear of it that a turn was given up ...
const TELL_TRIES: u32 = 3;
/// ... and how long after the time before.
const TELL_PAUSE: Duration = Duration::from_millis(500);

/// What taking a turn to an agent needs. Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    /// What was said.
    pub log: Arc<dyn MessageLog>,
    /// How far the agent has come: what it has read is settled.
    pub cursors: Arc<dyn Cursors>,
    /// What agents did not take.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// The way to the conversation, to tell it.
    pub doorway: Doorway,
    /// Which conversations are other pods' to see to.
    pub cluster: Option<Cluster>,
    /// The way to the agent.
    pub sinks: Arc<dyn Sinks>,
    /// What time it is.
    pub clock: Clock,
    /// How many may be told of at the same time that they were given up: [`ANNOUNCEMENTS_MAX`].
    pub announcing: Arc<Semaphore>,
}

/// What is next in a conversation.
enum Next {
    Turn(Arc<Message>),
    Nothing { through: u64 },
}

impl Courier {
    /// Takes the next turn of a conversation to the agent, if there is one.
    pub(super) async fn carry(&self, agent: &Agent, start: Start) -> Outcome {
        let conversation_id = start.conversation_id;
        if !start.insists && Cluster::is_elsewhere(self.cluster.as_ref(), conversation_id) {
            return Outcome::NotOurs;
        }
        let message = match self.next(agent.user_id, start).await {
            Ok(Next::Turn(message)) => message,
            Ok(Next::Nothing { through }) => {
                // Its answers were found in the log: whoever was to note that has not lived to.
                if start.settled.is_none_or(|settled| settled < through) {
                    self.settled(agent.user_id, conversation_id, through).await;
                }
                return Outcome::Nothing { through };
            }
            Err(error) => {
                tracing::warn!(%error, "what an agent is to be told cannot be read");
                return Outcome::Unread;
            }
        };
        let turn_id = message.message_id;
        // Of another turn it says nothing.
        let tried = start.tried.filter(|tried| tried.turn_id == turn_id);
        if let Some(Tried { posts, death: Some(death), .. }) = tried
            && let Some(outcome) = self.bury(agent, &message, death, posts, false).await
        {
            return outcome;
        }
        let outcome = match self.sinks.post(&agent.profile.sink, &Event::of_message(agent, &message)).await {
            Posted::Taken => {
                self.delivered(agent.user_id, &message).await;
                return Outcome::Taken { turn_id, sequence_number: message.sequence_number };
            }
            Posted::Failed { retry_after, is_busy } => Outcome::Failed { turn_id, retry_after, is_busy },
            Posted::Refused { status } => {
                tracing::warn!(agent = %agent.agent_id, status, "an agent does not want a message");
                return Outcome::Refused { turn_id, status };
            }
            Posted::Forbidden => {
                tracing::warn!(agent = %agent.agent_id, "an agent's sink is on a host that agents.sink_hosts does not name");
                Outcome::Failed { turn_id, retry_after: None, is_busy: false }
            }
        };
        // Looked at only now: an agent that is back after long gets what it has missed.
        let age = Duration::from_millis(self.clock.now().saturating_sub(message.created_at));
        let Some(tried) = tried.filter(|_| age >= TURN_AGE_MAX) else { return outcome };
        let death = Death { reason: DeadReason::Expired, status: None };
        self.bury(agent, &message, death, tried.posts + 1, true).await.unwrap_or(outcome)
    }

    /// Puts a turn among the dead letters. Nothing comes of it if there is no room.
    async fn bury(
        &self,
        agent: &Agent,
        message: &Message,
        death: Death,
        tries: u32,
        was_posted: bool,
    ) -> Option<Outcome> {
        let kept = self.kept(agent, message, death, tries).await;
        buried(kept, message, was_posted)
    }

    async fn kept(&self, agent: &Agent, message: &Message, death: Death, tries: u32) -> StoreResult<bool> {
        let letter = death.letter(agent.agent_id.clone(), message, tries, self.clock.now());
        if !self.is_put(&letter).await? {
            return Ok(false);
        }
        let DeadLetter { agent_id, reason, .. } = &letter;
        tracing::warn!(agent = %agent_id, reason = reason.as_str(), "a turn was given up: see `colloquy admin dead-letters`");
        self.tell_given_up(agent.user_id, message).await;
        self.settled(agent.user_id, message.conversation_id, message.sequence_number).await;
        self.announce(Event::of_dead_letter(agent, &letter));
        Ok(true)
    }

    async fn is_put(&self, letter: &DeadLetter) -> StoreResult<bool> {
        #[cfg(feature = "mutations")]
        if colloquy_mutations::is(colloquy_mutations::Mutation::NoDeadLetter) {
            return Ok(true);
        }
        self.dead_letters.put(letter.clone()).await
    }

    /// Tells whoever asked.
    async fn tell_given_up(&self, agent: UserId, message: &Message) {
        let given_up = Ephemeral::TurnGivenUp(message.message_id);
        // Who does not hear of it finds it in the list of conversations.
        let _ = self.doorway.say(message.conversation_id, agent, true, given_up).await;
    }

    /// Says that a turn was given up, beside what goes on: the list of dead letters is what holds.
    fn announce(&self, event: Event) {
        let Ok(permit) = Arc::clone(&self.announcing).try_acquire_owned() else {
            tracing::warn!("too many dead letters at once for whoever is to hear of them");
            return;
        };
        let sinks = Arc::clone(&self.sinks);
        tokio::spawn(async move {
            let _permit = permit;
            if !is_heard(|| sinks.announce(&event)).await {
                tracing::warn!("whoever is to hear of dead letters does not listen");
            }
        });
    }

    /// Tells the agent to stop answering a turn. It may not be heard: whoever wants it says it again.
    pub(super) async fn cancel(&self, agent: &Agent, cancel: Cancel) {
        let event = Event::of_cancel(agent, cancel, self.clock.now());
        is_heard(|| self.sinks.post(&agent.profile.sink, &event)).await;
    }

    /// Nothing up to here is owed to the agent any more.
    pub(super) async fn settled(&self, agent: UserId, conversation_id: ConversationId, through: u64) {
        let moved = Moved { kind: CursorKind::Read, through, message_ids: Vec::new() };
        // Lost, it is found again: in the log, where the answer stands, or among the dead letters.
        let _ = self.doorway.advance(conversation_id, agent, true, moved).await;
    }

    /// The agent's devices hold everything up to here.
    async fn delivered(&self, agent: UserId, message: &Message) {
        let ciphertexts = message.content.ciphertexts.iter();
        for device in ciphertexts.filter(|ciphertext| ciphertext.user_id == agent) {
            let moved = Moved {
                kind: CursorKind::Delivered(device.device_id.clone()),
                through: message.sequence_number,
                message_ids: vec![message.message_id],
            };
            // A receipt that is lost is a tick that is missing.
            let _ = self.doorway.advance(message.conversation_id, agent, true, moved).await;
        }
    }

    async fn next(&self, agent: UserId, start: Start) -> StoreResult<Next> {
        let conversation_id = start.conversation_id;
        let mut settled = match start.settled {
            Some(settled) => settled,
            None => self.read_through(agent, conversation_id).await?,
        };
        loop {
            let page = match page_after(&*self.log, conversation_id, settled).await? {
                Page::Messages(page) => page,
                Page::Nothing { through } => return Ok(Next::Nothing { through }),
            };
            let turns = page.iter().filter(|message| message.receiver_id == agent && message.begins_turn());
            for message in turns {
                let key = IdempotencyKey::of_turn(message.message_id);
                let is_answered =
                    page.iter().any(|other| other.sender_id == agent && other.idempotency_key == key)
                        || self.log.find_by_key(agent, key).await?.is_some();
                // What this lane has given up itself, it does not come to again.
                let is_given_up = !is_answered
                    && start.settled.is_none()
                    && self.dead_letters.get(message.message_id).await?.is_some();
                if !is_answered && !is_given_up {
                    return Ok(Next::Turn(Arc::clone(message)));
                }
                if is_given_up {
                    // Whoever gave it up may not have lived to say so, and what follows makes it look as if it had been read.
                    self.tell_given_up(agent, message).await;
                }
            }
            settled = page.last().map_or(settled, |last| last.sequence_number);
        }
    }

    async fn read_through(&self, agent: UserId, conversation_id: ConversationId) -> StoreResult<u64> {
        let cursors = self.cursors.of_conversation(conversation_id).await?;
        let read =
            cursors.into_iter().find(|cursor| cursor.user_id == agent && cursor.kind == CursorKind::Read);
        Ok(read.map_or(0, |cursor| cursor.through))
    }
}

/// Posts something that whoever it is for need not hear, a few times if it cannot be taken. Says whether it was.
async fn is_heard<P: Future<Output = Posted>>(post: impl Fn() -> P) -> bool {
    for _ in 0..TELL_TRIES {
        match post().await {
            Posted::Failed { .. } => sleep(TELL_PAUSE).await,
            Posted::Refused { .. } | Posted::Forbidden => return false,
            Posted::Taken => return true,
        }
    }
    false
}
