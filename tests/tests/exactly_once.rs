//! ONCE: one idempotency key makes one message, however often and over however many sockets it is sent.

use std::collections::BTreeSet;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, SendMessage};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::ids::MessageId;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::{Incoming, RawClient};

const SENDS: usize = 100;
const SOCKETS: usize = 3;

/// The part of [`SENDS`] that goes over one socket; the last one takes what is left over.
fn share(socket: usize) -> usize {
    if socket + 1 == SOCKETS { SENDS - (SENDS / SOCKETS) * (SOCKETS - 1) } else { SENDS / SOCKETS }
}

/// Sends `message` so often, then reads answers until all have come.
async fn send_repeatedly(
    mut client: RawClient,
    message: SendMessage,
    times: usize,
) -> Vec<Result<(MessageId, u64), ErrorCode>> {
    let frame = ClientFrame::Message(Box::new(message));
    for _ in 0..times {
        client.feed(&frame).await.expect("the socket stays open");
    }
    client.flush().await.expect("the socket stays open");
    let mut answers = Vec::new();
    while answers.len() < times {
        match client.next().await {
            Incoming::Frame(frame) => match *frame {
                ServerFrame::MessageAck { payload, .. } => {
                    answers.push(Ok((payload.message_id, payload.sequence_number)));
                }
                ServerFrame::Error { payload, .. } => answers.push(Err(payload.code)),
                _ => {}
            },
            Incoming::Closed(code) => panic!("the socket was closed with {code:?}"),
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_concurrent_sends_of_one_key_over_three_sockets_make_one_message() {
    let pair = Pair::start().await;
    let message = pair.left.compose(&[&pair.right], "only once");
    let mut running = Vec::new();
    for socket in 0..SOCKETS {
        let client = pair.connect(&pair.left).await;
        running.push(tokio::spawn(send_repeatedly(client, message.clone(), share(socket))));
    }
    let mut answers = Vec::new();
    for (socket, sends) in running.into_iter().enumerate() {
        let got = sends.await.unwrap();
        assert_eq!(got.len(), share(socket), "every send is answered");
        answers.extend(got);
    }
    let distinct: BTreeSet<_> = answers.iter().copied().collect();
    println!("{} answers to {SENDS} sends over {SOCKETS} sockets", answers.len());
    assert_eq!(distinct.len(), 1, "{distinct:?}");
    let (message_id, number) = distinct.first().unwrap().expect("the message is accepted");
    let log = pair.log().await;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].message_id, log[0].sequence_number), (message_id, number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_devices_that_race_with_one_key_one_wins_and_the_others_conflict() {
    let pair = Pair::start().await;
    let laptop = pair.rest.add_device(&pair.left, "left-laptop").await;
    let tablet = pair.rest.add_device(&pair.left, "left-tablet").await;
    let devices = [&*pair.left, &laptop, &tablet];
    let key = colloquy_tests::ambient::fresh_key();
    let mut running = Vec::new();
    for (index, device) in devices.into_iter().enumerate() {
        let others = devices.into_iter().filter(|other| other.device_id != device.device_id);
        let recipients: Vec<_> = others.chain([&*pair.right]).collect();
        let mut message = device.compose(&recipients, "which of us?");
        message.idempotency_key = key;
        let client = pair.connect(device).await;
        running.push(tokio::spawn(send_repeatedly(client, message, share(index))));
    }
    let mut acks = BTreeSet::new();
    let mut winners = 0;
    for sends in running {
        let answers = sends.await.unwrap();
        let distinct: BTreeSet<_> = answers.into_iter().collect();
        assert_eq!(distinct.len(), 1, "a device is answered the same every time: {distinct:?}");
        match distinct.first().unwrap() {
            Ok(ack) => {
                winners += 1;
                acks.insert(*ack);
            }
            Err(code) => assert_eq!(*code, ErrorCode::IdempotencyConflict),
        }
    }
    assert_eq!((winners, acks.len()), (1, 1));
    assert_eq!(pair.log().await.len(), 1);
}

#[tokio::test]
async fn a_retry_after_a_restart_gets_the_first_answer_again() {
    let mut pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    let message = left.send_message(&pair.left, &[&pair.right], "before the crash").await;
    let first = left.expect_ack(&message).await;
    pair.server.kill_9();
    pair.server.restart().await;
    let mut left = pair.connect(&pair.left).await;
    left.send(&ClientFrame::Message(Box::new(message.clone()))).await;
    let again = left.expect_ack(&message).await;
    assert_eq!((again.message_id, again.sequence_number), (first.message_id, first.sequence_number));
    assert_eq!(again.timestamp, first.timestamp);
}
