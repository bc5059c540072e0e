//! Approvals: what an agent asks to be allowed to do, and what a person's device signs about it.
//!
//! A verdict is not believed because it came encrypted: it is to be shown to others, who were not there. So the device
//! signs it with its Ed25519 key, over everything that the person was shown to decide on. The signed bytes are these
//! fields, each as its length (4 bytes, big-endian) and its UTF-8, so that no two statements have the same bytes:
//!
//! | field | |
//! |---|---|
//! | `colloquy/approval/1` | what is signed, and in which form |
//! | verdict | `approved` or `denied` |
//! | conversation | its id |
//! | request | the id of the message that asked |
//! | agent | its user id |
//! | user, device | who has decided, on which device: two fields |
//! | action | as it was asked for |
//! | arguments | the JSON text, byte for byte as it was asked for |
//! | expiry | milliseconds since 1970, decimal |

use std::fmt;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, DeviceAddress, IdempotencyKey, MessageId, UserId};
use serde::{Deserialize, Serialize};
use vodozemac::Ed25519PublicKey;

use super::account::DeviceAccount;
use super::arguments::is_unambiguous_object;
use super::peer::check_signature;
use super::stream::StreamSecret;

/// Longest name of an action, bytes of UTF-8; none has less than one.
pub const ACTION_MAX_BYTES: usize = 200;
/// Longest arguments of an action, bytes of JSON.
pub const ARGUMENTS_MAX_BYTES: usize = 4 * 1024;

const STATEMENT_VERSION: &str = "colloquy/approval/1";
/// Before each field of a statement.
const LENGTH_BYTES: usize = 4;

/// What an agent asks to be allowed to do, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// What: 1 to [`ACTION_MAX_BYTES`] bytes, none of a control character.
    pub action: String,
    /// With what: a JSON object in one line as the agent wrote it, byte for byte; at most [`ARGUMENTS_MAX_BYTES`]. No key
    /// stands twice in an object of it, and no control character anywhere.
    pub arguments: String,
    /// From then on it is too late to decide.
    pub expires_at: UnixMillis,
}

/// A request as its message says it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What the agent says beside it, for a person to read; may be empty. With the request it is no longer than a text may be
    /// ([`super::plaintext::TEXT_MAX_BYTES`]).
    pub text: String,
    /// What is to be decided on.
    pub request: ApprovalRequest,
    /// The idempotency key of its verdict, drawn by the agent: all devices of the user send theirs under the same, so the log
    /// takes one, the first (ONCE), and nobody else can tell it from any other message.
    pub verdict_key: IdempotencyKey,
}

/// What a person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may be done, once.
    Approved,
    /// It must not be done.
    Denied,
}

/// A verdict as its message says it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVerdict {
    /// The message that asked.
    pub request_id: MessageId,
    /// What was decided.
    pub verdict: Verdict,
    /// By the sending device, over [`Statement::to_bytes`]; unpadded base64.
    pub signature: String,
    /// As a text's: what is done about it is shown while it is being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_secret: Option<StreamSecret>,
}

/// Why a verdict does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoidVerdict {
    /// Nobody has asked this user for it, here.
    #[error("nobody has asked for this")]
    UnknownRequest,
    /// What it is about cannot be read on this device, which so knows neither what was asked nor what has become of it.
    #[error("what this is about cannot be read here")]
    UnreadableRequest,
    /// It is not what the sending device has signed.
    #[error("the device has not signed this")]
    BadSignature,
    /// Another one came before.
    #[error("it was decided before")]
    AlreadyDecided,
    /// It came too late.
    #[error("the request had expired")]
    Expired,
}

/// What a device signs.
#[derive(Clone, Copy)]
pub struct Statement<'a> {
    /// What was decided.
    pub verdict: Verdict,
    /// Where.
    pub conversation_id: ConversationId,
    /// The message that asked.
    pub request_id: MessageId,
    /// Who asked.
    pub agent: UserId,
    /// Who has decided, on which device.
    pub decided_by: &'a DeviceAddress,
    /// What on.
    pub request: &'a ApprovalRequest,
}

impl ApprovalRequest {
    /// Has it an action and arguments that keep to their bounds, and can be read in one way only? Otherwise what a person has
    /// read need not be what is done.
    #[must_use]
    pub fn is_within_bounds(&self) -> bool {
        (1..=ACTION_MAX_BYTES).contains(&self.action.len())
            && !self.action.contains(char::is_control)
            && self.arguments.len() <= ARGUMENTS_MAX_BYTES
            && is_unambiguous_object(&self.arguments)
    }

    /// Bytes of all its text.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.action.len() + self.arguments.len()
    }

    /// Is it too late to decide at this time?
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        now >= self.expires_at
    }
}

impl Verdict {
    /// `approved` or `denied`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

impl Statement<'_> {
    /// The bytes that are signed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let fields = [
            STATEMENT_VERSION,
            self.verdict.as_str(),
            &self.conversation_id.to_string(),
            &self.request_id.to_string(),
            &self.agent.to_string(),
            &self.decided_by.user_id.to_string(),
            self.decided_by.device_id.as_str(),
            &self.request.action,
            &self.request.arguments,
            &self.request.expires_at.to_string(),
        ];
        let mut bytes = Vec::with_capacity(fields.iter().map(|field| LENGTH_BYTES + field.len()).sum());
        for field in fields {
            let length = u32::try_from(field.len()).expect("a field is far below 4 GiB");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        bytes
    }

    /// Signs it. `account` is that of the device that has decided.
    #[must_use]
    pub fn sign(&self, account: &DeviceAccount) -> String {
        account.olm.sign(self.to_bytes()).to_base64()
    }

    /// Has the device with this key signed it?
    #[must_use]
    pub fn is_signed(&self, key: &Ed25519PublicKey, signature: &str) -> bool {
        check_signature(key, &self.to_bytes(), signature).is_ok()
    }
}

impl fmt::Debug for ApprovalRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApprovalRequest").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl fmt::Debug for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::ids::DeviceId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn address(user: u128, device: &str) -> DeviceAddress {
        DeviceAddress { user_id: UserId(Uuid::from_u128(user)), device_id: DeviceId::new(device).unwrap() }
    }

    fn request(action: &str, arguments: &str, expires_at: UnixMillis) -> ApprovalRequest {
        ApprovalRequest { action: action.to_owned(), arguments: arguments.to_owned(), expires_at }
    }

    /// All that a statement says, of its own.
    #[derive(Clone, Debug)]
    struct Said {
        verdict: Verdict,
        ids: [u128; 3],
        decided_by: DeviceAddress,
        request: ApprovalRequest,
    }

    impl Said {
        fn statement(&self) -> Statement<'_> {
            let [conversation, request, agent] = self.ids.map(Uuid::from_u128);
            Statement {
                verdict: self.verdict,
                conversation_id: ConversationId(conversation),
                request_id: MessageId(request),
                agent: UserId(agent),
                decided_by: &self.decided_by,
                request: &self.request,
            }
        }
    }

    fn said() -> Said {
        Said {
            verdict: Verdict::Denied,
            ids: [7, 8, 9],
            decided_by: address(1, "phone"),
            request: request("delete", r#"{"paths":["a","b"]}"#, 1000),
        }
    }

    #[test]
    fn a_signature_is_of_this_statement_and_of_no_other() {
        let account = DeviceAccount::generate(address(1, "phone"));
        let key = account.identity_keys().ed25519;
        let signed = said();
        let signature = signed.statement().sign(&account);
        assert!(signed.statement().is_signed(&key, &signature));
        let changed: [fn(&mut Said); 10] = [
            |said| said.verdict = Verdict::Approved,
            |said| said.ids[0] += 1,
            |said| said.ids[1] += 1,
            |said| said.ids[2] += 1,
            |said| said.decided_by = address(2, "phone"),
            |said| said.decided_by = address(1, "laptop"),
            |said| said.request.action.push('d'),
            |said| said.request.arguments = r#"{"paths":["a", "b"]}"#.to_owned(),
            |said| said.request.arguments = r#"{"paths":["a"]}"#.to_owned(),
            |said| said.request.expires_at += 1,
        ];
        for (number, change) in changed.into_iter().enumerate() {
            let mut other = signed.clone();
            change(&mut other);
            assert!(!other.statement().is_signed(&key, &signature), "{number}");
        }
        let other_device = DeviceAccount::generate(address(1, "phone")).identity_keys().ed25519;
        assert!(!signed.statement().is_signed(&other_device, &signature));
        for forged in ["", "AAAA", &signature[1..]] {
            assert!(!signed.statement().is_signed(&key, forged));
        }
    }

    #[test]
    fn the_bytes_are_those_that_are_documented() {
        let mut expected = Vec::new();
        for field in [
            "colloquy/approval/1",
            "denied",
            "00000000-0000-0000-0000-000000000007",
            "00000000-0000-0000-0000-000000000008",
            "00000000-0000-0000-0000-000000000009",
            "00000000-0000-0000-0000-000000000001",
            "phone",
            "delete",
            r#"{"paths":["a","b"]}"#,
            "1000",
        ] {
            expected.extend([0, 0, 0, u8::try_from(field.len()).unwrap()]);
            expected.extend(field.bytes());
        }
        assert_eq!(said().statement().to_bytes(), expected);
    }

    fn any_said() -> impl Strategy<Value = Said> {
        let texts = ("[a-z]{0,3}", "[a-z]{0,3}", "[a-c]{1,2}");
        (any::<bool>(), [0..3_u128, 0..3, 0..3], 0..3_u128, texts, 0..200_u64).prop_map(
            |(approves, ids, user, (action, arguments, device), expires_at)| Said {
                verdict: if approves { Verdict::Approved } else { Verdict::Denied },
                ids,
                decided_by: address(user, &device),
                request: request(&action, &arguments, expires_at),
            },
        )
    }

    proptest! {
        /// Also where one field ends with what the next begins with.
        #[test]
        fn two_statements_with_the_same_bytes_say_the_same(one in any_said(), other in any_said()) {
            let says_the_same = one.verdict == other.verdict
                && one.ids == other.ids
                && one.decided_by == other.decided_by
                && one.request == other.request;
            prop_assert_eq!(one.statement().to_bytes() == other.statement().to_bytes(), says_the_same);
        }

        #[test]
        fn no_byte_of_a_statement_can_be_changed(at in any::<prop::sample::Index>(), to in 1..=255_u8) {
            let account = DeviceAccount::generate(address(1, "phone"));
            let signature = said().statement().sign(&account);
            let mut bytes = said().statement().to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= to;
            prop_assert!(check_signature(&account.identity_keys().ed25519, &bytes, &signature).is_err());
        }
    }

    #[test]
    fn a_request_has_an_action_and_arguments_that_are_an_object() {
        let fits = |action: &str, arguments: &str| request(action, arguments, 0).is_within_bounds();
        assert!(fits("delete", "{}") && fits(&"x".repeat(ACTION_MAX_BYTES), r#"{ "a": [1, 2.50] }"#));
        assert!(!fits("", "{}") && !fits(&"x".repeat(ACTION_MAX_BYTES + 1), "{}"));
        let long = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
        assert!(
            fits("delete", &long(ARGUMENTS_MAX_BYTES)) && !fits("delete", &long(ARGUMENTS_MAX_BYTES + 1))
        );
        assert!(!fits("delete\nnothing", "{}") && !fits("delete", "[]") && !fits("delete", "{\n}"));
    }

    #[test]
    fn it_is_too_late_from_the_expiry_on() {
        let request = request("delete", "{}", 1000);
        assert_eq!([999, 1000, 1001].map(|now| request.is_expired(now)), [false, true, true]);
    }

    #[test]
    fn a_debug_print_shows_neither_action_nor_arguments() {
        let printed = format!("{:?} {:?}", said().request, said().statement());
        assert!(!printed.contains("delete") && !printed.contains("paths"), "{printed}");
    }
}
