//! An agent's turns: taken on, answered once, whatever happens to question and answer.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};

use super::server::{Fault, Server};
use super::{person, second_device, sent, text, texts, until};
use crate::{Answer, Client, ClientError, Event, Note, Turn, TurnContent};

/// The next question, as soon as it is due.
pub(super) async fn due(client: &Client) -> Turn {
    let mut events = client.events();
    loop {
        if let Some(turn) = client.due_turns().await.unwrap().pop() {
            return turn;
        }
        until(&mut events, |event| {
            matches!(event, Event::MessageReceived(_) | Event::MessageRepaired(_)).then_some(())
        })
        .await;
    }
}

/// The message that was stored under this number.
pub(super) async fn stored(events: &mut crate::Events, number: u64) -> MessageId {
    until(events, |event| match event {
        Event::MessageSent { message_id, sequence_number, .. } if sequence_number == number => {
            Some(message_id)
        }
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_answered_once_however_often_it_is_taken_on_and_answered() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let (mut a, _events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    alice.client.send_text(agent.user_id, "a question").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    let unknown = agent.client.answer_turn(turn_id, "too soon").await;
    assert!(matches!(unknown, Err(ClientError::UnknownTurn)), "it was not taken on");
    assert!(agent.client.take_turn(turn_id, conversation).await.unwrap());
    assert!(agent.client.take_turn(turn_id, conversation).await.unwrap());
    let turn = due(&agent.client).await;
    assert_eq!(
        (turn.turn_id, turn.content, turn.asked_by),
        (turn_id, TurnContent::Text("a question".into()), alice.user_id)
    );
    assert!(agent.client.answer_turn(turn_id, "an answer").await.unwrap().is_some());
    assert_eq!(agent.client.answer_turn(turn_id, "another answer").await.unwrap(), None);
    assert_eq!(texts(&mut a, 1).await, vec![(2, "an answer".into())]);
    sent(&agent.client).await;
    assert!(!agent.client.take_turn(turn_id, conversation).await.unwrap(), "it is answered");
    assert_eq!(agent.client.answer_turn(turn_id, "a third").await.unwrap(), None);
    assert!(agent.client.due_turns().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_devices_of_an_agent_the_first_to_answer_is_heard() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let (second, _folder) = second_device(&server, "agent").await;
    let (mut a, _first) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let mut s = second.connect().unwrap();
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    alice.client.send_text(agent.user_id, "a question").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    for client in [&agent.client, &second] {
        client.take_turn(turn_id, conversation).await.unwrap();
        due(client).await;
    }
    // What is read of the first answer here says that the turn is done.
    server.faults([Fault::DropAfterStore]);
    agent.client.answer_turn(turn_id, "the first").await.unwrap();
    assert_eq!(texts(&mut a, 1).await, vec![(2, "the first".into())]);
    sent(&agent.client).await;
    second.answer_turn(turn_id, "the second").await.unwrap();
    until(&mut s, |event| matches!(event, Event::MessageReceived(m) if m.is_own).then_some(())).await;
    sent(&second).await;
    assert!(second.due_turns().await.unwrap().is_empty());
    assert!(!second.take_turn(turn_id, conversation).await.unwrap(), "it is known to be answered");
    let shown = alice.client.history(conversation, None, 10).unwrap();
    let shown: Vec<String> = shown.iter().map(|message| text(&message.content)).collect();
    assert_eq!(shown, ["a question", "the first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_cannot_be_read_is_due_when_it_was_told_again_and_the_telling_is_no_question() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let (mut a, mut events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    server.faults([Fault::Damage]);
    alice.client.send_text(agent.user_id, "a question").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    until(&mut events, |event| matches!(event, Event::MessageRepaired(_)).then_some(())).await;
    let turn = due(&agent.client).await;
    assert_eq!((turn.turn_id, turn.content), (turn_id, TurnContent::Text("a question".into())));
    // The log holds the question, the agent's asking for it, and its being told again.
    let told_again = server.message_id(conversation, 3);
    agent.client.take_turn(told_again, conversation).await.unwrap();
    let due: Vec<MessageId> =
        agent.client.due_turns().await.unwrap().iter().map(|turn| turn.turn_id).collect();
    assert_eq!(due, [turn_id]);
    sent(&agent.client).await;
    assert!(
        !agent.client.take_turn(told_again, conversation).await.unwrap(),
        "it was answered with nothing to show"
    );
    agent.client.answer_turn(turn_id, "an answer").await.unwrap();
    assert_eq!(texts(&mut a, 1).await[0].1, "an answer");
}

/// Found by seeds 400186 and 400192: the refused answer counted as the message that was first, whose copy then passed for a
/// repetition.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_answer_came_second_reads_the_first() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let (second, _folder) = second_device(&server, "agent").await;
    let mut a = alice.client.connect().unwrap();
    let mut s = second.connect().unwrap();
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    alice.client.send_text(agent.user_id, "a question").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    second.take_turn(turn_id, conversation).await.unwrap();
    due(&second).await;
    server.faults([Fault::Refuse(ErrorCode::IdempotencyConflict)]);
    second.answer_turn(turn_id, "the second").await.unwrap();
    until(&mut s, |event| matches!(event, Event::MessageFailed { .. }).then_some(())).await;
    assert!(second.due_turns().await.unwrap().is_empty());
    let _first = agent.client.connect().unwrap();
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    due(&agent.client).await;
    agent.client.answer_turn(turn_id, "the first").await.unwrap();
    let read = until(&mut s, |event| match event {
        Event::MessageReceived(message) if message.is_own => Some(text(&message.content)),
        Event::DecryptionFailed { failure, .. } => panic!("{failure}"),
        _ => None,
    })
    .await;
    assert_eq!(read, "the first");
    assert!(!second.take_turn(turn_id, conversation).await.unwrap());
}

/// An answer that goes on, and has its agent write to somebody else.
fn leading_to(text: &str, to: UserId) -> Answer {
    let notes = vec![Note { to, text: format!("a note of {text}") }];
    Answer { continuations: vec!["two".into(), "three".into()], notes, ..text.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_leads_to_is_sent_once_in_order_also_if_its_ack_is_lost() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let bob = person(&server, "bob").await;
    let (mut a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    let _events = agent.client.connect().unwrap();
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    alice.client.send_text(agent.user_id, "a question").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    due(&agent.client).await;
    server.faults([Fault::DropAfterStore]);
    let answer = leading_to("one", bob.user_id);
    agent.client.answer_turn_with(turn_id, answer.clone()).await.unwrap();
    assert_eq!(agent.client.answer_turn_with(turn_id, answer).await.unwrap(), None);
    let expected = [(2, "one".to_owned()), (3, "two".into()), (4, "three".into())];
    assert_eq!(texts(&mut a, 3).await, expected);
    assert_eq!(texts(&mut b, 1).await, [(1, "a note of one".to_owned())]);
    sent(&agent.client).await;
    assert!(agent.client.due_turns().await.unwrap().is_empty());
    let to_itself = agent.client.answer_turn_with(turn_id, leading_to("x", agent.user_id)).await;
    assert!(matches!(to_itself, Err(ClientError::NoRecipient)), "{to_itself:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_answer_that_came_second_nobody_hears_anything() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let bob = person(&server, "bob").await;
    let (second, _folder) = second_device(&server, "agent").await;
    let (mut a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    let mut s = second.connect().unwrap();
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    alice.client.send_text(agent.user_id, "a question").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    second.take_turn(turn_id, conversation).await.unwrap();
    due(&second).await;
    server.faults([Fault::Refuse(ErrorCode::IdempotencyConflict)]);
    second.answer_turn_with(turn_id, leading_to("the second", bob.user_id)).await.unwrap();
    until(&mut s, |event| matches!(event, Event::MessageFailed { .. }).then_some(())).await;
    assert!(second.due_turns().await.unwrap().is_empty());
    let _first = agent.client.connect().unwrap();
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    due(&agent.client).await;
    agent.client.answer_turn(turn_id, "the first").await.unwrap();
    assert_eq!(texts(&mut a, 1).await, [(2, "the first".to_owned())]);
    sent(&second).await;
    second.send_text(alice.user_id, "something else").await.unwrap();
    second.send_text(bob.user_id, "hello").await.unwrap();
    assert_eq!(texts(&mut a, 1).await, [(3, "something else".to_owned())]);
    assert_eq!(texts(&mut b, 1).await, [(1, "hello".to_owned())]);
}
