//! A mailbox has a bound, says when it is full, and empties itself when its actor dies.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Semaphore;

use super::stage::until;
use crate::supervision::{Address, Depth, Letter, Mailbox, Meters, Refused};

/// Letters that may wait.
const CAPACITY: usize = 3;

/// An actor that takes up a letter whenever it is given leave.
struct Reader;

enum Note {
    /// Wait for leave before the next one.
    Read(u32),
    /// Die of a defect, once there is leave.
    Panic,
}

impl Actor for Reader {
    type Msg = Letter<Note>;
    type State = Arc<Semaphore>;
    type Arguments = Arc<Semaphore>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        leave: Arc<Semaphore>,
    ) -> Result<Arc<Semaphore>, ActorProcessingErr> {
        Ok(leave)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        letter: Letter<Note>,
        leave: &mut Arc<Semaphore>,
    ) -> Result<(), ActorProcessingErr> {
        let (note, _handling) = letter.open();
        leave.acquire().await.expect("leave is never closed").forget();
        match note {
            Note::Read(_) => Ok(()),
            Note::Panic => panic!("a defect, as ordered"),
        }
    }
}

struct Post {
    mailbox: Mailbox<Note>,
    leave: Arc<Semaphore>,
    meters: Meters,
}

impl Post {
    /// A mailbox whose actor has taken up `first`, so that everything after it waits.
    async fn with_reader_at(first: Note) -> Self {
        let (leave, meters) = (Arc::new(Semaphore::new(0)), Meters::default());
        let (reader, _) = Actor::spawn(None, Reader, Arc::clone(&leave)).await.expect("it starts");
        let mailbox = Mailbox::new(reader, Depth::counted_in(meters.clone()), CAPACITY);
        let post = Self { mailbox, leave, meters };
        assert!(post.mailbox.try_cast(first).is_ok());
        until(|| post.mailbox.depth() == 0).await;
        post
    }

    fn fill(&self) {
        for number in 0..CAPACITY {
            assert!(self.mailbox.try_cast(Note::Read(u32::try_from(number).unwrap())).is_ok());
        }
        assert_eq!(self.mailbox.depth(), CAPACITY);
    }

    async fn expect_empty_and_stopped(&self) {
        until(|| self.mailbox.depth() == 0).await;
        assert_eq!(self.meters.depth.get(), 0, "nor is anything counted for its kind");
        until(|| matches!(self.mailbox.try_cast(Note::Read(9)), Err(Refused::Stopped(Note::Read(9))))).await;
        assert_eq!(
            (self.mailbox.depth(), self.meters.depth.get()),
            (0, 0),
            "what was handed back took no place"
        );
    }
}

#[tokio::test]
async fn a_full_mailbox_hands_the_message_back_and_takes_the_next_when_one_was_read() {
    let post = Post::with_reader_at(Note::Read(0)).await;
    post.fill();
    assert!(matches!(post.mailbox.try_cast(Note::Read(7)), Err(Refused::Busy(Note::Read(7)))));
    assert_eq!((post.mailbox.depth(), post.meters.depth.get()), (CAPACITY, CAPACITY as i64));
    assert_eq!(post.meters.refused.get(), 1, "and it is counted");
    assert_eq!((post.meters.peak.get(), post.meters.capacity.get()), (CAPACITY as i64, CAPACITY as i64));
    post.leave.add_permits(1);
    until(|| post.mailbox.depth() == CAPACITY - 1).await;
    assert!(post.mailbox.try_cast(Note::Read(7)).is_ok());
    post.leave.add_permits(CAPACITY + 1);
    until(|| post.mailbox.depth() == 0 && post.meters.depth.get() == 0).await;
}

#[tokio::test]
async fn what_may_exceed_the_bound_is_taken_and_counted_all_the_same() {
    let post = Post::with_reader_at(Note::Read(0)).await;
    post.fill();
    assert!(post.mailbox.cast_beyond_capacity(Note::Read(7)).is_ok());
    assert_eq!((post.mailbox.depth(), post.meters.depth.get()), (CAPACITY + 1, CAPACITY as i64 + 1));
    assert!(matches!(post.mailbox.try_cast(Note::Read(8)), Err(Refused::Busy(_))));
}

#[tokio::test]
async fn the_places_of_unread_letters_are_given_back_when_the_actor_is_killed() {
    let post = Post::with_reader_at(Note::Read(0)).await;
    post.fill();
    post.mailbox.cell().kill();
    post.expect_empty_and_stopped().await;
}

#[tokio::test]
async fn the_places_of_unread_letters_are_given_back_when_the_actor_panics() {
    let post = Post::with_reader_at(Note::Panic).await;
    post.fill();
    post.leave.add_permits(1);
    post.expect_empty_and_stopped().await;
}

#[tokio::test]
async fn an_address_leads_to_the_newest_incarnation_and_to_nobody_in_between() {
    let address = Address::default();
    assert!(matches!(address.try_cast(Note::Read(1)), Err(Refused::Stopped(Note::Read(1)))));
    let first = Post::with_reader_at(Note::Read(0)).await;
    address.install(first.mailbox.clone());
    assert!(address.try_cast(Note::Read(1)).is_ok());
    assert_eq!(first.mailbox.depth(), 1);
    first.mailbox.cell().kill();
    first.expect_empty_and_stopped().await;
    assert!(matches!(address.try_cast(Note::Read(2)), Err(Refused::Stopped(_))));
    let second = Post::with_reader_at(Note::Read(0)).await;
    address.install(second.mailbox.clone());
    assert!(address.try_cast(Note::Read(3)).is_ok());
    assert_eq!((first.mailbox.depth(), second.mailbox.depth()), (0, 1));
}
