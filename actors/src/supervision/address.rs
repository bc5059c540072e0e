//! A name for a permanent actor. A restart gives a new `ActorRef`; whoever holds the [`Address`] need not know.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::mailbox::{Mailbox, Refused};

/// The current mailbox of a permanent actor, replaced at every restart.
pub struct Address<M: Send + 'static>(Arc<ArcSwapOption<Mailbox<M>>>);

impl<M: Send + 'static> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Send + 'static> Default for Address<M> {
    fn default() -> Self {
        Self(Arc::new(ArcSwapOption::empty()))
    }
}

impl<M: Send + 'static> std::fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.0.load()).finish()
    }
}

impl<M: Send + 'static> Address<M> {
    /// Points the address at a new incarnation.
    pub fn install(&self, mailbox: Mailbox<M>) {
        self.0.store(Some(Arc::new(mailbox)));
    }

    /// The current incarnation's mailbox.
    #[must_use]
    pub fn mailbox(&self) -> Option<Arc<Mailbox<M>>> {
        self.0.load_full()
    }

    /// Sends to the current incarnation if it has room.
    ///
    /// # Errors
    /// [`Refused`] hands the message back; between two incarnations it is `Stopped`.
    pub fn try_cast(&self, message: M) -> Result<(), Refused<M>> {
        match &*self.0.load() {
            Some(mailbox) => mailbox.try_cast(message),
            None => Err(Refused::Stopped(message)),
        }
    }

    /// As [`Mailbox::cast_beyond_capacity`], to the current incarnation.
    ///
    /// # Errors
    /// Hands the message back if there is none.
    pub fn cast_beyond_capacity(&self, message: M) -> Result<(), M> {
        match &*self.0.load() {
            Some(mailbox) => mailbox.cast_beyond_capacity(message),
            None => Err(message),
        }
    }
}
