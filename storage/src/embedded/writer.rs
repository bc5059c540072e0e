//! The one writer: a thread that owns every write; in a simulation, whoever writes.
//!
//! Commands wait in a bounded queue. The writer runs every command that waits against one [`Group`], commits the
//! group with one fsync and then answers each command. While a commit is under way the next group collects, so
//! the busier the store, the larger its groups; nothing waits for a timer. One writer also means that a command
//! that reads and then writes needs no lock and can meet no conflict.
//!
//! A command that fails or panics is rolled back out of the group; the others are committed without it. That is
//! safe because commands change nothing but the group, and the group notes how to undo each change before the next.
//!
//! When a commit fails, all commands of its group are told so, and the writer takes no more: what the journal
//! holds is not known until it is replayed, which the next start does. Reads go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use super::group::Group;
use crate::ambient::Workers;
use crate::ports::{StoreError, StoreResult};

/// Commands that may wait (BOUND). One more is answered with [`StoreError::Busy`].
pub(super) const QUEUE_MAX: usize = 8_192;
/// Commands in one group; those beyond it are in the next.
const GROUP_COMMANDS_MAX: usize = 1_024;
/// Bytes after which a group takes no further command: they are in memory until they are committed.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why the writer does not write.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum WriterError {
    #[error("the store is closed")]
    Closed,
    #[error("an earlier commit failed; the store has to be opened again")]
    Failed,
    #[error("the command panicked")]
    CommandPanicked,
    #[error("the commit panicked")]
    CommitPanicked,
}

/// The queue's end where commands are put in, and the thread behind it. Dropping it commits what waits.
pub(super) struct Writer {
    way: Way,
    failed: watch::Receiver<bool>,
}

/// How commands come to the one who runs them.
enum Way {
    Thread {
        queue: SyncSender<Order>,
        thread: Mutex<Option<JoinHandle<()>>>,
    },
    /// Each is a group of its own. `None` once closed.
    InPlace(Mutex<Option<Box<GroupCommit>>>),
}

enum Order {
    Run(Box<dyn Command>),
    Close,
}

impl Writer {
    pub(super) fn start(group: Group, workers: Workers) -> std::io::Result<Self> {
        let (has_failed, failed) = watch::channel(false);
        let mut commit = GroupCommit { group, failed: has_failed };
        let way = match workers {
            Workers::Threads => {
                let (queue, orders) = sync_channel(QUEUE_MAX);
                let thread = std::thread::Builder::new()
                    .name("store-writer".to_owned())
                    .spawn(move || commit.serve(&orders))?;
                Way::Thread { queue, thread: Mutex::new(Some(thread)) }
            }
            Workers::InPlace => Way::InPlace(Mutex::new(Some(Box::new(commit)))),
        };
        Ok(Self { way, failed })
    }

    /// Has the writer run `work` and answers once everything it wrote is on disk. `work` must not block.
    pub(super) async fn run<T, F>(&self, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Group) -> StoreResult<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let task = Task { work: Some(work), outcome: None, answer };
        match &self.way {
            Way::Thread { queue, .. } => {
                queue.try_send(Order::Run(Box::new(task))).map_err(|refused| match refused {
                    TrySendError::Full(_) => StoreError::Busy,
                    TrySendError::Disconnected(_) => StoreError::unavailable(WriterError::Closed),
                })?;
            }
            Way::InPlace(commit) => match &mut *commit.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(commit) => commit.one(Box::new(task)),
                None => return Err(StoreError::unavailable(WriterError::Closed)),
            },
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::unavailable(WriterError::Closed)))
    }

    /// Has a commit failed?
    pub(super) fn has_failed(&self) -> bool {
        *self.failed.borrow()
    }

    /// Waits for a commit to fail; for ever if the writer is closed before one does.
    pub(super) async fn failed(&self) {
        if self.failed.clone().wait_for(|failed| *failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Commits what waits and stops. Blocks until that is done; what is put in later is refused.
    pub(super) fn close(&self) {
        match &self.way {
            Way::Thread { queue, thread } => {
                let _ = queue.send(Order::Close);
                let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(thread) = thread {
                    let _ = thread.join();
                }
            }
            Way::InPlace(commit) => drop(commit.lock().unwrap_or_else(PoisonError::into_inner).take()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// A write that waits for its group.
trait Command: Send {
    /// Does the work; says whether the group is to keep what it wrote.
    fn run(&mut self, group: &mut Group) -> bool;
    /// Tells the caller what came of it.
    fn answer(self: Box<Self>, committed: &StoreResult<()>);
}

struct Task<F, T> {
    work: Option<F>,
    /// `None` until the work has returned; stays so if it panics.
    outcome: Option<StoreResult<T>>,
    answer: oneshot::Sender<StoreResult<T>>,
}

impl<T, F> Command for Task<F, T>
where
    T: Send,
    F: FnOnce(&mut Group) -> StoreResult<T> + Send,
{
    fn run(&mut self, group: &mut Group) -> bool {
        self.outcome = self.work.take().map(|work| work(group));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, committed: &StoreResult<()>) {
        let outcome =
            self.outcome.unwrap_or_else(|| Err(StoreError::unavailable(WriterError::CommandPanicked)));
        // An outcome may rest on what another command of the group wrote, so every one waits for the commit.
        let _ = self.answer.send(committed.clone().and(outcome));
    }
}

/// Runs commands and commits what they wrote.
struct GroupCommit {
    group: Group,
    failed: watch::Sender<bool>,
}

impl GroupCommit {
    /// Until it is told to close.
    fn serve(&mut self, orders: &Receiver<Order>) {
        let mut commands = Vec::new();
        while let Ok(first) = orders.recv() {
            let mut next = Some(first);
            let mut closing = false;
            while let Some(order) = next.take() {
                match order {
                    Order::Run(command) => commands.push(self.run_command(command)),
                    Order::Close => closing = true,
                }
                let full = commands.len() >= GROUP_COMMANDS_MAX || self.group.bytes() >= GROUP_BYTES_MAX;
                if !closing && !full {
                    next = orders.try_recv().ok();
                }
            }
            let committed = self.commit();
            for command in commands.drain(..) {
                command.answer(&committed);
            }
            if closing {
                return;
            }
        }
    }

    /// One command, committed by itself.
    fn one(&mut self, command: Box<dyn Command>) {
        let command = self.run_command(command);
        let committed = self.commit();
        command.answer(&committed);
    }

    fn run_command(&mut self, mut command: Box<dyn Command>) -> Box<dyn Command> {
        if *self.failed.borrow() {
            return command;
        }
        // What a panic leaves behind in the group is undone; nothing else is shared with the command.
        let kept = catch_unwind(AssertUnwindSafe(|| command.run(&mut self.group)));
        match kept {
            Ok(true) => self.group.keep(),
            Ok(false) => self.group.roll_back(),
            Err(_) => {
                tracing::error!("a write panicked and was rolled back");
                self.group.roll_back();
            }
        }
        command
    }

    fn commit(&mut self) -> StoreResult<()> {
        if *self.failed.borrow() {
            return Err(StoreError::unavailable(WriterError::Failed));
        }
        let committed = catch_unwind(AssertUnwindSafe(|| self.group.commit()));
        let error = match committed {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => StoreError::unavailable(error),
            Err(_) => StoreError::unavailable(WriterError::CommitPanicked),
        };
        tracing::error!(%error, "a commit failed; the store takes no more writes until it is opened again");
        self.group.abandon();
        self.failed.send_replace(true);
        Err(error)
    }
}
