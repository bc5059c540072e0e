//! The checkers: what must hold over the full record of what was written, answered, stored and shown. They know nothing
//! of faults or of time.

use std::collections::{BTreeMap, BTreeSet};

use colloquy_actors::metrics::{self, KindFigures};
use colloquy_actors::supervision::{ActorKind, ExitReason};
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use serde::Serialize;

use super::archive::Told;
use super::forgery::Tried;
use super::people::Record;

/// An invariant, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Invariant {
    Order,
    Durable,
    Once,
    NoLoss,
    Fence,
    E2ee,
    Bound,
    Isolate,
    Drain,
    Authz,
}

impl Invariant {
    /// Every one that is checked.
    pub(crate) const ALL: [Self; 10] = [
        Self::Order,
        Self::Durable,
        Self::Once,
        Self::NoLoss,
        Self::Fence,
        Self::E2ee,
        Self::Bound,
        Self::Isolate,
        Self::Drain,
        Self::Authz,
    ];

    /// What it promises.
    pub(crate) fn promise(self) -> &'static str {
        match self {
            Self::Order => {
                "numbers are 1 to n, nothing overtakes, and everybody is shown a conversation forwards"
            }
            Self::Durable => "what a client hears is stored, is stored",
            Self::Once => "each text stands in the log once and is held once",
            Self::NoLoss => "what was taken reaches every device it was for, and the world becomes quiet",
            Self::Fence => "two owners at once give no number twice",
            Self::E2ee => "no text is seen on a wire or disk, and every device can read what it was sent",
            Self::Bound => "no mailbox holds more than twice what it may",
            Self::Isolate => "what ended by a fault was started again, and took nothing above it along",
            Self::Drain => "a pod that is told to go goes in time",
            Self::Authz => {
                "a device holds its owner's conversations only and stays logged in; nobody answers for somebody else"
            }
        }
    }

    /// Its id, as the documents write it.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Order => "ORDER",
            Self::Durable => "DURABLE",
            Self::Once => "ONCE",
            Self::NoLoss => "NOLOSS",
            Self::Fence => "FENCE",
            Self::E2ee => "E2EE",
            Self::Bound => "BOUND",
            Self::Isolate => "ISOLATE",
            Self::Drain => "DRAIN",
            Self::Authz => "AUTHZ",
        }
    }
}

/// An invariant that does not hold, and where.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) text: String,
}

/// A message as the log holds it in the end.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) sequence_number: u64,
    pub(crate) message_id: MessageId,
    pub(crate) sender: UserId,
    pub(crate) receiver: UserId,
    pub(crate) device: DeviceId,
    pub(crate) key: IdempotencyKey,
    /// The message it answers, if it says so.
    pub(crate) reply_to: Option<MessageId>,
    /// The devices it was encrypted for.
    pub(crate) told: BTreeSet<(UserId, DeviceId)>,
}

/// A message as a device holds it in the end.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// `None`: it still waits to be sent, or has failed.
    pub(crate) sequence_number: Option<u64>,
    pub(crate) content: Content,
}

/// What a device can show of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// This text of this device.
    Text(usize, u64),
    /// It cannot be read (yet).
    Undecryptable,
    /// It was never encrypted for this device.
    Unavailable,
    /// A text nobody has written.
    Foreign,
}

/// One device in the end.
pub(crate) struct Seen<'a> {
    pub(crate) number: usize,
    pub(crate) user_id: UserId,
    pub(crate) device_id: DeviceId,
    pub(crate) record: &'a Record,
    pub(crate) history: BTreeMap<ConversationId, Vec<Held>>,
}

/// Everything there is to look at.
#[derive(Default)]
pub(crate) struct Evidence<'a> {
    pub(crate) logs: BTreeMap<ConversationId, Vec<Logged>>,
    /// Users that are agents.
    pub(crate) agents: BTreeSet<UserId>,
    pub(crate) devices: Vec<Seen<'a>>,
    /// Times that something unencrypted was heard on a wire, or lay in the store.
    pub(crate) in_clear: u64,
    /// What a conversation's log was each time when a second owner came.
    pub(crate) usurped: Vec<(ConversationId, Vec<MessageId>)>,
    /// What the pods' actors have counted, pod by pod and process by process.
    pub(crate) supervision: Vec<KindFigures>,
    /// Of those, what the processes that run in the end have counted, one by one.
    pub(crate) running: Vec<Vec<KindFigures>>,
    /// Invariants that pods have seen broken themselves.
    pub(crate) seen_by_pods: Vec<(metrics::Invariant, u64)>,
    /// Answers by those whose turn it was not.
    pub(crate) forgeries: Vec<Tried>,
    /// What whoever is told of all messages was told ...
    pub(crate) archived: Told,
    /// ... and of which it was told late, because it had not wanted it.
    pub(crate) told_late: BTreeSet<MessageId>,
}

/// What was looked at and found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) checked: BTreeMap<Invariant, u64>,
    pub(crate) violations: Vec<Violation>,
}

impl Findings {
    /// One thing was looked at; `text` says what is wrong with it if it does not hold.
    pub(crate) fn expect(&mut self, invariant: Invariant, holds: bool, text: impl FnOnce() -> String) {
        *self.checked.entry(invariant).or_default() += 1;
        if !holds {
            self.violations.push(Violation { invariant, text: text() });
        }
    }
}

/// Every check there is, over a finished run.
pub(crate) fn check(evidence: &Evidence<'_>, findings: &mut Findings) {
    numbers(evidence, findings);
    keys(evidence, findings);
    turns(evidence, findings);
    feed(evidence, findings);
    forgeries(evidence, findings);
    for device in &evidence.devices {
        answers(device, evidence, findings);
        shown_in_order(device, findings);
        heard(device, findings);
        written(device, evidence, findings);
        held(device, evidence, findings);
    }
    findings.expect(Invariant::E2ee, evidence.in_clear == 0, || {
        format!("a text was seen unencrypted {} times", evidence.in_clear)
    });
    owners(evidence, findings);
    pods(evidence, findings);
}

/// FENCE: whatever stood in a log when a second owner came still stands there.
fn owners(evidence: &Evidence<'_>, findings: &mut Findings) {
    for (conversation, before) in &evidence.usurped {
        let log = evidence.logs.get(conversation).map(Vec::as_slice).unwrap_or_default();
        let kept = log.iter().zip(before).take_while(|(logged, id)| logged.message_id == **id).count();
        findings.expect(Invariant::Fence, kept == before.len(), || {
            format!("message {} of {conversation} is another one since it was taken over", kept + 1)
        });
    }
}

/// BOUND, and what pods have found wrong themselves.
fn pods(evidence: &Evidence<'_>, findings: &mut Findings) {
    for KindFigures { kind, peak_depth, capacity, .. } in &evidence.supervision {
        // Answers to what an actor itself has asked come beyond what others may send.
        findings.expect(Invariant::Bound, *peak_depth <= 2 * capacity, || {
            format!("{peak_depth} letters waited in the mailbox of a {kind:?}, which may hold {capacity}")
        });
    }
    for figures in evidence.running.iter().flatten() {
        let wrong = not_restored(figures);
        findings.expect(Invariant::Isolate, wrong.is_none(), || wrong.unwrap_or_default());
    }
    for (invariant, count) in &evidence.seen_by_pods {
        let invariant_here = match invariant {
            metrics::Invariant::Order => Invariant::Order,
            metrics::Invariant::NoLoss => Invariant::NoLoss,
        };
        findings
            .expect(invariant_here, *count == 0, || format!("a pod has seen it broken {count} times itself"));
    }
}

/// What is wrong with the actors of a kind that serve many: each that ended by a fault must have been started again, and
/// the root of the tree may not end.
pub(crate) fn not_restored(figures: &KindFigures) -> Option<String> {
    let kind = figures.kind;
    let faults = ExitReason::ALL.iter().zip(figures.exits).filter(|(reason, _)| !reason.is_orderly());
    let faults: u64 = faults.map(|(_, count)| count).sum();
    let restarts = match kind {
        // They serve one connection, conversation or agent, and end with it.
        ActorKind::Session | ActorKind::Conversation | ActorKind::Agent => return None,
        ActorKind::Node => 0,
        _ => figures.restarts,
    };
    let text =
        || format!("a {kind:?} ended by a fault {faults} times and was started again {restarts} times");
    (faults != restarts).then(text)
}

/// ORDER: numbers are 1..n.
fn numbers(evidence: &Evidence<'_>, findings: &mut Findings) {
    for (conversation, log) in &evidence.logs {
        for (expected, message) in (1..).zip(log) {
            let found = message.sequence_number;
            findings.expect(Invariant::Order, found == expected, || {
                format!("{conversation} has {found} where {expected} should stand")
            });
        }
    }
}

/// ONCE: one key, one message.
fn keys(evidence: &Evidence<'_>, findings: &mut Findings) {
    let (mut ids, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for (conversation, log) in &evidence.logs {
        for Logged { message_id, sender, key, sequence_number, .. } in log {
            let is_first = ids.insert(*message_id) && keys.insert((*sender, *key));
            findings.expect(Invariant::Once, is_first, || {
                format!("message {sequence_number} of {conversation} is there twice")
            });
        }
    }
}

/// NOLOSS and ONCE: whatever was written to an agent has an answer, and one only.
fn turns(evidence: &Evidence<'_>, findings: &mut Findings) {
    for (conversation, log) in &evidence.logs {
        for (number, answers) in answers_by_turn(log, &evidence.agents) {
            findings.expect(Invariant::NoLoss, answers > 0, || {
                format!("an agent has not answered message {number} of {conversation}")
            });
            findings.expect(Invariant::Once, answers <= 1, || {
                format!("an agent has answered message {number} of {conversation} {answers} times")
            });
        }
    }
}

/// NOLOSS, DURABLE and ORDER: whatever was written was told, nothing else was, and in its order but for what was given up.
fn feed(evidence: &Evidence<'_>, findings: &mut Findings) {
    for (conversation, archived) in &evidence.archived {
        let log = evidence.logs.get(conversation).map(Vec::as_slice).unwrap_or_default();
        let there: BTreeSet<(u64, MessageId)> =
            log.iter().map(|logged| (logged.sequence_number, logged.message_id)).collect();
        for place in archived {
            findings.expect(Invariant::Durable, there.contains(place), || {
                format!("the archive was told of {place:?} of {conversation}, which is not there")
            });
        }
    }
    for (conversation, log) in &evidence.logs {
        let archived = evidence.archived.get(conversation).map(Vec::as_slice).unwrap_or_default();
        let known: BTreeSet<(u64, MessageId)> = archived.iter().copied().collect();
        for Logged { sequence_number, message_id, .. } in log {
            findings.expect(Invariant::NoLoss, known.contains(&(*sequence_number, *message_id)), || {
                format!("message {sequence_number} of {conversation} was told nobody")
            });
        }
        let in_turn = archived.iter().filter(|(_, message_id)| !evidence.told_late.contains(message_id));
        let in_turn: Vec<u64> = in_turn.map(|(number, _)| *number).collect();
        let overtaken = in_turn.windows(2).find(|pair| pair[0] >= pair[1]);
        findings.expect(Invariant::Order, overtaken.is_none(), || {
            format!("of {conversation} messages were first told in this order: {overtaken:?}")
        });
    }
}

/// AUTHZ: nobody answers for somebody else, and nobody has written where they take no part.
fn forgeries(evidence: &Evidence<'_>, findings: &mut Findings) {
    for tried in evidence.forgeries.iter().filter(|tried| tried.was_heard()) {
        findings.expect(Invariant::Authz, tried.was_turned_away(), || tried.to_string());
    }
    for (conversation, log) in &evidence.logs {
        let pairs: BTreeSet<(UserId, UserId)> =
            log.iter().map(|logged| (logged.sender, logged.receiver)).collect();
        for (sender, receiver) in pairs {
            let takes_part = ConversationId::of_pair(sender, receiver) == *conversation;
            findings.expect(Invariant::Authz, takes_part, || {
                format!("somebody who takes no part in {conversation} has written there")
            });
        }
        let to: BTreeMap<MessageId, UserId> =
            log.iter().map(|logged| (logged.message_id, logged.receiver)).collect();
        for answer in log.iter().filter(|logged| evidence.agents.contains(&logged.sender)) {
            let Some(turn) = answer.reply_to else { continue };
            findings.expect(Invariant::Authz, to.get(&turn) == Some(&answer.sender), || {
                let number = answer.sequence_number;
                format!("message {number} of {conversation} answers what was not written to its sender")
            });
        }
    }
}

/// How many answers each message to an agent has, by its number.
pub(crate) fn answers_by_turn(log: &[Logged], agents: &BTreeSet<UserId>) -> BTreeMap<u64, usize> {
    if !log.iter().any(|logged| logged.told.iter().any(|(user_id, _)| agents.contains(user_id))) {
        return BTreeMap::new();
    }
    let is_of_agent = |logged: &&Logged| agents.contains(&logged.sender);
    let mut answers: BTreeMap<MessageId, usize> = BTreeMap::new();
    // What an answer goes on with is no second one.
    let is_answer = |key: IdempotencyKey, turn| key == IdempotencyKey::of_turn(turn) || !key.answers(turn);
    let answered = |logged: &Logged| logged.reply_to.filter(|turn| is_answer(logged.key, *turn));
    for turn in log.iter().filter(is_of_agent).filter_map(answered) {
        *answers.entry(turn).or_default() += 1;
    }
    let turns = log.iter().filter(|logged| !is_of_agent(logged));
    turns.map(|turn| (turn.sequence_number, answers.get(&turn.message_id).copied().unwrap_or(0))).collect()
}

/// DURABLE, ONCE and NOLOSS: what was answered was in the log then, and is still there.
fn answers(device: &Seen<'_>, evidence: &Evidence<'_>, findings: &mut Findings) {
    for answered in &device.record.answered {
        let place = || format!("message {} of {}", answered.sequence_number, answered.conversation_id);
        findings.expect(Invariant::Durable, answered.was_stored, || {
            format!("device {} had an answer for {} before it was stored", device.number, place())
        });
        let log = evidence.logs.get(&answered.conversation_id);
        let index = usize::try_from(answered.sequence_number).unwrap_or(0).saturating_sub(1);
        let stands = log.and_then(|log| log.get(index)).is_some_and(|logged| {
            logged.message_id == answered.message_id && logged.device == device.device_id
        });
        findings.expect(Invariant::NoLoss, stands, || {
            format!("device {} had an answer for {}, which is not there", device.number, place())
        });
    }
    let is_as_asked = device.record.logged_out == device.record.is_removed;
    findings.expect(Invariant::Authz, is_as_asked, || {
        let is = if device.record.is_removed { "was removed, and is logged in" } else { "was logged out" };
        format!("device {} {is}", device.number)
    });
    let lost = device.record.lost;
    findings.expect(Invariant::NoLoss, lost == 0, || {
        format!("device {} was told that {lost} messages are gone", device.number)
    });
}

/// ORDER: what is seen of an answer is a beginning of what is being written.
fn heard(device: &Seen<'_>, findings: &mut Findings) {
    findings.expect(Invariant::Order, device.record.misheard.is_empty(), || {
        format!("device {} saw what nobody was writing, of {:?}", device.number, device.record.misheard)
    });
}

/// ORDER: within one life a device is shown a conversation forwards.
fn shown_in_order(device: &Seen<'_>, findings: &mut Findings) {
    for life in &device.record.shown {
        let mut last: BTreeMap<ConversationId, u64> = BTreeMap::new();
        for shown in life {
            let before = last.insert(shown.conversation_id, shown.sequence_number).unwrap_or(0);
            findings.expect(Invariant::Order, shown.sequence_number > before, || {
                format!(
                    "device {} was shown message {} of {} after {before}",
                    device.number, shown.sequence_number, shown.conversation_id
                )
            });
        }
    }
}

/// NOLOSS, ONCE and ORDER of what one device has written: each text it took stands in its own history under a number,
/// once, and in the order in which they were written.
fn written(device: &Seen<'_>, evidence: &Evidence<'_>, findings: &mut Findings) {
    let mut found: BTreeMap<u64, (ConversationId, u64)> = BTreeMap::new();
    for (conversation, history) in &device.history {
        let mut last = None;
        for held in history {
            let Content::Text(by, number) = held.content else { continue };
            let Some(sequence_number) = held.sequence_number.filter(|_| by == device.number) else {
                continue;
            };
            let is_first = found.insert(number, (*conversation, sequence_number)).is_none();
            findings.expect(Invariant::Once, is_first, || {
                format!("text {number} of device {by} is in the log twice")
            });
            findings.expect(Invariant::Order, last < Some(number), || {
                format!("text {number} of device {by} was numbered after {last:?}")
            });
            last = Some(number);
        }
    }
    for text in &device.record.written {
        let place = found.get(&text.number);
        // A device that was removed keeps what it had not sent.
        // Another device of the agent may have been first to answer: that every turn has an answer is looked at by itself.
        if text.is_taken && !text.is_answer && !device.record.is_removed {
            findings.expect(Invariant::NoLoss, place.is_some(), || {
                format!("text {} of device {} was never sent", text.number, device.number)
            });
        }
        let Some((conversation, sequence_number)) = place else { continue };
        // An answer that is in the log goes on there.
        let further = text.number + 1..=text.number + text.goes_on;
        let missing = further.filter(|number| !found.contains_key(number)).count();
        findings.expect(Invariant::NoLoss, missing == 0 || device.record.is_removed, || {
            let (number, device) = (text.number, device.number);
            format!(
                "of what answer {number} of device {device} goes on with, {missing} texts were never sent"
            )
        });
        reaches_all(device, text.number, (*conversation, *sequence_number), evidence, findings);
    }
}

/// NOLOSS and E2EE: a text is held, readable, by every device it was encrypted for.
fn reaches_all(
    device: &Seen<'_>,
    number: u64,
    (conversation, sequence_number): (ConversationId, u64),
    evidence: &Evidence<'_>,
    findings: &mut Findings,
) {
    let index = usize::try_from(sequence_number).unwrap_or(0).saturating_sub(1);
    let logged = evidence.logs.get(&conversation).and_then(|log| log.get(index));
    let Some(logged) = logged else { return };
    let others = evidence.devices.iter().filter(|other| !other.record.is_removed);
    for other in others.filter(|other| other.number != device.number) {
        if !logged.told.contains(&(other.user_id, other.device_id.clone())) {
            continue;
        }
        let history = other.history.get(&conversation);
        let held = history.and_then(|history| {
            // What still waits to be sent stands behind everything that has a number.
            let numbered = history.partition_point(|held| held.sequence_number.is_some());
            let history = &history[..numbered];
            let at = history.binary_search_by_key(&Some(sequence_number), |held| held.sequence_number);
            at.ok().map(|at| &history[at].content)
        });
        let expected = Content::Text(device.number, number);
        findings.expect(Invariant::NoLoss, held.is_some(), || {
            format!(
                "device {} does not hold text {number} of device {} (message {sequence_number} of {conversation})",
                other.number, device.number
            )
        });
        findings.expect(Invariant::E2ee, held.is_none_or(|held| *held == expected), || {
            format!(
                "device {} holds text {number} of device {} (message {sequence_number} of {conversation}) as {held:?}",
                other.number, device.number
            )
        });
    }
}

/// AUTHZ, ORDER and ONCE of what one device holds: only its owner's conversations, only what somebody wrote, each number
/// and each text once.
fn held(device: &Seen<'_>, evidence: &Evidence<'_>, findings: &mut Findings) {
    for (conversation, history) in &device.history {
        let log = evidence.logs.get(conversation);
        let takes_part = evidence
            .devices
            .iter()
            .any(|other| ConversationId::of_pair(device.user_id, other.user_id) == *conversation);
        findings.expect(Invariant::Authz, takes_part, || {
            format!("device {} holds {conversation}, in which its owner takes no part", device.number)
        });
        let (mut last, mut texts) = (0, BTreeSet::new());
        for held in history {
            let Some(sequence_number) = held.sequence_number else { continue };
            if let Content::Text(by, number) = held.content {
                findings.expect(Invariant::Once, texts.insert((by, number)), || {
                    format!("device {} holds text {number} of device {by} twice", device.number)
                });
            }
            findings.expect(Invariant::Order, sequence_number > last, || {
                format!("device {} holds {sequence_number} of {conversation} after {last}", device.number)
            });
            last = sequence_number;
            findings.expect(Invariant::E2ee, held.content != Content::Foreign, || {
                format!("device {} holds a text of {conversation} that nobody wrote", device.number)
            });
            // What was not meant for this device need not be readable by it; what was is looked at by its writer.
            let is_meant = held.content != Content::Unavailable;
            let index = usize::try_from(sequence_number).unwrap_or(0).saturating_sub(1);
            findings.expect(Invariant::NoLoss, !is_meant || log.is_some_and(|log| log.len() > index), || {
                format!("device {} holds {sequence_number} of {conversation}, not in the log", device.number)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_actors::agent::AnswerError;
    use colloquy_protocol::error_code::ErrorCode;
    use colloquy_storage::ports::StoreError;

    use crate::world::forgery::Attempt;

    fn user(n: u8) -> UserId {
        format!("00000000-0000-4000-8000-0000000000{n:02}").parse().unwrap()
    }

    fn message_id(n: u64) -> MessageId {
        format!("{n:032x}").parse().unwrap()
    }

    /// The `n`-th message of a log.
    fn logged(n: u64, sender: UserId, receiver: UserId, reply_to: Option<u64>) -> Logged {
        Logged {
            sequence_number: n,
            message_id: message_id(n),
            sender,
            receiver,
            device: DeviceId::new("phone").unwrap(),
            key: IdempotencyKey::of_turn(message_id(n)),
            reply_to: reply_to.map(message_id),
            told: BTreeSet::from([(receiver, DeviceId::new("phone").unwrap())]),
        }
    }

    /// How often AUTHZ was looked at and how often it did not hold, where `agent` is an agent.
    fn authz(agent: UserId, logs: BTreeMap<ConversationId, Vec<Logged>>, tried: Vec<Tried>) -> (u64, usize) {
        let evidence =
            Evidence { logs, agents: BTreeSet::from([agent]), forgeries: tried, ..Evidence::default() };
        let mut findings = Findings::default();
        check(&evidence, &mut findings);
        let broken = findings.violations.iter().filter(|it| it.invariant == Invariant::Authz).count();
        (findings.checked.get(&Invariant::Authz).copied().unwrap_or(0), broken)
    }

    /// Of a conversation of three messages: what is wrong with telling these in this order, of which some were late.
    fn wrong_with(told: &[u64], late: &[u64]) -> Vec<Invariant> {
        let conversation = ConversationId::of_pair(user(1), user(2));
        let log = (1..=3).map(|n| logged(n, user(1), user(2), None)).collect();
        let told = told.iter().map(|n| (*n, message_id(*n))).collect();
        let evidence = Evidence {
            logs: BTreeMap::from([(conversation, log)]),
            archived: Told::from([(conversation, told)]),
            told_late: late.iter().map(|n| message_id(*n)).collect(),
            ..Evidence::default()
        };
        let mut findings = Findings::default();
        feed(&evidence, &mut findings);
        findings.violations.iter().map(|violation| violation.invariant).collect()
    }

    #[test]
    fn every_message_is_told_in_its_order_but_for_what_was_given_up_first() {
        assert_eq!(wrong_with(&[1, 2, 3], &[]), []);
        assert_eq!(wrong_with(&[1, 3, 2], &[]), [Invariant::Order]);
        assert_eq!(wrong_with(&[1, 3, 2], &[2]), []);
        assert_eq!(wrong_with(&[1, 3], &[]), [Invariant::NoLoss]);
        assert_eq!(wrong_with(&[1, 2, 3, 4], &[]), [Invariant::Durable], "nobody has written that");
    }

    #[test]
    fn a_forged_answer_is_turned_away_as_no_turn_or_authz_is_broken() {
        let forged =
            |outcome| vec![Tried { attempt: Attempt::Answer, forger: 3, turn_id: message_id(1), outcome }];
        let found = |outcome| authz(user(1), BTreeMap::new(), forged(outcome));
        assert_eq!(found(Err(AnswerError::UnknownTurn)), (1, 0));
        assert_eq!(found(Ok(())), (1, 1), "it was taken");
        let nearly = AnswerError::Refused(ErrorCode::UnknownConversation);
        assert_eq!(found(Err(nearly)), (1, 1), "it was believed until the conversation was asked");
        let unheard = AnswerError::Store(StoreError::Busy);
        assert_eq!(found(Err(unheard)), (0, 0), "nobody has looked at it");
    }

    #[test]
    fn a_log_in_which_somebody_else_has_answered_breaks_authz() {
        let (agent, person, stranger) = (user(1), user(2), user(3));
        let conversation = ConversationId::of_pair(agent, person);
        let with = |answer| {
            let log = vec![logged(1, person, agent, None), answer];
            authz(agent, BTreeMap::from([(conversation, log)]), Vec::new()).1
        };
        assert_eq!(with(logged(2, agent, person, Some(1))), 0);
        assert_eq!(with(logged(2, stranger, person, Some(1))), 1, "it is not theirs to answer");
        assert_eq!(with(logged(2, agent, person, Some(9))), 1, "there is no such turn");
        assert_eq!(with(logged(2, agent, person, Some(2))), 1, "it was not written to the agent");
    }
}
