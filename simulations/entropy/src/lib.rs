//! Randomness and time that repeat: in a program that links this crate, a thread can be given a seed and a time, and from
//! then on whatever on it asks the operating system for either is given that instead.
//!
//! Our own parts are handed both. Those of others are not: the keys of every `HashMap`, the order in which tokio polls the
//! branches of a `select!`, the masks of WebSocket frames and every key and ratchet of vodozemac come from `getrandom(2)`,
//! the `date` of an answer and the timestamps of `ractor_cluster` from `clock_gettime(2)`, and a run that is to repeat to
//! the byte has to own them. All of them go through the C library's functions of those names, which this crate defines:
//! the linker takes the program's own definition before the library's. What waits on a lock with a deadline by that time
//! finds it passed at once: the machine's own clocks are far ahead.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint, c_void};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::rand::GetRandomFlags;
use rustix::time::{ClockId, Timespec};

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
    /// Since the epoch, and since the thread's own beginning.
    static TIME: Cell<Option<(Duration, Duration)>> = const { Cell::new(None) };
}

/// Random bytes that this thread draws come from `seed` from now on. Must be called before anything on it has drawn any:
/// what others have drawn already, they keep.
pub fn seed_this_thread(seed: u64) {
    SEEDED.set(Some(StdRng::seed_from_u64(seed)));
    // Keeps the definitions below in the program: nothing calls them by their paths.
    std::hint::black_box((getrandom as *const (), clock_gettime as *const ()));
}

/// On this thread it is so long after the Unix epoch, and so long after the beginning, until it is set again.
pub fn set_time_of_this_thread(since_epoch: Duration, since_beginning: Duration) {
    TIME.set(Some((since_epoch, since_beginning)));
}

/// Fills `bytes` as the thread's seed has it, or as the operating system does; `false` if that fails.
fn fill(bytes: &mut [u8]) -> bool {
    let draw = |seeded: &RefCell<Option<StdRng>>| {
        seeded.borrow_mut().as_mut().map(|rng| rng.fill_bytes(bytes)).is_some()
    };
    // A thread that is ending has no seed any more.
    if SEEDED.try_with(draw).unwrap_or(false) {
        return true;
    }
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// What a clock of this number shows; `None` if there is none.
fn shown(clock: c_int) -> Option<Timespec> {
    let (clock, is_date) = match clock {
        0 => (ClockId::Realtime, true),
        1 => (ClockId::Monotonic, false),
        4 => (ClockId::MonotonicRaw, false),
        5 => (ClockId::RealtimeCoarse, true),
        6 => (ClockId::MonotonicCoarse, false),
        7 => (ClockId::Boottime, false),
        // What they show is spent, not passed.
        2 => return Some(rustix::time::clock_gettime(ClockId::ProcessCPUTime)),
        3 => return Some(rustix::time::clock_gettime(ClockId::ThreadCPUTime)),
        _ => return None,
    };
    let Some((date, passed)) = TIME.try_with(Cell::get).unwrap_or(None) else {
        return Some(rustix::time::clock_gettime(clock));
    };
    let time = if is_date { date } else { passed };
    Some(Timespec { tv_sec: i64::try_from(time.as_secs()).ok()?, tv_nsec: i64::from(time.subsec_nanos()) })
}

/// `getrandom(2)`.
///
/// # Safety
/// `buffer` must be valid for `length` bytes, as for the function of the C library.
#[allow(unsafe_code, reason = "here the system's function is given another body")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    if length == 0 {
        return 0;
    }
    // Safety: as the caller has to promise. Written before it is read: bytes of any value are bytes.
    let bytes = unsafe {
        std::ptr::write_bytes(buffer.cast::<u8>(), 0, length);
        std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
    };
    if fill(bytes) { isize::try_from(length).unwrap_or(isize::MAX) } else { -1 }
}

/// The C library's `struct timespec` where a `long` has 64 bits.
#[repr(C)]
struct CTimespec {
    seconds: i64,
    nanoseconds: i64,
}

/// `clock_gettime(2)`.
///
/// # Safety
/// `time` must be valid for writes, as for the function of the C library.
#[allow(unsafe_code, reason = "here the system's function is given another body")]
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut CTimespec) -> c_int {
    let Some(Timespec { tv_sec, tv_nsec }) = shown(clock) else { return -1 };
    // Safety: as the caller has to promise.
    unsafe { time.write(CTimespec { seconds: tv_sec, nanoseconds: tv_nsec }) };
    0
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;
    use std::time::UNIX_EPOCH;

    use super::*;

    /// What a thread draws, by the doors that there are.
    fn drawn(seed: u64) -> (u64, Vec<u32>) {
        let draw = move || {
            seed_this_thread(seed);
            let map: HashMap<u32, ()> = (0..100).map(|key| (key, ())).collect();
            (rand::rng().next_u64(), map.into_keys().collect())
        };
        thread::spawn(draw).join().unwrap()
    }

    #[test]
    fn what_a_seeded_thread_draws_repeats_and_differs_by_seed() {
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1).0, drawn(2).0);
        assert_ne!(drawn(1).1, drawn(2).1);
    }

    #[test]
    fn a_thread_without_a_seed_draws_from_the_system() {
        let draw = || rand::rng().next_u64();
        assert_ne!(thread::spawn(draw).join().unwrap(), thread::spawn(draw).join().unwrap());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "this is about the machine's clock")]
    fn a_thread_has_the_time_it_was_given_and_others_have_the_machines() {
        let now = || std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        seed_this_thread(1);
        let (date, beginning, later) = (Duration::new(1_000_000, 5), Duration::ZERO, Duration::from_secs(60));
        let timed = thread::spawn(move || {
            set_time_of_this_thread(date, beginning);
            let began = std::time::Instant::now();
            set_time_of_this_thread(date, later);
            (now(), began.elapsed())
        });
        assert_eq!(timed.join().unwrap(), (date, later));
        assert!(now() > Duration::from_secs(1_700_000_000));
    }
}
