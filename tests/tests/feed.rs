//! Every message that is stored is told to whoever the installation names, as an event: in the order of its conversation, at
//! least once whatever dies, and encrypted as it is. If it names nobody, nobody is told.

use std::time::Duration;

use colloquy_client::terminal::calendar::in_utc;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::event::{AGENT_MESSAGE, MESSAGE_RECEIVED};
use colloquy_protocol::frame::client::SendMessage;
use colloquy_protocol::frame::server::{MessageAck, ServerFrame};
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_tests::broker::Broker;
use colloquy_tests::cluster::{Cluster, ClusterOptions};
use colloquy_tests::device::Device;
use colloquy_tests::feed::{Feed, Told};
use colloquy_tests::metrics::{Sample, sum};
use colloquy_tests::operator::{complained, dead_letters, said};
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::RawClient;
use colloquy_tests::server::Server;
use colloquy_tests::talk::Talk;
use tokio::time::interval;

/// What is said. Nobody but the devices that it is for can read it.
const TEXT: &str = "this is between the two of us";
/// Counts what came of telling messages.
const FEED_MESSAGES: &str = "colloquy_feed_messages_total";
/// How many conversations have something that is not told yet.
const FEED_CONVERSATIONS: &str = "colloquy_feed_conversations";
/// What the command line says when everything was told.
const NO_LETTERS: &str = "there are no dead letters of the feed";
/// How long a sink asks to be left alone for: longer than a second try is put off anyway.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Messages in each conversation each time.
const MESSAGES: u64 = 5;
/// Conversations of a cluster: enough for every pod to own some.
const CONVERSATIONS: usize = 12;
/// Between two messages while a test waits for the next second.
const SECOND_TICK: Duration = Duration::from_millis(50);

/// Says something, and waits until it is stored.
async fn say(socket: &mut RawClient, sender: &Device, recipients: &[&Device]) -> (SendMessage, MessageAck) {
    let sent = socket.send_message(sender, recipients, TEXT).await;
    let ack = socket.expect_ack(&sent).await;
    (sent, ack)
}

/// The event is as it is documented, and holds nothing that nobody else is to know.
fn assert_is_event(server: &Server, told: &Told) {
    let conversation = told.message.conversation_id.to_string();
    for (name, value) in [
        ("specversion", "1.0"),
        ("type", "messaging.message.received"),
        ("datacontenttype", "application/json"),
        ("conversationid", conversation.as_str()),
        ("partitionkey", conversation.as_str()),
    ] {
        assert_eq!(told.attribute(name), value, "{name}");
    }
    let (source, id) = &told.name;
    assert_eq!(source, &format!("/conversations/{conversation}"));
    assert_eq!(id, &format!("{}/received", told.message.message_id));
    assert!(told.attribute("traceparent").starts_with("00-"), "{:?}", told.attributes);
    // A broker takes to an agent whatever names it.
    assert!(!told.attributes.contains_key("agentid"), "{:?}", told.attributes);
    assert!(!told.headers.contains_key("authorization"));
    let found = server.secrets().found_in(&told.body);
    let is_known = |what: &&str| ["user id", "ciphertext"].contains(what);
    assert!(found.iter().all(is_known), "PRIVATE: it holds a {found:?}");
}

/// The event tells of what was sent, as it was sent.
fn assert_tells_of(told: &Told, sender: &Device, (sent, ack): &(SendMessage, MessageAck)) {
    let (message, payload) = (&told.message, &sent.payload);
    assert_eq!(message.message_id, ack.message_id);
    assert_eq!((message.sequence_number, message.timestamp), (ack.sequence_number, ack.timestamp));
    assert_eq!(message.conversation_id, payload.conversation_id);
    assert_eq!((message.sender_id, &message.sender_device_id), (sender.user_id, &sender.device_id));
    assert_eq!((message.receiver_id, message.r#type), (payload.receiver_id, payload.r#type));
    assert_eq!(message.content, payload.content, "E2EE: the ciphertexts for all devices, and nothing else");
    assert_eq!((&message.media_url, message.reply_to_message_id), (&None, None));
}

/// What has been told of a conversation is what its log holds.
async fn assert_is_all_told(feed: &Feed, pair: &Pair, reader: &Device, conversation: ConversationId) {
    let log = pair.rest.whole_history(reader, conversation).await;
    let logged: Vec<MessageId> = log.messages.iter().map(|message| message.message_id).collect();
    assert_eq!(feed.told_of(conversation), logged);
}

#[tokio::test]
async fn what_people_and_agents_write_is_told_message_by_message_and_stays_encrypted() {
    let mut feed = Feed::start().await;
    let server = Server::start(feed.subscribe(ServerOptions::default())).await;
    let mut talk = Talk::begun_on(server).await;
    let bob = talk.server.rest().register_user("Bob", "phone").await;
    let tablet = talk.server.rest().add_device(&bob, "tablet").await;
    let mut socket = RawClient::connect(talk.server.address(), &bob).await;

    let written = say(&mut talk.socket, &talk.user, &[&bob, &tablet]).await;
    let told = feed.next_new().await;
    assert_is_event(&talk.server, &told);
    assert_tells_of(&told, &talk.user, &written);
    assert_eq!(told.message.turn_id, None);

    let written = say(&mut socket, &bob, &[&talk.user, &tablet]).await;
    let told = feed.next_new().await;
    assert_is_event(&talk.server, &told);
    assert_tells_of(&told, &bob, &written);
    assert_eq!(told.message.sequence_number, 2);

    let written = say(&mut talk.socket, &talk.user, &[&talk.agent.device]).await;
    let turn_id = written.1.message_id;
    let told = feed.next_new().await;
    assert_is_event(&talk.server, &told);
    assert_tells_of(&told, &talk.user, &written);
    assert_eq!(told.message.turn_id, None, "a question ends no turn");

    let answer = talk.agent.answer(turn_id, &[&talk.user], TEXT);
    assert_eq!(talk.agent.post(&talk.server, &talk.agent.event(&answer)).await.status, 202);
    let told = feed.next_new().await;
    assert_is_event(&talk.server, &told);
    let message = &told.message;
    assert_eq!((message.turn_id, message.reply_to_message_id), (Some(turn_id), Some(turn_id)));
    assert_eq!((message.sequence_number, &message.content), (2, &answer.content));
    assert_eq!((message.sender_id, message.receiver_id), (talk.agent.device.user_id, talk.user.user_id));
    assert_eq!(message.sender_device_id, talk.agent.device.device_id);

    talk.server.scrape_until(|scraped| sum(scraped, FEED_MESSAGES, &[("outcome", "Told")]) >= 4.0).await;
    talk.server.assert_log_is_private();
}

#[tokio::test]
async fn nobody_is_told_if_the_installation_does_not_say_so() {
    let (broker, feed) = (Broker::start().await, Feed::start().await);
    let server = Server::start(ServerOptions::default().env("K_SINK", &broker.url())).await;
    let mut talk = Talk::begun_on(server).await;
    broker.trigger(MESSAGE_RECEIVED, feed.url());
    broker.trigger(AGENT_MESSAGE, talk.sink.url());
    let bob = talk.server.rest().register_user("Bob", "phone").await;
    say(&mut talk.socket, &talk.user, &[&bob]).await;
    // The broker passes on one event after the other.
    let turn_id = talk.ask(TEXT).await;
    assert_eq!(talk.sink.next().await.message.turn_id, turn_id);
    talk.answer(turn_id, TEXT).await;
    assert_eq!(talk.socket.expect_message().await.reply_to_message_id, Some(turn_id));
    assert!(feed.is_empty());
    assert!(sum(&talk.server.scrape().await, FEED_MESSAGES, &[]) < 0.5);
}

#[tokio::test]
async fn without_an_address_of_its_own_the_feed_goes_to_the_broker_in_structured_mode_if_so_set() {
    let mut broker = Feed::start().await;
    let options = ServerOptions::default().set("feed.enabled", true).set("feed.mode", "structured");
    let pair = Pair::start_with(options.env("K_SINK", &broker.url())).await;
    let mut left = pair.connect(&pair.left).await;
    let written = say(&mut left, &pair.left, &[&pair.right]).await;
    let told = broker.next_new().await;
    assert_eq!(told.headers["content-type"], "application/cloudevents+json");
    assert!(told.headers.keys().all(|name| !name.as_str().starts_with("ce-")), "{:?}", told.headers);
    assert_is_event(&pair.server, &told);
    assert_tells_of(&told, &pair.left, &written);
}

#[tokio::test]
async fn what_a_broker_brings_back_of_the_feed_is_refused_and_stored_nowhere() {
    let (mut broker, mut feed) = (Broker::start().await, Feed::start().await);
    let options = ServerOptions::default().set("feed.enabled", true).env("K_SINK", &broker.url());
    let pair = Pair::start_with(options).await;
    broker.trigger(MESSAGE_RECEIVED, feed.url());
    broker.trigger(MESSAGE_RECEIVED, format!("http://{}/events", pair.server.address()));
    let mut left = pair.connect(&pair.left).await;
    let written = say(&mut left, &pair.left, &[&pair.right]).await;
    let told = feed.next_new().await;
    assert_is_event(&pair.server, &told);
    assert_tells_of(&told, &pair.left, &written);
    // Each of the two is passed it twice.
    for status in [202, 202, 401, 401] {
        assert_eq!(broker.passed_on(MESSAGE_RECEIVED).await, status);
    }
    assert_eq!(pair.log().await.len(), 1);
    feed.expect_in_order(&[(pair.conversation(), 1)]).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_taken_is_told_again_under_its_name_and_what_follows_waits() {
    let mut feed = Feed::start().await;
    let pair = Pair::start_with(feed.subscribe(ServerOptions::default())).await;
    feed.manner.answers(429, vec![("retry-after", RETRY_AFTER.as_secs().to_string())]);
    let mut left = pair.connect(&pair.left).await;
    let (_, ack) = say(&mut left, &pair.left, &[&pair.right]).await;
    left.send_many(&pair.left, &[&pair.right], MESSAGES - 1).await;
    let first = feed.next().await;
    assert_eq!(first.message.message_id, ack.message_id);
    feed.manner.answers(503, Vec::new());
    let again = feed.next().await;
    assert_eq!(again.name, first.name);
    let waited = again.at - first.at;
    assert!(waited >= RETRY_AFTER, "told again after {waited:?}");
    feed.manner.answers(500, Vec::new());
    assert_eq!(feed.next().await.name, first.name);
    feed.manner.answers(202, Vec::new());
    assert_eq!(feed.next().await.name, first.name);
    assert_eq!(feed.next().await.message.sequence_number, 2);
    feed.expect_in_order(&[(pair.conversation(), MESSAGES)]).await;
    assert_is_all_told(&feed, &pair, &pair.left, pair.conversation()).await;
}

#[tokio::test]
async fn conversations_are_told_side_by_side_and_each_one_message_after_the_other() {
    let mut feed = Feed::start().await;
    let pair = Pair::start_with(feed.subscribe(ServerOptions::default())).await;
    let (mut left, mut right) = pair.connect_both().await;
    let ann = pair.rest.register_user("Ann", "phone").await;
    feed.manner.holds(true);
    left.send_many(&pair.left, &[&pair.right], MESSAGES).await;
    right.send_many(&pair.right, &[&ann], 1).await;
    let mut held = [feed.next().await, feed.next().await].map(|told| told.message.conversation_id);
    let mut conversations = [pair.conversation(), pair.right.conversation_with(&ann)];
    held.sort_unstable();
    conversations.sort_unstable();
    assert_eq!(held, conversations);
    assert!(feed.is_empty(), "of each conversation one message is under way");
    feed.manner.holds(false);
    feed.expect_in_order(&[(pair.conversation(), MESSAGES), (pair.right.conversation_with(&ann), 1)]).await;
}

/// Three people, each of whom writes to the next.
struct Circle {
    pair: Pair,
    third: Device,
}

impl Circle {
    async fn start_with(options: ServerOptions) -> Self {
        let pair = Pair::start_with(options).await;
        let third = pair.rest.register_user("Ann", "phone").await;
        Self { pair, third }
    }

    fn ways(&self) -> [(&Device, &Device); 3] {
        let [left, right] = [&*self.pair.left, &*self.pair.right];
        [(left, right), (right, &self.third), (&self.third, left)]
    }

    async fn everybody_writes(&self, count: u64) {
        for (sender, receiver) in self.ways() {
            let mut socket = self.pair.connect(sender).await;
            socket.send_many(sender, &[receiver], count).await;
            socket.close().await;
        }
    }

    /// All conversations, of so many messages each.
    fn ends(&self, count: u64) -> [(ConversationId, u64); 3] {
        self.ways().map(|(sender, receiver)| (sender.conversation_with(receiver), count))
    }
}

/// NOLOSS.
#[tokio::test]
async fn what_was_stored_while_nobody_listened_is_told_though_the_server_was_killed_meanwhile() {
    let mut feed = Feed::start().await;
    let mut circle = Circle::start_with(feed.subscribe(ServerOptions::default())).await;
    circle.everybody_writes(MESSAGES).await;
    feed.expect_in_order(&circle.ends(MESSAGES)).await;
    feed.stop().await;
    circle.everybody_writes(MESSAGES).await;
    circle.pair.server.kill_9();
    circle.pair.server.restart().await;
    circle.everybody_writes(MESSAGES).await;
    feed.restart().await;
    feed.expect_in_order(&circle.ends(3 * MESSAGES)).await;
    // Killed just now, it may not have noted what it has told.
    circle.pair.server.kill_9();
    circle.pair.server.restart().await;
    circle.everybody_writes(1).await;
    feed.expect_in_order(&circle.ends(3 * MESSAGES + 1)).await;
    for (sender, receiver) in circle.ways() {
        let conversation = sender.conversation_with(receiver);
        assert_is_all_told(&feed, &circle.pair, sender, conversation).await;
    }
}

#[tokio::test]
async fn a_server_that_is_stopped_in_order_has_written_how_far_it_has_told() {
    let mut feed = Feed::start().await;
    let mut pair = Pair::start_with(feed.subscribe(ServerOptions::default())).await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], MESSAGES).await;
    left.close().await;
    feed.expect_in_order(&[(pair.conversation(), MESSAGES)]).await;
    // It knows that the last one is taken, too.
    let has_told =
        |scraped: &[Sample]| sum(scraped, FEED_MESSAGES, &[("outcome", "Told")]) >= MESSAGES as f64;
    let is_done = |scraped: &[Sample]| has_told(scraped) && sum(scraped, FEED_CONVERSATIONS, &[]) < 0.5;
    pair.server.scrape_until(is_done).await;
    assert_eq!(pair.server.terminate().await, Some(0));
    pair.server.restart().await;
    let mut left = pair.connect(&pair.left).await;
    let (_, ack) = say(&mut left, &pair.left, &[&pair.right]).await;
    assert_eq!(feed.next().await.message.message_id, ack.message_id, "what was told is not told again");
    assert!(feed.is_empty());
}

/// A feed that does not want a message to an agent, while it takes others, until that is given up; and the first event of it.
async fn given_up() -> (Talk, Feed, Told) {
    let mut feed = Feed::start().await;
    let server = Server::start(feed.subscribe(ServerOptions::default())).await;
    let mut talk = Talk::begun_on(server).await;
    feed.manner.holds(true);
    let poison = talk.ask("poison").await;
    feed.manner.refuses(poison, true);
    feed.manner.holds(false);
    let first = feed.next_of(poison).await;
    // When it comes again it has been refused once.
    assert_eq!(feed.next_of(poison).await.name, first.name);
    let bob = talk.server.rest().register_user("Bob", "phone").await;
    let mut socket = RawClient::connect(talk.server.address(), &bob).await;
    say(&mut socket, &bob, &[&talk.agent.device]).await;
    // The agent takes it all the same, and the conversation goes on.
    while talk.sink.next().await.message.turn_id != poison {}
    talk.answer(poison, "not to me").await;
    assert_eq!(talk.socket.expect_message().await.reply_to_message_id, Some(poison));
    let [poisoned, other] = [&talk.user, &bob].map(|user| user.conversation_with(&talk.agent.device));
    feed.expect_in_order(&[(poisoned, 2), (other, 1)]).await;
    (talk, feed, first)
}

#[tokio::test]
async fn a_message_that_is_refused_while_others_are_taken_is_given_up_listed_and_told_when_it_is_replayed() {
    let (mut talk, mut feed, first) = given_up().await;
    let poison = first.message.message_id;
    let id = poison.to_string();
    talk.server.scrape_until(|scraped| sum(scraped, FEED_MESSAGES, &[("outcome", "Dead")]) >= 1.0).await;
    // That is between the installation and whoever it has told: nobody in the conversation has lost anything.
    talk.socket.heartbeat().await;
    assert!(!talk.socket.has_seen(|frame| matches!(frame, ServerFrame::TurnGivenUp { .. })));
    for user in [&talk.user, &talk.agent.device] {
        assert!(talk.server.rest().given_up(user).await.is_empty());
    }
    assert_eq!(said(&dead_letters(&talk.server, &["list"]).await), "there are no dead letters");

    talk.server.kill_9();
    talk.server.restart().await;
    // Killed just now, it may not have noted what it has passed over, and tell it again before it tells what is new.
    talk.socket = RawClient::connect(talk.server.address(), &talk.user).await;
    talk.ask("and this?").await;
    feed.expect_in_order(&[(first.message.conversation_id, 3)]).await;
    let kept = said(&dead_letters(&talk.server, &["list", "--feed"]).await);
    let mut columns = kept.split_whitespace();
    assert_eq!((columns.next(), columns.next()), (Some(id.as_str()), Some("feed")), "{kept}");
    assert!(kept.contains("refused with 422 after") && kept.lines().count() == 1, "{kept}");
    let again = complained(&dead_letters(&talk.server, &["replay", "--feed", "--all"]).await);
    assert!(again.contains("1 of 1 were not taken"), "{again}");
    assert_eq!(feed.next_of(poison).await.name, first.name);
    feed.manner.refuses(poison, false);
    said(&dead_letters(&talk.server, &["replay", "--feed", &id]).await);
    assert_eq!(feed.next_of(poison).await.name, first.name);
    assert_eq!(said(&dead_letters(&talk.server, &["list", "--feed"]).await), NO_LETTERS);
    let late = complained(&dead_letters(&talk.server, &["replay", "--feed", &id]).await);
    assert!(late.contains("no dead letter"), "{late}");
    talk.server.assert_log_is_private();
}

#[tokio::test]
async fn what_nobody_needs_to_be_told_of_any_more_is_dropped() {
    let (talk, _feed, first) = given_up().await;
    let id = first.message.message_id.to_string();
    let dropped = said(&dead_letters(&talk.server, &["drop", "--feed", "--all"]).await);
    assert_eq!(dropped, format!("{id} is dropped"));
    assert_eq!(said(&dead_letters(&talk.server, &["list", "--feed"]).await), NO_LETTERS);
}

/// Writes until the second in which the first message was numbered is over: the last one is the first of another.
async fn say_into_the_next_second(socket: &mut RawClient, sender: &Device, receiver: &Device) -> MessageAck {
    let second = |at: UnixMillis| at / 1000;
    let (_, first) = say(socket, sender, &[receiver]).await;
    let mut tick = interval(SECOND_TICK);
    loop {
        tick.tick().await;
        let (_, ack) = say(socket, sender, &[receiver]).await;
        if second(ack.timestamp) > second(first.timestamp) {
            return ack;
        }
    }
}

#[tokio::test]
async fn what_was_written_before_the_date_that_is_set_is_not_told() {
    let mut feed = Feed::start().await;
    let mut pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    let last = say_into_the_next_second(&mut left, &pair.left, &pair.right).await;
    left.send_many(&pair.left, &[&pair.right], MESSAGES).await;
    pair.server.kill_9();
    // To the second.
    let since = in_utc(last.timestamp);
    let options = feed.subscribe(ServerOptions::default()).set("feed.since", since);
    pair.server.restart_with(options).await;
    feed.passes_over(pair.conversation(), last.sequence_number - 1);
    assert_eq!(feed.next().await.message.message_id, last.message_id);
    feed.expect_in_order(&[(pair.conversation(), last.sequence_number + MESSAGES)]).await;
    // What is written from now on is told as well.
    let mut right = pair.connect(&pair.right).await;
    right.send_many(&pair.right, &[&pair.left], MESSAGES).await;
    feed.expect_in_order(&[(pair.conversation(), last.sequence_number + 2 * MESSAGES)]).await;
}

#[tokio::test]
async fn a_feed_that_is_turned_on_later_or_again_tells_what_was_written_meanwhile() {
    let mut feed = Feed::start().await;
    let (off, on) = (ServerOptions::default(), feed.subscribe(ServerOptions::default()));
    let mut circle = Circle::start_with(off.clone()).await;
    circle.everybody_writes(MESSAGES).await;
    circle.pair.server.kill_9();
    circle.pair.server.restart_with(on.clone()).await;
    feed.expect_in_order(&circle.ends(MESSAGES)).await;
    circle.pair.server.kill_9();
    circle.pair.server.restart_with(off).await;
    circle.everybody_writes(MESSAGES).await;
    circle.pair.server.kill_9();
    circle.pair.server.restart_with(on).await;
    feed.expect_in_order(&circle.ends(2 * MESSAGES)).await;
}

/// NOLOSS.
#[tokio::test(flavor = "multi_thread")]
async fn each_pod_tells_of_its_conversations_and_of_those_of_a_pod_that_has_died() {
    let mut feed = Feed::start().await;
    let ClusterOptions { pods, server } = ClusterOptions::default();
    let mut cluster = Cluster::start(ClusterOptions { pods, server: feed.subscribe(server) }).await;
    let (rest, addresses) = (cluster.rest(0), cluster.addresses());
    let receiver = rest.register_user("Left", "phone").await;
    let mut senders = Vec::new();
    for address in addresses.iter().cycle().take(CONVERSATIONS) {
        let sender = rest.register_user("Right", "phone").await;
        senders.push((RawClient::connect(*address, &sender).await, sender));
    }
    let conversations: Vec<ConversationId> =
        senders.iter().map(|(_, sender)| sender.conversation_with(&receiver)).collect();
    let ends = |count: u64| -> Vec<(ConversationId, u64)> {
        conversations.iter().map(|conversation| (*conversation, count)).collect()
    };
    for (socket, sender) in &mut senders {
        socket.send_many(sender, &[&receiver], MESSAGES).await;
    }
    feed.expect_in_order(&ends(MESSAGES)).await;

    let mut told = Vec::new();
    for pod in cluster.pods() {
        told.push(sum(&pod.scrape().await, FEED_MESSAGES, &[]));
    }
    assert!(told.iter().filter(|told| **told > 0.0).count() > 1, "one pod tells of everything: {told:?}");
    let busiest = (0..pods).max_by(|one, other| told[*one].total_cmp(&told[*other]));
    let busiest = busiest.expect("there are pods");
    feed.manner.holds(true);
    for (socket, sender) in &mut senders {
        socket.send_many(sender, &[&receiver], MESSAGES).await;
    }
    cluster.kill_9(busiest);
    feed.manner.holds(false);
    feed.expect_in_order(&ends(2 * MESSAGES)).await;
}
