//! What is sent arrives, in order, within bounds.

use crate::cluster::bridge::{FRAME_MAX, Unsent, WINDOW_BYTES, WINDOW_FRAMES};

use super::stage::{Cluster, Heard, Pod, Traits, introduce, until};

/// Frames each way.
const MANY: u32 = 100_000;

async fn send_many(from: &Pod, to: &Pod) {
    for number in 0..MANY {
        from.send(to, &number.to_be_bytes()).await;
    }
}

async fn expect_many(at: &Pod, from: &'static str) {
    for number in 0..MANY {
        at.journal.expect(Heard::Frame(from, number.to_be_bytes().to_vec())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_in_the_order_they_were_sent_in_both_ways_at_once() {
    let (a, b) = Cluster("order").pair().await;
    tokio::join!(send_many(&a, &b), send_many(&b, &a), expect_many(&a, "b"), expect_many(&b, "a"));
    assert_eq!(a.metrics.bridge_frames_sent.get(), u64::from(MANY));
    assert_eq!(b.metrics.bridge_frames_received.get(), u64::from(MANY));
    assert_eq!((a.metrics.bridge_links.get(), a.metrics.bridge_reconnects.get()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_three_pods_is_linked_to_both_others_and_a_frame_goes_to_the_one_it_is_for() {
    let cluster = Cluster("three");
    let pods = [
        cluster.pod("a", Traits::default()).await,
        cluster.pod("b", Traits::default()).await,
        cluster.pod("c", Traits::default()).await,
    ];
    introduce(&[&pods[0], &pods[1], &pods[2]]);
    until(|| pods.iter().all(|pod| pod.metrics.bridge_links.get() == 2)).await;
    pods[0].send(&pods[1], b"to b").await;
    pods[0].send(&pods[2], b"to c").await;
    pods[1].journal.skip_to(Heard::Frame("a", b"to b".to_vec())).await;
    pods[2].journal.skip_to(Heard::Frame("a", b"to c".to_vec())).await;
    let frames = |pod: &Pod| pod.metrics.bridge_frames_received.get();
    assert_eq!((frames(&pods[0]), frames(&pods[1]), frames(&pods[2])), (0, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_of_the_greatest_size_arrives_and_one_larger_is_refused() {
    let (a, b) = Cluster("great").pair().await;
    let greatest = vec![7; FRAME_MAX];
    a.send(&b, &greatest).await;
    b.journal.expect(Heard::Frame("a", greatest)).await;
    assert_eq!(a.links.send(&b.pod_id, vec![0; FRAME_MAX + 1]), Err(Unsent::TooLarge));
    assert_eq!(a.links.send(&a.pod_id, vec![0]), Err(Unsent::NoLink));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_receiver_is_sent_a_windowful_and_no_more_until_it_thaws() {
    let (a, b, wire) = Cluster("window").wired_pair().await;
    wire.freeze();
    let outgoing = a.links.outgoing(&b.pod_id).unwrap();
    for number in 0..WINDOW_FRAMES {
        assert_eq!(a.links.send(&b.pod_id, number.to_be_bytes().to_vec()), Ok(()));
    }
    assert_eq!(a.links.send(&b.pod_id, vec![0]), Err(Unsent::Full));
    assert_eq!(outgoing.unacknowledged().frames, WINDOW_FRAMES);
    assert_eq!(a.metrics.bridge_refused.get(), 1);
    wire.thaw();
    a.send(&b, b"the next").await;
    for number in 0..WINDOW_FRAMES {
        b.journal.expect(Heard::Frame("a", number.to_be_bytes().to_vec())).await;
    }
    b.journal.expect(Heard::Frame("a", b"the next".to_vec())).await;
    until(|| outgoing.unacknowledged().frames == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn great_frames_fill_the_window_by_their_bytes() {
    let (a, b, wire) = Cluster("bytes").wired_pair().await;
    wire.freeze();
    let fitting = WINDOW_BYTES as usize / FRAME_MAX;
    assert!((0..fitting).all(|_| a.links.send(&b.pod_id, vec![1; FRAME_MAX]).is_ok()));
    assert_eq!(a.links.send(&b.pod_id, vec![1; 1]), Err(Unsent::Full));
    wire.thaw();
    for _ in 0..fitting {
        b.journal.expect(Heard::Frame("a", vec![1; FRAME_MAX])).await;
    }
}
