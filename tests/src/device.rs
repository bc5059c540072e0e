//! A registered device: real keys, because the server checks signatures, and sealed content that nobody opens.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use colloquy_protocol::envelope::{Algorithm, CiphertextKind, DeviceCiphertext, Envelope};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::frame::client::{SendMessage, SendPayload};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, DeviceId, UserId};
use colloquy_protocol::rest::accounts::Tokens;
use colloquy_protocol::rest::devices::{RegisterDevice, SignedKey};
use colloquy_protocol::signing::{KeyPurpose, key_message};
use serde_json::{Value, json};

use crate::ambient::{fresh_key, now};

/// How every ciphertext of the tests begins; it must never stand in a log (PRIVATE).
pub const CIPHERTEXT_MARK: &str = "Y2lwaGVydGV4dCBvZiB0aGUgdGVzdHM6";

/// An unpadded base64 body that carries `text` after [`CIPHERTEXT_MARK`].
#[must_use]
pub fn seal(text: &str) -> String {
    format!("{CIPHERTEXT_MARK}{}", STANDARD_NO_PAD.encode(text))
}

/// What [`seal`] put into `body`.
#[must_use]
pub fn unseal(body: &str) -> String {
    let sealed = body.strip_prefix(CIPHERTEXT_MARK).expect("the body was made by seal");
    let bytes = STANDARD_NO_PAD.decode(sealed).expect("seal encodes base64");
    String::from_utf8(bytes).expect("seal was given text")
}

/// A device's keys. The Curve25519 keys are random bytes: every 32 bytes are a public key.
pub struct DeviceKeys {
    signing: Ed25519KeyPair,
    identity: String,
}

impl DeviceKeys {
    /// New keys.
    #[must_use]
    pub fn generate() -> Self {
        let signing = Ed25519KeyPair::generate().expect("the system can draw an ed25519 key");
        Self { signing, identity: random_key() }
    }

    /// The Curve25519 identity key, unpadded base64.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// A new signed key.
    #[must_use]
    pub fn signed_key(
        &self,
        purpose: KeyPurpose,
        user_id: UserId,
        device_id: &DeviceId,
        key_id: &str,
    ) -> SignedKey {
        let key = random_key();
        let signature = self.sign(&key_message(purpose, user_id, device_id, key_id, &key));
        SignedKey { key_id: key_id.to_owned(), key, signature }
    }

    /// What registers a device with these keys and `one_time_keys` one-time keys.
    #[must_use]
    pub fn registration(
        &self,
        user_id: UserId,
        device_id: &DeviceId,
        one_time_keys: usize,
    ) -> RegisterDevice {
        let identity = key_message(KeyPurpose::Identity, user_id, device_id, "", &self.identity);
        RegisterDevice {
            platform: "terminal".into(),
            identity_key: self.identity.clone(),
            signing_key: STANDARD_NO_PAD.encode(self.signing.public_key().as_ref()),
            identity_signature: self.sign(&identity),
            one_time_keys: (0..one_time_keys)
                .map(|n| self.signed_key(KeyPurpose::OneTime, user_id, device_id, &format!("one-time-{n}")))
                .collect(),
            fallback_key: self.signed_key(KeyPurpose::Fallback, user_id, device_id, "fallback-1"),
        }
    }

    fn sign(&self, message: &[u8]) -> String {
        STANDARD_NO_PAD.encode(self.signing.sign(message).as_ref())
    }

    /// A JWT of this header and these claims, made by hand and not by the library that the server reads it with.
    #[must_use]
    pub fn jwt(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.signing.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

fn random_key() -> String {
    STANDARD_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// A device with an account, a log-in of its own and published keys.
pub struct Device {
    /// The owner.
    pub user_id: UserId,
    /// The device among its owner's.
    pub device_id: DeviceId,
    /// The log-in this device was registered through.
    pub tokens: Tokens,
    /// Its keys.
    pub keys: DeviceKeys,
    /// For a log-in of another device of the same owner.
    pub email: String,
    /// The same.
    pub password: String,
}

impl Device {
    /// Data of an event of this type, signed by this device; good for a minute.
    #[must_use]
    pub fn signed_data(&self, event_type: &str, data: &Value) -> String {
        let header = json!({"alg": "EdDSA", "typ": "colloquy-event+jwt",
            "kid": format!("{}/{}", self.user_id, self.device_id)});
        let claims = json!({"exp": now() / 1000 + 60, "type": event_type, "data": data});
        self.keys.jwt(&header, &claims)
    }

    /// Where a ciphertext for this device is addressed to.
    #[must_use]
    pub fn address(&self) -> DeviceAddress {
        DeviceAddress { user_id: self.user_id, device_id: self.device_id.clone() }
    }

    /// The conversation between this device's owner and another's.
    #[must_use]
    pub fn conversation_with(&self, other: &Device) -> ConversationId {
        ConversationId::of_pair(self.user_id, other.user_id)
    }

    /// A message to the owner of the first of `recipients`, sealed for all of them.
    #[must_use]
    pub fn compose(&self, recipients: &[&Device], text: &str) -> SendMessage {
        let key = fresh_key();
        SendMessage {
            oldest_unsettled: None,
            client_message_id: format!("client-{key}"),
            idempotency_key: key,
            client_sequence: None,
            payload: self.compose_payload(recipients, text),
        }
    }

    /// The payload of [`Device::compose`].
    #[must_use]
    pub fn compose_payload(&self, recipients: &[&Device], text: &str) -> SendPayload {
        let receiver = recipients.iter().find(|device| device.user_id != self.user_id);
        let receiver = receiver.expect("a message has a recipient other than its sender");
        SendPayload {
            conversation_id: self.conversation_with(receiver),
            receiver_id: receiver.user_id,
            content: self.envelope(recipients, text),
            r#type: MessageType::Text,
            media_url: None,
            reply_to_message_id: None,
            timestamp: now(),
        }
    }

    fn envelope(&self, recipients: &[&Device], text: &str) -> Envelope {
        let body = seal(text);
        Envelope {
            algorithm: Algorithm::OlmV1,
            sender_key: self.keys.identity().to_owned(),
            ciphertexts: recipients
                .iter()
                .map(|device| DeviceCiphertext {
                    user_id: device.user_id,
                    device_id: device.device_id.clone(),
                    kind: CiphertextKind::Normal,
                    body: body.clone(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::envelope::{is_key, is_unpadded_base64};

    #[test]
    fn sealed_text_is_base64_and_reads_back() {
        for text in ["", "a", "hello", "four byte text \u{1f98a}"] {
            assert!(is_unpadded_base64(&seal(text)), "{text}");
            assert_eq!(unseal(&seal(text)), text);
        }
    }

    #[test]
    fn published_keys_have_the_form_the_protocol_asks_for() {
        let (user, device) = (UserId(crate::ambient::fresh_uuid()), DeviceId::new("phone").unwrap());
        let registration = DeviceKeys::generate().registration(user, &device, 3);
        assert!(is_key(&registration.identity_key) && is_key(&registration.signing_key));
        assert_eq!(registration.one_time_keys.len(), 3);
    }
}
