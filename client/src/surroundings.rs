//! What a client has around it: the machine it runs on, or a simulation.

use std::sync::Arc;

use crate::ambient::{Clock, Workers};
use crate::api::ApiError;
use crate::network::{Internet, Network};

/// What a client has around it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// How it reaches its server.
    pub network: Arc<dyn Network>,
    /// What time it is.
    pub clock: Clock,
    /// Where it writes to its disk.
    pub workers: Workers,
}

impl Surroundings {
    /// The machine.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`] if it has no means to encrypt.
    pub fn of_this_machine() -> Result<Self, ApiError> {
        Ok(Self { network: Arc::new(Internet::new()?), clock: Clock::System, workers: Workers::Threads })
    }
}
