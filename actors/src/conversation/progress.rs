//! How far everybody in a conversation has come. Cursors only move forward. Pure.

use std::collections::BTreeMap;

use colloquy_protocol::ids::UserId;
use colloquy_storage::model::cursor::{Cursor, CursorKind};

/// The cursors of one conversation.
#[derive(Debug, Default)]
pub struct Progress {
    cursors: BTreeMap<(UserId, CursorKind), u64>,
}

impl Progress {
    /// Takes in cursors as they were stored.
    pub fn load(&mut self, cursors: Vec<Cursor>) {
        for cursor in cursors {
            self.advance(cursor.user_id, cursor.kind, cursor.through);
        }
    }

    /// Moves a cursor forward; says whether it moved.
    pub fn advance(&mut self, user_id: UserId, kind: CursorKind, through: u64) -> bool {
        let current = self.cursors.entry((user_id, kind)).or_default();
        let moves = through > *current;
        if moves {
            *current = through;
        }
        moves
    }

    /// On at least one device, the user holds everything up to here.
    #[must_use]
    pub fn delivered(&self, user_id: UserId) -> u64 {
        self.of(user_id)
            .filter(|(kind, _)| matches!(kind, CursorKind::Delivered(_)))
            .map(|(_, at)| at)
            .max()
            .unwrap_or(0)
    }

    /// The user has seen everything up to here.
    #[must_use]
    pub fn read(&self, user_id: UserId) -> u64 {
        self.cursors.get(&(user_id, CursorKind::Read)).copied().unwrap_or(0)
    }

    /// The newest message known to have been sent, by whomever.
    #[must_use]
    pub fn furthest_sent(&self) -> u64 {
        let sent = self.cursors.iter().filter(|((_, kind), _)| matches!(kind, CursorKind::Sent));
        sent.map(|(_, through)| *through).max().unwrap_or(0)
    }

    fn of(&self, user_id: UserId) -> impl Iterator<Item = (&CursorKind, u64)> {
        // Delivered is the first kind in order, so this is the start of the user's run.
        self.cursors
            .iter()
            .filter(move |((of, _), _)| *of == user_id)
            .map(|((_, kind), through)| (kind, *through))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::ids::DeviceId;
    use proptest::prelude::*;
    use uuid::Uuid;

    proptest! {
        #[test]
        fn in_whatever_order_and_however_often_cursors_come_they_end_at_the_greatest(
            moves in proptest::collection::vec((0_u8..3, 0_u64..50), 0..60),
        ) {
            let user = UserId(Uuid::from_u128(1));
            let (mut progress, mut last) = (Progress::default(), 0);
            for (device, through) in &moves {
                let kind = CursorKind::Delivered(DeviceId::new(&format!("d{device}")).unwrap());
                let before = progress.delivered(user);
                progress.advance(user, kind, *through);
                prop_assert!(progress.delivered(user) >= before);
                last = last.max(*through);
            }
            prop_assert_eq!(progress.delivered(user), last);
            prop_assert_eq!(progress.read(user), 0);
        }
    }
}
