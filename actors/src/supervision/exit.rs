//! Why an actor ended. Supervisors count every exit by kind and reason.

use prometheus_client::encoding::EncodeLabelValue;
use ractor::{ActorProcessingErr, Signal, SupervisionEvent};

/// Why an actor ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
pub enum ExitReason {
    /// It was done.
    Done,
    /// A parent stopped it, in order.
    Stopped,
    /// It was idle and its memory was wanted back.
    Passivated,
    /// It learned that another owner has taken over (FENCE).
    Fenced,
    /// Somebody killed it.
    Killed,
    /// It gave up with a [`Fault`].
    Failed,
    /// It panicked.
    Panicked,
}

impl ExitReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::Stopped,
        Self::Passivated,
        Self::Fenced,
        Self::Killed,
        Self::Failed,
        Self::Panicked,
    ];

    /// The text an actor passes to `stop` so that its supervisor counts the right reason.
    #[must_use]
    pub fn as_stop_reason(self) -> Option<String> {
        match self {
            Self::Stopped => Some("stopped".into()),
            Self::Passivated => Some("passivated".into()),
            Self::Fenced => Some("fenced".into()),
            _ => None,
        }
    }

    /// Was the exit meant? What was not meant calls for a restart of a permanent or transient child.
    #[must_use]
    pub fn is_orderly(self) -> bool {
        matches!(self, Self::Done | Self::Stopped | Self::Passivated | Self::Fenced)
    }
}

/// A fault an actor gives up with, so that it can be told from a panic.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// What could not be done.
    pub what: &'static str,
    /// Why not.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// A fault with its cause, boxed the way ractor wants it.
    pub fn because(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ActorProcessingErr {
        Box::new(Self { what, source: Some(source.into()) })
    }
}

/// The reason in a supervision event; `None` if the event is not an exit.
#[must_use]
pub fn exit_reason(event: &SupervisionEvent) -> Option<ExitReason> {
    match event {
        SupervisionEvent::ActorFailed(_, error) if error.is::<Fault>() => Some(ExitReason::Failed),
        SupervisionEvent::ActorFailed(..) => Some(ExitReason::Panicked),
        // Without a last state: killed before it ran.
        SupervisionEvent::ActorTerminated(_, None, _) => Some(ExitReason::Killed),
        SupervisionEvent::ActorTerminated(_, Some(_), reason)
            if *reason == Some(Signal::Kill.to_string()) =>
        {
            Some(ExitReason::Killed)
        }
        SupervisionEvent::ActorTerminated(_, Some(_), reason) => Some(match reason.as_deref() {
            None => ExitReason::Done,
            Some("passivated") => ExitReason::Passivated,
            Some("fenced") => ExitReason::Fenced,
            Some(_) => ExitReason::Stopped,
        }),
        _ => None,
    }
}

/// What a fault says, with its causes, on one line. `None` of a panic: its text may quote anything (PRIVATE), and the panic
/// hook has said where it was.
pub(super) fn fault_text(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<String> {
    let fault = error.downcast_ref::<Fault>()?;
    let causes = std::iter::successors(std::error::Error::source(fault), |cause| cause.source());
    Some(causes.fold(fault.to_string(), |text, cause| format!("{text}: {cause}")))
}
