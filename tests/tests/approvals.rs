//! An agent asks to be allowed something: the real SDK and the real chat, the real server, the real `colloquy agent`, and a
//! service that knows nothing but plain HTTP.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use colloquy_client::ambient::Clock;
use colloquy_client::sync::BackoffPolicy;
use colloquy_client::{
    Client, ClientError, Event, Events, Identifier, Message, ProfileOptions, Registration, SendFailure,
    ShownContent, ShownRequest, Surroundings, Unlock, Verdict,
};
use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};
use colloquy_tests::DEADLINE;
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::rest::PASSWORD;
use colloquy_tests::server::{Server, binary};
use colloquy_tests::sidecar::{AgentService, Sidecar, sample};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// As the service writes them: what is signed is this, byte for byte.
const ARGUMENTS: &str = r#"{"force":false,"paths":["a","b"]}"#;
/// How far the clock of a person is behind, who believes that there is time yet.
const BEHIND_MS: u64 = 60 * 60 * 1000;
/// How often a service that is not there yet is asked in vain.
const UNAVAILABLE_TIMES: usize = 2;
/// Messages of a test's conversation, at most.
const MESSAGES_MAX: usize = 20;

/// Asks before it does what it is told; what it is asked about a decision it says again, word for word.
fn careful(question: &Value) -> Value {
    match question.get("approval") {
        Some(_) => json!({"text": question.to_string()}),
        None => asking(600),
    }
}

/// As [`careful`], but leaves a second to decide.
fn hasty(question: &Value) -> Value {
    match question.get("approval") {
        Some(_) => json!({"text": "done"}),
        None => asking(1),
    }
}

/// As [`careful`], bit by bit.
fn talkative(question: &Value) -> Value {
    let Some(approval) = question.get("approval") else {
        let mut asking = asking(600);
        let wanted = json!({"approval_request": asking["approval_request"].take()});
        return json!({"stream": ["I would delete", wanted, " two files."]});
    };
    json!({"stream": ["It was ", approval["verdict"]]})
}

fn asking(seconds: u64) -> Value {
    let arguments: Value = serde_json::from_str(ARGUMENTS).expect("it is JSON");
    let wanted = json!({"action": "delete", "arguments": arguments, "expires_in_seconds": seconds});
    json!({"text": "I would delete two files.", "approval_request": wanted})
}

/// One device of a person.
struct Device {
    client: Client,
    events: Events,
    user: UserId,
    _folder: TempDir,
}

impl Device {
    async fn open(server: &Server, clock: Clock) -> (Client, TempDir) {
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let options = ProfileOptions {
            folder: folder.path().join("store"),
            unlock: Unlock::KeyFile(folder.path().join("key")),
            server_url: url(server),
            device_id: None,
            platform: "terminal".to_owned(),
        };
        let surroundings = Surroundings::of_this_machine().expect("this machine encrypts");
        let backoff = BackoffPolicy { first_ms: 20, max_ms: 200, stable_after_ms: 1_000 };
        let opened = Client::open_with(options, backoff, Surroundings { clock, ..surroundings }).await;
        (opened.expect("an empty profile is opened"), folder)
    }

    /// The first device of somebody new.
    async fn join(server: &Server, clock: Clock) -> (Self, String) {
        let (client, folder) = Self::open(server, clock).await;
        let email = format!("{}@example.org", fresh_uuid().simple());
        server.secrets().add("email", &email);
        let (name, password) = ("a person".to_owned(), PASSWORD.to_owned());
        let registration = Registration { phone: None, email: Some(email.clone()), name, password };
        let user = client.register(registration).await.expect("an account is made");
        let events = client.connect().expect("logged in");
        (Self { client, events, user, _folder: folder }, email)
    }

    async fn another(server: &Server, user: UserId, email: &str) -> Self {
        let (client, folder) = Self::open(server, Clock::System).await;
        let identifier = Identifier::Email(email.to_owned());
        client.log_in(identifier, PASSWORD.to_owned()).await.expect("the password is right");
        let events = client.connect().expect("logged in");
        Self { client, events, user, _folder: folder }
    }

    async fn until<T>(&mut self, what: &str, pick: impl Fn(Event) -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(picked) = pick(self.events.next().await.expect("the client goes on")) {
                    return picked;
                }
            }
        };
        timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("no {what} within {DEADLINE:?}"))
    }

    async fn connected(&mut self) {
        self.until("connection", |event| matches!(event, Event::Connected { .. }).then_some(())).await;
    }

    /// The next request of the other side.
    async fn request(&mut self) -> (MessageId, ShownRequest) {
        self.until("request", |event| match event {
            Event::MessageReceived(message) => match message.content {
                ShownContent::Request(shown) => Some((message.message_id?, *shown)),
                _ => None,
            },
            _ => None,
        })
        .await
    }

    /// The next text of the other side.
    async fn text(&mut self) -> String {
        self.until("text", |event| match event {
            Event::MessageReceived(message) if !message.is_own => match message.content {
                ShownContent::Text(text) => Some(text),
                _ => None,
            },
            _ => None,
        })
        .await
    }

    /// What is shown to be decided on the one request of the conversation.
    fn shown_verdict(&self, agent: UserId) -> Option<Verdict> {
        let conversation = ConversationId::of_pair(self.user, agent);
        let history = self.client.history(conversation, None, MESSAGES_MAX).expect("the store is read");
        let verdict = |message: Message| match message.content {
            ShownContent::Request(shown) => Some(shown.verdict),
            _ => None,
        };
        history.into_iter().find_map(verdict).expect("there is a request")
    }

    fn device_id(&self) -> DeviceId {
        self.client.device_id().expect("the store is read").expect("logged in")
    }
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

/// The documented bytes, made here by hand.
fn statement(fields: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        let length = u32::try_from(field.len()).expect("a field is short");
        bytes.extend(length.to_be_bytes());
        bytes.extend(field.bytes());
    }
    bytes
}

fn decoded(value: &Value) -> Vec<u8> {
    STANDARD_NO_PAD.decode(value.as_str().expect("it is text")).expect("it is unpadded base64")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_on_one_device_is_told_the_service_once_as_it_was_asked_for_and_signed() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(careful).await;
    let agent = Sidecar::start(&server, "agent-careful", &["--service", &service.url("/")]).await;
    let (mut phone, email) = Device::join(&server, Clock::System).await;
    let mut laptop = Device::another(&server, phone.user, &email).await;
    laptop.connected().await;
    phone.client.send_text(agent.user_id, "tidy up").await.expect("a text goes into the outbox");
    let (request_id, shown) = phone.request().await;
    assert_eq!(shown.text, "I would delete two files.");
    assert_eq!((shown.request.action.as_str(), shown.request.arguments.as_str()), ("delete", ARGUMENTS));
    assert_eq!(laptop.request().await, (request_id, shown.clone()));
    phone.client.decide(request_id, Verdict::Approved).await.expect("it is open");
    let told: Value = serde_json::from_str(&phone.text().await).expect("the service says what it was asked");
    assert!(told.get("text").is_none(), "{told}");
    assert_eq!(told["user_id"], json!(phone.user));
    let (approval, conversation) = (&told["approval"], ConversationId::of_pair(phone.user, agent.user_id));
    assert_eq!((&approval["verdict"], &approval["action"]), (&json!("approved"), &json!("delete")));
    assert_eq!(approval["arguments"].to_string(), ARGUMENTS);
    assert_eq!(approval["request_id"], json!(request_id));
    let device_id = phone.device_id();
    assert_eq!(approval["decided_by"], json!({"user_id": phone.user, "device_id": device_id}));
    let expected = |verdict: &str| {
        statement(&[
            "colloquy/approval/1",
            verdict,
            &conversation.to_string(),
            &request_id.to_string(),
            &agent.user_id.to_string(),
            &phone.user.to_string(),
            device_id.as_str(),
            "delete",
            ARGUMENTS,
            &shown.request.expires_at.to_string(),
        ])
    };
    let key = UnparsedPublicKey::new(&ED25519, decoded(&approval["signing_key"]));
    let signature = decoded(&approval["signature"]);
    key.verify(&expected("approved"), &signature).expect("the device has signed it");
    assert!(key.verify(&expected("denied"), &signature).is_err(), "and nothing else");
    // The other device has read of it.
    laptop.text().await;
    assert_eq!(laptop.shown_verdict(agent.user_id), Some(Verdict::Approved));
    let late = laptop.client.decide(request_id, Verdict::Denied).await;
    assert!(matches!(late, Err(ClientError::RequestDecided)), "{late:?}");
    let asked = service.asked().clone();
    assert_eq!(asked.len(), 2, "a question and a decision");
    assert!(asked.values().all(|times| *times == 1), "each once: {asked:?}");
    assert!(!server.log().contains("delete") && !agent.log().contains("delete"), "nothing of it is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_told_as_well_and_a_device_that_is_too_late_is_not_heard() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(talkative).await;
    let agent = Sidecar::start(&server, "agent-talkative", &["--service", &service.url("/")]).await;
    let (mut phone, email) = Device::join(&server, Clock::System).await;
    let mut laptop = Device::another(&server, phone.user, &email).await;
    laptop.connected().await;
    phone.client.send_text(agent.user_id, "tidy up").await.expect("a text goes into the outbox");
    let (request_id, shown) = phone.request().await;
    assert_eq!(
        (shown.text.as_str(), shown.request.arguments.as_str()),
        ("I would delete two files.", ARGUMENTS)
    );
    laptop.request().await;
    laptop.client.shutdown().await;
    let approved = laptop.client.decide(request_id, Verdict::Approved).await.expect("it knows of nothing");
    phone.client.decide(request_id, Verdict::Denied).await.expect("it is open");
    assert_eq!(phone.text().await, "It was denied");
    laptop.events = laptop.client.connect().expect("logged in");
    let why = laptop
        .until("failure", |event| match event {
            Event::MessageFailed { local_id, reason, .. } if local_id == approved => Some(reason),
            _ => None,
        })
        .await;
    assert!(matches!(why, SendFailure::Refused(_)), "{why}");
    for device in [&phone, &laptop] {
        assert_eq!(device.shown_verdict(agent.user_id), Some(Verdict::Denied));
    }
    phone.client.send_text(agent.user_id, "and now?").await.expect("a text goes into the outbox");
    phone.request().await;
    assert_eq!(service.asked().len(), 3, "two questions and a decision");
}

/// Refuses what it is asked about a decision until it has been asked often.
fn unsteady(question: &Value) -> Value {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    match question.get("approval") {
        None => asking(600),
        Some(_) if ASKED.fetch_add(1, Ordering::Relaxed) < UNAVAILABLE_TIMES => Value::Null,
        Some(_) => json!({"text": "done"}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_is_told_until_it_is_heard_whoever_stops_it_and_under_one_key() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(unsteady).await;
    let arguments = ["--service", &service.url("/"), "--patience-s", "0"];
    let agent = Sidecar::start(&server, "agent-unsteady", &arguments).await;
    let (mut person, _) = Device::join(&server, Clock::System).await;
    person.client.send_text(agent.user_id, "tidy up").await.expect("a text goes into the outbox");
    let (request_id, _) = person.request().await;
    let decided = person.client.decide(request_id, Verdict::Approved).await.expect("it is open");
    let turn_id = person
        .until("ack", |event| match event {
            Event::MessageSent { local_id, message_id, .. } if local_id == decided => Some(message_id),
            _ => None,
        })
        .await;
    person.client.cancel_turn(turn_id).await.expect("it is a message of this person");
    assert_eq!(person.text().await, "done");
    let mut asked: Vec<usize> = service.asked().values().copied().collect();
    asked.sort_unstable();
    assert_eq!(asked, [1, UNAVAILABLE_TIMES + 1], "one key for all of it");
    assert!(!service.asked().contains_key(&turn_id.to_string()), "and none that the server has chosen");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_too_late_by_the_agents_clock_never_reaches_the_service() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(hasty).await;
    let agent = Sidecar::start(&server, "agent-hasty", &["--service", &service.url("/")]).await;
    let behind = Clock::Simulated(Arc::new(|| Clock::System.now() - BEHIND_MS));
    let (mut person, _) = Device::join(&server, behind).await;
    person.client.send_text(agent.user_id, "tidy up").await.expect("a text goes into the outbox");
    let (request_id, shown) = person.request().await;
    // Of a clock nothing tells.
    while let Some(left) = shown.request.expires_at.checked_sub(Clock::System.now()).filter(|left| *left > 0)
    {
        let _ = timeout(Duration::from_millis(left), person.events.next()).await;
    }
    person.client.decide(request_id, Verdict::Approved).await.expect("by this clock there is time yet");
    let told = person.text().await;
    assert!(told.contains("too late"), "{told}");
    assert_eq!(service.asked().len(), 1, "the question");
}

/// Approved in the chat, and asked for by the sample in Python.
#[tokio::test(flavor = "multi_thread")]
async fn the_auditor_pays_out_what_is_approved_in_the_chat_and_nothing_else() {
    let server = Server::start(ServerOptions::default()).await;
    let (_python, service) = sample("auditor.py", &[]).await;
    let agent = Sidecar::start(&server, "agent-auditor", &["--service", &service]).await;
    let commands = [
        format!("send {} lunch 12.50", agent.user_id),
        "wait-messages 1".to_owned(),
        format!("send {} pay", agent.user_id),
        "wait-request".to_owned(),
        // What is asked after that was printed does not take its place.
        format!("send {} pay", agent.user_id),
        "wait-messages 3".to_owned(),
        "approve".to_owned(),
        "wait-messages 4".to_owned(),
        "wait-request".to_owned(),
        "deny".to_owned(),
        "wait-messages 5".to_owned(),
        "quit".to_owned(),
    ];
    let told = chat(&server, &commands.join("\n")).await;
    let of = |event: &str| -> Vec<&Value> { told.iter().filter(|told| told["event"] == event).collect() };
    let texts: Vec<&str> = of("received").iter().filter_map(|told| told["text"].as_str()).collect();
    let expected = [
        "Noted: 1 entries.",
        "I would pay out 12.50.",
        "I would pay out 12.50.",
        "Paid out 12.50.",
        "Nothing was paid out.",
    ];
    assert_eq!(texts, expected);
    let [request, other] = of("request")[..] else { panic!("two requests were waited for: {told:?}") };
    assert_eq!(
        (&request["request"]["action"], &request["request"]["verdict"]),
        (&json!("pay-out"), &Value::Null)
    );
    assert_eq!(request["request"]["arguments"], r#"{"amount": "12.50"}"#, "as Python writes it");
    let decided: Vec<&Value> = of("decided").iter().map(|told| &told["verdict"]).collect();
    assert_eq!(decided, [&json!("approved"), &json!("denied")]);
    assert_eq!(of("decided")[0]["request_id"], request["message_id"]);
    assert_eq!(of("decided")[1]["request_id"], other["message_id"]);
    assert_ne!(request["message_id"], other["message_id"]);
}

/// Runs a script of `colloquy chat` as somebody new; returns what it tells.
async fn chat(server: &Server, commands: &str) -> Vec<Value> {
    let profile = tempfile::tempdir().expect("a temporary directory can be made");
    let email = format!("{}@example.org", fresh_uuid().simple());
    server.secrets().add("email", &email);
    let password_file = profile.path().join("password");
    std::fs::write(&password_file, format!("{PASSWORD}\n")).expect("a file can be written");
    let mut child = Command::new(binary("colloquy"))
        .args(["chat", "--script", "-", "--deadline-s", "30", "--profile", "test"])
        .args(["--register", "--name", "A person", "--email", &email, "--server", &url(server)])
        .arg("--password-file")
        .arg(&password_file)
        .arg("--data-dir")
        .arg(profile.path())
        .env("HOME", profile.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the client can be started");
    let mut input = child.stdin.take().expect("standard input is piped");
    input.write_all(commands.as_bytes()).await.expect("the client reads its commands");
    drop(input);
    let ended = timeout(2 * DEADLINE, child.wait_with_output()).await.expect("the script ends in time");
    let output = ended.expect("a child can be waited for");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}");
    told.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}
