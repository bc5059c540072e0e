//! A bounded mailbox over a ractor `ActorRef`, whose own queue has no bound (BOUND).
//!
//! Every message travels in a [`Letter`]. The letter counts as depth until the actor has taken it out or has
//! dropped it unread, so a full mailbox empties itself whatever becomes of the actor.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use ractor::{ActorCell, ActorRef, MessagingErr};

/// What an actor of message type `M` receives: one message and its place in the mailbox.
pub struct Letter<M> {
    message: M,
    _place: Option<Place>,
}

impl<M> Letter<M> {
    /// A letter that takes no place in the mailbox: an actor's own timer, of which there is one.
    #[must_use]
    pub fn uncounted(message: M) -> Self {
        Self { message, _place: None }
    }

    /// The message; its place in the mailbox becomes free.
    pub fn open(self) -> M {
        self.message
    }
}

// Never leaves the process: between pods only the bridge's messages travel.
impl<M: Send + 'static> ractor::Message for Letter<M> {}

/// A place taken in a mailbox, given back when dropped.
struct Place(Arc<Depth>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.own.fetch_sub(1, Ordering::Relaxed);
        self.0.of_kind.dec();
    }
}

/// How many letters wait: in one mailbox, and in all mailboxes of its kind of actor.
#[derive(Debug, Default)]
pub struct Depth {
    own: AtomicUsize,
    of_kind: Gauge,
    refused: Counter,
}

impl Depth {
    /// An empty mailbox that also counts towards `of_kind`, and in `refused` what finds it full.
    #[must_use]
    pub fn counted_in(of_kind: Gauge, refused: Counter) -> Self {
        Self { own: AtomicUsize::new(0), of_kind, refused }
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
        Self { actor, depth: Arc::new(depth), capacity }
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// [`Refused`] hands the message back.
    pub fn try_cast(&self, message: M) -> Result<(), Refused<M>> {
        if self.depth.own.load(Ordering::Relaxed) >= self.capacity {
            self.depth.refused.inc();
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
        self.depth.own.fetch_add(1, Ordering::Relaxed);
        self.depth.of_kind.inc();
        let letter = Letter { message, _place: Some(Place(Arc::clone(&self.depth))) };
        self.actor.cast(letter).map_err(|error| match error {
            MessagingErr::SendErr(letter) => letter.open(),
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
