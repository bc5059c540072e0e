//! How often one address, one identifier or one user may ask.
//!
//! A limiter keeps one cell for each of `CELLS` buckets and puts a key into its bucket by a hash with a secret: the
//! memory is bounded whatever is asked for, no phone number or address is kept (PRIVATE), and nobody can choose keys
//! that share a bucket with somebody else's. Two keys in one bucket share its quota; with so many buckets that is
//! rare, and harmless unless both are busy.
//!
//! Whoever fails to log in to an account often enough holds up its owner's next log-in by a few seconds too: the
//! price of slowing down those who guess one password from many addresses. Open log-ins are not touched by it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::UserId;
use colloquy_storage::ambient::Entropy;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::problem::Refusal;

/// Buckets of one limiter; some 6 MB when all are in use (BOUND).
const CELLS: u64 = 1 << 16;

/// A burst, and how fast it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Requests at once.
    pub burst: NonZeroU32,
    /// Requests a minute in the long run.
    pub per_minute: NonZeroU32,
}

/// Who may ask how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitOptions {
    /// Registering and logging in, from one address (IPv6: one /64).
    pub per_address: Allowance,
    /// Registering and logging in, for one phone number or email address.
    pub per_identifier: Allowance,
    /// Looking users up and claiming their keys, by one user: slows down those who collect an address book or use
    /// up one-time keys.
    pub look_ups_per_user: Allowance,
}

impl Default for RateLimitOptions {
    fn default() -> Self {
        let allow = |burst, per_minute| Allowance {
            burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
            per_minute: NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN),
        };
        Self { per_address: allow(20, 20), per_identifier: allow(10, 6), look_ups_per_user: allow(300, 300) }
    }
}

/// Every limiter of the REST interface.
#[derive(Debug)]
pub struct RateLimits {
    per_address: Limiter,
    per_identifier: Limiter,
    look_ups_per_user: Limiter,
}

impl RateLimits {
    /// Fresh limiters.
    #[must_use]
    pub fn new(options: &RateLimitOptions, entropy: &Entropy) -> Self {
        Self {
            per_address: Limiter::new(options.per_address, entropy),
            per_identifier: Limiter::new(options.per_identifier, entropy),
            look_ups_per_user: Limiter::new(options.look_ups_per_user, entropy),
        }
    }

    /// Counts an attempt to register or log in from `address`.
    ///
    /// # Errors
    /// `rate_limited`, with how long to wait.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        self.per_address.check(&network(address))
    }

    /// Counts an attempt to register or log in with a phone number or email address, as it was sent: in whatever
    /// case it was written it is the same one.
    ///
    /// # Errors
    /// `rate_limited`, with how long to wait.
    pub fn check_identifier(&self, identifier: &str) -> Result<(), Refusal> {
        self.per_identifier.check(&identifier.to_ascii_lowercase())
    }

    /// Counts a look-up by `user_id`.
    ///
    /// # Errors
    /// `rate_limited`, with how long to wait.
    pub fn check_look_up(&self, user_id: UserId) -> Result<(), Refusal> {
        self.look_ups_per_user.check(&user_id)
    }
}

/// One IPv6 subscriber has a /64 at least, so single addresses there are no bound.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Tokio's clock, which stands still when a test pauses time.
#[derive(Clone, Copy, Debug)]
struct TokioClock {
    started: Instant,
}

impl governor::clock::Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.started.elapsed())
    }
}

type Cells = RateLimiter<u64, DashMapStateStore<u64>, TokioClock, NoOpMiddleware<Nanos>>;

struct Limiter {
    cells: Cells,
    clock: TokioClock,
    secret: [u8; 16],
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("cells", &self.cells.len()).finish_non_exhaustive()
    }
}

impl Limiter {
    fn new(allowance: Allowance, entropy: &Entropy) -> Self {
        let clock = TokioClock { started: Instant::now() };
        let quota = Quota::per_minute(allowance.per_minute).allow_burst(allowance.burst);
        let mut secret = [0_u8; 16];
        entropy.fill(&mut secret);
        Self { cells: RateLimiter::new(quota, DashMapStateStore::default(), clock), clock, secret }
    }

    fn check<K: Hash + ?Sized>(&self, key: &K) -> Result<(), Refusal> {
        let mut hasher = DefaultHasher::new();
        self.secret.hash(&mut hasher);
        key.hash(&mut hasher);
        self.cells.check_key(&(hasher.finish() % CELLS)).map_err(|until| {
            let wait: Duration = until.wait_time_from(self.clock.now());
            Refusal::new(ErrorCode::RateLimited).retry_after(wait)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::RETRY_AFTER;
    use axum::response::IntoResponse;

    fn limits() -> RateLimits {
        RateLimits::new(&RateLimitOptions::default(), &Entropy::from_seed(1))
    }

    fn burst_from(limits: &RateLimits, address: &str) -> usize {
        let address: IpAddr = address.parse().unwrap();
        (0..100).take_while(|_| limits.check_address(address).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_used_up_and_comes_back_with_time() {
        let limits = limits();
        assert_eq!(burst_from(&limits, "192.0.2.1"), 20);
        assert_eq!(burst_from(&limits, "192.0.2.2"), 20, "another address has its own");
        let refused = limits.check_address("192.0.2.1".parse().unwrap()).unwrap_err();
        assert_eq!(refused.into_response().headers()[RETRY_AFTER], "3");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(burst_from(&limits, "192.0.2.1"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_ipv6_network_share_a_burst() {
        let limits = limits();
        assert_eq!(burst_from(&limits, "2001:db8::1"), 20);
        assert_eq!(burst_from(&limits, "2001:db8::ffff:2"), 0);
        assert_eq!(burst_from(&limits, "2001:db8:0:1::1"), 20);
        assert_eq!(burst_from(&limits, "192.0.2.1"), 20);
        assert_eq!(burst_from(&limits, "::ffff:192.0.2.1"), 0, "a mapped address is the IPv4 address");
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_keys_are_seen_the_cells_stay_bounded() {
        let limiter = Limiter::new(RateLimitOptions::default().per_identifier, &Entropy::from_seed(1));
        for key in 0..2 * CELLS {
            let _ = limiter.check(&key);
        }
        assert!(limiter.cells.len() as u64 <= CELLS);
    }
}
