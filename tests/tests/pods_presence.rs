//! Who is here, told across pods: by the pod they come to and leave, after its death, and while they move.

use std::time::Duration;

use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::frame::client::{ClientFrame, PresenceSubscribe};
use colloquy_protocol::frame::server::{Presence, ServerFrame};
use colloquy_protocol::ids::UserId;
use colloquy_tests::cluster::{Cluster, ClusterOptions};
use colloquy_tests::device::Device;
use colloquy_tests::raw_client::RawClient;
use tokio::time::{Instant, timeout};

/// Those who were on a pod that died are gone by then.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// A cluster, somebody on the second pod who watches, and somebody else.
struct Watch {
    cluster: Cluster,
    watcher: RawClient,
    watching: Device,
    watched: Device,
}

impl Watch {
    async fn begin() -> Self {
        // Who only waits for a notice is not idle.
        let idle = i64::try_from(2 * GONE_WITHIN.as_millis()).expect("two minutes");
        let options = ClusterOptions::default();
        let server = options.server.clone().set("limits.idle_timeout_ms", idle);
        let cluster = Cluster::start(ClusterOptions { server, ..options }).await;
        let rest = cluster.rest(0);
        let watching = rest.register_user("Left", "left-phone").await;
        let watched = rest.register_user("Right", "right-phone").await;
        let mut watcher = RawClient::connect(cluster.addresses()[1], &watching).await;
        watcher.send_many(&watching, &[&watched], 1).await;
        let subscribe = PresenceSubscribe { user_ids: vec![watched.user_id] };
        watcher.send(&ClientFrame::PresenceSubscribe(subscribe)).await;
        let mut watch = Self { cluster, watcher, watching, watched };
        watch.told(PresenceStatus::Offline).await;
        watch
    }

    async fn told(&mut self, status: PresenceStatus) -> Presence {
        let of = self.watched.user_id;
        self.watcher.expect("presence", |frame| notice(frame, of, status)).await
    }

    /// The watched one connects to a pod; waits until that is told.
    async fn arrives_at(&mut self, pod: usize) -> RawClient {
        let client = RawClient::connect(self.cluster.addresses()[pod], &self.watched).await;
        self.told(PresenceStatus::Online).await;
        client
    }
}

fn notice(frame: &ServerFrame, of: UserId, status: PresenceStatus) -> Option<Presence> {
    match frame {
        ServerFrame::Presence { payload } if payload.user_id == of && payload.status == status => {
            Some(*payload)
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_to_one_pod_and_leaves_it_is_seen_from_another() {
    let mut watch = Watch::begin().await;
    let watched = watch.arrives_at(0).await;
    watched.close().await;
    let gone = watch.told(PresenceStatus::Offline).await;
    assert!(gone.last_seen.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_pod_dies_is_gone_within_a_minute() {
    let mut watch = Watch::begin().await;
    let _watched = watch.arrives_at(0).await;
    let killed = Instant::now();
    watch.cluster.kill_9(0);
    let of = watch.watched.user_id;
    let gone = timeout(GONE_WITHIN, watch.watcher.awaits(|it| notice(it, of, PresenceStatus::Offline)));
    assert!(gone.await.is_ok(), "still online {GONE_WITHIN:?} after the pod died");
    println!("offline {:.1} s after the pod was killed", killed.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_from_a_pod_that_drains_to_another_is_not_gone_in_between() {
    let mut watch = Watch::begin().await;
    let mut before = watch.arrives_at(0).await;
    watch.cluster.pod(0).ask_to_stop();
    before.expect_migration().await;
    // As most clients do: it leaves, and then it comes.
    before.close().await;
    let mut after = RawClient::connect(watch.cluster.addresses()[2], &watch.watched).await;
    assert_eq!(watch.cluster.exit_code(0).await, Some(0));
    let hello = after.send_message(&watch.watched, &[&watch.watching], "I have moved").await;
    let acked = after.expect_ack(&hello).await;
    watch.watcher.expect_shown(acked.message_id).await;
    watch.watcher.heartbeat().await;
    let of = watch.watched.user_id;
    let was_gone = watch.watcher.has_seen(|frame| notice(frame, of, PresenceStatus::Offline).is_some());
    assert!(!was_gone, "it moved, and was said to be gone");
    after.close().await;
    watch.told(PresenceStatus::Offline).await;
}
