//! Access tokens that must not be believed: made from a real one by changing what a forger would change.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

use crate::habits::files;

/// A real access token, taken apart.
pub struct Forgery {
    header: Header,
    claims: Map<String, Value>,
    signature: String,
}

impl Forgery {
    /// Takes `token` apart.
    ///
    /// # Panics
    /// If it is not a JWT.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let header = jsonwebtoken::decode_header(token).expect("an access token has a header");
        let mut parts = token.split('.').skip(1);
        let claims = parts.next().expect("an access token has claims");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("claims are base64url");
        let claims = serde_json::from_slice(&claims).expect("claims are json");
        Self { header, claims, signature: parts.next().expect("an access token is signed").to_owned() }
    }

    /// The same token, with `claim` moved by so many seconds.
    #[must_use]
    pub fn shifted(mut self, seconds: i64) -> Self {
        for claim in ["iat", "exp"] {
            let was = self.claims[claim].as_i64().expect("times are numbers");
            self.claims.insert(claim.to_owned(), json!(was + seconds));
        }
        self
    }

    /// The same token for another user.
    #[must_use]
    pub fn of_subject(mut self, subject: &str) -> Self {
        self.claims.insert("sub".to_owned(), json!(subject));
        self
    }

    /// Signed with the server's own key, found in its data directory: what only a clock can make wrong.
    ///
    /// # Panics
    /// If there is no key.
    #[must_use]
    pub fn signed_by_the_server(&self, data_dir: &Path) -> String {
        let pems =
            files(data_dir).into_iter().filter_map(|file| std::fs::read_to_string(data_dir.join(file)).ok());
        let pem = pems.into_iter().find(|text| text.contains("-----BEGIN PRIVATE KEY-----"));
        let pem = pem.expect("the server keeps its signing key as PEM in its data directory");
        self.sign(&EncodingKey::from_ed_pem(pem.as_bytes()).expect("the key is an ed25519 key"))
    }

    /// Signed with a key of the forger's own.
    ///
    /// # Panics
    /// If the system cannot draw a key.
    #[must_use]
    pub fn signed_by_another_key(&self) -> String {
        let key = aws_lc_rs::signature::Ed25519KeyPair::generate().expect("the system can draw a key");
        let pkcs8 = key.to_pkcs8().expect("an ed25519 key can be written down");
        self.sign(&EncodingKey::from_ed_der(pkcs8.as_ref()))
    }

    fn sign(&self, key: &EncodingKey) -> String {
        jsonwebtoken::encode(&self.header, &self.claims, key)
            .expect("a complete header and claims are signed")
    }

    /// `alg: none`, without a signature (RFC 8725, section 2.1).
    #[must_use]
    pub fn unsigned(&self) -> String {
        let header = json!({"alg": "none", "typ": self.header.typ, "kid": self.header.kid});
        format!("{}.{}.", part(&header), part(&Value::Object(self.claims.clone())))
    }

    /// HS256 with the server's public key as its secret (RFC 8725, section 2.1).
    ///
    /// # Panics
    /// If `public_key` is not base64url.
    #[must_use]
    pub fn confused(&self, public_key: &str) -> String {
        let secret = URL_SAFE_NO_PAD.decode(public_key).expect("a public key is base64url");
        let mut header = self.header.clone();
        header.alg = Algorithm::HS256;
        let key = EncodingKey::from_secret(&secret);
        jsonwebtoken::encode(&header, &self.claims, &key).expect("a complete header and claims are signed")
    }

    /// The claims as they are now under the signature of what they were.
    #[must_use]
    pub fn under_the_old_signature(&self) -> String {
        let header = serde_json::to_value(&self.header).expect("a header is json");
        format!("{}.{}.{}", part(&header), part(&Value::Object(self.claims.clone())), self.signature)
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
