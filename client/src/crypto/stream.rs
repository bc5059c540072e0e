//! Answers that are shown while they are being written: pieces of them, under a key that only the two users' devices know.
//!
//! A ratchet would have to move for every piece and every device, and would be lost where pieces are. So a question carries a
//! secret of its own, which every device of both users has as soon as it can read the question; from that, the turn and the
//! try at an answer both sides derive the key. Pieces are padded: the lengths of a model's words tell what it says ("What Was
//! Your Prompt? A Remote Keylogging Attack on AI Assistants", USENIX Security 2024).

use std::fmt;

use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use colloquy_protocol::ids::{MessageId, StreamId};
use hkdf::Hkdf;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::ambient;

/// Pieces are filled up with zeros to a multiple of this many bytes.
pub const PIECE_PADDING_BYTES: usize = 256;
/// Text of one piece, bytes of UTF-8; more goes into the next one.
pub const PIECE_MAX_BYTES: usize = 4 * 1024;
/// What an agent says it is doing, bytes of UTF-8.
pub const STATUS_MAX_BYTES: usize = 200;

const SECRET_BYTES: usize = 32;
const LENGTH_BYTES: usize = 2;
const NONCE_BYTES: usize = 12;
const CONTEXT: &[u8] = b"colloquy/stream/1";

/// What a question's answers are shown under while they are being written.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamSecret([u8; SECRET_BYTES]);

impl StreamSecret {
    /// A new one.
    #[must_use]
    pub fn draw() -> Self {
        let mut bytes = [0; SECRET_BYTES];
        ambient::fill(&mut bytes);
        Self(bytes)
    }
}

impl Drop for StreamSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for StreamSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamSecret(..)")
    }
}

impl Serialize for StreamSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for StreamSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = StreamSecret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<StreamSecret, E> {
                bytes.try_into().map(StreamSecret).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// What has been added to an answer, and what the agent is doing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where in the answer the text belongs, bytes.
    pub offset: u64,
    /// At most [`PIECE_MAX_BYTES`]; nothing, where only the status is news.
    pub text: String,
    /// What the agent is doing ("using a tool"); at most [`STATUS_MAX_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// The key of one try at an answer.
pub struct StreamKey(ChaCha20Poly1305);

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(..)")
    }
}

impl StreamKey {
    /// The key under which a turn, begun by the question that carried `secret`, is answered in this try.
    #[must_use]
    pub fn derive(secret: &StreamSecret, turn_id: MessageId, stream_id: StreamId) -> Self {
        let mut key = Zeroizing::new([0; SECRET_BYTES]);
        Hkdf::<Sha256>::new(None, &secret.0)
            .expand_multi_info(&[CONTEXT, turn_id.0.as_bytes(), stream_id.0.as_bytes()], &mut key[..])
            .expect("32 bytes are within what HKDF-SHA-256 can expand to");
        Self(ChaCha20Poly1305::new((&*key).into()))
    }

    /// Encrypts the piece of this number. No number is used twice.
    #[must_use]
    pub fn seal(&self, sequence: u64, piece: &Piece) -> String {
        let body = Zeroizing::new(
            rmp_serde::to_vec_named(piece).expect("pieces have string keys and no failing serializers"),
        );
        let length = u16::try_from(body.len()).expect("a piece is far below 64 KiB");
        let padded = (LENGTH_BYTES + body.len()).next_multiple_of(PIECE_PADDING_BYTES);
        let mut bytes = Zeroizing::new(Vec::with_capacity(padded));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes.resize(padded, 0);
        let sealed = self
            .0
            .encrypt(&nonce(sequence).into(), &bytes[..])
            .expect("a piece is within the cipher's limits");
        vodozemac::base64_encode(sealed)
    }

    /// The piece of this number; nothing if it was not written with this key, under this number, in this form.
    #[must_use]
    pub fn open(&self, sequence: u64, body: &str) -> Option<Piece> {
        let sealed = vodozemac::base64_decode(body).ok()?;
        let bytes = self.0.decrypt(&nonce(sequence).into(), &sealed[..]).map(Zeroizing::new).ok()?;
        let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
        let piece: Piece = rmp_serde::from_slice(rest.get(..u16::from_be_bytes(*length).into())?).ok()?;
        let fits = piece.text.len() <= PIECE_MAX_BYTES
            && piece.status.as_ref().is_none_or(|status| status.len() <= STATUS_MAX_BYTES);
        fits.then_some(piece)
    }
}

fn nonce(sequence: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[NONCE_BYTES - 8..].copy_from_slice(&sequence.to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::limits::DELTA_MAX_BYTES;
    use uuid::Uuid;

    use super::*;

    fn key(secret: &StreamSecret, turn: u128, stream: u128) -> StreamKey {
        StreamKey::derive(secret, MessageId(Uuid::from_u128(turn)), StreamId(Uuid::from_u128(stream)))
    }

    fn piece(text: &str) -> Piece {
        Piece { offset: 7, text: text.to_owned(), status: Some("thinking".to_owned()) }
    }

    #[test]
    fn a_piece_is_read_with_its_own_key_and_number_only() {
        let secret = StreamSecret::draw();
        let sealed = key(&secret, 1, 1).seal(3, &piece("so far"));
        assert_eq!(key(&secret, 1, 1).open(3, &sealed), Some(piece("so far")));
        assert_eq!(key(&secret, 1, 1).open(4, &sealed), None);
        assert_eq!(key(&secret, 2, 1).open(3, &sealed), None);
        assert_eq!(key(&secret, 1, 2).open(3, &sealed), None);
        assert_eq!(key(&StreamSecret::draw(), 1, 1).open(3, &sealed), None);
        for forged in ["", "secret", "c2VjcmV0", &sealed[1..]] {
            assert_eq!(key(&secret, 1, 1).open(3, forged), None);
        }
    }

    #[test]
    fn words_of_all_lengths_look_alike_and_the_longest_piece_fits_a_delta() {
        let key = key(&StreamSecret::draw(), 1, 1);
        let length = |text: &str| key.seal(1, &piece(text)).len();
        assert_eq!(length("a"), length(&"long".repeat(40)));
        let longest =
            Piece { status: Some("x".repeat(STATUS_MAX_BYTES)), ..piece(&"x".repeat(PIECE_MAX_BYTES)) };
        let sealed = key.seal(1, &longest);
        assert!(sealed.len() <= DELTA_MAX_BYTES, "{}", sealed.len());
        assert_eq!(key.open(1, &sealed), Some(longest));
        let longer = Piece { status: None, ..piece(&"x".repeat(PIECE_MAX_BYTES + 1)) };
        assert_eq!(key.open(2, &key.seal(2, &longer)), None, "it is larger than it may be");
    }

    #[test]
    fn a_secret_is_kept_as_it_is_and_never_printed() {
        let secret = StreamSecret::draw();
        let written = rmp_serde::to_vec(&secret).unwrap();
        assert_eq!(written.len(), SECRET_BYTES + 2);
        assert_eq!(rmp_serde::from_slice::<StreamSecret>(&written).unwrap(), secret);
        assert!(rmp_serde::from_slice::<StreamSecret>(&written[..20]).is_err());
        assert_eq!(format!("{secret:?}"), "StreamSecret(..)");
        assert!(!format!("{:?}", piece("secret")).contains("secret"));
    }
}
