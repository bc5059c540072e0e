//! Marks that moved while this device was away, and questions that were given up meanwhile, read again from the server's list
//! of conversations.
//!
//! Of both, open sockets only are told, and never again. So after each connection the list is read, page by
//! page, until every conversation that can have news was in it.

use std::collections::BTreeSet;

use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::limits::GIVEN_UP_MAX;
use colloquy_protocol::rest::conversations::Conversations;

use super::ingest::MarkMove;
use crate::store::ConversationRecord;

/// Pages of the list read after one connection. Conversations beyond have been silent for longer than all those
/// before them; their marks are read when they come to the front.
pub(super) const PAGES_MAX: u32 = 20;

/// How much of the list is still to be read.
#[derive(Debug)]
pub(super) struct Resync {
    /// Conversations that can have news and were on no page yet.
    wanted: BTreeSet<ConversationId>,
    cursor: Option<String>,
    pages_left: u32,
    not_before: u64,
}

impl Resync {
    /// Nothing if there can be no news: everything this user wrote is known to be read, the list has said what has become of it,
    /// and every own read mark is known to have been taken.
    pub(super) fn begin(conversations: &[ConversationRecord]) -> Option<Self> {
        let can_have_news = |record: &&ConversationRecord| {
            // That something was given up may not have been heard, and what was heard then makes it look as if it had been read.
            record.own_last > record.read_through.min(record.listed_through)
                || record.own_read_through > record.own_read_told
        };
        let wanted: BTreeSet<ConversationId> =
            conversations.iter().filter(can_have_news).map(|record| record.conversation_id).collect();
        (!wanted.is_empty()).then_some(Self { wanted, cursor: None, pages_left: PAGES_MAX, not_before: 0 })
    }

    /// This conversation can have news, too: the list is read again from its beginning, where it is by now.
    pub(super) fn anew(before: Option<Self>, conversation: ConversationId) -> Self {
        let (mut wanted, not_before) =
            before.map_or_else(Default::default, |before| (before.wanted, before.not_before));
        wanted.insert(conversation);
        Self { wanted, cursor: None, pages_left: PAGES_MAX, not_before }
    }

    /// The cursor of the page to be fetched now, unless it is to wait.
    pub(super) fn due(&self, now: u64) -> Option<Option<String>> {
        (now >= self.not_before).then(|| self.cursor.clone())
    }

    /// A page has come that was asked for with `cursor`. Nothing if it was the last one needed.
    pub(super) fn answered(mut self, cursor: Option<&str>, page: &Conversations) -> Option<Self> {
        for conversation in &page.conversations {
            self.wanted.remove(&conversation.conversation_id);
        }
        if self.cursor.as_deref() != cursor {
            // The answer to a question of an earlier connection.
            return (!self.wanted.is_empty()).then_some(self);
        }
        self.pages_left = self.pages_left.saturating_sub(1);
        self.cursor = Some(page.next_cursor.clone()?);
        (!self.wanted.is_empty() && self.pages_left > 0).then_some(self)
    }

    /// The page could not be fetched, and may be later.
    pub(super) fn rest(&mut self, until: u64) {
        self.not_before = until;
    }
}

/// What a page says about the marks of its conversations.
pub(super) fn marks(page: &Conversations) -> impl Iterator<Item = MarkMove> + '_ {
    page.conversations.iter().map(|view| MarkMove {
        conversation_id: view.conversation_id,
        delivered_through: view.delivered_through,
        read_through: view.read_through,
        own_read_through: view.own_read_through,
        listed_through: view.read_through,
    })
}

/// What a page says about turns that were given up.
pub(super) fn given_up(page: &Conversations) -> impl Iterator<Item = TurnPlace> + '_ {
    page.conversations.iter().flat_map(|view| {
        // The oldest first, as they were told of.
        let turns = view.given_up.iter().rev().take(GIVEN_UP_MAX);
        turns.map(|turn_id| TurnPlace { conversation_id: view.conversation_id, turn_id: *turn_id })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::ids::{MessageId, UserId};
    use colloquy_protocol::rest::conversations::{Conversation, ConversationKind};
    use uuid::Uuid;

    fn record(n: u128, own_last: u64, read_through: u64) -> ConversationRecord {
        let id = ConversationId(Uuid::from_u128(n));
        let listed_through = read_through;
        let new = ConversationRecord::new(id, UserId(Uuid::nil()));
        ConversationRecord { own_last, read_through, listed_through, ..new }
    }

    fn page(ids: impl IntoIterator<Item = u128>, next: Option<&str>) -> Conversations {
        let view = |n| Conversation {
            conversation_id: ConversationId(Uuid::from_u128(n)),
            r#type: ConversationKind::Pair,
            participants: Vec::new(),
            last_sequence_number: 0,
            last_message_at: None,
            unread_count: 0,
            own_read_through: 0,
            read_through: 0,
            delivered_through: 0,
            created_at: 0,
            last_message: None,
            given_up: Vec::new(),
        };
        let conversations = ids.into_iter().map(view).collect();
        Conversations { conversations, next_cursor: next.map(str::to_owned) }
    }

    #[test]
    fn nothing_is_asked_when_everything_written_was_read_and_everything_read_was_told() {
        assert!(Resync::begin(&[]).is_none());
        assert!(Resync::begin(&[record(1, 3, 3), record(2, 0, 0)]).is_none());
        assert!(Resync::begin(&[record(1, 3, 2)]).is_some());
        let unlisted = ConversationRecord { listed_through: 2, ..record(1, 3, 3) };
        assert!(Resync::begin(&[unlisted]).is_some(), "it was given up, perhaps");
        let untold = ConversationRecord { own_read_through: 2, own_read_told: 1, ..record(1, 0, 0) };
        assert!(Resync::begin(&[untold]).is_some());
    }

    #[test]
    fn pages_are_read_until_every_conversation_that_can_have_news_was_on_one() {
        let resync = Resync::begin(&[record(1, 1, 0), record(2, 1, 0), record(9, 1, 1)]).unwrap();
        assert_eq!(resync.due(0), Some(None));
        let mut resync = resync.answered(None, &page([7, 1], Some("a"))).unwrap();
        assert_eq!(resync.due(0), Some(Some("a".to_owned())));
        resync.rest(10);
        assert_eq!((resync.due(9), resync.due(10).is_some()), (None, true));
        let resync = resync.answered(Some("of another connection"), &page([8], Some("x"))).unwrap();
        assert_eq!(resync.due(10), Some(Some("a".to_owned())), "another answer moves nothing on");
        assert!(resync.answered(Some("a"), &page([2], Some("b"))).is_none());
    }

    #[test]
    fn what_another_device_wrote_meanwhile_is_looked_for_from_the_beginning_of_the_list() {
        let resync = Resync::begin(&[record(1, 1, 0), record(2, 1, 0)]).unwrap();
        let mut resync = resync.answered(None, &page([1], Some("a"))).unwrap();
        resync.rest(10);
        let resync = Resync::anew(Some(resync), ConversationId(Uuid::from_u128(3)));
        assert_eq!((resync.due(9), resync.due(10)), (None, Some(None)));
        let resync = resync.answered(None, &page([3], Some("b"))).unwrap();
        assert!(resync.answered(Some("b"), &page([2], Some("c"))).is_none());
        let alone = Resync::anew(None, ConversationId(Uuid::from_u128(3)));
        assert!(alone.answered(None, &page([3], Some("b"))).is_none());
    }

    #[test]
    fn questions_that_were_given_up_are_told_of_the_oldest_first() {
        let mut page = page([1, 2], None);
        page.conversations[1].given_up = [9, 7].map(|n| MessageId(Uuid::from_u128(n))).to_vec();
        let told = given_up(&page).map(|turn| (turn.conversation_id.0.as_u128(), turn.turn_id.0.as_u128()));
        assert_eq!(told.collect::<Vec<_>>(), [(2, 7), (2, 9)]);
    }

    #[test]
    fn reading_ends_with_the_list_or_after_so_many_pages() {
        let begin = || Resync::begin(&[record(1, 1, 0)]).unwrap();
        assert!(begin().answered(None, &page([7], None)).is_none());
        let mut resync = begin();
        for _ in 1..PAGES_MAX {
            let cursor = resync.due(0).unwrap();
            resync = resync.answered(cursor.as_deref(), &page([7], Some("more"))).unwrap();
        }
        assert!(resync.answered(Some("more"), &page([7], Some("more"))).is_none());
    }
}
