//! The message log against a model of it that is too simple to be wrong (ORDER, ONCE, FENCE).

use std::collections::BTreeMap;

use colloquy_protocol::ids::{ConversationId, MessageId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::{message, pair};
use crate::model::message::Message;
use crate::ports::Store;
use crate::ports::message_log::{Append, Appended, Placed};

/// Steps of one run.
const STEPS: usize = 80;
/// Keys each sender uses: few, so that most runs repeat some.
const KEYS: u128 = 40;

/// Sender and key: all that tells one message from another here.
type Name = (u128, u128);

#[derive(Default)]
struct Log {
    epoch: u64,
    messages: Vec<(Name, &'static str)>,
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    logs: BTreeMap<ConversationId, Log>,
    /// Where each name was first used.
    names: BTreeMap<Name, (ConversationId, u64, &'static str)>,
}

/// What became of one message: its number and whether it is new; `None` for the same name with another body.
type Fate = Option<(u64, bool)>;

impl Model {
    /// Is it the rightful owner's, who knows the log's end?
    fn is_rightful(&self, append: &Append) -> bool {
        self.logs.get(&append.conversation_id).is_some_and(|log| append.epoch == log.epoch)
            && self.knows_the_end(append)
    }

    fn knows_the_end(&self, append: &Append) -> bool {
        let log = self.logs.get(&append.conversation_id);
        append.after_sequence == log.map_or(0, |log| log.messages.len() as u64)
    }

    fn append(&mut self, append: &Append, batch: &[(Name, &'static str)]) -> Vec<Fate> {
        let log = self.logs.entry(append.conversation_id).or_default();
        let mut place = |(name, text): (Name, &'static str)| match self.names.get(&name) {
            Some(first) if (first.0, first.2) == (append.conversation_id, text) => Some((first.1, false)),
            Some(_) => None,
            None => {
                log.messages.push((name, text));
                let number = log.messages.len() as u64;
                self.names.insert(name, (append.conversation_id, number, text));
                Some((number, true))
            }
        };
        batch.iter().map(|message| place(*message)).collect()
    }
}

fn fates(appended: &Appended) -> Option<Vec<Fate>> {
    let Appended::Placed(placed) = appended else { return None };
    let fate = |placed: &Placed| match placed {
        Placed::New(message) => Some((message.sequence_number, true)),
        Placed::Duplicate { first, same_body: true } => Some((first.sequence_number, false)),
        Placed::Duplicate { same_body: false, .. } => None,
    };
    Some(placed.iter().map(fate).collect())
}

#[allow(clippy::print_stdout, reason = "a failed run is repeated from its seed")]
pub async fn any_run_of_appends_leaves_what_the_model_holds(store: &Store) {
    let seed = std::env::var("COLLOQUY_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("COLLOQUY_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let pairs = [(1, 2), (1, 3), (2, 3)];
    let mut ids = Vec::new();
    for (a, b) in pairs {
        ids.push(pair(store, a, b).await);
    }
    for step in 0..STEPS {
        let which = rng.random_range(0..ids.len());
        let (id, senders) = (ids[which], pairs[which]);
        let log = model.logs.entry(id).or_default();
        if log.epoch == 0 || rng.random_bool(0.2) {
            let own = store.log.take_ownership(id).await.unwrap();
            log.epoch += 1;
            assert_eq!((own.epoch, own.last_sequence), (log.epoch, log.messages.len() as u64), "step {step}");
            continue;
        }
        // Mostly the rightful owner; sometimes one that was fenced, or that has missed something.
        let epoch = if rng.random_bool(0.1) { log.epoch - 1 } else { log.epoch };
        let missed = u64::from(rng.random_bool(0.1));
        let after_sequence = (log.messages.len() as u64).saturating_sub(missed);
        let batch: Vec<(Name, &'static str)> = (0..rng.random_range(1..6))
            .map(|_| {
                let sender = if rng.random() { senders.0 } else { senders.1 };
                let text = if rng.random_bool(0.9) { "text" } else { "another" };
                ((sender, rng.random_range(0..KEYS)), text)
            })
            .collect();
        // Every try has an id of its own, as an owner gives it: only the key tells that it is a retry.
        let mut try_of = |((sender, key), text): &(Name, &'static str)| Message {
            message_id: MessageId(Uuid::from_u128(rng.random())),
            ..message(id, *sender, *key, text)
        };
        let messages: Vec<Message> = batch.iter().map(&mut try_of).collect();
        let append = Append { conversation_id: id, epoch, after_sequence, messages };
        let (is_rightful, knows_the_end) = (model.is_rightful(&append), model.knows_the_end(&append));
        let got = store.log.append(vec![append.clone()]).await.unwrap();
        let Some(fates) = fates(&got[0]) else {
            assert!(!is_rightful && matches!(got[0], Appended::Fenced { .. }), "step {step}: {:?}", got[0]);
            continue;
        };
        // One that was fenced may still be placed, as long as it gives no number twice (FENCE).
        assert_eq!(fates, model.append(&append, &batch), "step {step}");
        let is_new = |fate: &Fate| matches!(fate, Some((_, true)));
        assert!(knows_the_end || !fates.iter().any(is_new), "step {step}: a number was given twice");
    }
    for id in ids {
        let stored = super::message_log::all(store, id).await;
        let stored: Vec<(u64, String)> = stored
            .iter()
            .map(|message| (message.sequence_number, message.content.ciphertexts[0].body.clone()))
            .collect();
        let log = model.logs.get(&id).map_or(&[][..], |log| &log.messages);
        let expected: Vec<(u64, String)> =
            log.iter().zip(1..).map(|((_, text), number)| (number, (*text).to_owned())).collect();
        assert_eq!(stored, expected);
    }
}
