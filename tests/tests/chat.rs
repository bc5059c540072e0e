//! The terminal client as a script drives it, and the demo: the binary a person runs, against the binary that serves.

use std::path::Path;
use std::process::Stdio;

use colloquy_tests::DEADLINE;
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::rest::PASSWORD;
use colloquy_tests::server::{Server, binary};
use colloquy_tests::sidecar::{AgentService, Sidecar};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A running `colloquy chat --script -`: lines in, JSON objects out.
struct Chat {
    child: Child,
    commands: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
    /// What was told while the test waited for something else.
    passed_over: Vec<Value>,
    email: String,
    _profile: TempDir,
}

impl Chat {
    /// Registers a new account and waits for the connection.
    async fn register(server: &Server, name: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory can be made");
        let email = format!("{}@example.org", fresh_uuid().simple());
        server.secrets().add("email", &email);
        server.secrets().add("password", PASSWORD);
        let password_file = profile.path().join("password");
        std::fs::write(&password_file, format!("{PASSWORD}\n")).expect("a file can be written");
        let mut child = colloquy(profile.path())
            .args(["chat", "--script", "-", "--deadline-s", "30", "--profile", "test"])
            .args(["--register", "--name", name, "--email", &email])
            .arg("--password-file")
            .arg(&password_file)
            .arg("--data-dir")
            .arg(profile.path())
            .arg("--server")
            .arg(url(server))
            .stdin(Stdio::piped())
            .spawn()
            .expect("the client can be started");
        let commands = child.stdin.take().expect("standard input is piped");
        let told = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let mut chat = Self { child, commands, told, passed_over: Vec::new(), email, _profile: profile };
        chat.expect("connected", |_| true).await;
        chat
    }

    async fn say(&mut self, command: &str) {
        let line = format!("{command}\n");
        self.commands.write_all(line.as_bytes()).await.expect("the client reads its commands");
    }

    /// The first object of this event that fits; others are kept for later expectations.
    async fn expect(&mut self, event: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let wanted = |told: &Value| told["event"] == event && fits(told);
        if let Some(index) = self.passed_over.iter().position(&wanted) {
            return self.passed_over.remove(index);
        }
        let waited = timeout(DEADLINE, async {
            while let Some(line) = self.told.next_line().await.expect("the client's output is text") {
                let told: Value = serde_json::from_str(&line).expect("the client tells one object a line");
                if wanted(&told) {
                    return told;
                }
                self.passed_over.push(told);
            }
            panic!("the client ended before {event}; before: {:?}", self.passed_over)
        })
        .await;
        waited.unwrap_or_else(|_| panic!("no {event} within {DEADLINE:?}; instead: {:?}", self.passed_over))
    }

    async fn expect_text(&mut self, text: &str) -> Value {
        self.expect("received", |told| told["text"] == text).await
    }

    /// What `history` prints: the text and the state of each message.
    async fn history_with(&mut self, email: &str) -> Vec<(String, String)> {
        self.say(&format!("history {email}")).await;
        let end = self.expect("history", |_| true).await;
        let (messages, others) =
            std::mem::take(&mut self.passed_over).into_iter().partition(|told| told["event"] == "message");
        self.passed_over = others;
        let messages: Vec<Value> = messages;
        assert_eq!(end["count"], messages.len());
        let word = |value: &Value| value.as_str().expect("a text").to_owned();
        messages.iter().map(|message| (word(&message["text"]), word(&message["state"]))).collect()
    }

    /// Leaves; the process ends well.
    async fn quit(mut self) {
        self.say("quit").await;
        let ended = timeout(DEADLINE, self.child.wait()).await.expect("a client that quits ends in time");
        assert!(ended.expect("a child can be waited for").success());
    }
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

/// The binary, with nothing of this machine's own settings.
fn colloquy(home: &Path) -> Command {
    let mut command = Command::new(binary("colloquy"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COLLOQUY_")) {
        command.env_remove(name);
    }
    command.env("HOME", home).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn two_terminal_clients_hold_a_conversation_with_marks_across_a_crash_of_their_server() {
    let mut server = Server::start(ServerOptions::default()).await;
    let mut left = Chat::register(&server, "Left").await;
    let mut right = Chat::register(&server, "Right").await;
    let (left_email, right_email) = (left.email.clone(), right.email.clone());

    left.say(&format!("find {right_email}")).await;
    assert_eq!(left.expect("found", |_| true).await["name"], "Right");
    left.say(&format!("send {right_email} good morning")).await;
    let sent = left.expect("sent", |_| true).await;
    assert_eq!(sent["sequence"], 1);
    let received = right.expect_text("good morning").await;
    assert_eq!((&received["own"], &received["state"]), (&Value::from(false), &Value::from("received")));
    assert_eq!(received["message_id"], sent["message_id"]);
    left.expect("marks", |marks| marks["delivered_through"] == 1).await;
    right.say(&format!("read {left_email}")).await;
    left.say(&format!("wait-read {right_email}")).await;
    left.expect("all_read", |_| true).await;

    server.kill_9();
    for chat in [&mut left, &mut right] {
        chat.expect("disconnected", |_| true).await;
    }
    right.say(&format!("send {left_email} is anybody there?")).await;
    right.expect("queued", |_| true).await;
    server.restart().await;
    left.expect_text("is anybody there?").await;
    right.say("wait-sent").await;
    right.expect("all_sent", |_| true).await;
    right.expect("marks", |marks| marks["delivered_through"] == 2).await;
    left.say(&format!("read {right_email}")).await;
    left.say(&format!("send {right_email} yes, again")).await;
    right.expect_text("yes, again").await;
    right.say(&format!("wait-read {left_email}")).await;
    right.expect("all_read", |_| true).await;
    right.say(&format!("read {left_email}")).await;
    left.say(&format!("wait-read {right_email}")).await;
    left.expect("all_read", |_| true).await;

    let of = |states: [&str; 3]| -> Vec<(String, String)> {
        let texts = ["good morning", "is anybody there?", "yes, again"];
        texts.into_iter().zip(states).map(|(text, state)| (text.to_owned(), state.to_owned())).collect()
    };
    assert_eq!(left.history_with(&right_email).await, of(["read", "received", "read"]));
    assert_eq!(right.history_with(&left_email).await, of(["received", "read", "received"]));
    left.quit().await;
    right.quit().await;
}

#[tokio::test]
async fn two_terminal_clients_see_the_same_safety_number() {
    let server = Server::start(ServerOptions::default()).await;
    let mut left = Chat::register(&server, "Left").await;
    let mut right = Chat::register(&server, "Right").await;
    let (left_email, right_email) = (left.email.clone(), right.email.clone());
    left.say(&format!("safety {right_email}")).await;
    right.say(&format!("safety {left_email}")).await;
    let digits = left.expect("safety", |_| true).await["digits"].clone();
    assert!(digits.as_str().is_some_and(|digits| digits.len() >= 60), "{digits}");
    assert_eq!(digits, right.expect("safety", |_| true).await["digits"]);
    left.quit().await;
    right.quit().await;
}

#[tokio::test]
async fn a_script_that_fails_says_which_line_and_ends_with_a_code() {
    let server = Server::start(ServerOptions::default()).await;
    let mut chat = Chat::register(&server, "Left").await;
    chat.say("# a comment is a line too").await;
    chat.say("shout at everybody").await;
    assert_eq!(chat.expect("error", |_| true).await["line"], 2);
    let ended = timeout(DEADLINE, chat.child.wait()).await.expect("it ends in time").unwrap();
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_into_the_chat_and_ends_when_it_is_told_to() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(|_| json!({"stream": ["It", " is", " open", " today"]})).await;
    service.wait_to_be_seen();
    let agent = Sidecar::start(&server, "agent-slow", &["--service", &service.url("/")]).await;
    let mut chat = Chat::register(&server, "Left").await;
    chat.say(&format!("send {} is it?", agent.user_id)).await;
    chat.say("wait-answer").await;
    chat.expect("answering", |told| told["status"] == "thinking").await;
    chat.expect("answering", |told| told["text"] == "It is").await;
    chat.say("stop").await;
    chat.expect_text("It is\n[…]").await;
    chat.expect("answer_ended", |_| true).await;
    chat.quit().await;
}

#[tokio::test]
async fn the_demo_holds_its_conversation_and_ends_well() {
    let server = Server::start(ServerOptions::default()).await;
    let home = tempfile::tempdir().unwrap();
    let demo = colloquy(home.path()).args(["demo", "--server"]).arg(url(&server)).output();
    let ended = timeout(2 * DEADLINE, demo).await.expect("the demo ends in time").unwrap();
    let output = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{output}\n{}", String::from_utf8_lossy(&ended.stderr));
    for result in ["6 messages sent", "6 delivered", "6 read", "0 lost", "0 twice"] {
        assert!(output.contains(result), "the demo does not say {result:?}:\n{output}");
    }
}

#[tokio::test]
async fn the_demo_of_an_agent_asks_it_over_a_server_of_its_own_and_ends_well() {
    let home = tempfile::tempdir().unwrap();
    let demo = colloquy(home.path()).args(["demo", "--agent"]).output();
    let ended = timeout(2 * DEADLINE, demo).await.expect("the demo ends in time").unwrap();
    let output = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{output}\n{}", String::from_utf8_lossy(&ended.stderr));
    for result in ["Your question number 3 has 5 words.", "3 questions, 3 answers, each once", "has stopped"]
    {
        assert!(output.contains(result), "the demo does not say {result:?}:\n{output}");
    }
}
