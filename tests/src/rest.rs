//! The REST interface as a client sees it, and the few steps every test begins with.

use std::net::SocketAddr;
use std::sync::Once;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId};
use colloquy_protocol::problem::{PROBLEM_JSON, Problem};
use colloquy_protocol::rest::accounts::{LogIn, Register, Tokens};
use colloquy_protocol::rest::conversations::{Conversations, History};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::DEADLINE;
use crate::ambient::fresh_uuid;
use crate::device::{Device, DeviceKeys};
use crate::secrets::Secrets;

/// Every test account's password.
pub const PASSWORD: &str = "a long enough password";

/// One-time keys a test device publishes.
const ONE_TIME_KEYS: usize = 2;

/// A REST client of one server.
#[derive(Clone)]
pub struct Rest {
    http: reqwest::Client,
    base: String,
    secrets: Secrets,
}

/// What a request was answered with.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type.
    pub content_type: String,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// The body of a request that was to succeed.
    #[must_use]
    pub fn read<T: DeserializeOwned>(self) -> T {
        assert!((200..300).contains(&self.status), "refused with {}: {}", self.status, self.body);
        serde_json::from_str(&self.body).expect("the body has the documented form")
    }

    /// The problem document of a request that was to be refused.
    #[must_use]
    pub fn problem(self) -> Problem {
        assert!(self.status >= 400, "accepted with {}: {}", self.status, self.body);
        assert!(self.content_type.starts_with(PROBLEM_JSON), "not a problem document: {self:?}");
        let problem: Problem = serde_json::from_str(&self.body).expect("the body is a problem document");
        assert_eq!(problem.status, self.status, "a problem repeats the status it came with");
        assert_eq!(problem.status, problem.code.http_status(), "{} has its own status", problem.code);
        problem
    }

    /// The code of a request that was to be refused.
    #[must_use]
    pub fn refusal(self) -> ErrorCode {
        self.problem().code
    }
}

impl Rest {
    /// A client of the server at `address`; what it is given to keep secret goes to `secrets`.
    #[must_use]
    pub fn new(address: SocketAddr, secrets: Secrets) -> Self {
        Self { http: http_client(), base: format!("http://{address}"), secrets }
    }

    /// Sends one request. `token` goes into the `Authorization` header.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<String>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        Self::answered(request).await
    }

    /// `POST` with headers and a body as they are.
    pub async fn post_text(
        &self,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.base)).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Self::answered(request).await
    }

    async fn answered(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("the server answers");
        let status = response.status().as_u16();
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        Answer { status, content_type, body: response.text().await.expect("a body is text") }
    }

    /// `GET`.
    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.request(Method::GET, path, Some(token), None).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.request(Method::DELETE, path, Some(token), None).await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, token: Option<&str>, body: &impl Serialize) -> Answer {
        self.request(Method::POST, path, token, Some(json(body))).await
    }

    /// `PUT` with a JSON body.
    pub async fn put(&self, path: &str, token: &str, body: &impl Serialize) -> Answer {
        self.request(Method::PUT, path, Some(token), Some(json(body))).await
    }

    /// Registers a new user called `name` with a device, through one log-in.
    pub async fn register_user(&self, name: &str, device: &str) -> Device {
        let email = format!("{}@example.org", fresh_uuid().simple());
        let register = Register {
            phone: None,
            email: Some(email.clone()),
            name: name.to_owned(),
            password: PASSWORD.to_owned(),
        };
        let answer = self.post("/v1/accounts", None, &register).await;
        assert_eq!(answer.status, 201, "an account is created: {}", answer.body);
        let tokens: Tokens = answer.read();
        self.keep_secret(&tokens);
        self.secrets.add("email", &email);
        self.secrets.add("password", PASSWORD);
        self.secrets.add("user id", tokens.user_id.to_string());
        self.register_device(tokens, device, email).await
    }

    /// Registers one more device of `owner`'s user, through a log-in of its own.
    pub async fn add_device(&self, owner: &Device, device: &str) -> Device {
        let tokens = self.log_in(&owner.email).await;
        self.register_device(tokens, device, owner.email.clone()).await
    }

    /// Logs in with [`PASSWORD`].
    pub async fn log_in(&self, email: &str) -> Tokens {
        let log_in = LogIn {
            phone: None,
            email: Some(email.to_owned()),
            agent_id: None,
            password: PASSWORD.to_owned(),
        };
        let tokens: Tokens = self.post("/v1/logins", None, &log_in).await.read();
        self.keep_secret(&tokens);
        tokens
    }

    /// Registers a device through a log-in.
    pub async fn register_device(&self, tokens: Tokens, device: &str, email: String) -> Device {
        let keys = DeviceKeys::generate();
        let device_id = DeviceId::new(device).expect("a test names its devices plainly");
        let registration = keys.registration(tokens.user_id, &device_id, ONE_TIME_KEYS);
        let answer = self.put(&format!("/v1/devices/{device_id}"), &tokens.access_token, &registration).await;
        assert!((200..300).contains(&answer.status), "the device is registered: {}", answer.body);
        Device { user_id: tokens.user_id, device_id, tokens, keys, email, password: PASSWORD.to_owned() }
    }

    fn keep_secret(&self, tokens: &Tokens) {
        self.secrets.add("access token", &tokens.access_token);
        self.secrets.add("refresh token", &tokens.refresh_token);
    }

    /// One page of a conversation's history; `query` holds `after`, `before` and `limit`.
    pub async fn history(&self, reader: &Device, conversation: ConversationId, query: &str) -> Answer {
        let device = &reader.device_id;
        let path = format!("/v1/conversations/{conversation}/messages?device_id={device}&{query}");
        self.get(&path, &reader.tokens.access_token).await
    }

    /// The whole history of a conversation, page by page.
    pub async fn whole_history(&self, reader: &Device, conversation: ConversationId) -> History {
        let mut whole = History { conversation_id: conversation, messages: Vec::new(), more: true };
        while whole.more {
            let after = whole.messages.last().map_or(0, |message| message.sequence_number);
            let page: History =
                self.history(reader, conversation, &format!("after={after}&limit=100")).await.read();
            assert!(!(page.more && page.messages.is_empty()), "a page that promises more brings something");
            whole.messages.extend(page.messages);
            whole.more = page.more;
        }
        whole
    }

    /// What somebody's list of conversations says was given up.
    pub async fn given_up(&self, reader: &Device) -> Vec<MessageId> {
        let list = self.get("/v1/conversations", &reader.tokens.access_token).await;
        list.read::<Conversations>().conversations.into_iter().flat_map(|listed| listed.given_up).collect()
    }

    /// A JSON value that some test changes before it sends it.
    #[must_use]
    pub fn value(body: &impl Serialize) -> Value {
        serde_json::to_value(body).expect("bodies have string keys")
    }
}

fn json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("bodies have string keys")
}

/// An HTTP client that gives up after [`DEADLINE`].
#[must_use]
pub fn http_client() -> reqwest::Client {
    // Two providers are compiled in; rustls wants to be told which one to use.
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only if one is installed already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
    reqwest::Client::builder().timeout(DEADLINE).no_proxy().build().expect("plain options make a client")
}
