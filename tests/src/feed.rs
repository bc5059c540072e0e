//! Whoever is told of all messages: an HTTP server that takes the events of the feed, in either mode, and answers what the test
//! says.
//!
//! Whatever a test is about, what comes is held to what is promised: the messages of a conversation in the order of their numbers,
//! without a hole, and one that comes again as the same event that it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use colloquy_protocol::event::{MESSAGE_RECEIVED, PublishedMessage};
use colloquy_protocol::ids::{ConversationId, MessageId};
use hyper::header::HeaderMap;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::DEADLINE;
use crate::event::CloudEvent;
use crate::http_server::{FREE_PORT, HttpServer, Posted, Reply};
use crate::manner::Manner;
use crate::options::ServerOptions;

/// Events that may wait for the test.
const WAITING_MAX: usize = 4096;

/// A message that was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// When it came.
    pub at: Instant,
    /// All headers, those of the event among them.
    pub headers: HeaderMap,
    /// The body, as it came.
    pub body: String,
    /// The event's attributes, extensions among them, wherever they stood; its content type is `datacontenttype`.
    pub attributes: BTreeMap<String, String>,
    /// `source` and `id`: the same for every try.
    pub name: (String, String),
    /// The event's data.
    pub message: PublishedMessage,
}

impl Told {
    /// Reads an event; nothing, if it is of another type.
    fn of(posted: &Posted) -> Result<Option<Self>, String> {
        let CloudEvent { attributes, data } = CloudEvent::of(posted)?;
        let attribute = |name: &str| attributes.get(name).cloned().unwrap_or_default();
        if attribute("type") != MESSAGE_RECEIVED {
            return Ok(None);
        }
        let message = serde_json::from_str(&data).map_err(|error| error.to_string())?;
        let name = (attribute("source"), attribute("id"));
        let (headers, body) = (posted.headers.clone(), String::from_utf8_lossy(&posted.body).into_owned());
        Ok(Some(Self { at: Instant::now(), headers, body, attributes, name, message }))
    }

    /// One attribute's text; empty if it is not there.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// The server. Dropping it closes the port.
pub struct Feed {
    /// How it answers.
    pub manner: Manner,
    server: HttpServer,
    teller: mpsc::Sender<Result<Told, String>>,
    told: mpsc::Receiver<Result<Told, String>>,
    heard: Heard,
}

impl Feed {
    /// Starts one that takes everything.
    pub async fn start() -> Self {
        let (teller, told) = mpsc::channel(WAITING_MAX);
        let manner = Manner::default();
        let server = listen(FREE_PORT, &teller, &manner).await;
        Self { manner, server, teller, told, heard: Heard::default() }
    }

    /// Ends the server, as if it had died. What has come before is still there for the test.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Starts it again, where it was.
    pub async fn restart(&mut self) {
        self.server = listen(self.server.address(), &self.teller, &self.manner).await;
    }

    /// Where messages are posted to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/feed", self.server.address())
    }

    /// The options of a server that tells it.
    #[must_use]
    pub fn subscribe(&self, options: ServerOptions) -> ServerOptions {
        options.set("feed.enabled", true).set("feed.url", self.url())
    }

    /// What a conversation has said up to here was written before anybody wanted to be told.
    pub fn passes_over(&mut self, conversation_id: ConversationId, through: u64) {
        self.heard.logs.insert(conversation_id, Log { before: through, told: Vec::new() });
    }

    /// The next event, whether it was there before or not.
    pub async fn next(&mut self) -> Told {
        self.until(|_, _, _| true).await
    }

    /// The next message that has not been told before.
    pub async fn next_new(&mut self) -> Told {
        self.until(|_, _, is_new| is_new).await
    }

    /// The next event that tells of this message, for the first time or again.
    pub async fn next_of(&mut self, message_id: MessageId) -> Told {
        self.until(|_, told, _| told.message.message_id == message_id).await
    }

    /// Waits until each of these conversations has been told up to its end, each message after the one before.
    pub async fn expect_in_order(&mut self, ends: &[(ConversationId, u64)]) {
        let is_told = |heard: &Heard| ends.iter().all(|(log, end)| heard.end_of(*log) >= *end);
        if !is_told(&self.heard) {
            self.until(|heard, _, _| is_told(heard)).await;
        }
        for (conversation_id, end) in ends {
            assert_eq!(self.heard.end_of(*conversation_id), *end, "nothing is told that was not written");
        }
    }

    /// What has been told of a conversation: each message once, in the order in which they came first.
    #[must_use]
    pub fn told_of(&self, conversation_id: ConversationId) -> &[MessageId] {
        self.heard.logs.get(&conversation_id).map(|log| log.told.as_slice()).unwrap_or_default()
    }

    /// Has nothing else come?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Takes in what comes up to the first event that fits.
    async fn until(&mut self, fits: impl Fn(&Heard, &Told, bool) -> bool) -> Told {
        let find = async {
            loop {
                let told = self.told.recv().await.expect("there is a sender as long as this is here");
                let told = told.unwrap_or_else(|why| panic!("not an event of the feed: {why}"));
                let is_new = self.heard.take_in(&told).unwrap_or_else(|why| panic!("{why}: {told:?}"));
                if fits(&self.heard, &told, is_new) {
                    return told;
                }
            }
        };
        let found = timeout(DEADLINE, find).await;
        match found {
            Ok(told) => told,
            Err(_) => panic!("not told within {DEADLINE:?}; told so far: {:?}", self.heard.logs),
        }
    }
}

async fn listen(
    address: SocketAddr,
    teller: &mpsc::Sender<Result<Told, String>>,
    manner: &Manner,
) -> HttpServer {
    let (teller, manner) = (teller.clone(), manner.clone());
    HttpServer::start(address, move |posted| take(posted, teller.clone(), manner.clone())).await
}

async fn take(posted: Posted, teller: mpsc::Sender<Result<Told, String>>, manner: Manner) -> Reply {
    match Told::of(&posted) {
        Ok(Some(told)) => {
            let message_id = told.message.message_id;
            let hearing = async {
                let _ = teller.send(Ok(told)).await;
            };
            manner.reply_to(message_id, hearing).await
        }
        // A broker gets everything.
        Ok(None) => Reply::status(202),
        Err(why) => {
            let _ = teller.send(Err(why)).await;
            Reply::status(400)
        }
    }
}

/// What was told so far.
#[derive(Debug, Default)]
struct Heard {
    /// By their names.
    events: BTreeMap<(String, String), Event>,
    logs: BTreeMap<ConversationId, Log>,
}

/// What must be the same whenever an event comes again.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    attributes: BTreeMap<String, String>,
    body: String,
}

/// What was told of one conversation.
#[derive(Debug, Default)]
struct Log {
    /// The number up to which nothing is told.
    before: u64,
    told: Vec<MessageId>,
}

impl Log {
    fn end(&self) -> u64 {
        self.before + self.told.len() as u64
    }
}

impl Heard {
    /// Takes an event in. Says whether it is new, or what is wrong with it.
    fn take_in(&mut self, told: &Told) -> Result<bool, String> {
        let event = Event { attributes: told.attributes.clone(), body: told.body.clone() };
        if let Some(first) = self.events.get(&told.name) {
            return if *first == event { Ok(false) } else { Err(format!("it was another: {first:?}")) };
        }
        let log = self.logs.entry(told.message.conversation_id).or_default();
        let next = log.end() + 1;
        if told.message.sequence_number != next {
            return Err(format!("ORDER: number {next} of its conversation comes next"));
        }
        log.told.push(told.message.message_id);
        self.events.insert(told.name.clone(), event);
        Ok(true)
    }

    /// The newest number that was told of a conversation.
    fn end_of(&self, conversation_id: ConversationId) -> u64 {
        self.logs.get(&conversation_id).map_or(0, Log::end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};
    use serde_json::{Value, json};
    use uuid::Uuid;

    fn data(sequence_number: u64) -> Value {
        json!({
            "message_id": Uuid::from_u128(sequence_number.into()), "conversation_id": Uuid::from_u128(7),
            "sequence_number": sequence_number, "sender_id": Uuid::from_u128(8), "sender_device_id": "phone",
            "receiver_id": Uuid::from_u128(9), "type": "text", "media_url": null, "reply_to_message_id": null,
            "content": {"algorithm": "olm.v1", "sender_key": "key", "ciphertexts": []}, "turn_id": null,
            "timestamp": 1,
        })
    }

    fn posted(headers: &[(&'static str, &'static str)], body: &Value) -> Posted {
        let headers = headers
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Posted { headers: headers.collect(), body: body.to_string().into() }
    }

    fn told(id: &'static str, sequence_number: u64) -> Told {
        let headers = [("ce-type", MESSAGE_RECEIVED), ("ce-source", "/x"), ("ce-id", id)];
        Told::of(&posted(&headers, &data(sequence_number))).unwrap().unwrap()
    }

    #[test]
    fn what_is_of_another_type_is_passed_over_and_what_is_of_another_form_is_not() {
        let other = posted(&[("ce-type", "agent.message")], &json!({}));
        assert!(Told::of(&other).unwrap().is_none());
        let odd = posted(&[("ce-type", MESSAGE_RECEIVED)], &json!({"message_id": "1"}));
        assert!(Told::of(&odd).is_err());
    }

    #[test]
    fn a_hole_a_late_one_and_one_that_is_not_what_it_was_are_found() {
        let mut heard = Heard::default();
        assert_eq!(heard.take_in(&told("1", 1)), Ok(true));
        assert_eq!(heard.take_in(&told("1", 1)), Ok(false));
        assert!(heard.take_in(&told("3", 3)).is_err());
        assert_eq!(heard.take_in(&told("2", 2)), Ok(true));
        assert!(heard.take_in(&told("1", 2)).is_err(), "another message under its name");
        assert!(heard.take_in(&told("other", 2)).is_err(), "under another name");
        assert_eq!(heard.take_in(&told("1", 1)), Ok(false));
        assert_eq!(heard.end_of(ConversationId(Uuid::from_u128(7))), 2);
    }
}
