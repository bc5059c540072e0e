//! A bounded mailbox over a ractor `ActorRef`, whose own queue has no bound (BOUND).
//!
//! Every message travels in a [`Letter`]. The letter counts as depth until the actor has taken it out or has
//! dropped it unread, so a full mailbox empties itself whatever becomes of the actor.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ractor::{ActorCell, ActorRef, MessagingErr};
use tokio::time::Instant;

use super::meters::Meters;

/// Of so many letters of a mailbox one is timed: reading the clock for each would cost more than most of them take.
const TIMED_OF: usize = 16;

/// What an actor of message type `M` receives: one message and its place in the mailbox.
pub struct Letter<M> {
    message: M,
    place: Option<Place>,
}

impl<M> Letter<M> {
    /// A letter that takes no place in the mailbox: an actor's own timer, of which there is one.
    #[must_use]
    pub fn uncounted(message: M) -> Self {
        Self { message, place: None }
    }

    /// The message; its place in the mailbox becomes free. Whoever takes it up holds on to the [`Handling`] until it is
    /// done.
    pub fn open(self) -> (M, Handling) {
        let timed = self.place.as_ref().and_then(|place| {
            let sent_at = place.sent_at?;
            let now = Instant::now();
            place.depth.meters.wait_seconds.observe((now - sent_at).as_secs_f64());
            Some((Arc::clone(&place.depth), now))
        });
        (self.message, Handling(timed))
    }

    /// The message of a letter that nobody has taken up.
    pub(crate) fn into_message(self) -> M {
        self.message
    }
}

/// An actor is at work on a letter; dropped when it is done.
#[must_use]
pub struct Handling(Option<(Arc<Depth>, Instant)>);

impl Drop for Handling {
    fn drop(&mut self) {
        if let Some((depth, since)) = self.0.take() {
            depth.meters.handle_seconds.observe(since.elapsed().as_secs_f64());
        }
    }
}

// Never leaves the process: between pods only the bridge's messages travel.
impl<M: Send + 'static> ractor::Message for Letter<M> {}

/// A place taken in a mailbox, given back when dropped.
struct Place {
    depth: Arc<Depth>,
    /// If the letter is timed.
    sent_at: Option<Instant>,
}

impl Place {
    fn take(depth: &Arc<Depth>) -> Self {
        let is_timed = depth.sent.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIMED_OF);
        let waiting = depth.own.fetch_add(1, Ordering::Relaxed) + 1;
        depth.meters.depth.inc();
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        if waiting > depth.meters.peak.get() {
            depth.meters.peak.inner().fetch_max(waiting, Ordering::Relaxed);
        }
        Self { depth: Arc::clone(depth), sent_at: is_timed.then(Instant::now) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.depth.own.fetch_sub(1, Ordering::Relaxed);
        self.depth.meters.depth.dec();
    }
}

/// How many letters wait in one mailbox, and what all mailboxes of its kind of actor are measured by.
#[derive(Debug, Default)]
pub struct Depth {
    own: AtomicUsize,
    sent: AtomicUsize,
    meters: Meters,
}

impl Depth {
    /// An empty mailbox that is measured by `meters`.
    #[must_use]
    pub fn counted_in(meters: Meters) -> Self {
        Self { own: AtomicUsize::new(0), sent: AtomicUsize::new(0), meters }
    }
}

/// Why a message was not taken. It is handed back.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<M> {
    /// The mailbox is full.
    Busy(M),
    /// The actor has ended.
    Stopped(M),
}

impl<M> Refused<M> {
    /// The message that was not taken.
    pub fn into_message(self) -> M {
        match self {
            Self::Busy(message) | Self::Stopped(message) => message,
        }
    }
}

/// Where to send messages to one actor, up to a bound.
pub struct Mailbox<M: Send + 'static> {
    actor: ActorRef<Letter<M>>,
    depth: Arc<Depth>,
    capacity: usize,
}

impl<M: Send + 'static> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), depth: Arc::clone(&self.depth), capacity: self.capacity }
    }
}

impl<M: Send + 'static> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("depth", &self.depth()).field("capacity", &self.capacity).finish()
    }
}

impl<M: Send + 'static> Mailbox<M> {
    /// The mailbox of `actor`, for at most `capacity` waiting letters.
    #[must_use]
    pub fn new(actor: ActorRef<Letter<M>>, depth: Depth, capacity: usize) -> Self {
        depth.meters.capacity.set(i64::try_from(capacity).unwrap_or(i64::MAX));
        Self { actor, depth: Arc::new(depth), capacity }
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// [`Refused`] hands the message back.
    pub fn try_cast(&self, message: M) -> Result<(), Refused<M>> {
        if self.depth.own.load(Ordering::Relaxed) >= self.capacity {
            self.depth.meters.refused.inc();
            return Err(Refused::Busy(message));
        }
        self.cast_beyond_capacity(message).map_err(Refused::Stopped)
    }

    /// Sends a message whatever the depth. Only for messages whose number is bounded by something else: answers
    /// to what the actor itself has asked, ticks, the end of a connection. The caller says by what.
    ///
    /// # Errors
    /// Hands the message back if the actor has ended.
    pub fn cast_beyond_capacity(&self, message: M) -> Result<(), M> {
        let letter = Letter { message, place: Some(Place::take(&self.depth)) };
        self.actor.cast(letter).map_err(|error| match error {
            MessagingErr::SendErr(letter) => letter.into_message(),
            MessagingErr::ChannelClosed | MessagingErr::InvalidActorType => {
                unreachable!("a typed cast hands the letter back")
            }
        })
    }

    /// How many letters wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth.own.load(Ordering::Relaxed)
    }

    /// The actor behind the mailbox, for supervision.
    #[must_use]
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Is this the mailbox of the same actor?
    #[must_use]
    pub fn same_actor(&self, other: &Self) -> bool {
        self.actor.get_id() == other.actor.get_id()
    }
}
