//! What is inside a ciphertext, and what it is bound to.
//!
//! A server moves ciphertexts about; it must not be able to move their meaning. So every plaintext repeats the
//! conversation, the sending and the receiving device and the idempotency key it was made for, and a reader
//! compares them with the frame it came in. The length is padded, so that it tells little about the text.

use std::fmt;

use colloquy_protocol::ids::{ConversationId, DeviceAddress, IdempotencyKey, MessageId};
use colloquy_protocol::limits::CONTINUATIONS_MAX;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::approval::{Asked, SignedVerdict};
use super::stream::StreamSecret;

/// The first byte of every plaintext. Another one is [`NotAPlaintext`].
pub const PLAINTEXT_VERSION: u8 = 1;
/// Plaintexts are filled up with zeros to a multiple of this many bytes.
pub const PADDING_BYTES: usize = 64;
/// Longest text of one message, bytes of UTF-8. Eight kibibytes for each of five devices still fit one frame.
pub const TEXT_MAX_BYTES: usize = 8 * 1024;
/// Longest text of an agent's answer, in as many messages as it takes, bytes of UTF-8.
pub const ANSWER_MAX_BYTES: usize = (1 + CONTINUATIONS_MAX as usize) * TEXT_MAX_BYTES;
/// Messages one `session_repair` may ask for, and one `resend` may answer.
pub const REPAIR_IDS_MAX: usize = 16;

const HEADER_BYTES: usize = 5;

/// One device's copy of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plaintext {
    /// Where it belongs.
    pub conversation_id: ConversationId,
    /// Who wrote it, on which device.
    pub sender: DeviceAddress,
    /// Which device it was encrypted for.
    pub recipient: DeviceAddress,
    /// The key of the message it is; the same in every copy, and never seen twice from one sender.
    pub idempotency_key: IdempotencyKey,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// For a person to read.
    Text(Text),
    /// An agent asks to be allowed something.
    ApprovalRequest(Box<Asked>),
    /// A person has decided on such a request.
    Verdict(SignedVerdict),
    /// The sender could not decrypt these messages of the receiving device, and asks for them again.
    SessionRepair {
        /// At most [`REPAIR_IDS_MAX`].
        message_ids: Vec<MessageId>,
    },
    /// What messages said that the receiving device could not decrypt.
    Resend {
        /// At most [`REPAIR_IDS_MAX`].
        items: Vec<ResentItem>,
    },
    /// Nothing: the copy for a device that a control message does not concern.
    Blank,
}

/// What a person reads.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// At most [`TEXT_MAX_BYTES`].
    pub text: String,
    /// What an answer to it is shown under while it is being written; drawn for this message alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_secret: Option<StreamSecret>,
}

impl<T: Into<String>> From<T> for Text {
    /// A text whose answer is shown when it is complete.
    fn from(text: T) -> Self {
        Self { text: text.into(), stream_secret: None }
    }
}

/// What one undecryptable message said.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResentItem {
    /// The message, by the id it was stored under.
    pub message_id: MessageId,
    /// What it said; nothing if it was not for a person, or is no longer known.
    pub body: Option<Body>,
}

/// The bytes are not a plaintext of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a plaintext of a known version")]
pub struct NotAPlaintext;

impl Plaintext {
    /// Version, length, body, padding. The buffer wipes itself.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let body = Zeroizing::new(
            rmp_serde::to_vec_named(self).expect("plaintexts have string keys and no failing serializers"),
        );
        let length = u32::try_from(body.len()).expect("a plaintext is far below 4 GiB");
        let padded = (HEADER_BYTES + body.len()).next_multiple_of(PADDING_BYTES);
        let mut bytes = Zeroizing::new(Vec::with_capacity(padded));
        bytes.push(PLAINTEXT_VERSION);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes.resize(padded, 0);
        bytes
    }

    /// The inverse of [`Plaintext::to_bytes`].
    ///
    /// # Errors
    /// [`NotAPlaintext`] for another version, a wrong length, missing fields or a list beyond its bound.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAPlaintext> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(NotAPlaintext)?;
        let [version, length @ ..] = *header;
        if version != PLAINTEXT_VERSION {
            return Err(NotAPlaintext);
        }
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| NotAPlaintext)?;
        let body = rest.get(..length).ok_or(NotAPlaintext)?;
        let plaintext: Self = rmp_serde::from_slice(body).map_err(|_| NotAPlaintext)?;
        if plaintext.body.is_within_bounds() { Ok(plaintext) } else { Err(NotAPlaintext) }
    }
}

impl Body {
    /// Do all lists and texts keep to their documented bounds?
    #[must_use]
    pub fn is_within_bounds(&self) -> bool {
        let fits = |body: &Self| body.is_for_a_person() && body.is_within_bounds();
        match self {
            Self::Text(_) | Self::Verdict(_) => self.text_bytes() <= TEXT_MAX_BYTES,
            Self::ApprovalRequest(asked) => {
                self.text_bytes() <= TEXT_MAX_BYTES && asked.request.is_within_bounds()
            }
            Self::SessionRepair { message_ids } => message_ids.len() <= REPAIR_IDS_MAX,
            Self::Resend { items } => {
                items.len() <= REPAIR_IDS_MAX && items.iter().all(|item| item.body.as_ref().is_none_or(fits))
            }
            Self::Blank => true,
        }
    }

    /// Is it for a person to see? All else clients tell each other by themselves.
    #[must_use]
    pub fn is_for_a_person(&self) -> bool {
        match self {
            Self::Text(_) | Self::ApprovalRequest(_) | Self::Verdict(_) => true,
            Self::SessionRepair { .. } | Self::Resend { .. } | Self::Blank => false,
        }
    }

    /// Bytes of what is as long as somebody makes it.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.text.len(),
            Self::ApprovalRequest(asked) => asked.text.len() + asked.request.text_bytes(),
            Self::Verdict(verdict) => verdict.signature.len(),
            Self::SessionRepair { .. } | Self::Resend { .. } | Self::Blank => 0,
        }
    }

    /// What an answer to it is shown under while it is being written.
    #[must_use]
    pub fn stream_secret(&self) -> Option<&StreamSecret> {
        match self {
            Self::Text(text) => text.stream_secret.as_ref(),
            Self::Verdict(verdict) => verdict.stream_secret.as_ref(),
            Self::ApprovalRequest(_) | Self::SessionRepair { .. } | Self::Resend { .. } | Self::Blank => None,
        }
    }

    /// The text, where there is one for a person to read: also that which stands beside a request.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(&text.text),
            Self::ApprovalRequest(asked) => Some(&asked.text),
            Self::Verdict(_) | Self::SessionRepair { .. } | Self::Resend { .. } | Self::Blank => None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::ApprovalRequest(_) => "ApprovalRequest(..)",
            Self::Verdict(_) => "Verdict(..)",
            Self::SessionRepair { .. } => "SessionRepair(..)",
            Self::Resend { .. } => "Resend(..)",
            Self::Blank => "Blank",
        })
    }
}

impl fmt::Debug for ResentItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResentItem").field("message_id", &self.message_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::approval::{ApprovalRequest, Verdict};
    use colloquy_protocol::ids::{DeviceId, UserId};
    use proptest::prelude::*;
    use uuid::{Builder, Uuid};

    fn plaintext(body: Body) -> Plaintext {
        let device = |user: u128| DeviceAddress {
            user_id: UserId(Uuid::from_u128(user)),
            device_id: DeviceId::new("phone").unwrap(),
        };
        Plaintext {
            conversation_id: ConversationId(Uuid::from_u128(7)),
            sender: device(1),
            recipient: device(2),
            idempotency_key: IdempotencyKey::new(Builder::from_random_bytes([9; 16]).into_uuid()).unwrap(),
            body,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_its_length_is_padded(text in ".{0,300}") {
            let written = plaintext(Body::Text(Text { text, stream_secret: Some(StreamSecret::draw()) }));
            let bytes = written.to_bytes();
            prop_assert_eq!(bytes.len() % PADDING_BYTES, 0);
            prop_assert_eq!(Plaintext::from_bytes(&bytes), Ok(written));
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Plaintext::from_bytes(&bytes);
        }
    }

    #[test]
    fn another_version_or_a_list_beyond_its_bound_is_refused() {
        let mut bytes = plaintext(Body::Blank).to_bytes();
        bytes[0] = 2;
        assert_eq!(Plaintext::from_bytes(&bytes), Err(NotAPlaintext));
        let long =
            plaintext(Body::SessionRepair { message_ids: vec![MessageId(Uuid::nil()); REPAIR_IDS_MAX + 1] });
        assert_eq!(Plaintext::from_bytes(&long.to_bytes()), Err(NotAPlaintext));
        let text = plaintext(Body::Text("x".repeat(TEXT_MAX_BYTES + 1).into()));
        assert_eq!(Plaintext::from_bytes(&text.to_bytes()), Err(NotAPlaintext));
    }

    fn asked(text: &str, arguments: &str) -> Body {
        Body::ApprovalRequest(Box::new(Asked {
            text: text.to_owned(),
            request: ApprovalRequest {
                action: "secret".to_owned(),
                arguments: arguments.to_owned(),
                expires_at: 7,
            },
            verdict_key: plaintext(Body::Blank).idempotency_key,
        }))
    }

    fn resent(body: Body) -> Body {
        Body::Resend { items: vec![ResentItem { message_id: MessageId(Uuid::nil()), body: Some(body) }] }
    }

    #[test]
    fn requests_and_verdicts_are_read_back_byte_for_byte_also_when_they_are_told_again() {
        let verdict = SignedVerdict {
            request_id: MessageId(Uuid::from_u128(3)),
            verdict: Verdict::Denied,
            signature: "signature".to_owned(),
            stream_secret: Some(StreamSecret::draw()),
        };
        for body in [asked("I would", "{ \"a\":  1.0}"), Body::Verdict(verdict)] {
            for body in [body.clone(), resent(body)] {
                let written = plaintext(body);
                assert_eq!(Plaintext::from_bytes(&written.to_bytes()), Ok(written));
            }
        }
    }

    #[test]
    fn a_request_without_bounds_is_refused_and_only_what_is_for_a_person_is_told_again() {
        let long = "x".repeat(TEXT_MAX_BYTES - "secret".len() - 1);
        assert!(asked(&long[1..], "{}").is_within_bounds());
        let repair = Body::SessionRepair { message_ids: Vec::new() };
        for bad in [
            asked(&long, "{}"),
            asked("", "[]"),
            asked("", r#"{"to":"a","to":"b"}"#),
            asked("", "{\n}"),
            resent(asked("", "[]")),
            resent(repair),
            resent(Body::Blank),
        ] {
            assert_eq!(Plaintext::from_bytes(&plaintext(bad).to_bytes()), Err(NotAPlaintext));
        }
    }

    #[test]
    fn a_debug_print_shows_no_content() {
        for body in [Body::Text("secret".into()), asked("secret", "{}"), resent(asked("secret", "{}"))] {
            assert!(!format!("{:?}", plaintext(body)).contains("secret"));
        }
    }
}
