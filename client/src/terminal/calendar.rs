//! When something was, as a clock on this user's wall has it. Pure: the zone and the present are handed in.

use colloquy_protocol::UnixMillis;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The user's time zone, and when the screen was made.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    opened_at: UnixMillis,
}

/// A moment for programs and for whoever compares logs: RFC 3339, in UTC, to the second.
#[must_use]
pub fn in_utc(at: UnixMillis) -> String {
    Calendar::new(TimeZone::UTC, 0).local(at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Calendar {
    /// A calendar in `zone` whose screen was made at `opened_at`.
    #[must_use]
    pub fn new(zone: TimeZone, opened_at: UnixMillis) -> Self {
        Self { zone, opened_at }
    }

    /// In the zone that `TZ` names, or else the one this machine is set to; UTC if there is neither.
    #[must_use]
    pub fn of_this_machine(opened_at: UnixMillis) -> Self {
        Self::new(TimeZone::try_system().unwrap_or(TimeZone::UTC), opened_at)
    }

    /// What time it is `since_opened_ms` after the screen was made.
    pub(super) fn now(&self, since_opened_ms: u64) -> UnixMillis {
        self.opened_at.saturating_add(since_opened_ms)
    }

    /// The day, which changes at the user's own midnight.
    pub(super) fn day(&self, at: UnixMillis) -> Date {
        self.local(at).date()
    }

    /// `14:05`.
    pub(super) fn time_of_day(&self, at: UnixMillis) -> String {
        self.local(at).strftime("%H:%M").to_string()
    }

    /// `Tuesday, 24 November 2026`.
    pub(super) fn day_in_full(&self, at: UnixMillis) -> String {
        self.local(at).strftime("%A, %-d %B %Y").to_string()
    }

    /// A moment as it is told `since_opened_ms` after the screen was made: without the day if it is today's, without
    /// the year if it is this one.
    pub(super) fn moment(&self, at: UnixMillis, since_opened_ms: u64) -> String {
        let (then, now) = (self.local(at), self.local(self.now(since_opened_ms)));
        let form = if then.date() == now.date() {
            "%H:%M"
        } else if then.year() == now.year() {
            "%-d %b %H:%M"
        } else {
            "%-d %b %Y"
        };
        then.strftime(form).to_string()
    }

    /// A server may name any number: what lies beyond the calendar is its last day.
    fn local(&self, at: UnixMillis) -> Zoned {
        let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        at.unwrap_or(Timestamp::MAX).to_zoned(self.zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-28 23:30 UTC: half past midnight in Berlin, the night the clocks go forward.
    const AT: UnixMillis = 1_774_740_600_000;
    const HOUR: UnixMillis = 3_600_000;

    /// By rule, so that no zone database is needed.
    fn berlin() -> Calendar {
        Calendar::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(), AT)
    }

    #[test]
    fn a_day_begins_at_the_users_own_midnight() {
        let calendar = berlin();
        assert_eq!(calendar.time_of_day(AT), "00:30");
        assert_eq!(calendar.day_in_full(AT), "Sunday, 29 March 2026");
        assert_ne!(calendar.day(AT), calendar.day(AT - HOUR));
        assert_eq!(Calendar::new(TimeZone::UTC, AT).day_in_full(AT), "Saturday, 28 March 2026");
    }

    #[test]
    fn daylight_saving_is_that_of_the_moment_and_not_of_today() {
        let calendar = berlin();
        assert_eq!(calendar.time_of_day(AT + HOUR), "01:30");
        assert_eq!(calendar.time_of_day(AT + 2 * HOUR), "03:30");
    }

    #[test]
    fn a_moment_is_told_with_what_is_not_obvious() {
        let calendar = berlin();
        assert_eq!(calendar.moment(AT, 0), "00:30");
        assert_eq!(calendar.moment(AT - HOUR, 0), "28 Mar 23:30");
        assert_eq!(calendar.moment(AT, 24 * HOUR), "29 Mar 00:30", "the screen stayed open over midnight");
        assert_eq!(calendar.moment(AT - 365 * 24 * HOUR, 0), "29 Mar 2025");
    }

    #[test]
    fn no_number_is_too_large_to_be_shown() {
        assert_eq!(berlin().day(u64::MAX), berlin().day(u64::MAX - 1));
    }
}
