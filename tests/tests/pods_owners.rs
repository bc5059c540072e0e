//! Two pods own one conversation at the same time, and nothing comes of it (FENCE, ORDER, ONCE).

#![allow(clippy::print_stdout, reason = "a test says what it has counted")]

use std::sync::Arc;
use std::time::Duration;

use colloquy_actors::cluster::Placement;
use colloquy_protocol::ids::ConversationId;
use colloquy_runtime::config;
use colloquy_tests::ambient::count_from_env;
use colloquy_tests::checker::{DeviceRecord, Logged, check_all};
use colloquy_tests::cluster::{Cluster, ClusterOptions, pod_name};
use colloquy_tests::courier::Pace;
use colloquy_tests::device::Device;
use colloquy_tests::dialogue::{Dialogue, Side};
use colloquy_tests::rest::Rest;

/// `COLLOQUY_OWNERS_MESSAGES`: messages each of the two sends.
const MESSAGES: u64 = 2000;
/// Between two of them: steadily, for a sender whose owner has stepped down waits a little, and one that sends as fast
/// as it can would be done by then.
const INTERVAL: Duration = Duration::from_millis(3);
/// How often owners step down at least, for each thousand messages of one side: less is no quarrel.
const STEPS_DOWN_MIN: f64 = 5.0;

/// Where the pods of `indexes` place a conversation, if they see one another and nobody else.
fn owner_among(indexes: &[usize], conversation: ConversationId) -> String {
    let cookie = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(cookie.path(), "no pod is linked to with this cookie").expect("it can be written");
    let pod_id = |index: &usize| {
        let (pod_id, cookie_file) = (pod_name(*index), cookie.path().to_owned());
        let cluster = config::Cluster { pod_id, cookie_file, ..config::Cluster::default() };
        cluster.bridge_options(0).expect("the name is one of a pod").pod_id
    };
    let placement = Placement::among(indexes.iter().map(pod_id));
    placement.owner_of(conversation).expect("there are pods").to_string()
}

/// Two users whose conversation the first pod owns in its own eyes, and the second in its own, once they do not see
/// each other.
async fn users_between_two_owners(rest: &Rest) -> (Arc<Device>, Arc<Device>) {
    let left = rest.register_user("Left", "left-phone").await;
    loop {
        let right = rest.register_user("Right", "right-phone").await;
        let conversation = left.conversation_with(&right);
        let owners = (owner_among(&[0, 2], conversation), owner_among(&[1, 2], conversation));
        if owners == (pod_name(0), pod_name(1)) {
            return (Arc::new(left), Arc::new(right));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods_that_own_a_conversation_at_once_give_no_number_twice_and_leave_no_hole() {
    let messages = count_from_env("COLLOQUY_OWNERS_MESSAGES", MESSAGES);
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let (left, right) = users_between_two_owners(&cluster.rest(0)).await;
    cluster.cut();
    cluster.cut_is_noticed().await;

    let addresses = [vec![cluster.addresses()[0]], vec![cluster.addresses()[1]]];
    let pace = Pace::Steady { interval: INTERVAL, offset: Duration::ZERO };
    let sides = Dialogue::begin([&left, &right], addresses, pace, messages).end().await;
    let stepped_down = [("kind", "Conversation"), ("reason", "Fenced")];
    let stepped_down = cluster.sum("colloquy_actor_exits_total", &stepped_down).await;
    let reconnects: usize = sides.iter().map(|side| side.reconnects).sum();
    println!("2 x {messages} messages: owners stepped down {stepped_down} times, {reconnects} reconnects");
    let least = STEPS_DOWN_MIN * messages as f64 / 1000.0;
    assert!(stepped_down >= least, "two owners step down more than {stepped_down} times");

    let history = cluster.rest(2).whole_history(&left, left.conversation_with(&right)).await;
    let log = history.messages.iter().map(|message| Logged {
        message_id: message.message_id,
        sequence_number: message.sequence_number,
        sender_id: message.sender_id,
    });
    let log: Vec<Logged> = log.collect();
    let records: Vec<DeviceRecord> = sides.into_iter().map(|Side { record, .. }| record).collect();
    assert_eq!(log.len() as u64, 2 * messages);
    assert_eq!(check_all(&records, &log), Ok(()));
    cluster.assert_no_invariant_is_broken().await;
}
