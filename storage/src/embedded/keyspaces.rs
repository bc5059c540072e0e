//! The keyspaces of the database: one per kind of row, each with the layout of its keys.
//!
//! Integers in keys are big-endian, so that rows lie in the order of their numbers.

use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions};

/// A kind of row. The comment gives key and value; `|` joins fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// `conversation | number` -> message, without its number
    Messages,
    /// `message` -> position
    MessageIds,
    /// `sender | idempotency key` -> position (ONCE)
    IdempotencyKeys,
    /// `conversation` -> epoch, last number, time of the last message
    LogEnds,
    /// `conversation` -> conversation
    Conversations,
    /// `user | conversation` -> when the conversation was opened
    Participations,
    /// `user | conversation | kind | device` -> number
    Cursors,
    /// `user` -> user
    Users,
    /// phone number -> user
    Phones,
    /// email address -> user
    Emails,
    /// `log-in` -> log-in
    Logins,
    /// `user | log-in` -> nothing
    UserLogins,
    /// `user | device` -> device
    Devices,
    /// `user` -> version of the device list
    DeviceLists,
    /// `user | device` -> fallback key and counts
    KeyRings,
    /// `user | device | 0 | key id` -> one-time key
    OneTimeKeys,
    /// `user | device | 0 | key id` -> fingerprint of a key that was claimed
    ClaimedKeys,
    /// `user | device | 0 | slot` -> key id; says which claimed key is the oldest
    ClaimedSlots,
    /// `user | identity key` -> nothing; a device with this key was removed
    RemovedIdentities,
    /// `user` -> devices that were removed, the last removed last
    FormerDevices,
    /// name -> agent
    Agents,
    /// `user` -> name of the agent that is this user
    AgentUsers,
    /// `turn` -> dead letter
    DeadLetters,
    /// `conversation | turn` -> nothing; the turn has a dead letter
    DeadLetterPlaces,
    /// `conversation` -> number up to which its messages have been told
    Told,
    /// `message` -> dead letter; the message could not be told
    Untold,
    /// `conversation | message` -> nothing; the message could not be told
    UntoldPlaces,
    /// name -> what the database says of itself
    Meta,
}

impl Space {
    /// How many there are.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// Messages come first: fjall applies a batch in this order, so no index ever points ahead of its row.
    pub(super) const ALL: [Self; 28] = [
        Self::Messages,
        Self::MessageIds,
        Self::IdempotencyKeys,
        Self::LogEnds,
        Self::Conversations,
        Self::Participations,
        Self::Cursors,
        Self::Users,
        Self::Phones,
        Self::Emails,
        Self::Logins,
        Self::UserLogins,
        Self::Devices,
        Self::DeviceLists,
        Self::KeyRings,
        Self::OneTimeKeys,
        Self::ClaimedKeys,
        Self::ClaimedSlots,
        Self::RemovedIdentities,
        Self::FormerDevices,
        Self::Agents,
        Self::AgentUsers,
        Self::DeadLetters,
        Self::DeadLetterPlaces,
        Self::Told,
        Self::Untold,
        Self::UntoldPlaces,
        Self::Meta,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::MessageIds => "message_ids",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::LogEnds => "log_ends",
            Self::Conversations => "conversations",
            Self::Participations => "participations",
            Self::Cursors => "cursors",
            Self::Users => "users",
            Self::Phones => "phones",
            Self::Emails => "emails",
            Self::Logins => "logins",
            Self::UserLogins => "user_logins",
            Self::Devices => "devices",
            Self::DeviceLists => "device_lists",
            Self::KeyRings => "key_rings",
            Self::OneTimeKeys => "one_time_keys",
            Self::ClaimedKeys => "claimed_keys",
            Self::ClaimedSlots => "claimed_slots",
            Self::RemovedIdentities => "removed_identities",
            Self::FormerDevices => "former_devices",
            Self::Agents => "agents",
            Self::AgentUsers => "agent_users",
            Self::DeadLetters => "dead_letters",
            Self::DeadLetterPlaces => "dead_letter_places",
            Self::Told => "told",
            Self::Untold => "untold",
            Self::UntoldPlaces => "untold_places",
            Self::Meta => "meta",
        }
    }

    /// Values stay in the tree (no value separation): a message is small, and separation would make every read
    /// of a run of messages a read per message.
    fn options(self) -> KeyspaceCreateOptions {
        let options = KeyspaceCreateOptions::default();
        match self {
            // Runs of messages are read together. Ciphertext does not compress.
            Self::Messages => options
                .data_block_size_policy(BlockSizePolicy::all(16 * 1024))
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None)),
            // Random keys do not compress either.
            Self::MessageIds | Self::IdempotencyKeys => {
                options.data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
            }
            _ => options,
        }
    }
}

/// Handles to every keyspace.
#[derive(Clone)]
pub(super) struct Keyspaces(Vec<Keyspace>);

impl Keyspaces {
    /// Opens every keyspace and makes those that are not there.
    pub(super) fn open(database: &Database) -> fjall::Result<Self> {
        let open = |space: &Space| database.keyspace(space.name(), || space.options());
        Space::ALL.iter().map(open).collect::<fjall::Result<_>>().map(Self)
    }

    /// The keyspace of one kind of row.
    pub(super) fn of(&self, space: Space) -> &Keyspace {
        &self.0[space as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_row_stands_at_its_own_place() {
        for (index, space) in Space::ALL.iter().enumerate() {
            assert_eq!(*space as usize, index, "{}", space.name());
        }
    }
}
