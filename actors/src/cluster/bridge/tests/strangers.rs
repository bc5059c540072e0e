//! Who must not come in, and what they cannot do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::bridge::Cookie;

use super::stage::{Cluster, DEADLINE, Heard, Traits, Wire, introduce, introduce_over, meet, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_with_another_cookie_is_tried_again_and_never_linked() {
    let cluster = Cluster("cookie");
    let a = cluster.pod("a", Traits { cookie: "another", ..Traits::default() }).await;
    let b = cluster.pod("b", Traits::default()).await;
    let wire = Wire::to(b.address()).await;
    introduce_over(&a, &b, wire.address);
    until(|| wire.connections() == 4).await;
    assert_eq!((a.journal.rest(), b.journal.rest()), (vec![], vec![]));
    assert!(!a.links.is_up(&b.pod_id) && !b.links.is_up(&a.pod_id));
}

#[test]
fn a_cookie_is_not_shown() {
    assert_eq!(format!("{:?}", Cookie::new("secret")), "Cookie(..)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_without_a_common_version_are_never_linked_and_others_speak_the_newest_common_one() {
    let cluster = Cluster("versions");
    let a = cluster.pod("a", Traits { versions: (1, 3), ..Traits::default() }).await;
    let b = cluster.pod("b", Traits { versions: (2, 4), ..Traits::default() }).await;
    let c = cluster.pod("c", Traits { versions: (4, 5), ..Traits::default() }).await;
    let to_c = Wire::to(c.address()).await;
    a.links.set_members(vec![b.member(), c.member_at(to_c.address)]);
    b.links.set_members(vec![a.member()]);
    c.links.set_members(vec![a.member()]);
    a.journal.expect(Heard::Up("b", 1, 3)).await;
    b.journal.expect(Heard::Up("a", 1, 3)).await;
    until(|| to_c.connections() == 3).await;
    assert_eq!((a.journal.rest(), c.journal.rest()), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_at_the_port_harms_nobody() {
    let cluster = Cluster("garbage");
    let (a, b) = cluster.pair().await;
    let lengths = [0_u64, 1, 100, u64::MAX].map(u64::to_be_bytes);
    let noise: Vec<Vec<u8>> = lengths
        .iter()
        .map(|length| [length.as_slice(), &[0xff; 200]].concat())
        .chain([b"GET / HTTP/1.1\r\nhost: b\r\n\r\n".to_vec(), vec![0x16, 3, 1, 2, 0, 1], vec![]])
        .collect();
    let mut strangers = Vec::new();
    for bytes in &noise {
        let mut stranger = TcpStream::connect(b.address()).await.unwrap();
        stranger.write_all(bytes).await.unwrap();
        strangers.push(stranger);
    }
    a.send(&b, b"between friends").await;
    b.journal.expect(Heard::Frame("a", b"between friends".to_vec())).await;
    // All of them are sent away in the end, those that say nothing as well.
    for mut stranger in strangers {
        let mut said = Vec::new();
        let ended = timeout(DEADLINE, stranger.read_to_end(&mut said)).await;
        drop(ended.expect("it is sent away in time"));
    }
    // And the port is open for others.
    let c = cluster.pod("c", Traits::default()).await;
    introduce(&[&a, &b, &c]);
    c.journal.next().await;
    until(|| b.metrics.bridge_links.get() == 2 && a.metrics.bridge_links.get() == 2).await;
    assert_eq!((a.journal.next().await, a.journal.rest()), (Heard::Up("c", 1, 1), vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_say_nothing_do_not_lock_a_pod_out_for_ever() {
    let cluster = Cluster("crowd");
    let (a, b) = (cluster.pod("a", Traits::default()).await, cluster.pod("b", Traits::default()).await);
    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(TcpStream::connect(b.address()).await.unwrap());
    }
    introduce(&[&a, &b]);
    meet(&a, &b).await;
}
