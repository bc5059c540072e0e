//! A client that does not read is let go, costs little until then, and misses nothing (BOUND, NOLOSS).

use std::time::Duration;

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::frame::client::ResumeCursor;
use colloquy_protocol::frame::server::{DeliveredMessage, ServerFrame};
use colloquy_protocol::limits::SOCKETS_PER_DEVICE_MAX;
use colloquy_tests::device::unseal;
use colloquy_tests::metrics::sum;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::{Incoming, RawClient};
use tokio::time::{Instant, timeout};

/// Messages sent to those who do not read; with [`TEXT_BYTES`] far more than any kernel takes in for them.
const MESSAGES: u64 = 4_000;
const TEXT_BYTES: usize = 6_000;
/// Messages the sender has on the way at once; below the server's own bound.
const AT_ONCE: u64 = 50;
/// The slow ones' receive buffer.
const NARROW_BYTES: u32 = 4_096;
/// From the last message on, a slow consumer may stay this long: 10 s for what is being written, 2 s for what is still to
/// be said, 2 s for the close; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10 + 2 + 2 + 6);
/// What the server may grow by: the store's own memory of the messages, and little for each socket. Keeping for each
/// slow socket what it does not read would take a multiple of it.
const GROWTH_MAX_KIB: u64 = 96 * 1024;

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has a size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("it is a number of KiB")
}

fn text(number: u64) -> String {
    format!("{number:0>TEXT_BYTES$}")
}

/// Sends [`AT_ONCE`] messages from number `first` on, and waits for their acks.
async fn send_some(left: &mut RawClient, pair: &Pair, first: u64) {
    let mut sent = Vec::new();
    for number in first..first + AT_ONCE {
        sent.push(left.send_message(&pair.left, &[&pair.right], &text(number)).await);
    }
    for message in &sent {
        left.expect_ack(message).await;
    }
}

/// Everything the server still says, up to the close frame.
async fn read_to_the_end(client: &mut RawClient) -> (Vec<DeliveredMessage>, Option<u16>) {
    let mut messages = Vec::new();
    loop {
        match client.next().await {
            Incoming::Frame(frame) => match *frame {
                ServerFrame::Message { payload } => messages.push(payload),
                ServerFrame::Messages { payload } => messages.extend(payload.messages),
                _ => {}
            },
            Incoming::Closed(code) => return (messages, code),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_closed_and_resumes_where_it_stood() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    let mut slow = Vec::new();
    for _ in 0..SOCKETS_PER_DEVICE_MAX {
        slow.push(RawClient::connect_narrow(pair.server.address(), &pair.right, NARROW_BYTES).await);
    }
    let before_kib = resident_kib(pair.server.pid());
    let mut most_kib = before_kib;
    for first in (1..=MESSAGES).step_by(usize::try_from(AT_ONCE).unwrap()) {
        send_some(&mut left, &pair, first).await;
        most_kib = most_kib.max(resident_kib(pair.server.pid()));
    }
    let sent_at = Instant::now();
    let open = |samples: &[_]| sum(samples, "colloquy_actors", &[("kind", "Session")]);
    let gone = timeout(PATIENCE, async {
        // The sender's own session is the one that stays.
        while open(&pair.server.scrape().await) > 1.0 {
            left.heartbeat().await;
        }
    });
    gone.await.expect("who does not read is let go in time");
    println!(
        "{} KiB before, {most_kib} KiB at most; let go {:?} after the last message",
        before_kib,
        sent_at.elapsed()
    );
    assert!(most_kib - before_kib < GROWTH_MAX_KIB, "grew from {before_kib} to {most_kib} KiB");
    let closes = pair.server.scrape().await;
    let code = CloseCode::SlowConsumer.number().to_string();
    let counted = sum(&closes, "colloquy_session_closes_total", &[("code", &code)]);
    assert!((counted - SOCKETS_PER_DEVICE_MAX as f64).abs() < f64::EPSILON, "{counted} closes counted");

    // What was on the way is still read, in order and from the first one on, before the connection ends.
    let (mut held, _) = read_to_the_end(&mut slow[0]).await;
    let cursor = ResumeCursor { conversation_id: pair.conversation(), after_sequence: held.len() as u64 };
    println!("{} of {MESSAGES} were read before the end", held.len());
    assert!((held.len() as u64) < MESSAGES, "the rest was not kept for it");
    let (mut back, _) = RawClient::connect_and_resume(pair.server.address(), &pair.right, vec![cursor]).await;
    held.extend(back.expect_pages().await);
    assert_eq!(held.len() as u64, MESSAGES);
    for (number, message) in (1..).zip(&held) {
        assert_eq!(message.sequence_number, number);
        assert_eq!(unseal(&message.content.as_ref().unwrap().body), text(number));
    }
}
