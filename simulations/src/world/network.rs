//! The network: connections between places, with a delay in each direction, that can be held up, cut and refused.
//!
//! What a connection promises is what TCP does: bytes arrive in order and once, or the connection breaks. A direction that
//! is severed holds what is sent into it, as retransmission would; a connection of which something is held for too long
//! breaks at both ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use memchr::memmem;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use super::time::WorldTime;
use super::trace::Trace;

/// Bytes in one direction that are on their way or not yet read; whoever writes more waits (BOUND).
const LANE_BYTES_MAX: usize = 256 * 1024;
/// Connections that wait to be accepted; more are refused (BOUND).
const BACKLOG_MAX: usize = 128;
/// A connection breaks once something it carries has been held for so long.
const HELD_MAX: Duration = Duration::from_secs(30);

/// Somewhere on the network: a pod, or somebody's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) u16);

/// The network. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Network {
    time: WorldTime,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    time: WorldTime,
    rng: StdRng,
    delay: Range<Duration>,
    trace: Trace,
    listeners: BTreeMap<SocketAddr, Backlog>,
    lanes: BTreeMap<LaneId, Lane>,
    next_lane: u64,
    /// When something arrives on which lane.
    arrivals: BTreeSet<(Duration, LaneId)>,
    /// What is sent from the first to the second is held.
    severed: BTreeSet<(Place, Place)>,
    overheard: Overheard,
}

/// Whoever listens in, and what must never be heard.
#[derive(Default)]
struct Overheard {
    needle: Vec<u8>,
    found: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LaneId(u64);

/// One direction of a connection.
struct Lane {
    from: Place,
    to: Place,
    parcels: VecDeque<Parcel>,
    /// Bytes in `parcels`.
    bytes: usize,
    last_due: Duration,
    held_since: Option<Duration>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The end that reads, and the one that writes, are there.
    is_read: bool,
    is_written: bool,
    /// Nothing goes in or out any more.
    broken: bool,
    /// The last bytes written, for what is overheard across two writes.
    tail: Vec<u8>,
}

struct Parcel {
    /// `None` while it is held.
    due: Option<Duration>,
    load: Load,
}

enum Load {
    Bytes(VecDeque<u8>),
    End,
    Reset,
}

struct Backlog {
    place: Place,
    waiting: VecDeque<Stream>,
    acceptor: Option<Waker>,
}

impl Network {
    /// An empty network, in which a byte is on its way for a time drawn from `delay`.
    pub(crate) fn new(time: WorldTime, seed: u64, delay: Range<Duration>, trace: Trace) -> Self {
        let inner = Inner {
            time: time.clone(),
            rng: StdRng::seed_from_u64(seed),
            delay,
            trace,
            listeners: BTreeMap::new(),
            lanes: BTreeMap::new(),
            next_lane: 0,
            arrivals: BTreeSet::new(),
            severed: BTreeSet::new(),
            overheard: Overheard::default(),
        };
        Self { time, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Counts how often `needle` is heard from now on, on any wire.
    pub(crate) fn listen_for(&self, needle: &[u8]) {
        self.lock().overheard.needle = needle.to_vec();
    }

    /// How often it was.
    pub(crate) fn overheard(&self) -> u64 {
        self.lock().overheard.found
    }

    /// What is sent from one to the other arrives no more, until it is [mended](Self::mend).
    pub(crate) fn sever(&self, from: Place, to: Place) {
        let (now, mut inner) = (self.time.now(), self.lock());
        inner.severed.insert((from, to));
        let lanes = inner.lanes.values_mut().filter(|lane| lane.from == from && lane.to == to);
        for lane in lanes {
            let on_their_way =
                lane.parcels.iter_mut().filter(|parcel| parcel.due.is_some_and(|due| due > now));
            for parcel in on_their_way {
                parcel.due = None;
                lane.held_since.get_or_insert(now);
            }
        }
    }

    /// It arrives again.
    pub(crate) fn mend(&self, from: Place, to: Place) {
        let now = self.time.now();
        let inner = &mut *self.lock();
        if inner.severed.remove(&(from, to)) {
            inner.release(now, |lane| lane.from == from && lane.to == to);
        }
    }

    /// Everything arrives again.
    pub(crate) fn mend_all(&self) {
        let now = self.time.now();
        let inner = &mut *self.lock();
        inner.severed.clear();
        inner.release(now, |_| true);
    }

    /// Breaks every connection between two places, as a router that forgets them would.
    pub(crate) fn reset(&self, one: Place, other: Place) {
        let inner = &mut *self.lock();
        let between =
            |lane: &Lane| (lane.from == one && lane.to == other) || (lane.from == other && lane.to == one);
        inner.lanes.values_mut().filter(|lane| between(lane)).for_each(Lane::break_off);
    }

    /// Time has come: wakes whoever has something to read.
    pub(super) fn arrive(&self) {
        let now = self.time.now();
        let inner = &mut *self.lock();
        while let Some((due, lane)) = inner.arrivals.first().copied().filter(|(due, _)| *due <= now) {
            inner.arrivals.remove(&(due, lane));
            if let Some(waker) = inner.lanes.get_mut(&lane).and_then(|lane| lane.reader.take()) {
                waker.wake();
            }
        }
        for lane in inner.lanes.values_mut() {
            if lane.held_since.is_some_and(|since| now - since >= HELD_MAX) {
                lane.break_off();
            }
        }
    }

    /// Listens at an address.
    ///
    /// # Errors
    /// It is taken.
    pub(crate) fn listen(&self, place: Place, address: SocketAddr) -> io::Result<Listener> {
        let mut inner = self.lock();
        if inner.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        inner.listeners.insert(address, Backlog { place, waiting: VecDeque::new(), acceptor: None });
        Ok(Listener { network: self.clone(), address })
    }

    /// Is somebody listening there?
    pub(crate) fn is_listening(&self, address: SocketAddr) -> bool {
        self.lock().listeners.contains_key(&address)
    }

    /// Connects; waits for ever where the way is severed.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(crate) async fn connect(&self, from: Place, address: SocketAddr) -> io::Result<Stream> {
        let round_trip = {
            let inner = &mut *self.lock();
            inner.draw() + inner.draw()
        };
        sleep(round_trip).await;
        match self.connected(from, address)? {
            Some(stream) => Ok(stream),
            None => std::future::pending().await,
        }
    }

    fn connected(&self, from: Place, address: SocketAddr) -> io::Result<Option<Stream>> {
        let inner = &mut *self.lock();
        let Some(backlog) = inner.listeners.get(&address) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let to = backlog.place;
        if inner.severed.contains(&(from, to)) || inner.severed.contains(&(to, from)) {
            return Ok(None);
        }
        if backlog.waiting.len() >= BACKLOG_MAX {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (there, back) = (inner.lane(from, to), inner.lane(to, from));
        let near = Stream { network: self.clone(), incoming: back, outgoing: there };
        let far = Stream { network: self.clone(), incoming: there, outgoing: back };
        let backlog = inner.listeners.get_mut(&address).expect("it was there a moment ago");
        backlog.waiting.push_back(far);
        if let Some(waker) = backlog.acceptor.take() {
            waker.wake();
        }
        Ok(Some(near))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn draw(&mut self) -> Duration {
        self.rng.random_range(self.delay.clone())
    }

    fn lane(&mut self, from: Place, to: Place) -> LaneId {
        self.next_lane += 1;
        let lane = Lane {
            from,
            to,
            parcels: VecDeque::new(),
            bytes: 0,
            last_due: Duration::ZERO,
            held_since: None,
            reader: None,
            writer: None,
            is_read: true,
            is_written: true,
            broken: false,
            tail: Vec::new(),
        };
        self.lanes.insert(LaneId(self.next_lane), lane);
        LaneId(self.next_lane)
    }

    fn send(&mut self, id: LaneId, now: Duration, load: Load) {
        let delay = self.draw();
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let due = if self.severed.contains(&(lane.from, lane.to)) {
            lane.held_since.get_or_insert(now);
            None
        } else {
            lane.last_due = lane.last_due.max(now + delay);
            Some(lane.last_due)
        };
        lane.parcels.push_back(Parcel { due, load });
        if let Some(due) = due {
            self.arrivals.insert((due, id));
            self.time.expect(due);
        }
    }

    fn release(&mut self, now: Duration, which: impl Fn(&Lane) -> bool) {
        for (id, lane) in self.lanes.iter_mut().filter(|(_, lane)| which(lane)) {
            lane.held_since = None;
            for parcel in lane.parcels.iter_mut().filter(|parcel| parcel.due.is_none()) {
                let delay = self.rng.random_range(self.delay.clone());
                lane.last_due = lane.last_due.max(now + delay);
                parcel.due = Some(lane.last_due);
                self.arrivals.insert((lane.last_due, *id));
                self.time.expect(lane.last_due);
            }
        }
    }

    /// Forgets a lane that nobody holds any more.
    fn tidy(&mut self, id: LaneId) {
        if self.lanes.get(&id).is_some_and(|lane| !lane.is_read && !lane.is_written) {
            self.lanes.remove(&id);
        }
    }

    fn overhear(&mut self, id: LaneId, bytes: &[u8]) {
        let needle = &self.overheard.needle;
        let Some(lane) = self.lanes.get_mut(&id).filter(|_| !needle.is_empty()) else { return };
        lane.tail.extend_from_slice(bytes);
        let found = memmem::find_iter(&lane.tail, needle).count();
        self.overheard.found += found as u64;
        let kept = lane.tail.len().min(needle.len() - 1);
        lane.tail.drain(..lane.tail.len() - kept);
    }
}

impl Lane {
    fn break_off(&mut self) {
        self.broken = true;
        self.parcels.clear();
        (self.bytes, self.held_since) = (0, None);
        self.wake();
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// Where connections come in. Dropped, it is closed.
pub(crate) struct Listener {
    network: Network,
    address: SocketAddr,
}

impl Listener {
    /// Where that is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Safe to cancel.
    pub(crate) async fn accept(&self) -> Stream {
        std::future::poll_fn(|context| {
            let mut inner = self.network.lock();
            let Some(backlog) = inner.listeners.get_mut(&self.address) else { return Poll::Pending };
            match backlog.waiting.pop_front() {
                Some(stream) => Poll::Ready(stream),
                None => {
                    backlog.acceptor = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let closed = self.network.lock().listeners.remove(&self.address);
        // Not while the network is locked: what waited there ends with it.
        drop(closed);
    }
}

/// One end of a connection.
pub(crate) struct Stream {
    network: Network,
    incoming: LaneId,
    outgoing: LaneId,
}

impl Stream {
    /// What cuts it when it is dropped.
    pub(crate) fn cutter(&self) -> Cutter {
        Cutter { network: self.network.clone(), incoming: self.incoming, outgoing: self.outgoing }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let now = self.network.time.now();
        let inner = &mut *self.network.lock();
        let Some(lane) = inner.lanes.get_mut(&self.incoming) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if lane.broken || !lane.is_read {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let before = buffer.filled().len();
        while buffer.remaining() > 0
            && let Some(parcel) = lane.parcels.front_mut()
            && parcel.due.is_some_and(|due| due <= now)
        {
            match &mut parcel.load {
                Load::Bytes(bytes) => {
                    let (first, _) = bytes.as_slices();
                    let count = first.len().min(buffer.remaining());
                    buffer.put_slice(&first[..count]);
                    bytes.drain(..count);
                    lane.bytes -= count;
                    if bytes.is_empty() {
                        lane.parcels.pop_front();
                    }
                }
                Load::End => return Poll::Ready(Ok(())),
                Load::Reset if buffer.filled().len() > before => break,
                Load::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        if buffer.filled().len() == before && buffer.remaining() > 0 {
            lane.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if let Some(waker) = lane.writer.take() {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = self.network.time.now();
        let inner = &mut *self.network.lock();
        let Some(lane) = inner.lanes.get_mut(&self.outgoing) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let is_severed = inner.severed.contains(&(lane.from, lane.to));
        // Whoever is severed does not hear that the other end has gone.
        if lane.broken || !lane.is_written || (!lane.is_read && !is_severed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(LANE_BYTES_MAX.saturating_sub(lane.bytes));
        if count == 0 && !bytes.is_empty() {
            lane.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        lane.bytes += count;
        let (from, to, bytes) = (lane.from, lane.to, &bytes[..count]);
        inner.trace.sent(now, from, to, bytes);
        inner.overhear(self.outgoing, bytes);
        inner.send(self.outgoing, now, Load::Bytes(bytes.iter().copied().collect()));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.network.time.now();
        let inner = &mut *self.network.lock();
        if inner.lanes.get(&self.outgoing).is_some_and(|lane| lane.is_written && !lane.broken) {
            inner.send(self.outgoing, now, Load::End);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let now = self.network.time.now();
        let inner = &mut *self.network.lock();
        inner.send(self.outgoing, now, Load::End);
        if let Some(lane) = inner.lanes.get_mut(&self.outgoing) {
            lane.is_written = false;
        }
        if let Some(lane) = inner.lanes.get_mut(&self.incoming) {
            lane.is_read = false;
            lane.wake();
        }
        inner.tidy(self.outgoing);
        inner.tidy(self.incoming);
    }
}

/// Cuts a connection when it is dropped: here at once, at the other end when it hears of it.
pub(crate) struct Cutter {
    network: Network,
    incoming: LaneId,
    outgoing: LaneId,
}

impl Drop for Cutter {
    fn drop(&mut self) {
        let now = self.network.time.now();
        let inner = &mut *self.network.lock();
        if let Some(lane) = inner.lanes.get_mut(&self.outgoing) {
            // What is on its way is thrown away.
            lane.parcels.clear();
            (lane.bytes, lane.held_since) = (0, None);
        }
        inner.send(self.outgoing, now, Load::Reset);
        if let Some(lane) = inner.lanes.get_mut(&self.outgoing) {
            lane.is_written = false;
            lane.writer.take().into_iter().for_each(Waker::wake);
        }
        if let Some(lane) = inner.lanes.get_mut(&self.incoming) {
            lane.is_read = false;
            lane.wake();
        }
        inner.tidy(self.outgoing);
        inner.tidy(self.incoming);
    }
}
