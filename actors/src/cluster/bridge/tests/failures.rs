//! What breaks is found in time, and heals.

use std::sync::mpsc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::cluster::bridge::{BACKOFF_MAX, SILENCE_MAX, Unsent};
use crate::supervision::{ActorKind, ExitReason};

use super::stage::{
    Cluster, DEADLINE, FIRST, Heard, Pod, Traits, VERSION, introduce, introduce_over, meet, until,
};

/// How much later than promised a machine with other things to do may notice.
const LENIENCE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_falls_silent_is_down_in_time_at_both_ends_and_nothing_of_the_old_link_arrives() {
    let (a, b, wire) = Cluster("silent").wired_pair().await;
    wire.freeze();
    let frozen = Instant::now();
    assert_eq!(a.links.send(&b.pod_id, b"old".to_vec()), Ok(()));
    a.journal.expect(Heard::Down("b")).await;
    b.journal.expect(Heard::Down("a")).await;
    let found = frozen.elapsed();
    assert!(found <= SILENCE_MAX + LENIENCE, "{found:?}");
    assert!(!a.links.is_up(&b.pod_id));
    assert_eq!(a.links.send(&b.pod_id, b"none".to_vec()), Err(Unsent::NoLink));
    // What was held back comes now, on the connection that both have left.
    wire.thaw();
    meet(&a, &b).await;
    a.send(&b, b"new").await;
    b.journal.expect(Heard::Frame("a", b"new".to_vec())).await;
    assert_eq!((a.metrics.bridge_reconnects.get(), b.metrics.bridge_reconnects.get()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_link_stays_up() {
    let (a, b, wire) = Cluster("quiet").wired_pair().await;
    let start = Instant::now();
    while start.elapsed() <= SILENCE_MAX + Duration::from_secs(1) {
        wire.carries(1).await;
    }
    assert_eq!((a.journal.rest(), b.journal.rest()), (vec![], vec![]));
    a.send(&b, b"still there").await;
    b.journal.expect(Heard::Frame("a", b"still there".to_vec())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_bridge_that_was_frozen_finds_itself_cut_off_before_it_takes_anything_in() {
    let (a, b) = Cluster("thaw").pair().await;
    let (thaw, frozen) = mpsc::channel::<()>();
    let frozen = std::sync::Mutex::new(frozen);
    b.journal.before_frame(move |frame| {
        if frame == b"freeze" {
            frozen.lock().unwrap().recv().unwrap();
        }
    });
    a.send(&b, b"freeze").await;
    until(|| b.metrics.bridge_frames_received.get() == 1).await;
    let last_heard = Instant::now();
    a.send(&b, b"to the frozen one").await;
    a.journal.expect(Heard::Down("b")).await;
    // The other end counts from when it heard last, which may be a little later.
    until(|| last_heard.elapsed() >= SILENCE_MAX).await;
    thaw.send(()).unwrap();
    b.journal.expect(Heard::Frame("a", b"freeze".to_vec())).await;
    b.journal.expect(Heard::Down("a")).await;
    meet(&a, &b).await;
    a.send(&b, b"new").await;
    b.journal.expect(Heard::Frame("a", b"new".to_vec())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_noticed_at_once_and_dialled_again() {
    let (a, b, wire) = Cluster("cut").wired_pair().await;
    for _ in 0..3 {
        let cut = Instant::now();
        wire.cut();
        a.journal.expect(Heard::Down("b")).await;
        b.journal.expect(Heard::Down("a")).await;
        meet(&a, &b).await;
        let healed = cut.elapsed();
        assert!(healed <= BACKOFF_MAX + LENIENCE, "{healed:?}");
    }
    assert_eq!(wire.connections(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_pod_is_another_one_and_hears_nothing_that_was_sent_to_the_one_before() {
    let cluster = Cluster("restart");
    let (a, b) = cluster.pair().await;
    a.send(&b, b"to the first").await;
    b.stop().await;
    a.journal.expect(Heard::Down("b")).await;
    b.journal.skip_to(Heard::Down("a")).await;
    let second = cluster.pod("b", Traits { incarnation: 2, ..Traits::default() }).await;
    introduce(&[&a, &second]);
    meet(&a, &second).await;
    a.send(&second, b"to the second").await;
    second.journal.expect(Heard::Frame("a", b"to the second".to_vec())).await;
    assert_eq!(a.metrics.bridge_reconnects.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_restarted_before_anybody_noticed_displaces_the_one_before() {
    let cluster = Cluster("displaced");
    let (a, b, wire) = cluster.wired_pair().await;
    // The first is unreachable, not gone: its connection stays open.
    wire.freeze();
    let second = cluster.pod("b", Traits { incarnation: 2, ..Traits::default() }).await;
    introduce(&[&a, &second]);
    a.journal.expect(Heard::Down("b")).await;
    meet(&a, &second).await;
    b.journal.expect(Heard::Down("a")).await;
    wire.thaw();
    a.send(&second, b"to the second").await;
    second.journal.expect(Heard::Frame("a", b"to the second".to_vec())).await;
    assert_eq!((a.journal.rest(), b.journal.rest()), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_no_member_any_more_is_let_go_and_linked_again_once_it_is() {
    let (a, b) = Cluster("members").pair().await;
    a.links.set_members(vec![a.member()]);
    a.journal.expect(Heard::Down("b")).await;
    b.journal.expect(Heard::Down("a")).await;
    introduce(&[&a, &b]);
    meet(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_known_to_one_side_first_is_linked_when_both_know() {
    let cluster = Cluster("late");
    let (a, b) = (cluster.pod("a", Traits::default()).await, cluster.pod("b", Traits::default()).await);
    a.links.set_members(vec![a.member(), b.member()]);
    b.links.set_members(vec![b.member()]);
    introduce(&[&a, &b]);
    meet(&a, &b).await;
}

/// Sends numbered frames until told to end; says how many were taken.
async fn stream(from: &Pod, to: &Pod, ended: &std::sync::atomic::AtomicBool) -> u32 {
    let mut number = 0_u32;
    while !ended.load(std::sync::atomic::Ordering::SeqCst) {
        if from.links.send(&to.pod_id, number.to_be_bytes().to_vec()).is_ok() {
            number += 1;
        }
        tokio::task::yield_now().await;
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_killed_under_traffic_is_counted_and_comes_back_at_the_same_port_with_its_links() {
    let (a, b) = Cluster("killed").pair().await;
    let (ended, address) = (std::sync::atomic::AtomicBool::new(false), b.address());
    let faults = async {
        for kill in 1..=3 {
            let received = b.metrics.bridge_frames_received.get();
            until(|| b.metrics.bridge_frames_received.get() > received).await;
            b.kill_bridge().await;
            a.journal.skip_to(Heard::Down("b")).await;
            b.journal.skip_to(Heard::Down("a")).await;
            a.journal.skip_to(Heard::Up("b", FIRST, VERSION)).await;
            b.journal.skip_to(Heard::Up("a", FIRST, VERSION)).await;
            until(|| b.metrics.exits_of(ActorKind::Bridge, ExitReason::Killed) == kill).await;
        }
        ended.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    tokio::join!(stream(&a, &b, &ended), faults);
    a.send(&b, b"last").await;
    // Numbers grow on each link, across all of them, and never repeat: nothing was sent twice.
    let mut before = None;
    loop {
        match b.journal.next().await {
            Heard::Frame("a", frame) if frame == b"last" => break,
            Heard::Frame("a", frame) => {
                let number = u32::from_be_bytes(frame.try_into().unwrap());
                assert!(before.is_none_or(|before| before < number));
                before = Some(number);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(b.address(), address);
    assert_eq!((a.metrics.bridge_links.get(), b.metrics.bridge_links.get()), (1, 1));
    assert_eq!(b.metrics.alive_of(ActorKind::Bridge), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_panics_says_that_its_links_are_down_and_comes_back() {
    let (a, b) = Cluster("panics").pair().await;
    b.journal.before_frame(|frame| assert_ne!(frame, b"defect", "a defect, as ordered"));
    a.send(&b, b"defect").await;
    b.journal.expect(Heard::Down("a")).await;
    a.journal.expect(Heard::Down("b")).await;
    until(|| b.metrics.exits_of(ActorKind::Bridge, ExitReason::Panicked) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_stops_says_so_and_frees_its_port() {
    let (a, b) = Cluster("stops").pair().await;
    let address = b.address();
    b.stop().await;
    a.journal.expect(Heard::Down("b")).await;
    b.journal.expect(Heard::Down("a")).await;
    let free = async {
        while tokio::net::TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, free).await.expect("the port is free in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_come_up_whoever_is_told_first_and_wherever_the_other_is_found() {
    let cluster = Cluster("moved");
    let (a, b, wire) = cluster.wired_pair().await;
    // The same incarnation under another address: the link stays, the next dial goes there.
    introduce_over(&a, &b, b.address());
    a.send(&b, b"the link stays").await;
    b.journal.expect(Heard::Frame("a", b"the link stays".to_vec())).await;
    wire.cut();
    a.journal.expect(Heard::Down("b")).await;
    b.journal.expect(Heard::Down("a")).await;
    meet(&a, &b).await;
    assert_eq!(wire.connections(), 1);
}
