//! The operator of a world: has agents, and the archive, take once more, when everything is whole, what was given up while it was
//! not.

use std::sync::Arc;

use colloquy_actors::agent::DeadLetterOffice;
use colloquy_actors::feed::FeedOffice;
use colloquy_actors::outbox::Sinks;
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::limits::DEAD_LETTERS_MAX;
use colloquy_storage::ambient::Clock;
use colloquy_storage::ports::DeadLetters;
use futures_util::FutureExt;

use super::agents::PodSinks;
use super::course::World;
use super::network::Place;
use super::pod::GENESIS;
use super::trace::Kind;

/// Where the operator is: nowhere else is anybody.
const PLACE: Place = Place(u16::MAX);

impl World {
    /// Every turn that is a dead letter.
    pub(super) fn given_up(&self) -> Vec<MessageId> {
        Self::all_of(&*self.ground.store.dead_letters)
    }

    /// Every message that the archive was told of in vain.
    pub(super) fn not_taken(&self) -> Vec<MessageId> {
        Self::all_of(&*self.ground.store.untold)
    }

    fn all_of(letters: &dyn DeadLetters) -> Vec<MessageId> {
        let letters = letters.list(None, None, DEAD_LETTERS_MAX).now_or_never();
        let letters = letters.and_then(Result::ok).expect("a store in memory does not fail");
        letters.into_iter().map(|letter| letter.turn_id).collect()
    }

    /// Has the agents take them once more: what they answer is a dead letter no more.
    pub(super) fn replay(&mut self) {
        let store = &self.ground.store;
        let (network, archive) = (self.network.clone(), self.ground.archive.clone());
        let sinks: Arc<dyn Sinks> = Arc::new(PodSinks { network, place: PLACE, archive });
        let untold = FeedOffice {
            letters: Arc::clone(&store.untold),
            log: Arc::clone(&store.log),
            sinks: Arc::clone(&sinks),
        };
        let office = DeadLetterOffice {
            letters: Arc::clone(&store.dead_letters),
            agents: Arc::clone(&store.agents),
            log: Arc::clone(&store.log),
            sinks,
            clock: Clock::starting_at(GENESIS),
        };
        for turn_id in self.given_up() {
            if self.replayed.insert(turn_id) {
                self.trace.note(
                    self.time.now(),
                    Kind::Repair,
                    format!("{turn_id} was given up, and is replayed"),
                );
            }
            let office = office.clone();
            self.street.spawn(async move { office.replay(turn_id).await.map(drop) });
        }
        for message_id in self.not_taken() {
            if self.told_late.insert(message_id) {
                let text = format!("{message_id} was not taken by the archive, which is told once more");
                self.trace.note(self.time.now(), Kind::Repair, text);
            }
            let untold = untold.clone();
            self.street.spawn(async move { untold.replay(message_id).await.map(drop) });
        }
    }
}
