//! A host: a process with a clock of its own, that can be frozen and that can die.
//!
//! Each has a paused single-threaded runtime. The schedule lets one after the other run up to the same moment, so that
//! everything happens in one order on one thread; a host that is dropped is gone as after `kill -9`, with every task that
//! was on it.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep_until};
use tracing::{Span, info_span};

/// A host that runs.
#[derive(Debug)]
pub(crate) struct Host {
    runtime: Runtime,
    /// When it was started, by the world's time and by its own.
    started: (Duration, Instant),
    /// Named in what is logged.
    span: Span,
    /// How far it has been run.
    reached: Duration,
    frozen: bool,
}

impl Host {
    /// Starts one at `now`.
    pub(crate) fn start(now: Duration, name: &str) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            // Nothing is to be done there; whatever is comes one by one.
            .max_blocking_threads(1)
            .build()
            .expect("a process may make runtimes");
        let own = runtime.block_on(async { Instant::now() });
        Self { runtime, started: (now, own), span: info_span!("host", name), reached: now, frozen: false }
    }

    /// Runs a task on it.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(task)
    }

    /// Lets it run until `now`; nothing happens on it while it is frozen.
    pub(super) fn run_until(&mut self, now: Duration) {
        if self.frozen {
            return;
        }
        let _named = self.span.enter();
        let until = self.started.1 + (now - self.started.0);
        self.runtime.block_on(async { sleep_until(until).await });
        self.reached = now;
    }

    /// Stops it where it is (SIGSTOP).
    pub(crate) fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Lets it go on (SIGCONT): all the time that has passed, passes for it at once.
    pub(crate) fn thaw(&mut self, now: Duration) {
        if std::mem::take(&mut self.frozen) {
            let passed = now - self.reached;
            self.runtime.block_on(async { advance(passed).await });
            self.reached = now;
        }
    }

    /// Does it stand still?
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }
}
