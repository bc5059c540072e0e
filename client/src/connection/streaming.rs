//! Answers while they are being written: those this device writes, if it is an agent's, and those it hears of. Nothing here is
//! kept: the message that answers a turn says everything.

use std::collections::{BTreeMap, VecDeque};

use colloquy_protocol::frame::client::ClientFrame;
use colloquy_protocol::frame::delta::{Delta, TurnPlace};
use colloquy_protocol::ids::{ConversationId, MessageId, StreamId};
use tokio::sync::watch;

use crate::crypto::plaintext::ANSWER_MAX_BYTES;
use crate::crypto::stream::{STATUS_MAX_BYTES, StreamKey, StreamSecret};
use crate::event::{Event, GrowingAnswer};
use crate::sync::stream::{Heard, Hearing, Telling};

/// Answers that are shown at once while this device writes them. One more is shown when it is complete.
const DRAFTS_MAX: usize = 1024;
/// Answers of others that are followed at once.
const FOLLOWED_MAX: usize = 64;
/// Turns that are remembered as answered: pieces that come late are passed over.
const ANSWERED_MAX: usize = 256;

/// An answer as far as it is written.
#[derive(Default)]
pub(crate) struct Draft {
    text: String,
    status: Option<String>,
    /// More was added than an answer may have.
    is_cut: bool,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Draft(..)")
    }
}

impl Draft {
    /// Adds to it, as far as an answer may go.
    pub(crate) fn append(&mut self, text: &str) {
        if self.is_cut {
            return;
        }
        let room = ANSWER_MAX_BYTES.saturating_sub(self.text.len());
        self.text.push_str(&text[..text.floor_char_boundary(room)]);
        self.is_cut = text.len() > room;
    }

    /// Says what is being done.
    pub(crate) fn set_status(&mut self, status: Option<&str>) {
        self.status = status.map(|status| status[..status.floor_char_boundary(STATUS_MAX_BYTES)].to_owned());
    }
}

/// An answer that this device writes. It is shown until the other end of `draft` is dropped.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) turn: TurnPlace,
    pub(crate) stream_id: StreamId,
    pub(crate) key: StreamKey,
    pub(crate) draft: watch::Receiver<Draft>,
    pub(crate) telling: Telling,
}

struct Following {
    conversation_id: ConversationId,
    key: StreamKey,
    hearing: Hearing,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Streams {
    written: BTreeMap<MessageId, Writing>,
    followed: BTreeMap<MessageId, Following>,
    answered: VecDeque<MessageId>,
    /// To be told once the answer itself is there.
    ended: Vec<TurnPlace>,
    /// To be asked for.
    missing: Vec<TurnPlace>,
}

impl Streams {
    /// Is anything being written here?
    pub(super) fn is_writing(&self) -> bool {
        !self.written.is_empty()
    }

    /// From now on this is shown.
    pub(super) fn begin(&mut self, writing: Writing) {
        if self.written.len() < DRAFTS_MAX || self.written.contains_key(&writing.turn.turn_id) {
            self.written.insert(writing.turn.turn_id, writing);
        }
    }

    /// Somebody lacks the beginning of an answer.
    pub(super) fn again(&mut self, turn: TurnPlace) {
        if let Some(writing) = self.written.get_mut(&turn.turn_id).filter(|writing| writing.turn == turn) {
            writing.telling.again();
        }
    }

    /// What is to be told of what is being written: a piece of each at most.
    pub(super) fn tell(&mut self, now: u64) -> Vec<ClientFrame> {
        self.written.retain(|_, writing| writing.draft.has_changed().is_ok());
        let tell = |writing: &mut Writing| {
            let draft = writing.draft.borrow();
            let (sequence, piece) = writing.telling.next(&draft.text, draft.status.as_deref(), now)?;
            let TurnPlace { conversation_id, turn_id } = writing.turn;
            let body = writing.key.seal(sequence, &piece);
            let stream_id = writing.stream_id;
            Some(ClientFrame::Delta(Delta { conversation_id, turn_id, stream_id, sequence, body }))
        };
        self.written.values_mut().filter_map(tell).collect()
    }

    /// Takes in a piece of an answer to the question that carried what `secret_of` finds. Says what is known now, if that is
    /// news.
    pub(super) fn hear<E>(
        &mut self,
        delta: &Delta,
        now: u64,
        secret_of: impl FnOnce(TurnPlace) -> Result<Option<StreamSecret>, E>,
    ) -> Result<Option<Event>, E> {
        let &Delta { turn_id, conversation_id, stream_id, sequence, .. } = delta;
        if self.answered.contains(&turn_id) {
            return Ok(None);
        }
        let known = self.followed.get(&turn_id).map(|following| following.hearing.stream_id());
        let turn = TurnPlace { conversation_id, turn_id };
        if known.is_none_or(|known| known < stream_id) {
            let has_room = known.is_some() || self.followed.len() < FOLLOWED_MAX;
            let Some(secret) = secret_of(turn)?.filter(|_| has_room) else { return Ok(None) };
            let key = StreamKey::derive(&secret, turn_id, stream_id);
            // Before it replaces the one that is followed: only whoever has the question can write a piece.
            if key.open(sequence, &delta.body).is_none() {
                return Ok(None);
            }
            let hearing = Hearing::begin(stream_id, now);
            self.followed.insert(turn_id, Following { conversation_id, key, hearing });
        }
        let Some(following) = self.followed.get_mut(&turn_id) else { return Ok(None) };
        let is_same =
            following.hearing.stream_id() == stream_id && following.conversation_id == conversation_id;
        let Some(piece) = following.key.open(sequence, &delta.body).filter(|_| is_same) else {
            return Ok(None);
        };
        match following.hearing.take(sequence, &piece, now) {
            Heard::Nothing => return Ok(None),
            Heard::Missing => self.missing.push(turn),
            Heard::News => {}
        }
        Ok(Some(Event::AnswerGrows(Box::new(GrowingAnswer {
            turn_id,
            conversation_id,
            text: following.hearing.text().to_owned(),
            status: following.hearing.status().map(str::to_owned),
        }))))
    }

    /// The beginnings that are missing, once each.
    pub(super) fn take_missing(&mut self) -> Vec<TurnPlace> {
        std::mem::take(&mut self.missing)
    }

    /// A turn's answer has come, and is about to be stored.
    pub(super) fn answered(&mut self, turn_id: MessageId) {
        if let Some(following) = self.followed.remove(&turn_id) {
            self.ended.push(TurnPlace { conversation_id: following.conversation_id, turn_id });
        }
        if self.answered.contains(&turn_id) {
            return;
        }
        if self.answered.len() >= ANSWERED_MAX {
            self.answered.pop_front();
        }
        self.answered.push_back(turn_id);
    }

    /// A turn was given up: what was being written for it is shown no longer. Another try at an answer may begin.
    pub(super) fn abandoned(&mut self, turn: TurnPlace) {
        let is_same =
            |_: &MessageId, following: &mut Following| following.conversation_id == turn.conversation_id;
        let abandoned = self.followed.extract_if(turn.turn_id..=turn.turn_id, is_same).count();
        self.ended.extend(std::iter::repeat_n(turn, abandoned));
    }

    /// What is to be told of answers that are complete.
    pub(super) fn take_ended(&mut self) -> impl Iterator<Item = Event> + use<> {
        std::mem::take(&mut self.ended).into_iter().map(ended)
    }

    /// What is to be told of answers that nobody goes on writing.
    pub(super) fn given_up(&mut self, now: u64) -> Vec<Event> {
        let given_up = self.followed.extract_if(.., |_, following| following.hearing.is_over(now));
        let place = |(turn_id, following): (MessageId, Following)| TurnPlace {
            conversation_id: following.conversation_id,
            turn_id,
        };
        given_up.map(place).map(ended).collect()
    }
}

fn ended(turn: TurnPlace) -> Event {
    Event::AnswerEnded { turn_id: turn.turn_id, conversation_id: turn.conversation_id }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use colloquy_protocol::limits::{STREAM_INTERVAL, STREAM_TTL};
    use uuid::Uuid;

    use super::*;

    const TTL_MS: u64 = STREAM_TTL.as_millis() as u64;

    fn turn(n: u128) -> TurnPlace {
        TurnPlace {
            conversation_id: ConversationId(Uuid::from_u128(9)),
            turn_id: MessageId(Uuid::from_u128(n)),
        }
    }

    struct Desk {
        secret: StreamSecret,
        streams: Streams,
    }

    impl Desk {
        fn new() -> Self {
            Self { secret: StreamSecret::draw(), streams: Streams::default() }
        }

        /// Begins the answer to a turn, as the try of this number.
        fn begin(&mut self, n: u128, stream: u128) -> watch::Sender<Draft> {
            let (sender, draft) = watch::channel(Draft::default());
            let stream_id = StreamId(Uuid::from_u128(stream));
            let key = StreamKey::derive(&self.secret, turn(n).turn_id, stream_id);
            let telling = Telling::default();
            self.streams.begin(Writing { turn: turn(n), stream_id, key, draft, telling });
            sender
        }

        fn tell(&mut self, now: u64) -> Vec<Delta> {
            let delta = |frame| match frame {
                ClientFrame::Delta(delta) => delta,
                other => panic!("not a delta: {other:?}"),
            };
            self.streams.tell(now).into_iter().map(delta).collect()
        }
    }

    /// Whoever asked.
    struct Reader {
        secret: Option<StreamSecret>,
        streams: Streams,
    }

    impl Reader {
        fn of(desk: &Desk) -> Self {
            Self { secret: Some(desk.secret.clone()), streams: Streams::default() }
        }

        fn hear(&mut self, delta: &Delta, now: u64) -> Option<String> {
            let secret = self.secret.clone();
            let heard = self.streams.hear(delta, now, |_| Ok::<_, Infallible>(secret));
            match heard.unwrap()? {
                Event::AnswerGrows(answer) => Some(answer.text),
                other => panic!("not an answer: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_written_is_heard_as_it_grows_and_ends_with_the_answer() {
        let mut desk = Desk::new();
        let mut reader = Reader::of(&desk);
        let draft = desk.begin(1, 1);
        let mut grown = Vec::new();
        for (now, word) in (0..).step_by(100).zip(["It", " is", " open."]) {
            draft.send_modify(|draft| draft.append(word));
            for delta in desk.tell(now) {
                grown.extend(reader.hear(&delta, now));
            }
        }
        assert_eq!(grown, ["It", "It is", "It is open."]);
        reader.streams.answered(turn(1).turn_id);
        let ended: Vec<Event> = reader.streams.take_ended().collect();
        let TurnPlace { conversation_id, turn_id } = turn(1);
        assert_eq!(ended, [Event::AnswerEnded { turn_id, conversation_id }]);
        let late = desk.tell(10_000);
        assert_eq!(reader.hear(&late[0], 10_000), None, "the turn has its answer");
        drop(draft);
        assert!(desk.tell(20_000).is_empty() && !desk.streams.is_writing());
    }

    #[test]
    fn what_is_written_for_a_turn_that_is_given_up_is_shown_no_longer_until_it_is_tried_again() {
        let mut desk = Desk::new();
        let mut reader = Reader::of(&desk);
        let draft = desk.begin(1, 1);
        draft.send_modify(|draft| draft.append("It is"));
        reader.hear(&desk.tell(0)[0], 0);
        let other = TurnPlace { conversation_id: ConversationId(Uuid::nil()), ..turn(1) };
        [other, turn(2)].into_iter().for_each(|other| reader.streams.abandoned(other));
        assert_eq!(reader.streams.take_ended().count(), 0, "another one's");
        reader.streams.abandoned(turn(1));
        let ended: Vec<Event> = reader.streams.take_ended().collect();
        let TurnPlace { conversation_id, turn_id } = turn(1);
        assert_eq!(ended, [Event::AnswerEnded { turn_id, conversation_id }]);
        let again = desk.begin(1, 2);
        again.send_modify(|draft| draft.append("It is open."));
        assert_eq!(reader.hear(&desk.tell(100)[0], 100).as_deref(), Some("It is open."));
    }

    #[test]
    fn who_has_the_question_later_asks_for_the_beginning() {
        let mut desk = Desk::new();
        let mut reader = Reader { secret: None, ..Reader::of(&desk) };
        let draft = desk.begin(1, 1);
        draft.send_modify(|draft| draft.append("It is"));
        assert_eq!(reader.hear(&desk.tell(0)[0], 0), None);
        reader.secret = Some(desk.secret.clone());
        draft.send_modify(|draft| draft.append(" open."));
        reader.hear(&desk.tell(100)[0], 100);
        assert_eq!(reader.streams.take_missing(), [turn(1)]);
        assert!(reader.streams.take_missing().is_empty());
        desk.streams.again(TurnPlace { conversation_id: ConversationId(Uuid::nil()), ..turn(1) });
        assert!(desk.tell(200).is_empty(), "another conversation's");
        desk.streams.again(turn(1));
        assert_eq!(reader.hear(&desk.tell(300)[0], 300).as_deref(), Some("It is open."));
    }

    #[test]
    fn of_two_tries_the_later_stands_and_nobody_can_make_one_up() {
        let mut desk = Desk::new();
        let mut reader = Reader::of(&desk);
        let first = desk.begin(1, 1);
        first.send_modify(|draft| draft.append("first"));
        let early = desk.tell(0).remove(0);
        assert_eq!(reader.hear(&early, 0).as_deref(), Some("first"));
        let second = desk.begin(1, 2);
        second.send_modify(|draft| draft.append("second"));
        assert_eq!(reader.hear(&desk.tell(100)[0], 100).as_deref(), Some("second"));
        assert_eq!(reader.hear(&early, 200), None);
        let forged = Delta { stream_id: StreamId(Uuid::from_u128(3)), ..early };
        assert_eq!(reader.hear(&forged, 300), None);
        second.send_modify(|draft| draft.append(" and on"));
        assert_eq!(reader.hear(&desk.tell(400)[0], 400).as_deref(), Some("second and on"));
    }

    #[test]
    fn an_answer_that_nobody_goes_on_writing_is_no_longer_shown() {
        let mut desk = Desk::new();
        let mut reader = Reader::of(&desk);
        let draft = desk.begin(1, 1);
        draft.send_modify(|draft| draft.set_status(Some("thinking")));
        reader.hear(&desk.tell(0)[0], 0);
        let again = u64::try_from(STREAM_INTERVAL.as_millis()).unwrap();
        reader.hear(&desk.tell(again)[0], again);
        assert!(reader.streams.given_up(again + TTL_MS - 1).is_empty());
        assert_eq!(reader.streams.given_up(again + TTL_MS).len(), 1);
    }

    #[test]
    fn there_is_a_bound_to_everything_that_is_followed_and_remembered() {
        let mut desk = Desk::new();
        let mut reader = Reader::of(&desk);
        let drafts: Vec<_> = (0..FOLLOWED_MAX as u128 + 5).map(|n| desk.begin(n, 1)).collect();
        drafts.iter().for_each(|draft| draft.send_modify(|draft| draft.append("x")));
        let heard = desk.tell(0).iter().filter(|delta| reader.hear(delta, 0).is_some()).count();
        assert_eq!(heard, FOLLOWED_MAX);
        (0..1000).for_each(|n| reader.streams.answered(turn(n).turn_id));
        assert_eq!(reader.streams.answered.len(), ANSWERED_MAX);
    }
}
