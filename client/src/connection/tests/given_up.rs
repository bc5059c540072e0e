//! Questions that an agent was not able to take: told of, marked, and no longer once they are answered.

use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::ids::{ConversationId, MessageId};

use super::desk::{Desk, conversation, message_id};
use super::server::Server;
use super::turns::{due, stored};
use super::{Person, connected, person, second_device, sent, text, until};
use crate::crypto::Body;
use crate::{Client, Event, Events};

/// Where a person sits, the agent, and the person's other device.
const PHONE: usize = 0;
const AGENT: usize = 1;
const TABLET: usize = 2;

/// What a device remembers as given up.
fn remembered(desk: &Desk, seat: usize) -> Vec<MessageId> {
    desk.seats[seat].store.read(|tx| tx.conversation(conversation())).unwrap().unwrap().given_up
}

#[test]
fn each_device_of_whoever_asked_tells_of_it_once_and_marks_it_until_it_is_answered() {
    let mut desk = Desk::of_two();
    assert_eq!(desk.sit(1, "tablet"), TABLET);
    let question = desk.text(PHONE, "are you open?");
    let (turn_id, conversation_id) = (message_id(question), conversation());
    let told = Event::TurnGivenUp { turn_id, conversation_id };
    assert_eq!(desk.give_up(PHONE, question), std::slice::from_ref(&told));
    assert!(desk.give_up(PHONE, question).is_empty(), "it is known");
    // The other one hears of it before it has the question.
    assert!(desk.give_up(TABLET, question).is_empty());
    let events = desk.deliver(TABLET, [question]).events;
    assert!(matches!(&events[..], [Event::MessageReceived(shown), then] if shown.given_up && *then == told));
    desk.deliver(AGENT, [question]);
    let answer = desk.answer(AGENT, question, "after all: yes");
    for seat in [PHONE, TABLET] {
        assert_eq!(remembered(&desk, seat), [turn_id]);
        desk.deliver(seat, [answer]);
        assert!(remembered(&desk, seat).is_empty());
        assert!(desk.give_up(seat, question).is_empty(), "it has crossed the answer");
        assert!(remembered(&desk, seat).is_empty());
    }
}

#[test]
fn nothing_but_an_own_question_is_ever_given_up() {
    let mut desk = Desk::of_two();
    let of_the_agent = desk.text(AGENT, "hello");
    desk.deliver(PHONE, [of_the_agent]);
    let control = desk.post(PHONE, Body::SessionRepair { message_ids: vec![message_id(1)] }, None);
    for number in [of_the_agent, control] {
        assert!(desk.give_up(PHONE, number).is_empty(), "{number}");
        assert!(remembered(&desk, PHONE).is_empty(), "{number}");
    }
    // Nor what only seems to be on its way.
    assert!(desk.give_up(PHONE, control + 1).is_empty());
    let next = desk.text(AGENT, "hello again");
    let events = desk.deliver(PHONE, [next]).events;
    assert!(matches!(&events[..], [Event::MessageReceived(shown)] if !shown.given_up), "{events:?}");
}

async fn given_up(events: &mut Events) -> MessageId {
    until(events, |event| match event {
        Event::TurnGivenUp { turn_id, .. } => Some(turn_id),
        _ => None,
    })
    .await
}

/// What the first message of a conversation shows.
fn is_marked(client: &Client, conversation: ConversationId) -> bool {
    client.history(conversation, None, 10).unwrap()[0].given_up
}

/// A person who has asked an agent something, and the turn.
async fn asked(server: &Server) -> (Person, Person, Events, TurnPlace) {
    let (alice, agent) = (person(server, "alice").await, person(server, "agent").await);
    let (mut a, _) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    alice.client.send_text(agent.user_id, "are you open?").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    let conversation_id = ConversationId::of_pair(alice.user_id, agent.user_id);
    (alice, agent, a, TurnPlace { conversation_id, turn_id })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_there_is_told_at_once_and_not_again_on_the_next_connection() {
    let server = Server::start().await;
    let (alice, agent, mut a, turn) = asked(&server).await;
    server.give_up(alice.user_id, turn);
    assert_eq!(given_up(&mut a).await, turn.turn_id);
    assert!(is_marked(&alice.client, turn.conversation_id));
    server.drop_sockets(alice.user_id);
    // The list that says it again says this, too.
    until(&mut a, |event| match event {
        Event::MarksMoved { read_through: 1, .. } => Some(()),
        Event::TurnGivenUp { .. } => panic!("it was told of"),
        _ => None,
    })
    .await;
    assert!(agent.client.take_turn(turn.turn_id, turn.conversation_id).await.unwrap());
    due(&agent.client).await;
    agent.client.answer_turn(turn.turn_id, "after all: yes").await.unwrap();
    let answer = until(&mut a, |event| match event {
        Event::MessageReceived(message) => Some(text(&message.content)),
        Event::TurnGivenUp { .. } => panic!("it was told of"),
        _ => None,
    })
    .await;
    assert_eq!(answer, "after all: yes");
    assert!(!is_marked(&alice.client, turn.conversation_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_is_told_on_the_next_connection() {
    let server = Server::start().await;
    let (alice, _agent, _, turn) = asked(&server).await;
    sent(&alice.client).await;
    alice.client.shutdown().await;
    server.give_up(alice.user_id, turn);
    assert!(!is_marked(&alice.client, turn.conversation_id));
    let mut a = alice.client.connect().unwrap();
    assert_eq!(given_up(&mut a).await, turn.turn_id);
    assert!(is_marked(&alice.client, turn.conversation_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_to_the_question_late_is_told_as_well() {
    let server = Server::start().await;
    let alice = person(&server, "alice").await;
    let (second, _folder) = second_device(&server, "alice").await;
    let mut s = second.connect().unwrap();
    connected(&mut s).await;
    second.shutdown().await;
    let agent = person(&server, "agent").await;
    let (mut a, _) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    alice.client.send_text(agent.user_id, "are you open?").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    let conversation_id = ConversationId::of_pair(alice.user_id, agent.user_id);
    server.give_up(alice.user_id, TurnPlace { conversation_id, turn_id });
    assert_eq!(given_up(&mut a).await, turn_id);
    let mut s = second.connect().unwrap();
    assert_eq!(given_up(&mut s).await, turn_id);
    assert!(is_marked(&second, conversation_id));
}
