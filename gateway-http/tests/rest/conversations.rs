//! Opening, listing and reading back conversations.

use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::envelope::{Algorithm, CiphertextKind, DeviceCiphertext, Envelope};
use colloquy_protocol::frame::{MessageStatus, MessageType};
use colloquy_protocol::ids::{ConversationId, IdempotencyKey, MessageId};
use colloquy_protocol::rest::accounts::Tokens;
use colloquy_protocol::rest::conversations::{Conversation, Conversations, History};
use colloquy_storage::model::agent::Agent;
use colloquy_storage::model::cursor::{Cursor, CursorKind};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::message_log::{Append, Appended};
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{Answer, Device, Fixture, START, dead_letter};

struct Pair {
    fixture: Fixture,
    ann: Tokens,
    bob: Tokens,
    phone: Device,
    laptop: Device,
    id: ConversationId,
}

/// Ann on her phone and Bob on his laptop, with a conversation.
async fn pair() -> Pair {
    let fixture = Fixture::open().await;
    let (ann, bob) = (fixture.user("ann").await, fixture.user("bob").await);
    let phone = fixture.device(&ann, "phone", 1).await;
    let laptop = fixture.device(&bob, "laptop", 2).await;
    let body = json!({"participant_id": bob.user_id});
    let opened = fixture.post("/v1/conversations", Some(&ann.access_token), &body).await;
    assert_eq!(opened.status.as_u16(), 201, "{}", opened.text());
    let id = opened.json::<Conversation>().conversation_id;
    Pair { fixture, ann, bob, phone, laptop, id }
}

impl Pair {
    /// Message `number`, of Ann, as heavy as `body`.
    fn message(&self, number: u64, body: &str) -> Message {
        Message {
            message_id: MessageId(Uuid::from_u128(u128::from(number))),
            sequence_number: 0,
            conversation_id: self.id,
            sender_id: self.ann.user_id,
            sender_device_id: self.phone.device_id.clone(),
            receiver_id: self.bob.user_id,
            idempotency_key: IdempotencyKey::new(
                uuid::Builder::from_random_bytes(u128::from(number).to_be_bytes()).into_uuid(),
            )
            .unwrap(),
            r#type: MessageType::Text,
            content: Envelope {
                algorithm: Algorithm::OlmV1,
                sender_key: "A".repeat(43),
                ciphertexts: vec![DeviceCiphertext {
                    user_id: self.bob.user_id,
                    device_id: self.laptop.device_id.clone(),
                    kind: CiphertextKind::Normal,
                    body: body.to_owned(),
                }],
            },
            media_url: None,
            reply_to_message_id: None,
            sent_at: START,
            created_at: START + number,
        }
    }

    /// Ann sends `count` messages, each as heavy as `body`.
    async fn say(&self, count: u64, body: &str) {
        let from = self.fixture.store.log.end(self.id).await.unwrap().last_sequence + 1;
        self.append((from..from + count).map(|number| self.message(number, body)).collect()).await;
    }

    /// Bob answers message `number` as an agent would.
    async fn answer(&self, number: u64) {
        let turn_id = MessageId(Uuid::from_u128(u128::from(number)));
        let answer = Message {
            sender_id: self.bob.user_id,
            sender_device_id: self.laptop.device_id.clone(),
            receiver_id: self.ann.user_id,
            idempotency_key: IdempotencyKey::of_turn(turn_id),
            reply_to_message_id: Some(turn_id),
            ..self.message(1_000 + number, "answer")
        };
        self.append(vec![answer]).await;
    }

    /// Bob's turn `turn` is given up, as one whose message is `number`.
    async fn give_up(&self, turn: u64, number: u64) {
        self.give_up_of("agent-bob", turn, number).await;
    }

    async fn give_up_of(&self, agent: &str, turn: u64, number: u64) {
        let turn_id = MessageId(Uuid::from_u128(u128::from(turn)));
        let letter = dead_letter(turn_id, agent, self.id, number);
        assert!(self.fixture.store.dead_letters.put(letter).await.unwrap());
    }

    async fn register(&self, agent: &str, who: &Tokens) {
        let agent = Agent {
            agent_id: AgentId::new(agent).unwrap(),
            user_id: who.user_id,
            revision: 1,
            profile: AgentProfile::new("Agent", "http://127.0.0.1:9/"),
            created_at: START,
            changed_at: START,
        };
        assert!(self.fixture.store.agents.create(agent).await.unwrap());
    }

    /// Which messages somebody sees as given up.
    async fn given_up(&self, who: &Tokens) -> Vec<u64> {
        let shown: Conversation = self.show(who, "").await.json();
        shown.given_up.iter().map(|id| u64::try_from(id.0.as_u128()).unwrap()).collect()
    }

    async fn append(&self, messages: Vec<Message>) {
        let log = &self.fixture.store.log;
        let owned = log.take_ownership(self.id).await.unwrap();
        let append = Append {
            conversation_id: self.id,
            epoch: owned.epoch,
            after_sequence: owned.last_sequence,
            messages,
        };
        let appended = log.append(vec![append]).await.unwrap();
        assert!(matches!(&appended[..], [Appended::Placed(_)]));
    }

    async fn come(&self, of: &Tokens, kind: CursorKind, through: u64) {
        let cursor = Cursor { conversation_id: self.id, user_id: of.user_id, kind, through };
        self.fixture.store.cursors.advance(vec![cursor]).await.unwrap();
    }

    async fn show(&self, who: &Tokens, query: &str) -> Answer {
        let path = format!("/v1/conversations/{}{query}", self.id);
        self.fixture.get(&path, &who.access_token).await
    }

    async fn history(&self, query: &str) -> Answer {
        self.show(&self.bob, &format!("/messages?{query}")).await
    }

    async fn numbers(&self, query: &str) -> (Vec<u64>, bool) {
        let history: History = self.history(query).await.json();
        (history.messages.iter().map(|message| message.sequence_number).collect(), history.more)
    }
}

#[tokio::test]
async fn a_pair_has_one_conversation_whoever_opens_it() {
    let pair = pair().await;
    let body = json!({"participant_id": pair.ann.user_id});
    let again = pair.fixture.post("/v1/conversations", Some(&pair.bob.access_token), &body).await;
    assert_eq!(again.status.as_u16(), 200);
    assert_eq!(again.json::<Conversation>().conversation_id, pair.id);
}

#[tokio::test]
async fn a_conversation_needs_another_user_who_exists() {
    let pair = pair().await;
    for (participant, problem) in [
        (pair.ann.user_id.to_string(), (422, "invalid_participant".to_owned())),
        (Uuid::from_u128(7).to_string(), (404, "unknown_user".to_owned())),
        ("nobody".to_owned(), (400, "malformed_frame".to_owned())),
    ] {
        let body = json!({"participant_id": participant});
        let answer = pair.fixture.post("/v1/conversations", Some(&pair.ann.access_token), &body).await;
        assert_eq!(answer.problem(), problem);
    }
}

#[tokio::test]
async fn a_conversation_of_others_is_answered_exactly_like_none() {
    let pair = pair().await;
    let eve = pair.fixture.user("eve").await;
    let unknown = ConversationId(Uuid::from_u128(7));
    for rest in ["", "/messages", "/messages?after=0", "/messages?before=1"] {
        let ask = async |id: ConversationId| {
            pair.fixture.get(&format!("/v1/conversations/{id}{rest}"), &eve.access_token).await
        };
        let (not_mine, none) = (ask(pair.id).await, ask(unknown).await);
        assert_eq!(not_mine.problem(), (404, "unknown_conversation".into()));
        assert_eq!((not_mine.status, &not_mine.body), (none.status, &none.body), "{rest}");
        let names = |answer: &Answer| answer.headers.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&not_mine), names(&none));
    }
}

#[tokio::test]
async fn a_conversation_shows_what_is_unread_and_how_far_the_other_has_come() {
    let pair = pair().await;
    pair.say(5, "c2VjcmV0").await;
    pair.come(&pair.ann, CursorKind::Sent, 5).await;
    pair.come(&pair.bob, CursorKind::Delivered(pair.laptop.device_id.clone()), 4).await;
    pair.come(&pair.bob, CursorKind::Read, 2).await;
    let ann: Conversation = pair.show(&pair.ann, "").await.json();
    assert_eq!((ann.unread_count, ann.read_through, ann.delivered_through), (0, 2, 4));
    assert_eq!((ann.last_sequence_number, ann.last_message_at), (5, Some(START + 5)));
    let bob: Conversation = pair.show(&pair.bob, "").await.json();
    assert_eq!((bob.unread_count, bob.read_through, bob.delivered_through), (3, 0, 0));
    assert_eq!(bob.last_message.unwrap().content, None, "no device, no ciphertext");
    let history: History = pair.show(&pair.ann, "/messages").await.json();
    let statuses: Vec<MessageStatus> = history.messages.iter().map(|message| message.status).collect();
    use MessageStatus::{Delivered, Read, Sent};
    assert_eq!(statuses, [Read, Read, Delivered, Delivered, Sent]);
}

#[tokio::test]
async fn a_device_sees_its_own_ciphertext_and_the_idempotency_keys_of_its_own_user() {
    let pair = pair().await;
    pair.say(1, "c2VjcmV0").await;
    let bob: Conversation = pair.show(&pair.bob, "?device_id=laptop").await.json();
    let last = bob.last_message.unwrap();
    assert_eq!(last.content.unwrap().body, "c2VjcmV0");
    assert_eq!(last.idempotency_key, None);
    let ann: Conversation = pair.show(&pair.ann, "?device_id=phone").await.json();
    let last = ann.last_message.unwrap();
    assert_eq!(last.content, None);
    assert!(last.idempotency_key.is_some());
    for rest in ["?device_id=laptop", "/messages?device_id=laptop"] {
        let another = pair.show(&pair.ann, rest).await;
        assert_eq!(another.problem(), (403, "unknown_device".into()), "not a device of hers");
    }
}

#[tokio::test]
async fn pages_are_in_order_and_touch_the_number_they_were_asked_for() {
    let pair = pair().await;
    assert_eq!(pair.numbers("").await, (vec![], false));
    pair.say(12, "c2VjcmV0").await;
    assert_eq!(pair.numbers("limit=5").await, ((8..=12).collect(), true));
    assert_eq!(pair.numbers("limit=5&before=8").await, ((3..=7).collect(), true));
    assert_eq!(pair.numbers("limit=5&before=3").await, (vec![1, 2], false));
    assert_eq!(pair.numbers("before=1").await, (vec![], false));
    assert_eq!(pair.numbers("limit=2&before=99").await, (vec![11, 12], true));
    assert_eq!(pair.numbers("limit=5&after=0").await, ((1..=5).collect(), true));
    assert_eq!(pair.numbers("limit=7&after=5").await, ((6..=12).collect(), false));
    assert_eq!(pair.numbers("after=12").await, (vec![], false));
    assert_eq!(pair.numbers("after=18446744073709551614").await, (vec![], false));
}

#[tokio::test]
async fn a_page_of_heavy_messages_is_cut_without_leaving_a_hole() {
    let pair = pair().await;
    pair.say(60, &"A".repeat(40_000)).await;
    let (forward, more) = pair.numbers("limit=100&after=0").await;
    assert!(more && forward.len() < 60);
    assert_eq!(forward, (1..=forward.len() as u64).collect::<Vec<_>>());
    let (backward, more) = pair.numbers("limit=100").await;
    assert!(more && backward.len() < 60);
    assert_eq!(backward, (61 - backward.len() as u64..=60).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    let pair = pair().await;
    for (query, problem) in [
        ("before=0", (400, "invalid_window")),
        ("after=18446744073709551615", (400, "invalid_window")),
        ("after=1&before=5", (422, "invalid_field")),
        ("limit=0", (422, "invalid_field")),
        ("limit=101", (422, "invalid_field")),
        ("limit=-1", (422, "invalid_field")),
        ("after=secret", (422, "invalid_field")),
        ("after=18446744073709551616", (422, "invalid_field")),
        ("after=1&after=2", (422, "invalid_field")),
        ("device_id=a%20secret", (422, "invalid_field")),
        ("secret=1", (422, "invalid_field")),
    ] {
        let answer = pair.history(query).await;
        assert_eq!(answer.problem(), (problem.0, problem.1.to_owned()), "{query}");
        assert!(!answer.text().contains("secret"));
    }
}

#[tokio::test]
async fn whoever_asked_and_nobody_else_sees_what_was_given_up_until_it_is_answered() {
    let pair = pair().await;
    assert!(pair.given_up(&pair.ann).await.is_empty());
    pair.say(20, "question").await;
    for number in 1..=20 {
        pair.give_up(number, number).await;
    }
    let newest = |from: u64, to: u64| (to..=from).rev().collect::<Vec<_>>();
    assert_eq!(pair.given_up(&pair.ann).await, newest(20, 5));
    let shown: Conversation = pair.show(&pair.ann, "").await.json();
    let list: Conversations = pair.fixture.get("/v1/conversations", &pair.ann.access_token).await.json();
    assert_eq!(list.conversations[0].given_up, shown.given_up);
    assert!(pair.given_up(&pair.bob).await.is_empty(), "AUTHZ: it was not Bob who asked");
    let letters = &pair.fixture.store.dead_letters;
    let letter = |number: u128| letters.get(MessageId(Uuid::from_u128(number)));
    assert!(letter(20).await.unwrap().is_some());
    pair.answer(20).await;
    assert_eq!(pair.given_up(&pair.ann).await, newest(19, 5), "it was replayed, and answered");
    assert!(letter(20).await.unwrap().is_none(), "it is no dead letter any more");
    assert_eq!(pair.given_up(&pair.ann).await, newest(19, 4));
    // One of which another message stands in the place says nothing.
    pair.give_up(50, 3).await;
    assert_eq!(pair.given_up(&pair.ann).await, newest(19, 5));
}

#[tokio::test]
async fn an_agent_sees_which_of_its_own_questions_were_given_up_and_none_of_those_it_was_asked() {
    let pair = pair().await;
    pair.register("agent-bob", &pair.bob).await;
    pair.register("agent-ann", &pair.ann).await;
    pair.say(1, "of Ann").await;
    let of_bob = Message {
        sender_id: pair.bob.user_id,
        sender_device_id: pair.laptop.device_id.clone(),
        receiver_id: pair.ann.user_id,
        ..pair.message(2, "of Bob")
    };
    pair.append(vec![of_bob]).await;
    pair.give_up_of("agent-bob", 1, 1).await;
    pair.give_up_of("agent-ann", 2, 2).await;
    assert_eq!((pair.given_up(&pair.ann).await, pair.given_up(&pair.bob).await), (vec![1], vec![2]));
}

#[tokio::test]
async fn the_list_is_walked_page_by_page_newest_first() {
    let pair = pair().await;
    let mut expected = vec![pair.id];
    for (index, name) in ["carl", "dora", "emil", "fred"].into_iter().enumerate() {
        let other = pair.fixture.user(name).await;
        let later = pair.fixture.later(std::time::Duration::from_secs(index as u64 + 1));
        let body = json!({"participant_id": other.user_id});
        let opened = later.post("/v1/conversations", Some(&pair.ann.access_token), &body).await;
        expected.insert(0, opened.json::<Conversation>().conversation_id);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/conversations?limit=2{cursor}");
        let page: Conversations = pair.fixture.get(&path, &pair.ann.access_token).await.json();
        assert!(page.conversations.len() <= 2);
        seen.extend(page.conversations.iter().map(|conversation| conversation.conversation_id));
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, expected);
    for bad in ["limit=0", "cursor=secret", "cursor=", "cursor=1-2", "device_id=unknown"] {
        let answer = pair.fixture.get(&format!("/v1/conversations?{bad}"), &pair.ann.access_token).await;
        let code = if bad.starts_with("device") { (403, "unknown_device") } else { (422, "invalid_field") };
        assert_eq!(answer.problem(), (code.0, code.1.to_owned()), "{bad}");
    }
}
