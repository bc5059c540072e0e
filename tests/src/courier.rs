//! A client that sends many messages through servers that keep dying, freezing and sending it away: it connects to the
//! next one, resumes from where it stands, and sends again, under the same idempotency keys, whatever was not acked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use colloquy_protocol::frame::client::{ClientFrame, Heartbeat};
use colloquy_protocol::frame::server::{ErrorPayload, ServerFrame};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::http::HeaderMap;

use crate::device::Device;
use crate::lane::{Lane, WINDOW};
use crate::ledger::{Event, Ledger, Reconnect, Why, index_of};
use crate::raw_client::{Incoming, RawClient, auth};

/// A courier acknowledges what it holds after this many messages, and with every heartbeat.
const ACKNOWLEDGE_EVERY: u64 = 32;
/// How often a courier says that it is here; the answer is owed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A server that has said nothing for this long, though a heartbeat's answer is owed, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long opening a socket may take.
const OPEN_MAX: Duration = Duration::from_secs(3);
/// How long authenticating may take: longer than silence, because a server without Redis waits for it a little.
const AUTH_MAX: Duration = Duration::from_secs(8);
/// A message that is not answered for this long means that the connection is of no use.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a good-bye may take.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// Between two rounds over all addresses, when none lets it in.
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// Least time before a message is sent again that the server did not take.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Messages that are composed and have no ack, at most; a steady sender that has more composes none until it has fewer.
const BACKLOG_MAX: usize = 4096;

/// What a courier is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Go to the first address if it is elsewhere; compose no more.
    GoHome,
    /// Send until it has sent so many in all.
    Send(u64),
    /// Compose no more; get what is composed acked.
    Pause,
    /// Send so many, get so many from the peer, and end.
    Finish {
        /// Messages to send in all.
        sends: u64,
        /// Messages the peer sends in all.
        gets: u64,
    },
    /// End now.
    End,
}

/// A call and its number: every call has a greater one than the call before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// The number.
    pub number: u64,
    /// The call.
    pub call: Call,
}

/// Where a courier stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last order it has heeded; nothing is composed under an earlier one any more.
    pub heeded: u64,
    /// Which of its addresses it is authenticated at.
    pub at: Option<usize>,
    /// Messages composed.
    pub sent: u64,
    /// Messages acked.
    pub acked: u64,
    /// Numbers of the conversation held.
    pub held: u64,
}

/// Where a courier gets its orders from, and where it says how far it has come.
pub struct Surroundings {
    /// What to do.
    pub orders: watch::Receiver<Orders>,
    /// Where it stands.
    pub standing: watch::Sender<Standing>,
    /// Counts every message acked for the first time, over all couriers.
    pub acked: watch::Sender<u64>,
}

/// How fast a courier sends.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as its window allows.
    Window,
    /// One message in each interval, the first after `offset`, whether it is connected or not.
    Steady {
        /// Between two messages.
        interval: Duration,
        /// After the order to send.
        offset: Duration,
    },
}

/// One sender's way through a run.
pub struct Courier {
    device: Arc<Device>,
    ledger: Arc<Mutex<Ledger>>,
    pace: Pace,
    addresses: Vec<SocketAddr>,
    around: Surroundings,
    orders: Orders,
    next_due: Option<Instant>,
    must_go_home: bool,
    at: Option<usize>,
}

/// One connection of it.
struct Line {
    client: RawClient,
    lane: Lane,
    last_heard: Instant,
    next_beat: Instant,
    leave_at: Option<Instant>,
}

/// How a connection ended.
enum Ended {
    /// There is nothing more to do.
    Done,
    /// Another one is needed, and since when.
    Left(Why, Instant),
}

impl Courier {
    /// A courier that keeps `ledger`, and is at home at the first of `addresses`.
    #[must_use]
    pub fn new(
        ledger: Arc<Mutex<Ledger>>,
        pace: Pace,
        addresses: Vec<SocketAddr>,
        around: Surroundings,
    ) -> Self {
        let (device, orders) = (Arc::clone(locked(&ledger).device()), *around.orders.borrow());
        let mut courier = Self {
            device,
            ledger,
            pace,
            addresses,
            around,
            orders,
            next_due: None,
            must_go_home: false,
            at: None,
        };
        courier.take_up_orders();
        courier
    }

    /// Runs until its orders are done.
    pub async fn run(mut self) {
        let (mut next, mut refusals, mut lost) = (0, 0, None);
        loop {
            self.heed();
            if self.orders.call == Call::End {
                return;
            }
            let Some(line) = self.connect(next).await else {
                next = (next + 1) % self.addresses.len();
                refusals += 1;
                if refusals % self.addresses.len() == 0 {
                    // New orders may come meanwhile; both are a reason to go on.
                    let _ = timeout(ROUND_PAUSE, self.around.orders.changed()).await;
                }
                continue;
            };
            refusals = 0;
            if let Some((why, since)) = lost.take() {
                let took = Instant::now().duration_since(since);
                locked(&self.ledger).reconnected(Reconnect { why, took });
            }
            self.at = Some(next);
            locked(&self.ledger).note(Instant::now(), Event::Connected(next));
            let ended = self.converse(line).await;
            self.at = None;
            match ended {
                Ended::Done => {
                    self.publish();
                    return;
                }
                Ended::Left(why, since) => {
                    locked(&self.ledger).note(Instant::now(), Event::Left(why));
                    lost = Some((why, since));
                    next = if why == Why::Home { 0 } else { (next + 1) % self.addresses.len() };
                }
            }
        }
    }

    /// Opens a socket and authenticates; `None` if that cannot be done there now.
    async fn connect(&self, index: usize) -> Option<Line> {
        let opening = RawClient::open_with_headers(self.addresses[index], HeaderMap::new());
        let mut client = timeout(OPEN_MAX, opening).await.ok()?.ok()?;
        let resume = locked(&self.ledger).resume();
        let auth = auth(&self.device, &self.device.tokens.access_token, resume);
        client.feed(&auth).await.ok()?;
        client.flush().await.ok()?;
        match timeout(AUTH_MAX, client.read()).await.ok()? {
            Incoming::Frame(frame) => match *frame {
                ServerFrame::AuthSuccess { .. } => {
                    let now = Instant::now();
                    let (lane, next_beat) = (Lane::default(), now + HEARTBEAT);
                    Some(Line { client, lane, last_heard: now, next_beat, leave_at: None })
                }
                ServerFrame::Error { payload, .. } if payload.retryable => None,
                frame => panic!("instead of auth_success came {frame:?}"),
            },
            Incoming::Closed(code) => {
                assert_may_come_back(code);
                None
            }
        }
    }

    async fn converse(&mut self, mut line: Line) -> Ended {
        loop {
            self.heed();
            let now = Instant::now();
            let leaves = match self.orders.call {
                Call::End => return self.leave(line, None).await,
                _ if self.must_go_home && self.at != Some(0) => Some(Why::Home),
                _ if line.leave_at.is_some_and(|at| at <= now) => Some(Why::Migrated),
                _ => None,
            };
            self.must_go_home = false;
            if leaves.is_some() {
                return self.leave(line, leaves).await;
            }
            self.compose_due(now);
            match timeout(SILENCE_MAX, self.say(&mut line, now)).await {
                Err(_) => return Ended::Left(Why::Silent, line.last_heard),
                Ok(Err(())) => return Ended::Left(Why::Closed, now),
                Ok(Ok(())) => {}
            }
            self.publish();
            if self.is_done() {
                return self.leave(line, None).await;
            }
            let until = self.wakes_at(&line);
            let heard = timeout_at(until, async {
                tokio::select! {
                    incoming = line.client.read() => Some(incoming),
                    _ = self.around.orders.changed() => None,
                }
            });
            let heard = heard.await;
            let now = Instant::now();
            match heard {
                Ok(Some(Incoming::Frame(frame))) => {
                    line.last_heard = now;
                    self.take(&mut line, *frame, now);
                }
                Ok(Some(Incoming::Closed(code))) => {
                    assert_may_come_back(code);
                    return Ended::Left(Why::Closed, now);
                }
                Ok(None) | Err(_) => {}
            }
            if now.duration_since(line.last_heard) > SILENCE_MAX {
                return Ended::Left(Why::Silent, line.last_heard);
            }
            if line.lane.waits_longer_than(ANSWER_MAX, now) {
                return Ended::Left(Why::Unanswered, now);
            }
        }
    }

    /// Sends what may go now.
    async fn say(&self, line: &mut Line, now: Instant) -> Result<(), ()> {
        while let Some(message) = self.next_message(&mut line.lane, now) {
            line.client.feed(&message).await.map_err(drop)?;
        }
        let beats = line.next_beat <= now;
        let enough = if beats || self.is_done() { 1 } else { ACKNOWLEDGE_EVERY };
        let acknowledgement = locked(&self.ledger).acknowledgement(enough);
        if let Some(ack) = acknowledgement {
            line.client.feed(&ClientFrame::DeliveryAck(ack)).await.map_err(drop)?;
        }
        if beats {
            line.next_beat = now + HEARTBEAT;
            let heartbeat = ClientFrame::Heartbeat(Heartbeat { timestamp: crate::ambient::now() });
            line.client.feed(&heartbeat).await.map_err(drop)?;
        }
        line.client.flush().await.map_err(drop)
    }

    fn next_message(&self, lane: &mut Lane, now: Instant) -> Option<ClientFrame> {
        let mut ledger = locked(&self.ledger);
        let (index, number) = lane.next(ledger.unacked(), now)?;
        ledger.message(index, number, now).map(|message| ClientFrame::Message(Box::new(message)))
    }

    /// When there is something to do though nothing comes.
    fn wakes_at(&self, line: &Line) -> Instant {
        let due = self.next_due.filter(|_| self.has_more() && self.has_room());
        let silent = line.last_heard + SILENCE_MAX + Duration::from_millis(1);
        let moments = [Some(line.next_beat), Some(silent), due, line.lane.rests_until(), line.leave_at];
        moments.into_iter().flatten().min().unwrap_or(silent)
    }

    /// Says good-bye, and takes in what still comes.
    async fn leave(&mut self, mut line: Line, why: Option<Why>) -> Ended {
        let now = Instant::now();
        let left = timeout(LEAVE_MAX, async {
            line.client.begin_close().await;
            while let Incoming::Frame(frame) = line.client.read().await {
                self.take(&mut line, *frame, Instant::now());
            }
        });
        // A server that does not answer is left without.
        let _ = left.await;
        why.map_or(Ended::Done, |why| Ended::Left(why, now))
    }

    fn take(&mut self, line: &mut Line, frame: ServerFrame, now: Instant) {
        let mut ledger = locked(&self.ledger);
        match frame {
            ServerFrame::MessageAck { client_message_id, payload } => {
                let (index, is_first) = ledger.take_ack(&client_message_id, payload, now);
                line.lane.done(index);
                if is_first {
                    self.around.acked.send_modify(|count| *count += 1);
                }
            }
            ServerFrame::Message { payload } => ledger.take_message(&payload),
            ServerFrame::Messages { payload } => payload.messages.iter().for_each(|m| ledger.take_message(m)),
            ServerFrame::Migration { payload } => {
                line.leave_at = Some(now + Duration::from_millis(payload.reconnect_after_ms));
            }
            ServerFrame::Error { client_message_id, payload } => {
                let index = client_message_id.as_deref().map(index_of);
                refused(&mut line.lane, index, &payload, now);
                if let Some(index) = index {
                    ledger.note(now, Event::Refused { index, code: payload.code });
                }
            }
            ServerFrame::DeviceListStale { payload, .. } => {
                panic!("the device lists never change: {payload:?}")
            }
            _ => {}
        }
    }

    /// Takes up orders if there are new ones.
    fn heed(&mut self) {
        let orders = *self.around.orders.borrow_and_update();
        if orders != self.orders {
            self.orders = orders;
            self.take_up_orders();
        }
        self.publish();
    }

    fn take_up_orders(&mut self) {
        self.must_go_home = self.orders.call == Call::GoHome;
        self.next_due = self.has_more().then(|| match self.pace {
            Pace::Window => Instant::now(),
            Pace::Steady { offset, .. } => Instant::now() + offset,
        });
    }

    /// Composes what is due by now.
    fn compose_due(&mut self, now: Instant) {
        while let Some(due) = self.next_due.filter(|due| *due <= now)
            && self.has_more()
            && self.has_room()
        {
            let (due, next) = match self.pace {
                Pace::Window => (now, due),
                Pace::Steady { interval, .. } => (due, due + interval),
            };
            locked(&self.ledger).compose(due);
            self.next_due = Some(next);
        }
    }

    fn has_more(&self) -> bool {
        match self.orders.call {
            Call::Send(wanted) | Call::Finish { sends: wanted, .. } => locked(&self.ledger).sent() < wanted,
            Call::GoHome | Call::Pause | Call::End => false,
        }
    }

    fn has_room(&self) -> bool {
        let unacked = locked(&self.ledger).unacked_count();
        match self.pace {
            Pace::Window => unacked < WINDOW,
            Pace::Steady { .. } => unacked < BACKLOG_MAX,
        }
    }

    fn is_done(&self) -> bool {
        let Call::Finish { sends, gets } = self.orders.call else { return false };
        let ledger = locked(&self.ledger);
        ledger.unacked_count() == 0 && ledger.sent() == sends && ledger.held() == sends + gets
    }

    fn publish(&self) {
        let ledger = locked(&self.ledger);
        let (sent, acked, held) = (ledger.sent(), ledger.acked(), ledger.held());
        drop(ledger);
        let standing = Standing { heeded: self.orders.number, at: self.at, sent, acked, held };
        self.around.standing.send_if_modified(|known| {
            let is_new = *known != standing;
            *known = standing;
            is_new
        });
    }
}

/// What became of a refused frame: a message that may be taken later goes again.
fn refused(lane: &mut Lane, index: Option<u64>, error: &ErrorPayload, now: Instant) {
    assert!(error.retryable, "refused with {}: {}", error.code, error.message);
    if let Some(index) = index {
        let pause = error.retry_after_ms.map_or(RETRY_PAUSE, Duration::from_millis);
        lane.refused(index, now + pause.max(RETRY_PAUSE));
    }
}

/// Close codes from which a client stays away are no answer to anything a courier does.
fn assert_may_come_back(code: Option<u16>) {
    let is_final = code.is_some_and(|code| (4500..5000).contains(&code));
    assert!(!is_final, "a courier was told to stay away: {code:?}");
}

/// A ledger is whole whenever its lock is free.
pub fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "stay away")]
    fn a_courier_that_is_sent_away_for_good_has_found_a_fault() {
        assert_may_come_back(Some(4000));
        assert_may_come_back(None);
        assert_may_come_back(Some(4504));
    }
}
