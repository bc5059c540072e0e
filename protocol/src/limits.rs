//! Every bound that both ends must know (BOUND). What happens at a limit is said where the limit is checked.

use std::time::Duration;

/// Sockets one device may have open at once: connections overlap while a client moves, and a broken one is noticed
/// late. One more, and the oldest is closed with `replaced`.
pub const SOCKETS_PER_DEVICE_MAX: usize = 4;
/// Largest WebSocket message in either direction, bytes. A larger one closes the socket with 1009.
pub const FRAME_MAX_BYTES: usize = 64 * 1024;
/// Longest device id, bytes.
pub const DEVICE_ID_MAX_BYTES: usize = 64;
/// Longest `client_message_id`, bytes.
pub const CLIENT_MESSAGE_ID_MAX_BYTES: usize = 128;
/// Most devices one user may have. One more is refused with `too_many_devices`.
pub const DEVICES_PER_USER_MAX: usize = 16;
/// Removed devices that a device list still names, the newest: what they wrote must stay readable for who has never met
/// them.
pub const FORMER_DEVICES_PER_USER_MAX: usize = 16;
/// Most ciphertexts in one envelope: every device of both sides of a 1:1 conversation.
pub const CIPHERTEXTS_MAX: usize = 2 * DEVICES_PER_USER_MAX;
/// Longest ciphertext for one device, bytes of base64.
pub const CIPHERTEXT_MAX_BYTES: usize = 48 * 1024;
/// Longest `media_url`, bytes.
pub const MEDIA_URL_MAX_BYTES: usize = 2048;
/// Longest user name, Unicode scalar values, after trimming.
pub const NAME_MAX_CHARS: usize = 100;
/// Longest name of an agent, a capability or an intent, bytes.
pub const LABEL_MAX_BYTES: usize = 64;
/// Agents of one installation. One more is refused with `too_many_agents`.
pub const AGENTS_MAX: usize = 1_000;
/// Longest description of an agent, Unicode scalar values.
pub const AGENT_DESCRIPTION_MAX_CHARS: usize = 2_000;
/// Longest version of an agent, bytes.
pub const AGENT_VERSION_MAX_BYTES: usize = 64;
/// What one agent can do.
pub const CAPABILITIES_MAX: usize = 32;
/// What people may want of one agent.
pub const INTENTS_MAX: usize = 64;
/// Utterances that stand for one intent.
pub const EXAMPLES_MAX: usize = 32;
/// Longest utterance, Unicode scalar values.
pub const EXAMPLE_MAX_CHARS: usize = 200;
/// A text that it is to be found out about what it wants, Unicode scalar values.
pub const ROUTING_TEXT_MAX_CHARS: usize = 1_000;
/// Longest address of an agent's sink, bytes.
pub const SINK_MAX_BYTES: usize = 2048;
/// Turns of one agent under way at the same time.
pub const TURNS_AT_ONCE_MAX: u32 = 1_024;
/// Least time an agent may have for a turn ...
pub const TURN_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// ... and most.
pub const TURN_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);
/// Messages that an agent's answer may go on with, where one cannot hold it.
pub const CONTINUATIONS_MAX: u8 = 7;
/// Dead letters that one installation keeps of its agents, and as many of the feed. As long as there are so many, nothing further is
/// given up: it is tried on.
pub const DEAD_LETTERS_MAX: usize = 10_000;
/// Dead letters shown at once.
pub const DEAD_LETTERS_PAGE: usize = 100;
/// Questions of a conversation that are named as given up, the newest.
pub const GIVEN_UP_MAX: usize = 16;
/// Everything an agent says of itself, bytes of JSON.
pub const AGENT_PROFILE_MAX_BYTES: usize = 48 * 1024;
/// One CloudEvent, bytes: as much as a frame.
pub const EVENT_MAX_BYTES: usize = FRAME_MAX_BYTES;
/// The same, signed: its data is in base64, and in structured mode perhaps twice.
pub const SIGNED_EVENT_MAX_BYTES: usize = EVENT_MAX_BYTES / 9 * 16 + 2048;
/// A batch of CloudEvents, bytes ...
pub const EVENTS_MAX_BYTES: usize = 1024 * 1024;
/// ... and how many there may be in it.
pub const EVENTS_IN_BATCH_MAX: usize = 64;
/// Password length, bytes: long enough to resist guessing (NIST SP 800-63B, section 5.1.1.1) ...
pub const PASSWORD_MIN_BYTES: usize = 8;
/// ... and short enough that hashing it costs what we expect.
pub const PASSWORD_MAX_BYTES: usize = 256;
/// One-time keys a device may have published and unclaimed.
pub const ONE_TIME_KEYS_MAX: usize = 100;
/// A client publishes more when fewer than this are left unclaimed.
pub const ONE_TIME_KEYS_LOW: usize = 25;

/// Messages in flight (sent, not answered) on one socket. The server stops reading a socket that has more.
pub const SEND_WINDOW_MAX: usize = 64;
/// How far ahead of the next expected `client_sequence` a message may arrive and be held; further ahead it is refused
/// with `busy`. Less than [`SEND_WINDOW_MAX`], so that the message all others wait for can still be read.
pub const REORDER_BUFFER_MAX: usize = SEND_WINDOW_MAX / 2;
/// Largest `client_sequence`: the largest integer every JSON reader holds exactly (RFC 8259, section 6).
pub const CLIENT_SEQUENCE_MAX: u64 = (1 << 53) - 1;
/// How long a message is held for the one before it; then the gap is given up and what is held goes on.
pub const REORDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Resume cursors one `auth` frame may carry. For other conversations the server uses the cursors it has.
pub const RESUME_CURSORS_MAX: usize = 500;
/// Message ids one `read_receipt` may carry.
pub const RECEIPT_IDS_MAX: usize = 256;
/// Longest run of numbers one `retransmit` or history request may name; more is asked for in several.
pub const WINDOW_MAX: u64 = 100_000;
/// Messages in one `messages` frame or one history page.
pub const PAGE_MAX_MESSAGES: usize = 100;
/// `retransmit` requests that may wait on one socket; one more is refused with `busy`.
pub const RETRANSMITS_MAX: usize = 8;
/// Users one socket may watch for presence; one more is refused with `too_many_subscriptions`.
pub const PRESENCE_SUBSCRIPTIONS_MAX: usize = 500;
/// A `typing` frame for the same conversation sooner than this after the last is dropped.
pub const TYPING_THROTTLE: Duration = Duration::from_secs(2);
/// A reader shows somebody as typing no longer than this after the last `typing` frame.
pub const TYPING_TTL: Duration = Duration::from_secs(6);

/// The ciphertext of one `delta`, bytes of base64.
pub const DELTA_MAX_BYTES: usize = 12 * 1024;
/// How often a stream that has nothing new says that it goes on: whoever has come meanwhile learns of it.
pub const STREAM_INTERVAL: Duration = Duration::from_secs(2);
/// A reader shows an answer as being written no longer than this after the last `delta`.
pub const STREAM_TTL: Duration = Duration::from_secs(10);

/// A socket that has not authenticated by now is closed.
pub const AUTH_TIMEOUT: Duration = Duration::from_secs(10);
/// A socket from which nothing has come for this long is dead.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a client sends `heartbeat` unless the server says otherwise.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(25);
/// Refused frames on one socket within [`VIOLATIONS_WINDOW`]; one more closes it with `policy_violation`.
pub const VIOLATIONS_MAX: u32 = 100;
/// The window of [`VIOLATIONS_MAX`].
pub const VIOLATIONS_WINDOW: Duration = Duration::from_secs(60);
