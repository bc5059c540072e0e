//! What every live directory and signal bus does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::ids::UserId;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::device;
use crate::model::live::{Connection, Member, PodId, Presence};
use crate::ports::LiveDirectory;
use crate::ports::live::{Channel, Signal, SignalReceiver};

/// One pod's handle, and where it hears.
pub type Joined = (Arc<dyn LiveDirectory>, SignalReceiver);

/// A bus with nothing in it, for several pods.
#[async_trait]
pub trait Meeting: Send + Sync {
    /// One more pod.
    async fn join(&self) -> Joined;
}

/// Makes one test of each behaviour. `$open` is the path of an async function that returns an empty [`Meeting`].
///
/// For a service that takes long to start, `in_turn` shows them one after the other within a test; `$open` is then an
/// expression that makes an empty [`Meeting`] each time.
#[macro_export]
macro_rules! live_conformance_suite {
    (in_turn $open:expr) => {
        $crate::live_conformance_suite! { @all in_turn $open }
    };
    ($open:path) => {
        $crate::live_conformance_suite! { @all each $open }
    };
    (@all $($how:tt)*) => {
        $crate::live_conformance_suite! { @ $($how)*;
            a_pod_is_a_member_until_it_withdraws
            a_pod_that_started_anew_is_not_withdrawn_by_the_one_before_it
            a_pod_that_falls_silent_is_no_member_when_its_time_is_up
            users_are_found_on_the_pods_that_their_devices_are_connected_to
            whoever_is_entered_again_hears_whether_they_were_forgotten
            an_older_connection_replaces_no_newer_one_and_takes_none_out
            generations_are_told_apart_however_large_they_are
            each_connection_has_a_time_of_its_own
            an_entry_that_is_entered_again_stays
            thousands_of_connections_are_entered_and_left_at_once
            what_is_published_is_heard_in_order_by_all_who_subscribe
            every_kind_of_channel_is_heard_for_itself
            what_is_subscribed_to_twice_is_heard_once_and_what_is_unsubscribed_no_more
            presence_is_what_was_said_last_until_its_time_is_up
            nothing_asked_is_nothing_answered
        }
    };
    (@ in_turn $open:expr; $($behaviour:ident)*) => {
        $({
            let meeting = $open;
            $crate::conformance::live::$behaviour(&meeting).await;
        })*
    };
    (@ each $open:path; $($behaviour:ident)*) => {
        mod live {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let meeting = $open().await;
                $crate::conformance::live::$behaviour(&meeting).await;
            })*
        }
    };
}

/// For longer than any test takes.
const LONG: Duration = Duration::from_secs(60);
/// For so short that a test can wait for its end.
const SHORT: Duration = Duration::from_millis(60);
/// How long a signal may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether something is so by now.
const GLANCE: Duration = Duration::from_millis(5);

/// User number `n`.
#[must_use]
pub fn user(n: u128) -> UserId {
    super::user(n)
}

/// The pod called `name`.
#[must_use]
pub fn pod(name: &str) -> PodId {
    PodId::new(name).unwrap()
}

/// An incarnation of the pod called `name`.
#[must_use]
pub fn member(name: &str, incarnation: u64) -> Member {
    Member { pod_id: pod(name), incarnation, address: format!("{name}:7411"), takes_ownership: true }
}

/// The connection of user `n`'s device to a pod.
#[must_use]
pub fn connection(n: u128, device_name: &str, pod_name: &str, generation: u64) -> Connection {
    Connection { user_id: user(n), device_id: device(device_name), pod_id: pod(pod_name), generation }
}

/// The next signal.
pub async fn next(signals: &mut SignalReceiver) -> Signal {
    timeout(PATIENCE, signals.next()).await.expect("a signal comes").expect("the bus is open")
}

/// Waits until something is so.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        let mut glances = interval(GLANCE);
        glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !is_so().await {
            glances.tick().await;
        }
    };
    timeout(PATIENCE, looking).await.expect("it comes to be so");
}

/// The names of the pods that user `n` is connected to.
async fn pods_of(live: &dyn LiveDirectory, n: u128) -> Vec<String> {
    live.pods_of(&[user(n)]).await.unwrap().remove(0).iter().map(PodId::to_string).collect()
}

fn published(channel: Channel, body: impl Into<Bytes>) -> Signal {
    Signal::Published(channel, body.into())
}

pub async fn a_pod_is_a_member_until_it_withdraws(meeting: &impl Meeting) {
    let ((one, _heard_by_one), (two, _heard_by_two)) = (meeting.join().await, meeting.join().await);
    one.announce(&member("b", 1), LONG).await.unwrap();
    two.announce(&member("a", u64::MAX), LONG).await.unwrap();
    assert_eq!(one.members().await.unwrap(), [member("a", u64::MAX), member("b", 1)]);
    assert_eq!(two.members().await.unwrap(), one.members().await.unwrap());
    let draining = Member { takes_ownership: false, ..member("b", 1) };
    one.announce(&draining, LONG).await.unwrap();
    assert_eq!(two.members().await.unwrap(), [member("a", u64::MAX), draining]);
    one.withdraw(&pod("b"), 1).await.unwrap();
    one.withdraw(&pod("b"), 1).await.unwrap();
    assert_eq!(two.members().await.unwrap(), [member("a", u64::MAX)]);
}

pub async fn a_pod_that_started_anew_is_not_withdrawn_by_the_one_before_it(meeting: &impl Meeting) {
    let (live, _signals) = meeting.join().await;
    live.announce(&member("a", u64::MAX - 1), LONG).await.unwrap();
    live.announce(&member("a", u64::MAX), LONG).await.unwrap();
    live.withdraw(&pod("a"), u64::MAX - 1).await.unwrap();
    assert_eq!(live.members().await.unwrap(), [member("a", u64::MAX)]);
}

pub async fn a_pod_that_falls_silent_is_no_member_when_its_time_is_up(meeting: &impl Meeting) {
    let (live, _signals) = meeting.join().await;
    live.announce(&member("lasting", 1), LONG).await.unwrap();
    live.announce(&member("silent", 1), SHORT).await.unwrap();
    eventually(async || live.members().await.unwrap() == [member("lasting", 1)]).await;
    live.announce(&member("silent", 2), LONG).await.unwrap();
    assert_eq!(live.members().await.unwrap().len(), 2);
}

pub async fn users_are_found_on_the_pods_that_their_devices_are_connected_to(meeting: &impl Meeting) {
    let ((one, _heard_by_one), (two, _heard_by_two)) = (meeting.join().await, meeting.join().await);
    one.enter(&[connection(1, "phone", "b", 1), connection(2, "phone", "b", 1)], LONG).await.unwrap();
    two.enter(&[connection(1, "laptop", "a", 1), connection(1, "tablet", "b", 1)], LONG).await.unwrap();
    let found = one.pods_of(&[user(3), user(1), user(2), user(1)]).await.unwrap();
    let both = vec![pod("a"), pod("b")];
    assert_eq!(found, [vec![], both.clone(), vec![pod("b")], both]);
    // A device that moves is on both for a moment.
    two.enter(&[connection(2, "phone", "a", 1)], LONG).await.unwrap();
    assert_eq!(pods_of(&*two, 2).await, ["a", "b"]);
    two.leave(&[connection(2, "phone", "b", 1), connection(1, "phone", "b", 1)]).await.unwrap();
    assert_eq!(pods_of(&*one, 2).await, ["a"]);
    assert_eq!(pods_of(&*one, 1).await, ["a", "b"]);
    two.leave(&[connection(1, "tablet", "b", 1), connection(9, "phone", "b", 1)]).await.unwrap();
    assert_eq!(pods_of(&*one, 1).await, ["a"]);
}

pub async fn whoever_is_entered_again_hears_whether_they_were_forgotten(meeting: &impl Meeting) {
    let (live, _signals) = meeting.join().await;
    let (phone, laptop) = (connection(1, "phone", "a", 1), connection(1, "laptop", "a", 1));
    assert_eq!(live.enter(std::slice::from_ref(&phone), LONG).await.unwrap(), [true]);
    assert_eq!(
        live.enter(&[phone.clone(), laptop.clone(), laptop.clone()], LONG).await.unwrap(),
        [false, true, false]
    );
    let older = connection(1, "phone", "a", 0);
    assert_eq!(live.enter(&[older], LONG).await.unwrap(), [false], "a newer one is there");
    live.leave(std::slice::from_ref(&laptop)).await.unwrap();
    assert_eq!(live.enter(&[phone, laptop], LONG).await.unwrap(), [false, true]);
}

pub async fn an_older_connection_replaces_no_newer_one_and_takes_none_out(meeting: &impl Meeting) {
    let (live, _signals) = meeting.join().await;
    live.enter(&[connection(1, "phone", "a", 2)], LONG).await.unwrap();
    live.leave(&[connection(1, "phone", "a", 1)]).await.unwrap();
    assert_eq!(pods_of(&*live, 1).await, ["a"]);
    live.enter(&[connection(1, "phone", "a", 1)], LONG).await.unwrap();
    live.leave(&[connection(1, "phone", "a", 1)]).await.unwrap();
    assert_eq!(pods_of(&*live, 1).await, ["a"]);
    // Also within one call.
    live.enter(&[connection(1, "phone", "a", 4), connection(1, "phone", "a", 3)], LONG).await.unwrap();
    live.leave(&[connection(1, "phone", "a", 3)]).await.unwrap();
    assert_eq!(pods_of(&*live, 1).await, ["a"]);
    live.leave(&[connection(1, "phone", "a", 5)]).await.unwrap();
    assert!(pods_of(&*live, 1).await.is_empty());
}

pub async fn generations_are_told_apart_however_large_they_are(meeting: &impl Meeting) {
    let (live, _signals) = meeting.join().await;
    // Neighbours that are one as floating-point numbers, and a pair that is the other way round as text.
    for (n, older, newer) in
        [(1, u64::MAX - 1, u64::MAX), (2, 9, 10), (3, (1 << 53), (1 << 53) + 1), (4, 0, 1)]
    {
        live.enter(&[connection(n, "phone", "a", newer), connection(n, "phone", "a", older)], LONG)
            .await
            .unwrap();
        live.leave(&[connection(n, "phone", "a", older)]).await.unwrap();
        assert_eq!(pods_of(&*live, n).await, ["a"], "{older} is older than {newer}");
        live.leave(&[connection(n, "phone", "a", newer)]).await.unwrap();
        assert!(pods_of(&*live, n).await.is_empty(), "{newer} is the newest");
    }
}

pub async fn each_connection_has_a_time_of_its_own(meeting: &impl Meeting) {
    let (live, _signals) = meeting.join().await;
    live.enter(&[connection(1, "phone", "silent", 7)], SHORT).await.unwrap();
    live.enter(&[connection(1, "phone", "lasting", 1)], LONG).await.unwrap();
    live.enter(&[connection(2, "phone", "silent", 1)], SHORT).await.unwrap();
    eventually(async || pods_of(&*live, 1).await == ["lasting"]).await;
    eventually(async || pods_of(&*live, 2).await.is_empty()).await;
    // What nobody can see fences nobody.
    live.enter(&[connection(1, "phone", "silent", 1)], LONG).await.unwrap();
    assert_eq!(pods_of(&*live, 1).await, ["lasting", "silent"]);
    // A later entry for a shorter time does not shorten that of another.
    live.enter(&[connection(1, "laptop", "short", 1)], SHORT).await.unwrap();
    eventually(async || pods_of(&*live, 1).await == ["lasting", "silent"]).await;
}

pub async fn an_entry_that_is_entered_again_stays(meeting: &impl Meeting) {
    let (live, _signals) = meeting.join().await;
    live.enter(&[connection(1, "phone", "a", 1), connection(2, "phone", "a", 1)], SHORT).await.unwrap();
    live.enter(&[connection(1, "phone", "a", 1)], LONG).await.unwrap();
    eventually(async || pods_of(&*live, 2).await.is_empty()).await;
    assert_eq!(pods_of(&*live, 1).await, ["a"]);
}

pub async fn thousands_of_connections_are_entered_and_left_at_once(meeting: &impl Meeting) {
    let (live, _signals) = meeting.join().await;
    let all: Vec<Connection> = (0..10_000).map(|n| connection(n, "phone", "a", 1)).collect();
    let users: Vec<UserId> = all.iter().map(|connection| connection.user_id).collect();
    live.enter(&all, LONG).await.unwrap();
    let found = live.pods_of(&users).await.unwrap();
    assert!(found.len() == users.len() && found.iter().all(|pods| *pods == [pod("a")]));
    live.leave(&all).await.unwrap();
    let found = live.pods_of(&users).await.unwrap();
    assert!(found.len() == users.len() && found.iter().all(Vec::is_empty));
}

pub async fn what_is_published_is_heard_in_order_by_all_who_subscribe(meeting: &impl Meeting) {
    let ((one, mut heard_by_one), (two, mut heard_by_two)) = (meeting.join().await, meeting.join().await);
    let (_three, mut heard_by_three) = meeting.join().await;
    one.subscribe(vec![Channel::Pods]).await.unwrap();
    two.subscribe(vec![Channel::Pods, Channel::Pod(pod("two"))]).await.unwrap();
    let numbered: Vec<(Channel, Bytes)> =
        (0..100_u8).map(|n| (Channel::Pods, Bytes::copy_from_slice(&[n, 0, 255, b'\n']))).collect();
    let counts = one.publish(numbered.clone()).await.unwrap();
    assert_eq!(counts.len(), numbered.len());
    for (channel, body) in numbered {
        for heard in [&mut heard_by_one, &mut heard_by_two] {
            assert_eq!(next(heard).await, published(channel.clone(), body.clone()));
        }
    }
    one.publish(vec![(Channel::Pod(pod("two")), "to two".into())]).await.unwrap();
    assert_eq!(next(&mut heard_by_two).await, published(Channel::Pod(pod("two")), "to two"));
    assert_eq!(heard_by_one.try_next(), None);
    assert_eq!(heard_by_three.try_next(), None);
}

pub async fn every_kind_of_channel_is_heard_for_itself(meeting: &impl Meeting) {
    let (live, mut signals) = meeting.join().await;
    let of = |n, name| {
        [
            Channel::Pod(pod(name)),
            Channel::User(user(n)),
            Channel::Presence(user(n)),
            Channel::Notification(user(n)),
        ]
    };
    let mut heard = of(1, "one").to_vec();
    heard.push(Channel::Pods);
    live.subscribe(heard.clone()).await.unwrap();
    let all: Vec<Channel> = of(2, "two").into_iter().chain(heard.clone()).collect();
    live.publish(all.into_iter().map(|channel| (channel, Bytes::new())).collect()).await.unwrap();
    for channel in heard {
        assert_eq!(next(&mut signals).await, published(channel, ""));
    }
    assert_eq!(signals.try_next(), None);
}

pub async fn what_is_subscribed_to_twice_is_heard_once_and_what_is_unsubscribed_no_more(
    meeting: &impl Meeting,
) {
    let (live, mut signals) = meeting.join().await;
    let user_channel = Channel::User(user(1));
    live.subscribe(vec![Channel::Pods, user_channel.clone(), Channel::Pods]).await.unwrap();
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    live.publish(vec![(Channel::Pods, "1".into()), (user_channel.clone(), "2".into())]).await.unwrap();
    assert_eq!(next(&mut signals).await, published(Channel::Pods, "1"));
    assert_eq!(next(&mut signals).await, published(user_channel.clone(), "2"));
    live.unsubscribe(vec![Channel::Pods, Channel::User(user(2))]).await.unwrap();
    live.publish(vec![(Channel::Pods, "3".into()), (user_channel.clone(), "4".into())]).await.unwrap();
    assert_eq!(next(&mut signals).await, published(user_channel, "4"));
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    live.publish(vec![(Channel::Pods, "5".into())]).await.unwrap();
    assert_eq!(next(&mut signals).await, published(Channel::Pods, "5"));
}

pub async fn presence_is_what_was_said_last_until_its_time_is_up(meeting: &impl Meeting) {
    let ((one, _heard_by_one), (two, _heard_by_two)) = (meeting.join().await, meeting.join().await);
    let here = Presence { status: PresenceStatus::Online, last_seen: 1_700_000_000_123 };
    let gone = Presence { status: PresenceStatus::Offline, last_seen: u64::MAX };
    one.set_presence(&[(user(1), here), (user(2), here)], LONG).await.unwrap();
    two.set_presence(&[(user(2), gone)], LONG).await.unwrap();
    let found = one.presence_of(&[user(2), user(3), user(1)]).await.unwrap();
    assert_eq!(found, [Some(gone), None, Some(here)]);
    two.set_presence(&[(user(1), gone)], SHORT).await.unwrap();
    eventually(async || one.presence_of(&[user(1)]).await.unwrap() == [None]).await;
    assert_eq!(one.presence_of(&[user(2)]).await.unwrap(), [Some(gone)]);
}

pub async fn nothing_asked_is_nothing_answered(meeting: &impl Meeting) {
    let (live, mut signals) = meeting.join().await;
    assert!(live.members().await.unwrap().is_empty());
    live.withdraw(&pod("a"), 1).await.unwrap();
    live.enter(&[], LONG).await.unwrap();
    live.leave(&[]).await.unwrap();
    assert!(live.pods_of(&[]).await.unwrap().is_empty());
    live.set_presence(&[], LONG).await.unwrap();
    assert!(live.presence_of(&[]).await.unwrap().is_empty());
    live.subscribe(vec![]).await.unwrap();
    live.unsubscribe(vec![]).await.unwrap();
    assert!(live.publish(vec![]).await.unwrap().is_empty());
    assert_eq!(signals.try_next(), None);
}
