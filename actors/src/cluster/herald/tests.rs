//! What the pods hear of each other through a herald.

use std::sync::atomic::AtomicU64;

use colloquy_protocol::ids::ConversationId;
use colloquy_storage::local::LocalBus;
use colloquy_storage::model::live::Connection;
use colloquy_storage::ports::live::{Signal, SignalReceiver};
use prometheus_client::registry::Registry;
use tokio::time::advance;

use super::*;
use crate::cluster::decode;
use crate::cluster::tests::stage::{DEADLINE, Quiet, conversation, message, phone, pod, user};

/// Pod `a` with its herald, and what pods `b` and `c` hear from it.
struct Town {
    bus: LocalBus,
    live: Arc<dyn LiveDirectory>,
    herald: Herald,
    parent: ActorRef<()>,
    starts: AtomicU64,
    b: Ear,
    c: Ear,
}

/// What one pod hears, as long as it holds its handle.
struct Ear {
    signals: SignalReceiver,
    _live: Arc<dyn LiveDirectory>,
    /// Of the last bulletin.
    series: Option<u64>,
}

impl Ear {
    async fn of(bus: &LocalBus, name: &str) -> Self {
        let (live, signals) = bus.join();
        live.subscribe(vec![Channel::Pod(pod(name))]).await.unwrap();
        Self { signals, _live: live, series: None }
    }

    /// The next bulletin. Only a first one is of another series than the one before.
    async fn next(&mut self) -> Bulletin {
        loop {
            let signal = timeout(DEADLINE, self.signals.next()).await.expect("it is told in time").unwrap();
            if let Signal::Published(_, bytes) = signal {
                let bulletin: Bulletin = decode(&bytes).unwrap();
                assert_eq!(bulletin.from, pod("a"));
                let before = self.series.replace(bulletin.series);
                assert_eq!(before == self.series, bulletin.number > 1, "{bulletin:?}");
                return bulletin;
            }
        }
    }

    /// Number, whether something is missing, and what is told, of the next one.
    async fn hears(&mut self) -> (u64, bool, Vec<String>) {
        let Bulletin { number, incomplete, hints, .. } = self.next().await;
        let text = |hint: Hint| match hint.tidings {
            Tidings::Push(text) | Tidings::Whisper(text) => text.to_string(),
            other => panic!("not a text: {other:?}"),
        };
        (number, incomplete, hints.into_iter().map(text).collect())
    }
}

impl Town {
    /// User 1 is connected to `a` and `b`, user 2 to `b` and `c`, user 3 nowhere.
    async fn new() -> Self {
        let town = Self::silent().await;
        town.start().await;
        town.herald.pods_are(vec![pod("b"), pod("c")]);
        town
    }

    /// As above, before the herald starts.
    async fn silent() -> Self {
        let bus = LocalBus::new();
        let (live, _) = bus.join();
        let (b, c) = (Ear::of(&bus, "b").await, Ear::of(&bus, "c").await);
        let (parent, _) = Actor::spawn(None, Quiet, ()).await.unwrap();
        let (herald, starts) = (Herald::default(), AtomicU64::new(1));
        let town = Self { bus, live, herald, parent, starts, b, c };
        town.connect().await;
        town
    }

    async fn connect(&self) {
        let connection = |(n, name): (u128, &str)| Connection {
            user_id: user(n),
            device_id: phone(),
            pod_id: pod(name),
            generation: 1,
        };
        let connections = [(1, "a"), (1, "b"), (2, "b"), (2, "c")].map(connection);
        self.live.enter(&connections, Duration::from_secs(3600)).await.unwrap();
    }

    async fn start(&self) -> ActorCell {
        let arguments = HeraldArguments {
            herald: self.herald.clone(),
            pod_id: pod("a"),
            entropy: Entropy::from_seed(self.starts.fetch_add(1, Ordering::Relaxed)),
            live: Arc::clone(&self.live),
            metrics: Arc::new(Metrics::register(&mut Registry::default())),
        };
        HeraldActor::start(arguments, self.parent.get_cell()).await.unwrap()
    }

    fn push(&self, users: &[u128], text: &str) {
        self.herald.tell(users.iter().map(|n| user(*n)).collect(), Tidings::Push(text.into()));
    }

    /// The first that anybody hears of a herald is that something may be missing.
    async fn begin(&mut self) {
        assert_eq!(self.b.hears().await, (1, true, vec![]));
        assert_eq!(self.c.hears().await, (1, true, vec![]));
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn each_pod_hears_what_its_own_sessions_have_to_hear_of_and_every_number() {
    let mut town = Town::new().await;
    town.begin().await;
    for (users, text) in [(&[1, 3][..], "one"), (&[2], "two"), (&[1, 2], "both"), (&[3], "nobody")] {
        town.push(users, text);
    }
    // While the first is on its way the others gather.
    assert_eq!(town.b.hears().await, (2, false, texts(&["one"])));
    assert_eq!(town.c.hears().await, (2, false, vec![]));
    assert_eq!(town.b.hears().await, (3, false, texts(&["two", "both"])));
    assert_eq!(town.c.hears().await, (3, false, texts(&["two", "both"])));
}

#[tokio::test(start_paused = true)]
async fn every_pod_hears_every_notice() {
    let mut town = Town::new().await;
    town.begin().await;
    town.herald.notify(Notice::DevicesChanged(user(3), Some(phone())));
    for ear in [&mut town.b, &mut town.c] {
        let Bulletin { number: 2, incomplete: false, hints, notices, .. } = ear.next().await else {
            panic!("the second, and nothing is missing");
        };
        assert!(hints.is_empty());
        assert!(matches!(&notices[..], [Notice::DevicesChanged(of, Some(_))] if *of == user(3)));
    }
    for _ in 0..=MAILBOX_CAPACITY {
        town.herald.notify(Notice::DevicesChanged(user(3), None));
    }
    assert!(town.b.next().await.incomplete, "one found no room");
}

#[tokio::test(start_paused = true)]
async fn a_pod_hears_the_number_at_every_beat_though_there_is_nothing_to_tell() {
    let mut town = Town::new().await;
    town.begin().await;
    let start = tokio::time::Instant::now();
    for number in 2..5 {
        assert_eq!(town.b.hears().await, (number, false, vec![]));
        assert_eq!(town.c.hears().await, (number, false, vec![]));
    }
    assert_eq!(start.elapsed(), 3 * BEAT);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_joins_is_told_that_it_may_have_missed_something_and_one_that_leaves_hears_no_more() {
    let mut town = Town::new().await;
    town.begin().await;
    town.herald.pods_are(vec![pod("b")]);
    assert_eq!(town.b.hears().await, (2, false, vec![]));
    town.herald.pods_are(vec![pod("b"), pod("c")]);
    assert_eq!(town.b.hears().await, (3, false, vec![]));
    assert_eq!(town.c.hears().await, (1, true, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_published_is_missed_by_its_number_and_said_to_be_missing() {
    let mut town = Town::new().await;
    town.begin().await;
    town.bus.cut();
    town.push(&[1], "lost");
    // Not tried again at once: the next is told with the beat.
    town.push(&[1], "lost as well");
    advance(BEAT / 2).await;
    town.bus.mend();
    town.connect().await;
    let (number, incomplete, told) = town.b.hears().await;
    assert!(number > 2 && incomplete, "number {number} of {told:?}");
    assert_eq!(town.c.hears().await, (number, true, vec![]));
    assert_eq!(town.b.hears().await, (number + 1, false, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_published_because_a_call_has_panicked_is_said_to_be_missing() {
    let mut town = Town::new().await;
    town.begin().await;
    town.bus.trip();
    town.push(&[1], "lost");
    let (number, incomplete, _) = town.b.hears().await;
    assert!(number > 2 && incomplete, "number {number}");
}

#[tokio::test(start_paused = true)]
async fn a_herald_that_has_more_to_tell_than_it_may_hold_says_that_something_is_missing() {
    let mut town = Town::new().await;
    town.begin().await;
    for _ in 0..MAILBOX_CAPACITY {
        town.herald.tell(Arc::new([]), Tidings::Push("".into()));
    }
    town.herald.tell([user(1)].into(), Tidings::Whisper("may be lost".into()));
    assert!(!town.herald.overflowed.load(Ordering::Relaxed));
    town.push(&[1], "must not be lost");
    assert!(town.herald.overflowed.load(Ordering::Relaxed));
    assert_eq!(town.b.hears().await, (2, true, vec![]));
    assert!(!town.b.next().await.incomplete);
}

#[tokio::test(start_paused = true)]
async fn a_herald_that_starts_again_begins_another_series_and_says_that_something_is_missing() {
    let mut town = Town::new().await;
    town.begin().await;
    town.parent.kill();
    town.push(&[1], "nobody takes this");
    let (parent, _) = Actor::spawn(None, Quiet, ()).await.unwrap();
    town.parent = parent;
    town.start().await;
    town.herald.pods_are(vec![pod("b"), pod("c")]);
    town.begin().await;
    assert_eq!(town.b.hears().await, (2, false, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_herald_that_is_stopped_tells_first_what_waits() {
    let mut town = Town::silent().await;
    let cell = town.start().await;
    town.herald.pods_are(vec![pod("b"), pod("c")]);
    (0..3 * ROUND_MAX_HINTS).for_each(|n| town.push(&[2], &n.to_string()));
    cell.drain().unwrap();
    let mut told = Vec::new();
    while told.len() < 3 * ROUND_MAX_HINTS {
        told.extend(town.b.hears().await.2);
    }
    assert!(told.iter().enumerate().all(|(n, text)| n.to_string() == *text));
}

#[test]
fn messages_that_are_too_heavy_to_be_told_become_the_place_where_the_log_ends() {
    let message = |n: u64, bytes| {
        let mut message = message(n.into());
        message.sequence_number = n;
        message.content.ciphertexts[0].body = "x".repeat(bytes);
        Arc::new(message)
    };
    let light: Arc<[_]> = [message(1, 10), message(2, 10)].into();
    let Tidings::Stored(told) = small(Tidings::Stored(Arc::clone(&light))) else { panic!("they are told") };
    assert!(Arc::ptr_eq(&told, &light));
    let heavy = [message(3, HINT_MAX_BYTES / 2), message(4, HINT_MAX_BYTES / 2)].into();
    let expected: (ConversationId, u64) = (conversation(), 4);
    assert!(matches!(small(Tidings::Stored(heavy)), Tidings::LogReaches(id, end) if (id, end) == expected));
}
