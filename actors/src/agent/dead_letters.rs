//! Turns that were given up: listed, and taken to their agents once more by whoever runs the installation.
//!
//! A turn that is replayed comes out of its order: its conversation has gone on. Its answer is stored as every answer is, once,
//! also if the agent gives it long after: until then it stays a dead letter, and may be replayed again.

use std::sync::Arc;

use colloquy_protocol::agent::AgentId;
use colloquy_protocol::ids::{IdempotencyKey, MessageId, UserId};
use colloquy_protocol::rest::dead_letters::Replayed;
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::agent::Agent;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::ports::{Agents, DeadLetters, MessageLog, StoreError, StoreResult};

use crate::outbox::{Event, Sinks, message_of, next_page, what_came_of};

/// Why a dead letter was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such dead letter.
    #[error("no such dead letter")]
    Unknown,
    /// Its agent is registered no more.
    #[error("no such agent")]
    UnknownAgent,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the office works with. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetterOffice {
    /// What was given up.
    pub letters: Arc<dyn DeadLetters>,
    /// Whose it was.
    pub agents: Arc<dyn Agents>,
    /// What was asked, and answered.
    pub log: Arc<dyn MessageLog>,
    /// The way to the agents.
    pub sinks: Arc<dyn Sinks>,
    /// What time it is.
    pub clock: Clock,
}

impl DeadLetterOffice {
    /// The next page of dead letters, of one agent or of all, and after which there are more. What was answered since is taken
    /// out on the way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn page(
        &self,
        agent_id: Option<&AgentId>,
        after: Option<MessageId>,
    ) -> StoreResult<(Vec<DeadLetter>, Option<MessageId>)> {
        let (page, more) = next_page(&*self.letters, agent_id, after).await?;
        let mut open = Vec::with_capacity(page.len());
        for letter in page {
            let agent = self.agents.get(&letter.agent_id).await?;
            if !self.is_settled(agent.as_ref(), &letter).await? {
                open.push(letter);
            }
        }
        Ok((open, more))
    }

    /// One of them, unless it was answered since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, turn_id: MessageId) -> StoreResult<Option<DeadLetter>> {
        let Some(letter) = self.letters.get(turn_id).await? else { return Ok(None) };
        let agent = self.agents.get(&letter.agent_id).await?;
        Ok(if self.is_settled(agent.as_ref(), &letter).await? { None } else { Some(letter) })
    }

    /// Takes a turn to its agent once more.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn replay(&self, turn_id: MessageId) -> Result<Replayed, ReplayError> {
        let letter = self.letters.get(turn_id).await?.ok_or(ReplayError::Unknown)?;
        let agent = self.agents.get(&letter.agent_id).await?.ok_or(ReplayError::UnknownAgent)?;
        if self.is_settled(Some(&agent), &letter).await? {
            return Ok(Replayed::Answered);
        }
        let message = message_of(&*self.log, &letter).await?;
        // Another agent may be called so by now (AUTHZ).
        let Some(message) = message.filter(|message| message.receiver_id == agent.user_id) else {
            return Ok(Replayed::Gone);
        };
        let event = Event::of_message(&agent, &message);
        let replayed = what_came_of(self.sinks.post(&agent.profile.sink, &event).await);
        if replayed == Replayed::Taken {
            self.letters.replayed(turn_id, self.clock.now()).await?;
        }
        Ok(replayed)
    }

    /// Keeps it no longer: its turn will not be answered. Says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop(&self, turn_id: MessageId) -> StoreResult<bool> {
        self.letters.remove(turn_id).await
    }

    async fn is_settled(&self, agent: Option<&Agent>, letter: &DeadLetter) -> StoreResult<bool> {
        match agent {
            Some(agent) => is_answered(&*self.letters, &*self.log, agent.user_id, letter.turn_id).await,
            None => Ok(false),
        }
    }
}

/// Has this agent answered the turn of a dead letter since? Then it is one no more, and is taken out.
///
/// # Errors
/// [`StoreError`].
pub async fn is_answered(
    letters: &dyn DeadLetters,
    log: &dyn MessageLog,
    agent: UserId,
    turn_id: MessageId,
) -> StoreResult<bool> {
    if log.find_by_key(agent, IdempotencyKey::of_turn(turn_id)).await?.is_none() {
        return Ok(false);
    }
    letters.remove(turn_id).await?;
    Ok(true)
}
