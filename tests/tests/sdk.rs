//! The real SDK meets the real server: whatever becomes of the server, every text arrives decrypted, in order, once,
//! and the clients come back by themselves (NOLOSS, ORDER, ONCE, E2EE, DRAIN).

use std::time::Duration;

use colloquy_client::store::messages::HISTORY_PAGE_MAX;
use colloquy_client::{Client, Event, Events, Identifier, Message, Registration, ShownContent};
use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_tests::DEADLINE;
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::habits::files;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::rest::PASSWORD;
use colloquy_tests::sdk;
use colloquy_tests::server::Server;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Texts each side sends.
const TEXTS: usize = 200;
/// The server is ended when so many texts have arrived, on both sides together.
const END_AT: [usize; 3] = [40, 150, 280];
/// How every text begins; it must stand neither in the server's log nor on its disk.
const PLAINTEXT_MARK: &str = "for two pairs of eyes";
/// Longer than [`DEADLINE`]: a whole conversation, and not a single step, is waited for.
const CONVERSATION_DEADLINE: Duration = Duration::from_secs(120);

/// One person's account and one device of theirs.
struct Person {
    client: Client,
    events: Events,
    user: UserId,
    email: String,
    _folder: TempDir,
}

impl Person {
    async fn register(server: &Server, name: &str) -> Self {
        let email = format!("{}@example.org", fresh_uuid().simple());
        server.secrets().add("email", &email);
        server.secrets().add("password", PASSWORD);
        let (client, folder) = sdk::open(format!("http://{}", server.address())).await;
        let (name, password) = (name.to_owned(), PASSWORD.to_owned());
        let registration = Registration { phone: None, email: Some(email.clone()), name, password };
        let user = client.register(registration).await.expect("an account is made");
        server.secrets().add("user id", user.to_string());
        Self::connected(client, user, email, folder).await
    }

    /// Another device of the same person.
    async fn on_another_device(&self, server: &Server) -> Self {
        let (client, folder) = sdk::open(format!("http://{}", server.address())).await;
        let email = self.email.clone();
        let user = client.log_in(Identifier::Email(email.clone()), PASSWORD.to_owned()).await;
        Self::connected(client, user.expect("the same log-in is good"), email, folder).await
    }

    async fn connected(client: Client, user: UserId, email: String, folder: TempDir) -> Self {
        let mut person =
            Self { events: client.connect().expect("logged in"), client, user, email, _folder: folder };
        person.expect("connected", |event| matches!(event, Event::Connected { .. }).then_some(())).await;
        person
    }

    /// The first event that `pick` wants; those before it are passed over.
    async fn expect<T>(&mut self, what: &str, pick: impl Fn(Event) -> Option<T>) -> T {
        let waited = timeout(DEADLINE, async {
            loop {
                let event = self.events.next().await.expect("the client goes on");
                assert!(
                    !matches!(event, Event::DecryptionFailed { .. } | Event::MessageFailed { .. }),
                    "instead of {what}: {event:?}"
                );
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        });
        waited.await.unwrap_or_else(|_| panic!("no {what} within {DEADLINE:?}"))
    }

    /// The next message that comes from outside, be it another user's or another device's.
    async fn expect_message(&mut self) -> Message {
        self.expect("a message", |event| match event {
            Event::MessageReceived(message) => Some(*message),
            _ => None,
        })
        .await
    }

    /// The texts of the conversation with `peer` as this device's store has them: who wrote each, and its number.
    fn texts_with(&self, peer: UserId) -> Vec<(UserId, u64, String)> {
        let conversation = ConversationId::of_pair(self.user, peer);
        let history = self.client.history(conversation, None, HISTORY_PAGE_MAX).expect("the store is read");
        let text = |message: Message| {
            let number = message.sequence_number.expect("the server has stored it");
            (message.sender_id, number, text_of(&message))
        };
        history.into_iter().map(text).collect()
    }
}

/// Everything sent has been stored, and all these devices hold the same conversation between the first two's owners.
async fn assert_same_conversation(devices: &[&Person]) {
    let (left, right) = (devices[0].user, devices[1].user);
    for device in devices {
        // A text may reach its reader before its ack reaches its writer.
        device.client.wait_until_sent().await;
    }
    let first = devices[0].texts_with(right);
    for device in &devices[1..] {
        assert_eq!(device.texts_with(if device.user == left { right } else { left }), first);
    }
}

async fn start() -> Server {
    let server = Server::start(ServerOptions::default()).await;
    server.secrets().add("plaintext", PLAINTEXT_MARK);
    server
}

fn text_of(message: &Message) -> String {
    match &message.content {
        ShownContent::Text(text) => text.clone(),
        other => panic!("message {:?} cannot be read: {other:?}", message.sequence_number),
    }
}

fn numbered(name: &str, number: usize) -> String {
    format!("{PLAINTEXT_MARK}: {name} {number}")
}

/// Sends [`TEXTS`] texts, each once a few of those before it have been stored, so that the server dies in between.
fn write_all(client: Client, to: UserId, name: &'static str) -> JoinHandle<()> {
    tokio::spawn(async move {
        for number in 0..TEXTS {
            client.send_text(to, numbered(name, number)).await.expect("a text goes into the outbox");
            if number % 8 == 7 {
                client.wait_until_sent().await;
            }
        }
    })
}

/// Reads the other side's texts until all are here, and says in `arrived` how many there are.
fn read_all(mut person: Person, arrived: watch::Sender<usize>) -> JoinHandle<(Person, Vec<String>)> {
    tokio::spawn(async move {
        let mut texts = Vec::new();
        while texts.len() < TEXTS {
            texts.push(text_of(&person.expect_message().await));
            arrived.send_modify(|count| *count += 1);
        }
        (person, texts)
    })
}

fn assert_disk_holds_no_plaintext(server: &Server) {
    let mark = PLAINTEXT_MARK.as_bytes();
    let data = server.data_dir();
    for file in files(&data) {
        let bytes = std::fs::read(data.join(&file)).unwrap_or_default();
        assert!(!bytes.windows(mark.len()).any(|part| part == mark), "E2EE: {} is readable", file.display());
    }
}

/// Both send their texts while `end` ends the server at three moments, after each of which it is started again; then both
/// hold everything, in order, once.
async fn hold_a_conversation_while(end: impl AsyncFn(&mut Server)) {
    let mut server = start().await;
    let left = Person::register(&server, "Left").await;
    let right = Person::register(&server, "Right").await;
    let (left_user, right_user) = (left.user, right.user);
    let (arrived, mut arrivals) = watch::channel(0);
    let writers = [
        write_all(left.client.clone(), right_user, "left"),
        write_all(right.client.clone(), left_user, "right"),
    ];
    let left = read_all(left, arrived.clone());
    let right = read_all(right, arrived);

    let whole = timeout(CONVERSATION_DEADLINE, async {
        for moment in END_AT {
            arrivals.wait_for(|count| *count >= moment).await.expect("the readers go on");
            end(&mut server).await;
            server.restart().await;
        }
        for writer in writers {
            writer.await.expect("a writer does not panic");
        }
        (left.await.expect("left reads on"), right.await.expect("right reads on"))
    });
    let ((left, left_read), (right, right_read)) = whole.await.expect("the conversation comes to its end");

    let written = |name| (0..TEXTS).map(|number| numbered(name, number)).collect::<Vec<_>>();
    assert_eq!(left_read, written("right"), "in order, each once");
    assert_eq!(right_read, written("left"), "in order, each once");
    assert_same_conversation(&[&left, &right]).await;
    let numbers: Vec<u64> = left.texts_with(right_user).iter().map(|(_, number, _)| *number).collect();
    assert_eq!(numbers, (1..=2 * TEXTS as u64).collect::<Vec<_>>());
    assert_disk_holds_no_plaintext(&server);
    left.client.shutdown().await;
    right.client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_whose_server_is_killed_three_times_read_everything_once_and_in_order() {
    hold_a_conversation_while(async |server| server.kill_9()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_whose_server_is_told_to_stop_three_times_read_everything_once_and_in_order() {
    // It sends them away in the middle of their sentences, and ends well each time.
    hold_a_conversation_while(async |server| assert_eq!(server.terminate().await, Some(0))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_device_reads_what_others_send_and_what_its_own_user_sends() {
    let server = start().await;
    let mut left = Person::register(&server, "Left").await;
    let mut right = Person::register(&server, "Right").await;
    let mut laptop = left.on_another_device(&server).await;

    left.client.send_text(right.user, numbered("left", 1)).await.unwrap();
    assert_eq!(text_of(&right.expect_message().await), numbered("left", 1));
    let own = laptop.expect_message().await;
    assert!(own.is_own, "what the same user sent elsewhere");
    assert_eq!(text_of(&own), numbered("left", 1));

    right.client.send_text(left.user, numbered("right", 2)).await.unwrap();
    for device in [&mut left, &mut laptop] {
        let received = device.expect_message().await;
        assert_eq!((received.is_own, text_of(&received)), (false, numbered("right", 2)));
    }

    laptop.client.send_text(right.user, numbered("laptop", 3)).await.unwrap();
    assert_eq!(text_of(&right.expect_message().await), numbered("laptop", 3));
    let own = left.expect_message().await;
    assert_eq!((own.is_own, text_of(&own)), (true, numbered("laptop", 3)));
    assert_same_conversation(&[&left, &right, &laptop]).await;
    for person in [left, right, laptop] {
        person.client.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_whose_server_is_told_to_stop_leave_in_order_and_come_back_by_themselves() {
    let mut server = start().await;
    let mut left = Person::register(&server, "Left").await;
    let mut right = Person::register(&server, "Right").await;
    left.client.send_text(right.user, numbered("left", 1)).await.unwrap();
    right.expect_message().await;

    // They are sent away: nobody has to be cut off, so the process ends well before its drain window does.
    assert_eq!(server.terminate().await, Some(0));
    left.client.send_text(right.user, numbered("left", 2)).await.unwrap();
    server.restart().await;
    for person in [&mut left, &mut right] {
        person.expect("connected", |event| matches!(event, Event::Connected { .. }).then_some(())).await;
    }
    assert_eq!(text_of(&right.expect_message().await), numbered("left", 2), "written while nobody was there");
    right.client.send_text(left.user, numbered("right", 3)).await.unwrap();
    assert_eq!(text_of(&left.expect_message().await), numbered("right", 3));
    assert_same_conversation(&[&left, &right]).await;
    left.client.shutdown().await;
    right.client.shutdown().await;
}

/// A server could make a former device up and speak as it: it counts, and both sides count alike.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_removed_before_the_other_side_met_it_counts_in_both_safety_numbers() {
    let server = start().await;
    let left = Person::register(&server, "left").await;
    let right = Person::register(&server, "right").await;
    let numbers = async || {
        let seen = (left.client.safety_number(right.user).await, right.client.safety_number(left.user).await);
        (seen.0.expect("the lists are read"), seen.1.expect("the lists are read"))
    };
    let before = numbers().await;
    assert_eq!(before.0, before.1);
    let passing = left.on_another_device(&server).await;
    let device = passing.client.device_id().expect("the store is read").expect("it is logged in");
    left.client.remove_device(device).await.expect("it is removed");
    let after = numbers().await;
    assert_eq!(after.0, after.1);
    assert_ne!(after, before);
}
