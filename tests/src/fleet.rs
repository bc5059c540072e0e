//! Couriers in pairs, the two of each at home on different pods: some talk steadily, some say a word now and then.

use std::net::SocketAddr;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use colloquy_protocol::ids::ConversationId;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, timeout_at};

use crate::DEADLINE;
use crate::account::Account;
use crate::checker::{Acked, DeviceRecord, Logged, Shown, Violation, check_all};
use crate::courier::{Call, Courier, Orders, Pace, Standing, Surroundings, locked};
use crate::device::Device;
use crate::ledger::Ledger;
use crate::rest::Rest;

/// Requests under way at once while users are made and logs are read.
const REQUESTS_AT_ONCE: usize = 16;
/// How long after traffic has paused everything must be acked and held by both sides.
pub const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Couriers that are named when something is missing.
const NAMED_MAX: usize = 12;

/// Which couriers there are.
#[derive(Clone, Copy, Debug)]
pub struct FleetOptions {
    /// Pairs that talk steadily.
    pub steady_pairs: usize,
    /// Pairs that say a word when [told to](Fleet::whisper).
    pub quiet_pairs: usize,
    /// Between two messages of one steady courier.
    pub interval: Duration,
}

/// Couriers that run. Dropping it ends them.
pub struct Fleet {
    pairs: Vec<Pair>,
    number: u64,
    acked: watch::Receiver<u64>,
    account: Account,
}

struct Pair {
    is_quiet: bool,
    conversation: ConversationId,
    sides: [Member; 2],
}

struct Member {
    ledger: Arc<Mutex<Ledger>>,
    orders: watch::Sender<Orders>,
    standing: watch::Receiver<Standing>,
    task: JoinHandle<()>,
}

impl Fleet {
    /// Makes users over `rest`, and connects them to `addresses`: the two of a pair to different ones.
    pub async fn start(rest: &Rest, addresses: &[SocketAddr], options: FleetOptions) -> Self {
        let count = options.steady_pairs + options.quiet_pairs;
        let users = stream::iter(0..2 * count).map(|_| rest.register_user("Courier", "phone"));
        let users: Vec<Device> = users.buffered(REQUESTS_AT_ONCE).collect().await;
        let users: Vec<Arc<Device>> = users.into_iter().map(Arc::new).collect();
        let (acked_by_all, acked) = watch::channel(0);
        let pairs = users.chunks_exact(2).enumerate().map(|(index, two)| {
            let is_quiet = index >= options.steady_pairs;
            let side = |side: usize| {
                // Spread evenly over an interval, so that a second of the run is like every other.
                let share = (2 * index + side) as f64 / (2 * count) as f64;
                let steady =
                    Pace::Steady { interval: options.interval, offset: options.interval.mul_f64(share) };
                let pace = if is_quiet { Pace::Window } else { steady };
                let mut from_home = addresses.to_vec();
                from_home.rotate_left((index + side) % addresses.len());
                Member::start((&two[side], &two[1 - side]), pace, from_home, acked_by_all.clone())
            };
            Pair { is_quiet, conversation: two[0].conversation_with(&two[1]), sides: [side(0), side(1)] }
        });
        let mut fleet = Self { pairs: pairs.collect(), number: 0, acked, account: Account::default() };
        fleet.assemble().await;
        fleet
    }

    /// Everybody goes home; waits until they are there.
    pub async fn assemble(&mut self) {
        self.order(|_| Call::GoHome);
        let number = self.number;
        self.all("at home", |it| it.heeded == number && it.at == Some(0)).await;
    }

    /// The steady ones begin to talk.
    pub fn flow(&mut self) {
        self.order(|pair| if pair.is_quiet { Call::Pause } else { Call::Send(u64::MAX) });
    }

    /// One side of each of the quiet pairs `which` says one thing; it may be anywhere on its way.
    pub fn whisper(&mut self, which: Range<usize>) {
        self.number += 1;
        for pair in self.quiet().skip(which.start).take(which.len()) {
            let side = &pair.sides[0];
            let sent = side.standing.borrow().sent;
            side.orders.send_replace(Orders { number: self.number, call: Call::Send(sent + 1) });
        }
    }

    /// Waits until the first quiet pair's word is acked.
    pub async fn first_whisper(&self) {
        let Some(pair) = self.quiet().next() else { return };
        let until = Instant::now() + DEADLINE;
        let acked = pair.sides[0].reaches(until, |it| it.heeded == self.number && it.acked == it.sent);
        assert!(acked.await, "a word in a quiet conversation is acked within {DEADLINE:?}");
    }

    /// The traffic goes on for `time`: how long a fault lasts is part of what is tested.
    pub async fn goes_on_for(&self, time: Duration) {
        interval_at(Instant::now() + time, DEADLINE).tick().await;
    }

    fn quiet(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(|pair| pair.is_quiet)
    }

    /// Waits until so many more messages are acked than are now.
    pub async fn acks(&mut self, more: u64) {
        let enough = *self.acked.borrow() + more;
        let reached = timeout_at(Instant::now() + SETTLE_MAX, self.acked.wait_for(|count| *count >= enough));
        let reached = reached.await.map(|count| count.is_ok());
        assert!(matches!(reached, Ok(true)), "no {more} more acks within {SETTLE_MAX:?}");
    }

    /// Traffic pauses; waits until everything sent is acked and held by both sides.
    ///
    /// # Panics
    /// If that takes longer than [`SETTLE_MAX`]: says who lacks what.
    pub async fn settle(&mut self) {
        self.order(|_| Call::Pause);
        let (number, until) = (self.number, Instant::now() + SETTLE_MAX);
        let settled = join_all(self.pairs.iter().map(|pair| pair.settles(number, until))).await;
        if settled.iter().all(|settled| *settled) {
            return;
        }
        self.fail_with_a_courier().await;
        let lacking: Vec<String> = self.pairs.iter().flat_map(Pair::lacks).collect();
        let named = &lacking[..lacking.len().min(NAMED_MAX)];
        panic!(
            "{SETTLE_MAX:?} after the traffic has paused, {} couriers lack something:\n{}",
            lacking.len(),
            named.join("\n")
        );
    }

    /// ORDER, ONCE, NOLOSS and FENCE over everything since the beginning, against the log as `rest` shows it. Returns how many
    /// messages that holds.
    ///
    /// # Panics
    /// If one of them does not hold.
    pub async fn check(&self, rest: &Rest) -> u64 {
        let reading = self.pairs.iter().map(|pair| async move {
            let reader = Arc::clone(locked(&pair.sides[0].ledger).device());
            let history = rest.whole_history(&reader, pair.conversation).await;
            let log = history.messages.iter().map(|message| Logged {
                message_id: message.message_id,
                sequence_number: message.sequence_number,
                sender_id: message.sender_id,
            });
            (pair, log.collect::<Vec<_>>())
        });
        let mut logged = 0;
        let mut logs = stream::iter(reading).buffered(REQUESTS_AT_ONCE);
        while let Some((pair, log)) = logs.next().await {
            let records: Vec<DeviceRecord> = pair.sides.iter().map(Member::record).collect();
            let checked = check_all(&records, &log);
            if let Err(violation) = checked {
                panic!("conversation {}: {violation:?}\n{}", pair.conversation, pair.around(&violation));
            }
            let sent: usize = records.iter().map(|record| record.sent.len()).sum();
            assert_eq!(log.len(), sent, "ONCE: conversation {}", pair.conversation);
            logged += log.len() as u64;
        }
        logged
    }

    /// What has happened since the last account.
    pub fn account(&mut self) -> Account {
        let mut now = Account::default();
        for side in self.pairs.iter().flat_map(|pair| &pair.sides) {
            now.add(&mut locked(&side.ledger));
        }
        let since = now.since(&self.account);
        self.account = now.without_lists();
        since
    }

    fn order(&mut self, call: impl Fn(&Pair) -> Call) {
        self.number += 1;
        for pair in &self.pairs {
            for side in &pair.sides {
                let call = call(pair);
                side.orders.send_replace(Orders { number: self.number, call });
            }
        }
    }

    async fn all(&mut self, what: &str, is: impl Fn(&Standing) -> bool + Copy) {
        let until = Instant::now() + SETTLE_MAX;
        let sides = self.pairs.iter().flat_map(|pair| &pair.sides);
        let reached = join_all(sides.map(|side| side.reaches(until, is))).await;
        let fewer = reached.iter().filter(|reached| !**reached).count();
        if fewer > 0 {
            self.fail_with_a_courier().await;
            panic!("{fewer} of {} couriers were not {what} within {SETTLE_MAX:?}", reached.len());
        }
    }

    /// If a courier has failed, this fails as it did.
    async fn fail_with_a_courier(&mut self) {
        for side in self.pairs.iter_mut().flat_map(|pair| &mut pair.sides) {
            if side.task.is_finished()
                && let Err(failed) = (&mut side.task).await
                && failed.is_panic()
            {
                resume_unwind(failed.into_panic());
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for side in self.pairs.iter().flat_map(|pair| &pair.sides) {
            side.task.abort();
        }
    }
}

impl Pair {
    async fn settles(&self, number: u64, until: Instant) -> bool {
        let [left, right] = &self.sides;
        let acked = |it: &Standing| it.heeded == number && it.acked == it.sent;
        if !left.reaches(until, acked).await || !right.reaches(until, acked).await {
            return false;
        }
        // Nothing more is composed, so this is what there is.
        let total = self.total();
        let held = |it: &Standing| it.held == total;
        left.reaches(until, held).await && right.reaches(until, held).await
    }

    fn total(&self) -> u64 {
        self.sides.iter().map(|side| locked(&side.ledger).sent()).sum()
    }

    /// What happened to both sides around the number that a violation names.
    fn around(&self, violation: &Violation) -> String {
        let number = match *violation {
            Violation::ShownLate { sequence_number, .. }
            | Violation::SenderOvertaken { sequence_number }
            | Violation::NeverShown { sequence_number, .. }
            | Violation::AckedButLost(Acked { sequence_number, .. })
            | Violation::ShownButNotLogged(Shown { sequence_number, .. })
            | Violation::HoleOrRepeat { expected: sequence_number, .. } => sequence_number,
            Violation::TwoMessages(_) | Violation::SharedMessage(_) | Violation::MoreThanSent(_) => {
                return String::new();
            }
        };
        let sides = self.sides.iter().map(|side| locked(&side.ledger).around(number));
        sides.collect::<Vec<_>>().join("\n")
    }

    fn lacks(&self) -> Vec<String> {
        let total = self.total();
        let lacks = self.sides.iter().filter_map(|side| {
            let lacks = locked(&side.ledger).lacks(total)?;
            let at = side.standing.borrow().at;
            let kind = if self.is_quiet { "quiet, " } else { "" };
            Some(format!("{kind}at {at:?} of its addresses: {lacks}"))
        });
        lacks.collect()
    }
}

impl Member {
    fn start(
        (device, peer): (&Arc<Device>, &Arc<Device>),
        pace: Pace,
        addresses: Vec<SocketAddr>,
        acked: watch::Sender<u64>,
    ) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::new(Arc::clone(device), Arc::clone(peer))));
        let (orders, received) = watch::channel(Orders { number: 0, call: Call::Pause });
        let (told, standing) = watch::channel(Standing::default());
        let around = Surroundings { orders: received, standing: told, acked };
        let courier = Courier::new(Arc::clone(&ledger), pace, addresses, around);
        Self { ledger, orders, standing, task: tokio::spawn(courier.run()) }
    }

    async fn reaches(&self, until: Instant, is: impl Fn(&Standing) -> bool) -> bool {
        let mut standing = self.standing.clone();
        let reached = timeout_at(until, standing.wait_for(is)).await;
        reached.is_ok_and(|reached| reached.is_ok())
    }

    fn record(&self) -> DeviceRecord {
        locked(&self.ledger).record().clone()
    }
}
