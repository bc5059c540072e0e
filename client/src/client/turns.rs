//! What an agent does: takes turns on, and answers each once.
//!
//! A turn is a message that somebody wrote to the agent. The message itself comes as every message does; that its turn has
//! come, the server says by an event ([`colloquy_protocol::event::AGENT_MESSAGE`]), and again until there is an answer. The
//! answer's idempotency key follows from the turn, so whichever device of the agent answers, and however often, there is one.
//!
//! An answer may ask for approval. What the person decides is a message to the agent, and so begins a turn of its own: it is
//! acted upon as surely, and as often, as any question is answered.

use std::collections::BTreeSet;
use std::time::Duration;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::ids::{ConversationId, DeviceAddress, IdempotencyKey, MessageId, UserId};
use colloquy_protocol::limits::CONTINUATIONS_MAX;
use tokio::sync::watch;

use super::{Client, ClientError};
use crate::ambient;
use crate::connection::engine::Command;
use crate::connection::streaming::{Draft, Writing};
use crate::connection::verdicts::{Weighed, weigh};
use crate::crypto::plaintext::TEXT_MAX_BYTES;
use crate::crypto::stream::StreamKey;
use crate::crypto::{ApprovalRequest, Asked, Body, Verdict, VoidVerdict};
use crate::store::outbox::NewMessage;
use crate::store::{
    DecisionRecord, LocalMessageId, MessageContent, MessageRecord, OutboxState, StoreError, Transaction,
    TurnRecord,
};
use crate::sync::stream::Telling;

/// A turn that waits for an answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Turn {
    /// The message that began it.
    pub turn_id: MessageId,
    /// Where.
    pub conversation_id: ConversationId,
    /// The message's number there.
    pub sequence_number: u64,
    /// Who wrote it.
    pub asked_by: UserId,
    /// What it says.
    pub content: TurnContent,
}

/// What the message that began a turn says.
#[derive(Clone, PartialEq, Eq)]
pub enum TurnContent {
    /// A text.
    Text(String),
    /// What a person has decided on a request of this agent. Whatever is done because of an approval is done in this turn, and
    /// in no other.
    Decision(Box<Decision>),
    /// A verdict that does not count. Nothing may be done because of it.
    Void(VoidVerdict),
    /// It cannot be read, and will not be.
    Unreadable,
}

/// A verdict that counts.
#[derive(Clone, PartialEq, Eq)]
pub struct Decision {
    /// The message that asked.
    pub request_id: MessageId,
    /// What was asked for, as it was asked for.
    pub request: ApprovalRequest,
    /// What was decided.
    pub verdict: Verdict,
    /// By whom, on which device.
    pub decided_by: DeviceAddress,
    /// The agent, as it stands in the signed statement.
    pub agent: UserId,
    /// The device's signature of [`crate::crypto::Statement::to_bytes`], unpadded base64.
    pub signature: String,
    /// The public key it can be checked with, unpadded base64.
    pub signing_key: String,
    /// Names what is to be done, once: the agent has drawn it for the request, so it is the same on all its devices, in
    /// whichever turn and however often the server tells of the verdict.
    pub verdict_key: IdempotencyKey,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("turn_id", &self.turn_id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TurnContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::Decision(decision) => decision.fmt(f),
            Self::Void(why) => write!(f, "Void({why:?})"),
            Self::Unreadable => f.write_str("Unreadable"),
        }
    }
}

impl std::fmt::Debug for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decision").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

/// What an agent writes to somebody else because of a turn, such as to hand it over to a person.
#[derive(Clone, PartialEq, Eq)]
pub struct Note {
    /// To whom.
    pub to: UserId,
    /// 1 to [`TEXT_MAX_BYTES`] bytes.
    pub text: String,
}

impl std::fmt::Debug for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Note").field("to", &self.to).finish_non_exhaustive()
    }
}

/// Notes that one turn may lead to.
pub const NOTES_MAX: usize = 4;

/// What an agent asks to be allowed, once.
#[derive(Clone, PartialEq, Eq)]
pub struct WantedApproval {
    /// What: 1 to [`crate::ACTION_MAX_BYTES`] bytes, none of a control character.
    pub action: String,
    /// With what: the text of a JSON object, at most [`crate::ARGUMENTS_MAX_BYTES`]; shown, signed and told back as it is. It is
    /// in one line, and no key stands twice in it: what is read must be what is done.
    pub arguments: String,
    /// How long there is to decide, from when the answer is given: up to [`APPROVAL_GOOD_FOR_MAX`].
    pub good_for: Duration,
}

/// The longest time there is to decide on a request: a week.
pub const APPROVAL_GOOD_FOR_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl WantedApproval {
    /// The request, if it is made at this time; nothing unless it keeps to its bounds.
    #[must_use]
    pub fn made_at(&self, now: UnixMillis) -> Option<ApprovalRequest> {
        let good_for = Some(self.good_for).filter(|good_for| *good_for <= APPROVAL_GOOD_FOR_MAX)?;
        let good_for = u64::try_from(good_for.as_millis()).ok().filter(|good_for| *good_for > 0)?;
        let (action, arguments) = (self.action.clone(), self.arguments.clone());
        let request = ApprovalRequest { action, arguments, expires_at: now.saturating_add(good_for) };
        request.is_within_bounds().then_some(request)
    }
}

impl std::fmt::Debug for WantedApproval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WantedApproval").field("good_for", &self.good_for).finish_non_exhaustive()
    }
}

/// What a turn is answered with.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// To whoever asked: 1 to [`TEXT_MAX_BYTES`] bytes. Beside a request it may be empty, and is shorter by what that takes.
    pub text: String,
    /// What the text goes on with, in messages of its own: at most [`CONTINUATIONS_MAX`], each as long as a text may be.
    pub continuations: Vec<String>,
    /// To others, at most [`NOTES_MAX`].
    pub notes: Vec<Note>,
    /// What whoever asked is to allow first.
    pub approval: Option<WantedApproval>,
}

impl<T: Into<String>> From<T> for Answer {
    /// An answer that leads to nothing else.
    fn from(text: T) -> Self {
        Self { text: text.into(), continuations: Vec::new(), notes: Vec::new(), approval: None }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("notes", &self.notes)
            .field("approval", &self.approval)
            .finish_non_exhaustive()
    }
}

/// An answer that is shown while it is being written. Dropped, it is no longer shown; it is not the answer itself: that is
/// given by [`Client::answer_turn`].
#[derive(Debug)]
pub struct AnswerStream(Option<watch::Sender<Draft>>);

impl AnswerStream {
    /// Adds to it, up to [`crate::ANSWER_MAX_BYTES`]. Told a few times a second, whatever has been added until then.
    pub fn append(&self, text: &str) {
        if let Some(draft) = &self.0 {
            draft.send_modify(|draft| draft.append(text));
        }
    }

    /// Says what is being done ("using a tool"), or that there is nothing to say.
    pub fn set_status(&self, status: Option<&str>) {
        if let Some(draft) = &self.0 {
            draft.send_modify(|draft| draft.set_status(status));
        }
    }
}

/// What a look at one open turn comes to.
enum Look {
    /// It waits for an answer.
    Due(Turn),
    /// The message is not here yet, or not readable yet.
    NotYet,
    /// There is nothing to answer: what clients tell each other by themselves.
    Nothing { asked_by: UserId },
}

impl Client {
    /// Takes a turn on. It is on disk when this returns: from now on it is among the [`Self::due_turns`], as soon as its
    /// message is here, until it is answered. `false` if it is answered already.
    ///
    /// # Errors
    /// [`StoreError::TooManyTurns`], [`ClientError::LoggedOut`] before the first log-in.
    pub async fn take_turn(
        &self,
        turn_id: MessageId,
        conversation_id: ConversationId,
    ) -> Result<bool, ClientError> {
        let own = self.own()?.user_id;
        let taken_at = self.shared().clock.now();
        self.shared()
            .store
            .update_off_thread(move |tx| {
                if tx.has_used_key(own, IdempotencyKey::of_turn(turn_id))? {
                    return Ok(false);
                }
                if tx.turn(turn_id)?.is_none() {
                    tx.put_turn(&TurnRecord::new(turn_id, conversation_id, taken_at))?;
                }
                Ok(true)
            })
            .await
    }

    /// The turns that were taken on and can be answered now, oldest first. What needs no answer of a person's kind is
    /// answered on the way. None of a conversation in which an answer is going on: what it goes on with comes first. Look again
    /// when a message has come, was repaired, or was sent.
    ///
    /// # Errors
    /// [`ClientError::Store`]; [`ClientError::LoggedOut`] before the first log-in.
    pub async fn due_turns(&self) -> Result<Vec<Turn>, ClientError> {
        let own = self.own()?.user_id;
        let (now, shared) = (self.shared().clock.now(), self.inner.shared.clone());
        let (due, enqueued) = self
            .shared()
            .store
            .update_off_thread(move |tx| {
                let (mut due, mut enqueued, mut open) = (Vec::new(), Vec::new(), Vec::new());
                // What an answer goes on with comes before the answer to the next question.
                let mut going_on = BTreeSet::new();
                for record in tx.turns()? {
                    let place = record.conversation_id;
                    if record.is_answered {
                        let followed = tx.follow_up(record, now)?;
                        followed.enqueued.iter().for_each(|(id, _)| shared.note_unsent(*id));
                        enqueued.extend(followed.enqueued);
                        going_on.extend((!followed.is_done).then_some(place));
                        continue;
                    }
                    // Another device of the agent was first.
                    if tx.has_used_key(own, IdempotencyKey::of_turn(record.turn_id))? {
                        withdraw(tx, &record)?;
                        continue;
                    }
                    if let Some(answer) = record.answer {
                        let is_forgotten = forget_if_failed(tx, &record, answer)?;
                        let is_going_on = !record.further.is_empty() && !is_forgotten;
                        going_on.extend(is_going_on.then_some(place));
                        continue;
                    }
                    open.push(record);
                }
                for record in open {
                    match look(tx, &record)? {
                        Look::Due(turn) if going_on.contains(&turn.conversation_id) => {}
                        Look::Due(turn) => due.push(turn),
                        Look::NotYet => {}
                        Look::Nothing { asked_by } => {
                            let id = enqueue(tx, record, asked_by, Body::Blank, now)?;
                            shared.note_unsent(id.0);
                            enqueued.push(id);
                        }
                    }
                }
                Ok::<_, ClientError>((due, enqueued))
            })
            .await?;
        for (id, conversation) in enqueued {
            self.tell(Command::Enqueued(id, conversation, false)).await;
        }
        Ok(due)
    }

    /// Shows whoever asked the answer to a turn while it is being written. One begun later takes the place of one before. Where
    /// the question carries no secret to encrypt under, nothing is shown.
    ///
    /// # Errors
    /// [`ClientError::UnknownTurn`] if the question is not here; [`ClientError::Store`].
    pub async fn show_answer(&self, turn_id: MessageId) -> Result<AnswerStream, ClientError> {
        let question = self.shared().store.read(|tx| tx.message(turn_id))?.ok_or(ClientError::UnknownTurn)?;
        let secret = match &question.content {
            MessageContent::Known(body) => body.stream_secret(),
            MessageContent::Undecryptable(_) | MessageContent::Unavailable => None,
        };
        let Some(secret) = secret else { return Ok(AnswerStream(None)) };
        let stream_id = ambient::stream_id(self.shared().clock.now());
        let (shown, draft) = watch::channel(Draft::default());
        let writing = Writing {
            turn: TurnPlace { conversation_id: question.conversation_id, turn_id },
            stream_id,
            key: StreamKey::derive(secret, turn_id, stream_id),
            draft,
            telling: Telling::default(),
        };
        self.tell(Command::ShowAnswer(Box::new(writing))).await;
        Ok(AnswerStream(Some(shown)))
    }

    /// Tells whoever is answering this question of the user to stop. The turn still ends with an answer: what was said so
    /// far. It may not be heard; nothing happens then.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`] unless it is a message of the user, from whichever device; [`ClientError::Store`].
    pub async fn cancel_turn(&self, turn_id: MessageId) -> Result<(), ClientError> {
        let own = self.own()?.user_id;
        let question = self.shared().store.read(|tx| tx.message(turn_id))?;
        let question = question.filter(|question| question.sender.user_id == own);
        let conversation_id = question.ok_or(ClientError::UnknownMessage)?.conversation_id;
        self.tell(Command::CancelTurn(TurnPlace { conversation_id, turn_id })).await;
        Ok(())
    }

    /// Answers a turn. The answer is on disk when this returns, and is sent as [`Self::send_text`] sends. Nothing, if the turn
    /// was answered before: the first answer stands.
    ///
    /// # Errors
    /// [`ClientError::BadText`], [`ClientError::UnknownTurn`] if it was not taken on, [`StoreError::OutboxFull`].
    pub async fn answer_turn(
        &self,
        turn_id: MessageId,
        text: impl Into<String>,
    ) -> Result<Option<LocalMessageId>, ClientError> {
        self.answer_turn_with(turn_id, text.into().into()).await
    }

    /// As [`Self::answer_turn`], and asks for approval, goes on in further messages, and writes to others what the turn has led
    /// to. These are on disk with the answer, and are sent once it is stored: of an answer that is dropped, as another device's
    /// came first, nobody hears anything. Each is sent once, however often the turn is answered. The time to decide begins now,
    /// by this device's clock.
    ///
    /// # Errors
    /// As of [`Self::answer_turn`]; [`ClientError::BadText`] also for more than [`NOTES_MAX`] notes or [`CONTINUATIONS_MAX`]
    /// continuations,
    /// [`ClientError::NoRecipient`] for one to the agent itself, [`ClientError::BadApproval`] unless the [`WantedApproval`]
    /// keeps to its bounds.
    pub async fn answer_turn_with(
        &self,
        turn_id: MessageId,
        answer: Answer,
    ) -> Result<Option<LocalMessageId>, ClientError> {
        let Answer { text, continuations, notes, approval } = answer;
        let fits = |text: &str| !text.is_empty() && text.len() <= TEXT_MAX_BYTES;
        let is_bounded = notes.len() <= NOTES_MAX && continuations.len() <= usize::from(CONTINUATIONS_MAX);
        if !is_bounded || !notes.iter().map(|note| &note.text).chain(&continuations).all(|text| fits(text)) {
            return Err(ClientError::BadText);
        }
        let own = self.own()?.user_id;
        if notes.iter().any(|note| note.to == own) {
            return Err(ClientError::NoRecipient);
        }
        let (now, shared) = (self.shared().clock.now(), self.inner.shared.clone());
        let body = match approval {
            None if fits(&text) => Body::Text(text.into()),
            None => return Err(ClientError::BadText),
            Some(wanted) => {
                let request = wanted.made_at(now).ok_or(ClientError::BadApproval)?;
                let verdict_key = ambient::idempotency_key();
                Body::ApprovalRequest(Box::new(Asked { text, request, verdict_key }))
            }
        };
        if !body.is_within_bounds() {
            return Err(ClientError::BadText);
        }
        let enqueued = self
            .shared()
            .store
            .update_off_thread(move |tx| {
                let is_answered = tx.has_used_key(own, IdempotencyKey::of_turn(turn_id))?;
                let record = match tx.turn(turn_id)? {
                    _ if is_answered => return Ok(None),
                    Some(record) if record.answer.is_some() => return Ok(None),
                    record => record.ok_or(ClientError::UnknownTurn)?,
                };
                let message = tx.message(turn_id)?.ok_or(ClientError::UnknownTurn)?;
                let asked_by = message.sender.user_id;
                let text_to = |to, key, text: String| {
                    NewMessage::new(key, ConversationId::of_pair(own, to), to, Body::Text(text.into()))
                };
                let continued = (1..).zip(continuations).map(|(number, text)| {
                    let key = IdempotencyKey::of_continuation(turn_id, number);
                    NewMessage { reply_to: Some(turn_id), ..text_to(asked_by, key, text) }
                });
                let noted = (0..).zip(notes).map(|(number, note)| {
                    text_to(note.to, IdempotencyKey::of_note(turn_id, number), note.text)
                });
                let further = continued.chain(noted).collect();
                let enqueued = enqueue(tx, TurnRecord { further, ..record }, asked_by, body, now)?;
                shared.note_unsent(enqueued.0);
                Ok::<_, ClientError>(Some(enqueued))
            })
            .await?;
        let Some((id, conversation)) = enqueued else { return Ok(None) };
        self.tell(Command::Enqueued(id, conversation, false)).await;
        Ok(Some(id))
    }
}

fn look(tx: &mut Transaction<'_>, record: &TurnRecord) -> Result<Look, StoreError> {
    let Some(message) = tx.message(record.turn_id)? else { return Ok(Look::NotYet) };
    let asked_by = message.sender.user_id;
    let content = match &message.content {
        MessageContent::Known(Body::Verdict(said)) => {
            // What it is about may be told again, as may the message itself.
            if tx.repair(said.request_id)?.is_some() {
                return Ok(Look::NotYet);
            }
            decided(tx, record, &message)?
        }
        MessageContent::Known(body) => match body.text() {
            None => return Ok(Look::Nothing { asked_by }),
            Some(text) => TurnContent::Text(text.to_owned()),
        },
        // Whoever wrote it is asked to tell it again; the answer waits for that.
        MessageContent::Undecryptable(_) if tx.repair(record.turn_id)?.is_some() => return Ok(Look::NotYet),
        MessageContent::Undecryptable(_) | MessageContent::Unavailable => TurnContent::Unreadable,
    };
    Ok(Look::Due(Turn {
        turn_id: record.turn_id,
        conversation_id: message.conversation_id,
        sequence_number: message.sequence_number,
        asked_by,
        content,
    }))
}

/// What a verdict comes to. Whether it came in time is judged once, by when its turn was first taken on, by this device's
/// clock: the server's word is not trusted. That is noted with the decision, which stays when the turn goes, so the same comes
/// out after a crash, and when the server tells of the verdict again.
fn decided(
    tx: &mut Transaction<'_>,
    turn: &TurnRecord,
    message: &MessageRecord,
) -> Result<TurnContent, StoreError> {
    let weighed: Weighed = weigh(tx, message)?.unwrap_or(Err(VoidVerdict::UnknownRequest));
    let (decision, asked) = match weighed {
        Ok(counts) => counts,
        Err(why) => return Ok(TurnContent::Void(why)),
    };
    let was_in_time = decision.was_in_time.unwrap_or_else(|| !asked.request.is_expired(turn.taken_at));
    if decision.was_in_time.is_none() {
        tx.put_decision(&DecisionRecord { was_in_time: Some(was_in_time), ..decision.clone() });
    }
    if !was_in_time {
        return Ok(TurnContent::Void(VoidVerdict::Expired));
    }
    let agent = tx.identity()?.ok_or(StoreError::Damaged("the identity is missing"))?.address.user_id;
    Ok(TurnContent::Decision(Box::new(Decision {
        request_id: decision.request_id,
        request: asked.request,
        verdict: decision.verdict,
        decided_by: decision.decided_by,
        agent,
        signature: decision.signature,
        signing_key: decision.signing_key,
        verdict_key: asked.verdict_key,
    })))
}

/// The key of a turn's answer.
fn key_of(turn_id: MessageId) -> IdempotencyKey {
    #[cfg(feature = "mutations")]
    if colloquy_mutations::is(colloquy_mutations::Mutation::AnswerWithoutTurnKey) {
        return crate::ambient::idempotency_key();
    }
    IdempotencyKey::of_turn(turn_id)
}

/// Puts the answer of a turn into the outbox.
fn enqueue(
    tx: &mut Transaction<'_>,
    turn: TurnRecord,
    asked_by: UserId,
    body: Body,
    now: u64,
) -> Result<(LocalMessageId, ConversationId), StoreError> {
    let message = NewMessage {
        reply_to: Some(turn.turn_id),
        ..NewMessage::new(key_of(turn.turn_id), turn.conversation_id, asked_by, body)
    };
    let answer = tx.enqueue(message, now)?;
    tx.put_turn(&TurnRecord { answer: Some(answer.local_id), ..turn })?;
    Ok((answer.local_id, answer.conversation_id))
}

/// After an answer has failed the turn is forgotten. If another one was first, its copy comes as every message does; in all
/// other cases the server says again that the turn is open, when it is time to try again. Says whether it was.
fn forget_if_failed(
    tx: &mut Transaction<'_>,
    turn: &TurnRecord,
    answer: LocalMessageId,
) -> Result<bool, StoreError> {
    let is_failed = match tx.outbox(answer)?.map(|record| record.state) {
        Some(OutboxState::Written | OutboxState::Sealed(_)) => false,
        Some(OutboxState::Failed(_)) | None => true,
    };
    if is_failed {
        withdraw(tx, turn)?;
    }
    Ok(is_failed)
}

/// A turn is no longer this device's to answer.
fn withdraw(tx: &mut Transaction<'_>, turn: &TurnRecord) -> Result<(), StoreError> {
    let answer = turn.answer.map(|answer| tx.outbox(answer)).transpose()?.flatten();
    // What may have been sent is settled by the server's word on it.
    if let Some(answer) = answer.filter(|answer| matches!(answer.state, OutboxState::Failed(_))) {
        tx.remove_outbox(answer.local_id)?;
    }
    tx.remove_turn(turn.turn_id);
    Ok(())
}
