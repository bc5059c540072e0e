//! People ask agents behind a sidecar: the real SDK, the real server, the real `colloquy agent`, and an agent that knows
//! nothing but plain HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use colloquy_client::{
    ANSWER_MAX_BYTES, Client, Event, Events, Identifier, LocalMessageId, Registration, ShownContent,
};
use colloquy_protocol::agent::{AgentProfile, WhenBusy};
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use colloquy_tests::DEADLINE;
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::proxy::Proxy;
use colloquy_tests::rest::PASSWORD;
use colloquy_tests::sdk;
use colloquy_tests::server::Server;
use colloquy_tests::sidecar::{AgentService, BREAKS_OFF, Sidecar, Witness, sample};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// People, and questions that each asks, one after the other.
const PEOPLE: usize = 10;
const QUESTIONS: usize = 20;
/// Something is killed whenever so many more answers have come.
const KILL_EVERY: usize = 24;
/// Lines of an answer that is too long for a message.
const LINES: usize = 600;
/// A whole conversation under faults.
const CONVERSATION_DEADLINE: Duration = Duration::from_secs(180);

struct Person {
    client: Client,
    events: Events,
    user: UserId,
    email: String,
    /// Hears of every answer that is seen to grow.
    witness: Option<Witness>,
    _folder: TempDir,
}

impl Person {
    async fn join(server: &Server, url: String) -> Self {
        let (client, folder) = sdk::open(url).await;
        let email = format!("{}@example.org", fresh_uuid().simple());
        server.secrets().add("email", &email);
        let (name, password) = ("a person".to_owned(), PASSWORD.to_owned());
        let registration = Registration { phone: None, email: Some(email.clone()), name, password };
        let user = client.register(registration).await.expect("an account is made");
        let events = client.connect().expect("logged in");
        Self { client, events, user, email, witness: None, _folder: folder }
    }

    /// Another device of the same person; not connected yet.
    async fn another_device(&self, server: &Server) -> (Client, TempDir) {
        let (client, folder) = sdk::open(url(server)).await;
        let identifier = Identifier::Email(self.email.clone());
        client.log_in(identifier, PASSWORD.to_owned()).await.expect("the password is right");
        (client, folder)
    }

    /// Connects again, as a program does that was started again.
    async fn come_back(&mut self) {
        self.client.shutdown().await;
        self.events = self.client.connect().expect("logged in");
    }

    /// Waits until an answer has grown to this.
    async fn sees(&mut self, text: &str) -> MessageId {
        let grown = async {
            loop {
                match self.events.next().await.expect("the client goes on") {
                    Event::AnswerGrows(answer) if answer.text == text => return answer.turn_id,
                    Event::MessageReceived(message) if !message.is_own => {
                        panic!("it came at once: {message:?}")
                    }
                    _ => {}
                }
            }
        };
        timeout(DEADLINE, grown).await.expect("an answer is shown as it grows")
    }

    /// The next text of the other side. Whatever is seen of it before is its beginning (a stream is never wrong).
    async fn answer(&mut self) -> String {
        let mut grown = Vec::new();
        loop {
            match self.events.next().await.expect("the client goes on") {
                Event::AnswerGrows(answer) => {
                    if let Some(witness) = self.witness.as_ref().filter(|_| !answer.text.is_empty()) {
                        witness.sees(answer.turn_id);
                    }
                    grown.push(answer.text);
                }
                // This person's other device hears of the question too.
                Event::MessageReceived(message) if message.is_own => {}
                Event::MessageReceived(message) => match message.content {
                    ShownContent::Text(text) => {
                        assert!(grown.iter().all(|grown| text.starts_with(grown.as_str())), "{grown:?}");
                        return text;
                    }
                    other => panic!("an answer cannot be read: {other:?}"),
                },
                Event::MessageFailed { reason, .. } => panic!("a question was not sent: {reason}"),
                _ => {}
            }
        }
    }

    /// The next text of the other side, whatever else is being written meanwhile.
    async fn next_text(&mut self) -> String {
        let text = async {
            loop {
                if let Event::MessageReceived(message) = self.events.next().await.expect("the client goes on")
                    && let ShownContent::Text(text) = message.content
                {
                    return text;
                }
            }
        };
        timeout(DEADLINE, text).await.expect("something is said")
    }

    /// Waits until the other side holds what is being sent, and has said nothing to it.
    async fn is_heard(&mut self, id: LocalMessageId) {
        let mut number = u64::MAX;
        let heard = async {
            loop {
                match self.events.next().await.expect("the client goes on") {
                    Event::MessageSent { local_id, sequence_number, .. } if local_id == id => {
                        number = sequence_number;
                    }
                    Event::MarksMoved { delivered_through, .. } if delivered_through >= number => return,
                    Event::MessageReceived(message) => panic!("something is said to it: {message:?}"),
                    _ => {}
                }
            }
        };
        timeout(DEADLINE, heard).await.expect("it is delivered");
    }

    /// Asks, and waits for the next text of the other side.
    async fn ask(&mut self, agent: UserId, question: &str) -> String {
        self.client.send_text(agent, question).await.expect("a text goes into the outbox");
        self.answer().await
    }

    /// The texts of the conversation with an agent, in order.
    fn texts(&self, agent: UserId) -> Vec<String> {
        let conversation = ConversationId::of_pair(self.user, agent);
        let history = self.client.history(conversation, None, 4 * QUESTIONS).expect("the store is read");
        let text = |message: colloquy_client::Message| match message.content {
            ShownContent::Text(text) => text,
            other => panic!("it cannot be read: {other:?}"),
        };
        history.into_iter().map(text).collect()
    }
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_speaks_plain_http_is_asked_with_what_was_said_before() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(|question| {
        let history = question["history"].as_array().map_or(0, Vec::len);
        json!({"text": format!("{} after {history}", question["text"].as_str().unwrap_or_default())})
    })
    .await;
    let agent = Sidecar::start(&server, "agent-echo", &["--service", &service.url("/ask")]).await;
    let mut person = Person::join(&server, url(&server)).await;
    assert_eq!(person.ask(agent.user_id, "first").await, "first after 0");
    assert_eq!(person.ask(agent.user_id, "second").await, "second after 2");
    let texts = person.texts(agent.user_id);
    assert_eq!(texts, ["first", "first after 0", "second", "second after 2"]);
    assert!(!server.log().contains("first after"), "the server reads nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_behind_chat_completions_is_told_its_instructions_and_who_said_what() {
    let server = Server::start(ServerOptions::default()).await;
    let model = AgentService::start(|request| {
        let lines = request["messages"].as_array().cloned().unwrap_or_default();
        let line = |line: &Value| {
            format!("{}: {}", line["role"].as_str().unwrap(), line["content"].as_str().unwrap())
        };
        let told = lines.iter().map(line).collect::<Vec<_>>().join(" | ");
        let told =
            format!("{} {}: {told}", request["path"].as_str().unwrap(), request["model"].as_str().unwrap());
        json!({"choices": [{"message": {"role": "assistant", "content": told}}]})
    })
    .await;
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let instructions = folder.path().join("instructions");
    std::fs::write(&instructions, "Be brief.").expect("it can be written");
    let asked = [
        "--upstream",
        &model.url("/v1"),
        "--model",
        "small",
        "--instructions-file",
        instructions.to_str().unwrap(),
    ];
    let agent = Sidecar::start(&server, "agent-model", &asked).await;
    let mut person = Person::join(&server, url(&server)).await;
    let first = person.ask(agent.user_id, "one").await;
    assert_eq!(first, "/v1/chat/completions small: system: Be brief. | user: one");
    let second = person.ask(agent.user_id, "two").await;
    let expected = format!("system: Be brief. | user: one | assistant: {first} | user: two");
    assert_eq!(second, format!("/v1/chat/completions small: {expected}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bruno_needs_no_model_and_says_who_else_can_be_asked() {
    let server = Server::start(ServerOptions::default()).await;
    let bruno = Sidecar::start(&server, "agent-bruno", &["--built-in", "bruno"]).await;
    let service = AgentService::start(|_| json!({"text": "here"})).await;
    let _other = Sidecar::start(&server, "agent-other", &["--service", &service.url("/")]).await;
    let mut person = Person::join(&server, url(&server)).await;
    assert!(person.ask(bruno.user_id, "hello").await.starts_with("I am Bruno."));
    assert_eq!(person.ask(bruno.user_id, "agents").await, "agent-other, agent-other: no description");
    assert_eq!(person.ask(bruno.user_id, "find HELLO").await, "- hello");
    assert!(person.ask(bruno.user_id, "find nothing-like-it").await.contains("nothing like that"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_medical_agent_hands_over_to_a_person_who_is_told_once() {
    let server = Server::start(ServerOptions::default()).await;
    let mut doctor = Person::join(&server, url(&server)).await;
    let (_python, service) = sample("medical.py", &["--human", &doctor.user.to_string()]).await;
    let agent = Sidecar::start(&server, "agent-medical", &["--service", &service]).await;
    let mut person = Person::join(&server, url(&server)).await;
    assert!(person.ask(agent.user_id, "my head hurts").await.starts_with("Since when"));
    assert!(person.ask(agent.user_id, "5, since Monday").await.starts_with("Rest"));
    assert!(person.ask(agent.user_id, "I want a doctor").await.contains("A person has been told"));
    let told = doctor.answer().await;
    assert!(told.starts_with(&format!("{} needs you", person.user)), "{told}");
    assert!(told.contains("> my head hurts") && told.contains("> I want a doctor"), "{told}");
    assert_eq!(person.ask(agent.user_id, "hello?").await, "A person has been told and will write to you.");
    assert_eq!(doctor.texts(agent.user_id).len(), 1, "once");
    assert!(!server.log().contains("head hurts"), "the server reads nothing");
}

/// Any language will do: the sample in Python.
#[tokio::test(flavor = "multi_thread")]
async fn the_auditor_who_is_a_few_dozen_lines_of_python_adds_up_what_was_said() {
    let server = Server::start(ServerOptions::default()).await;
    let (_python, service) = sample("auditor.py", &[]).await;
    let agent = Sidecar::start(&server, "agent-auditor", &["--service", &service]).await;
    let mut person = Person::join(&server, url(&server)).await;
    assert_eq!(person.ask(agent.user_id, "Lunch 12.50").await, "Noted: 1 entries.");
    assert_eq!(person.ask(agent.user_id, "taxi 31").await, "Noted: 2 entries.");
    assert_eq!(person.ask(agent.user_id, "taxi 31").await, "Noted: 3 entries.");
    assert!(person.ask(agent.user_id, "what now?").await.starts_with("Write what and how much"));
    let audit = person.ask(agent.user_id, "audit").await;
    assert_eq!(audit, "lunch: 12.50\ntaxi: 31\ntaxi: 31\ntotal: 74.50\ntwice? taxi 31");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_when_an_agent_does_not_answer() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(|_| Value::Null).await;
    let agent =
        Sidecar::start(&server, "agent-silent", &["--service", &service.url("/"), "--patience-s", "1"]).await;
    let mut person = Person::join(&server, url(&server)).await;
    assert!(person.ask(agent.user_id, "anybody?").await.starts_with("I cannot answer"));
    assert!(service.asked().values().all(|times| *times > 1), "it was asked more than once");
    assert!(agent.log().contains("the agent is asked again") && !agent.log().contains("anybody?"));
}

/// What a service that answers bit by bit says to a question.
fn in_two_bits(question: &Value) -> Value {
    json!({"stream": ["answer to ", question["text"].as_str().unwrap_or_default()]})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_seen_as_it_grows_by_every_device_and_by_one_that_comes_back() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(in_two_bits).await;
    service.wait_to_be_seen();
    let agent = Sidecar::start(&server, "agent-slow", &["--service", &service.url("/")]).await;
    let mut person = Person::join(&server, url(&server)).await;
    let (client, folder) = person.another_device(&server).await;
    person.client.send_text(agent.user_id, "this").await.expect("a text goes into the outbox");
    person.sees("answer to ").await;
    // It has the question only now, and no piece of the answer was sent to it.
    let events = client.connect().expect("logged in");
    let (user, email) = (person.user, person.email.clone());
    let mut other = Person { client, events, user, email, witness: None, _folder: folder };
    other.sees("answer to ").await;
    person.come_back().await;
    let turn = person.sees("answer to ").await;
    service.witness().sees(turn);
    assert_eq!(person.answer().await, "answer to this");
    assert_eq!(other.answer().await, "answer to this");
    assert!(!server.log().contains("answer to"), "the server reads nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_answers_word_by_word_and_says_no_more_when_it_is_told_to_stop() {
    let server = Server::start(ServerOptions::default()).await;
    let model = AgentService::start(|_| json!({"stream": ["It", " is", " open", " today"]})).await;
    model.wait_to_be_seen();
    let agent = Sidecar::start(&server, "agent-model", &["--upstream", &model.url("/v1")]).await;
    let mut person = Person::join(&server, url(&server)).await;
    person.client.send_text(agent.user_id, "is it?").await.expect("a text goes into the outbox");
    let turn = person.sees("It is").await;
    person.client.cancel_turn(turn).await.expect("it is a question of this person");
    assert_eq!(person.answer().await, "It is\n[…]");
    // Whoever asks next is not stopped.
    person.witness = Some(model.witness());
    assert_eq!(person.ask(agent.user_id, "and now?").await, "It is open today");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_has_said_to_its_end_is_not_asked_for_again_when_the_connection_breaks_after_it() {
    let server = Server::start(ServerOptions::default()).await;
    let model = AgentService::start(|_| {
        let last = json!({"choices": [{"delta": {"content": "open"}, "finish_reason": "stop"}]});
        json!({"stream": ["It is ", last, BREAKS_OFF]})
    })
    .await;
    model.wait_to_be_seen();
    let asked = ["--upstream", &model.url("/v1"), "--model", "small"];
    let agent = Sidecar::start(&server, "agent-model", &asked).await;
    let mut person = Person::join(&server, url(&server)).await;
    person.client.send_text(agent.user_id, "is it open?").await.expect("a text goes into the outbox");
    let turn = person.sees("It is open").await;
    model.witness().sees(turn);
    assert_eq!(person.next_text().await, "It is open");
    assert!(model.asked().values().all(|tries| *tries == 1), "{:?}", model.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_breaks_off_is_asked_again_however_much_it_has_said() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(|question| match question["try"].as_u64() {
        Some(1) => json!({"stream": ["x".repeat(40_000), "x".repeat(40_000), BREAKS_OFF]}),
        _ => json!({"text": "in short: yes"}),
    })
    .await;
    service.wait_to_be_seen();
    let agent = Sidecar::start(&server, "agent-breaks", &["--service", &service.url("/")]).await;
    let mut person = Person::join(&server, url(&server)).await;
    person.client.send_text(agent.user_id, "is it?").await.expect("a text goes into the outbox");
    let turn = person.sees(&"x".repeat(ANSWER_MAX_BYTES)).await;
    service.witness().sees(turn);
    assert_eq!(person.next_text().await, "in short: yes");
}

/// An agent that is asked something else in the middle of its answer.
struct Pressed {
    _server: Server,
    service: AgentService,
    agent: Sidecar,
    person: Person,
    /// The first question's.
    turn: MessageId,
}

impl Pressed {
    async fn so(when_busy: WhenBusy) -> Self {
        let server = Server::start(ServerOptions::default()).await;
        let service = AgentService::start(in_two_bits).await;
        service.wait_to_be_seen();
        let profile = AgentProfile { when_busy, ..AgentProfile::new("Pressed", "http://127.0.0.1:9/") };
        let asked = ["--service", &service.url("/")];
        let agent = Sidecar::start_as(&server, "agent-pressed", profile, &asked).await;
        let mut person = Person::join(&server, url(&server)).await;
        person.client.send_text(agent.user_id, "first").await.expect("a text goes into the outbox");
        let turn = person.sees("answer to ").await;
        person.client.send_text(agent.user_id, "second").await.expect("a text goes into the outbox");
        Self { _server: server, service, agent, person, turn }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_takes_nothing_while_it_answers_says_so_at_once() {
    let Pressed { _server, service, agent, mut person, turn } = Pressed::so(WhenBusy::Reject).await;
    let told = person.next_text().await;
    assert!(told.starts_with("I am still answering"), "{told}");
    // As another agent would that is busy as well: they do not tell each other for ever.
    let conversation = ConversationId::of_pair(person.user, agent.user_id);
    let newest = person.client.history(conversation, None, 1).expect("the store is read").remove(0);
    let told = newest.message_id.expect("it is stored");
    assert!(person.client.take_turn(told, conversation).await.expect("it is not answered"));
    let sent = person.client.answer_turn(told, "so am I").await.expect("it goes into the outbox");
    person.is_heard(sent.expect("it is the first")).await;
    service.witness().sees(turn);
    assert_eq!(person.next_text().await, "answer to first");
    assert_eq!(service.asked().len(), 1, "nobody was asked about the second");
    person.witness = Some(service.witness());
    assert_eq!(person.ask(agent.user_id, "third").await, "answer to third");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_answers_the_newest_question_says_no_more_to_the_one_before() {
    let Pressed { _server, service, agent: _agent, mut person, .. } = Pressed::so(WhenBusy::Interrupt).await;
    assert_eq!(person.next_text().await, "answer to\n[…]");
    person.witness = Some(service.witness());
    assert_eq!(person.answer().await, "answer to second");
}

/// ONCE, NOLOSS: 200 questions, and whatever takes part is killed in turn, in the middle of an answer. Every answer is seen to
/// grow: the agent waits for that in its middle.
#[tokio::test(flavor = "multi_thread")]
async fn each_question_is_answered_once_while_agent_sidecar_server_and_sockets_are_killed() {
    let mut server = Server::start(ServerOptions::default()).await;
    let mut service = AgentService::start(in_two_bits).await;
    service.wait_to_be_seen();
    let mut agent = Sidecar::start(&server, "agent-once", &["--service", &service.url("/")]).await;
    let proxy = Proxy::to(server.address()).await;
    let (answered, mut count) = watch::channel(0_usize);
    let mut asking = JoinSet::new();
    for number in 0..PEOPLE {
        let mut person = Person::join(&server, format!("http://{}", proxy.address())).await;
        person.witness = Some(service.witness());
        let (answered, agent) = (answered.clone(), agent.user_id);
        asking.spawn(async move {
            for question in 0..QUESTIONS {
                let question = format!("question {question} of person {number}");
                assert_eq!(person.ask(agent, &question).await, format!("answer to {question}"));
                answered.send_modify(|count| *count += 1);
            }
            person.client.wait_until_sent().await;
            person
        });
    }
    let everything = async {
        for (round, kill_at) in (KILL_EVERY..PEOPLE * QUESTIONS).step_by(KILL_EVERY).enumerate() {
            count.wait_for(|count| *count >= kill_at).await.expect("somebody asks");
            match round % 4 {
                0 => {
                    service.hold().await;
                    agent.kill_9().await;
                    agent.restart().await;
                    service.let_go();
                }
                1 => {
                    service.hold().await;
                    service.replace().await;
                    service.let_go();
                }
                2 => {
                    service.hold().await;
                    server.kill_9();
                    service.let_go();
                    server.restart().await;
                }
                _ => proxy.break_all(),
            }
        }
        asking.join_all().await
    };
    let people = timeout(CONVERSATION_DEADLINE, everything).await;
    let people = people
        .unwrap_or_else(|_| panic!("{} answers have come; the sidecar: {}", *answered.borrow(), agent.log()));
    for person in &people {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for text in person.texts(agent.user_id) {
            *times.entry(text).or_default() += 1;
        }
        assert_eq!(times.len(), 2 * QUESTIONS, "each question and each answer is there");
        assert!(times.values().all(|times| *times == 1), "once");
    }
    let asked = service.asked().clone();
    assert_eq!(asked.len(), PEOPLE * QUESTIONS, "the agent sees one key for each question");
    assert!(asked.values().any(|times| *times > 1), "somebody was killed in the middle of a question");
    assert_eq!(service.witness().count(), PEOPLE * QUESTIONS, "each answer was seen to grow");
    println!(
        "{} questions, {} of them asked more than once",
        asked.len(),
        asked.values().filter(|times| **times > 1).count()
    );
}

/// NOLOSS, ONCE: what an answer goes on with is on the sidecar's disk before the answer is sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_for_a_message_goes_on_in_others_whoever_is_killed_between_them() {
    let mut server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(|_| json!({"text": long_lines().join("\n")})).await;
    let mut agent = Sidecar::start(&server, "agent-long", &["--service", &service.url("/")]).await;
    let mut person = Person::join(&server, url(&server)).await;
    let mut said = Vec::new();
    for round in 0..4 {
        let question = format!("tell me all, {round}");
        person.client.send_text(agent.user_id, &question).await.expect("a text goes into the outbox");
        said.push(question);
        let (mut lines, mut messages) = (Vec::new(), 0);
        while lines.len() < LINES {
            let text = person.next_text().await;
            lines.extend(text.lines().map(str::to_owned));
            said.push(text);
            messages += 1;
            match (messages, round) {
                (1, 1) => {
                    agent.kill_9().await;
                    agent.restart().await;
                }
                (1, 2) => {
                    server.kill_9();
                    server.restart().await;
                }
                _ => {}
            }
        }
        assert_eq!(lines, long_lines());
        assert!(messages > 2, "{messages}");
    }
    assert_eq!(person.texts(agent.user_id), said, "each once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_more_than_an_answer_may_hold_is_cut_and_whoever_is_told_after_it_is_told() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(|question| {
        let tell = json!({"tell": {"user_id": question["text"], "text": "I said too much. ".repeat(400)}});
        json!({"stream": ["x".repeat(50_000), "y".repeat(50_000), tell]})
    })
    .await;
    let agent = Sidecar::start(&server, "agent-endless", &["--service", &service.url("/")]).await;
    let mut doctor = Person::join(&server, url(&server)).await;
    let mut person = Person::join(&server, url(&server)).await;
    let question = doctor.user.to_string();
    person.client.send_text(agent.user_id, question).await.expect("a text goes into the outbox");
    let mut said = String::new();
    while !said.ends_with("y\n[…]") {
        said.push_str(&person.next_text().await);
    }
    assert_eq!(said.len(), ANSWER_MAX_BYTES);
    let note = doctor.next_text().await;
    assert!(note == "I said too much. ".repeat(400), "to somebody new, all of it: {}", note.len());
}

fn long_lines() -> Vec<String> {
    (0..LINES).map(|line| format!("This is line {line} of a long answer.")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_and_no_turn_of_the_agent_is_taken_or_refused_and_does_nothing() {
    let server = Server::start(ServerOptions::default()).await;
    let service = AgentService::start(|_| json!({"text": "made up"})).await;
    let agent = Sidecar::start(&server, "agent-careful", &["--service", &service.url("/")]).await;
    let rest = colloquy_tests::rest::Rest::new(agent.address(), server.secrets().clone());
    let plain = [("content-type", "application/json")];
    assert_eq!(rest.post_text("/", None, &plain, "{}".to_owned()).await.status, 400);
    let structured = [("content-type", "application/cloudevents+json")];
    let event = |kind: &str, data: Value| {
        json!({"specversion": "1.0", "id": "1", "source": "/made/up", "type": kind, "data": data}).to_string()
    };
    assert_eq!(
        rest.post_text("/", None, &structured, event("agent.unheard-of", json!({}))).await.status,
        400
    );
    assert_eq!(rest.post_text("/", None, &structured, event("agent.message", json!({}))).await.status, 400);
    let made_up = json!({
        "turn_id": fresh_uuid(), "conversation_id": fresh_uuid(), "sequence_number": 1, "agent_id": "agent-careful",
        "sender_id": fresh_uuid(), "sender_device_id": "phone", "type": "text", "reply_to_message_id": null,
        "content": {"algorithm": "olm.v1", "sender_key": "", "ciphertexts": []}, "timestamp": 1,
    });
    // There is no such message: nobody is asked, and nobody is answered.
    let taken = rest.post_text("/", None, &structured, event("agent.message", made_up)).await.status;
    let mut person = Person::join(&server, url(&server)).await;
    assert_eq!(person.ask(agent.user_id, "a real question").await, "made up");
    assert_eq!((taken, service.asked().len()), (202, 1));
}
