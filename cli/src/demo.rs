//! `colloquy demo`: two people in one process hold a conversation over a running server, or over one of its own.

use std::time::Duration;

use clap::Args;
use colloquy_client::{
    ApiError, Client, ClientError, Event, Events, Message, MessageState, ProfileOptions, Registration,
    ShownContent, Unlock, UserQuery,
};
use colloquy_protocol::ids::{ConversationId, UserId};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::advice::advise;
use crate::demo_agent;
use crate::own_server::OwnServer;
use crate::signals::StopSignals;
use crate::{Outcome, say};

/// How long one step may take before the demo has failed.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// Where [`crate::DEFAULT_SERVER`] listens.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
/// How long a server on this machine may take to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// More than the conversation has.
const HISTORY_MAX: usize = 100;

const SCRIPT: [(usize, &str); 6] = [
    (0, "Hello! The server that carries this cannot read it."),
    (1, "It cannot: it only sees who writes to whom, and when."),
    (1, "Every message is encrypted for each device, with keys that change all the time."),
    (0, "And if the connection breaks in the middle of a sentence?"),
    (1, "It is sent again, and arrives once. ✓"),
    (0, "Then let us compare safety numbers."),
];

/// What `colloquy demo` is told.
#[derive(Args)]
pub(crate) struct Demo {
    /// The server [default: the one on 127.0.0.1:8080, or if there is none, one of its own].
    #[arg(long, value_name = "URL", env = "COLLOQUY_SERVER")]
    server: Option<String>,
    /// Where the second person connects: another pod of the same cluster [default: the same server].
    #[arg(long, value_name = "URL", requires = "server")]
    other_server: Option<String>,
    /// Start a server for the demo, also where one runs already.
    #[arg(long, conflicts_with = "server")]
    own_server: bool,
    /// A person asks an agent instead, which is a model behind a sidecar; over a server of the demo's own.
    #[arg(long, conflicts_with = "server")]
    agent: bool,
}

/// Runs the verb.
pub(crate) fn run(options: &Demo) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(host(options)))
}

/// Sees to a server, and that one of its own ends with the demo.
async fn host(options: &Demo) -> Outcome {
    if let Some(server) = &options.server {
        return demo(server, options.other_server.as_deref().unwrap_or(server)).await;
    }
    let is_own = options.own_server || options.agent;
    if !is_own && is_answered(DEFAULT_ADDRESS).await {
        return demo(crate::DEFAULT_SERVER, crate::DEFAULT_SERVER).await;
    }
    // Before the server is there: a signal meanwhile must not leave it behind.
    let mut signals = StopSignals::new()?;
    let why = if is_own { String::new() } else { format!("no server on {DEFAULT_ADDRESS}: ") };
    say(&format!("{why}starting one for the demo"));
    let server = OwnServer::start().await?;
    let conversation = async {
        if options.agent { demo_agent::demo(&server).await } else { demo(server.url(), server.url()).await }
    };
    let held = tokio::select! {
        held = Box::pin(conversation) => held,
        () = signals.next() => Err("told to stop".into()),
    };
    let stopped = server.stop().await;
    held?;
    stopped?;
    say("the demo's server has stopped");
    Ok(())
}

async fn is_answered(address: &str) -> bool {
    matches!(timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

pub(crate) struct Person {
    pub(crate) name: &'static str,
    email: String,
    user: UserId,
    pub(crate) client: Client,
    events: Events,
    /// Its store; deleted at the end.
    _folder: TempDir,
}

async fn demo(server: &str, other: &str) -> Outcome {
    let started = Instant::now();
    let mut first = Person::join("first person", server).await?;
    let mut second = Person::join("second person", other).await?;
    let place = if server == other { server.to_owned() } else { format!("{server} and {other}") };
    say(&format!("two people have registered at {place}, each with a device and keys of their own\n"));
    first.finds(&second).await?;
    second.finds(&first).await?;
    let talking = Instant::now();
    for (speaker, text) in SCRIPT {
        match speaker {
            0 => exchange(&mut first, &mut second, text).await?,
            _ => exchange(&mut second, &mut first, text).await?,
        }
    }
    let talked = talking.elapsed();
    let messages = first.same_history_as(&second)?;
    let numbers = (
        first.client.safety_number(second.user).await.map_err(|error| advise(&error, server))?,
        second.client.safety_number(first.user).await.map_err(|error| advise(&error, other))?,
    );
    say(&format!("\nsafety number, as the first person sees it:   {}", numbers.0));
    say(&format!("safety number, as the second person sees it:  {}", numbers.1));
    if numbers.0 != numbers.1 {
        return Err("the safety numbers differ: somebody stands between the two".into());
    }
    say("the numbers are equal: nobody stands between them\n");
    say(&format!(
        "{messages} messages sent, {messages} delivered, {messages} read, 0 lost, 0 twice, in {} ms ({} ms in all)",
        talked.as_millis(),
        started.elapsed().as_millis()
    ));
    first.client.shutdown().await;
    second.client.shutdown().await;
    Ok(())
}

/// One message from its writing to the mark that it was read, told as it happens.
async fn exchange(from: &mut Person, to: &mut Person, text: &str) -> Outcome {
    let began = Instant::now();
    let id = from.client.send_text(to.user, text).await?;
    let number = from
        .wait("the server to store a message", |event| match event {
            Event::MessageSent { local_id, sequence_number, .. } if local_id == id => {
                Some(Ok(sequence_number))
            }
            Event::MessageFailed { local_id, reason, .. } if local_id == id => {
                Some(Err(format!("a message was not sent: {reason}")))
            }
            _ => None,
        })
        .await??;
    let sent = began.elapsed();
    let received = to
        .wait("a message to arrive", |event| match event {
            Event::MessageReceived(message) if message.sequence_number == Some(number) => Some(Ok(message)),
            Event::DecryptionFailed { failure, .. } => {
                Some(Err(format!("a message cannot be read: {failure}")))
            }
            _ => None,
        })
        .await??;
    let ShownContent::Text(arrived) = &received.content else {
        return Err("a message arrived without its text".into());
    };
    if arrived != text {
        return Err("a message arrived with another text".into());
    }
    say(&format!("{:>13}: {arrived}", from.name));
    let delivered = from.wait_for_mark("a delivered mark", number, false).await?;
    let delivered_after = began.elapsed();
    to.client.mark_read(received.conversation_id).await?;
    if !delivered {
        from.wait_for_mark("a read mark", number, true).await?;
    }
    say(&format!(
        "{:>15}✓ sent {} ms   ✓✓ delivered {} ms   ✓✓ read {} ms",
        "",
        sent.as_millis(),
        delivered_after.as_millis(),
        began.elapsed().as_millis()
    ));
    Ok(())
}

impl Person {
    pub(crate) async fn join(name: &'static str, server: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let email = format!("demo-{:016x}@example.com", rand::random::<u64>());
        let client = Client::open(ProfileOptions {
            folder: folder.path().join("store"),
            unlock: Unlock::KeyFile(folder.path().join("key")),
            server_url: server.to_owned(),
            device_id: None,
            platform: "demo".to_owned(),
        })
        .await
        .map_err(|error| advise(&error, server))?;
        let password = format!("{:032x}", rand::random::<u128>());
        let registration =
            Registration { phone: None, email: Some(email.clone()), name: name.to_owned(), password };
        let user = client.register(registration).await.map_err(|error| match error {
            ClientError::Api(ApiError::Unreachable(_)) => {
                format!(
                    "{server} cannot be reached: start the server first (make run), or leave out --server"
                )
            }
            error => advise(&error, server),
        })?;
        let mut events = client.connect()?;
        let connected = async {
            while let Some(event) = events.next().await {
                if matches!(event, Event::Connected { .. }) {
                    return true;
                }
            }
            false
        };
        if !timeout(STEP_TIMEOUT, connected).await.unwrap_or(false) {
            return Err(format!("{server} answers, but no connection can be made").into());
        }
        Ok(Self { name, email, user, client, events, _folder: folder })
    }

    async fn finds(&self, other: &Self) -> Outcome {
        let card = self.client.find_user(UserQuery::Email(other.email.clone())).await?;
        if card.user_id != other.user || card.name != other.name {
            return Err("somebody else was found under that email address".into());
        }
        Ok(())
    }

    /// The first event that `choose` takes.
    pub(crate) async fn wait<T>(
        &mut self,
        what: &str,
        mut choose: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, String> {
        let events = &mut self.events;
        let chosen = async {
            while let Some(event) = events.next().await {
                if let Some(chosen) = choose(event) {
                    return Some(chosen);
                }
            }
            None
        };
        match timeout(STEP_TIMEOUT, chosen).await {
            Ok(Some(chosen)) => Ok(chosen),
            Ok(None) => Err("the client has stopped".to_owned()),
            Err(_) => Err(format!("waited {} s in vain for {what}", STEP_TIMEOUT.as_secs())),
        }
    }

    /// Waits until a message is delivered, or read; says whether it is read.
    async fn wait_for_mark(&mut self, what: &str, number: u64, read: bool) -> Result<bool, String> {
        self.wait(what, |event| mark_reached(&event, number, read)).await
    }

    /// Both hold the same texts in the same order, each once, and all were read. Says how many.
    fn same_history_as(&self, other: &Self) -> Result<usize, Box<dyn std::error::Error>> {
        let conversation = ConversationId::of_pair(self.user, other.user);
        let mine = self.client.history(conversation, None, HISTORY_MAX)?;
        let theirs = other.client.history(conversation, None, HISTORY_MAX)?;
        Ok(compared(&mine, &theirs)?)
    }
}

/// Both are the script, and everybody's own messages were read. Says how many messages that are.
fn compared(mine: &[Message], theirs: &[Message]) -> Result<usize, &'static str> {
    for history in [mine, theirs] {
        let is_line = |(message, (_, text)): (&Message, &(usize, &str))| match &message.content {
            ShownContent::Text(shown) => shown == text,
            ShownContent::Request(_)
            | ShownContent::Verdict { .. }
            | ShownContent::Undecryptable(_)
            | ShownContent::Unavailable => false,
        };
        if history.len() != SCRIPT.len() || !history.iter().zip(&SCRIPT).all(is_line) {
            return Err("the two do not hold the conversation that was written");
        }
        if history.iter().any(|message| message.is_own && message.state != MessageState::Read) {
            return Err("a message has no read mark");
        }
    }
    Ok(mine.len())
}

/// Is the message delivered (`false`) or read (`true`) with this event? Only the latter counts if it must be `read`.
fn mark_reached(event: &Event, number: u64, read: bool) -> Option<bool> {
    match event {
        Event::MarksMoved { read_through, .. } if *read_through >= number => Some(true),
        Event::MarksMoved { delivered_through, .. } if !read && *delivered_through >= number => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::ids::DeviceId;

    use super::*;

    fn user(number: usize) -> UserId {
        format!("0192f7a4-7c1e-7000-8000-00000000000{number}").parse().unwrap()
    }

    /// What the one of that number holds when all has gone well.
    fn history(of: usize) -> Vec<Message> {
        let message = |(index, (speaker, text)): (usize, &(usize, &str))| Message {
            local_id: None,
            message_id: None,
            conversation_id: ConversationId::of_pair(user(0), user(1)),
            sequence_number: Some(index as u64 + 1),
            sender_id: user(*speaker),
            sender_device_id: DeviceId::new("demo-1").unwrap(),
            is_own: *speaker == of,
            timestamp: 0,
            content: ShownContent::Text((*text).to_owned()),
            state: if *speaker == of { MessageState::Read } else { MessageState::Received },
            given_up: false,
            reply_to: None,
        };
        SCRIPT.iter().enumerate().map(message).collect()
    }

    #[test]
    fn two_who_hold_the_whole_conversation_have_held_it() {
        assert_eq!(compared(&history(0), &history(1)), Ok(SCRIPT.len()));
    }

    #[test]
    fn a_message_lost_doubled_moved_or_unreadable_on_either_side_is_found() {
        let damages: [fn(&mut Vec<Message>); 5] = [
            |history| drop(history.pop()),
            |history| history.push(history[5].clone()),
            |history| history.swap(1, 2),
            |history| history[3].content = ShownContent::Unavailable,
            |history| history.insert(2, Message { content: ShownContent::Unavailable, ..history[2].clone() }),
        ];
        for damage in damages {
            let mut damaged = [history(0), history(1)];
            damage(&mut damaged[0]);
            assert!(compared(&damaged[0], &history(1)).unwrap_err().contains("was written"));
            damage(&mut damaged[1]);
            assert!(compared(&history(0), &damaged[1]).unwrap_err().contains("was written"));
        }
    }

    #[test]
    fn a_message_that_nobody_read_is_found() {
        let mut unread = history(1);
        unread[4].state = MessageState::Delivered;
        assert!(compared(&history(0), &unread).unwrap_err().contains("read mark"));
    }

    #[test]
    fn a_read_mark_says_that_a_message_was_delivered_too_but_not_the_other_way_round() {
        let moved = |delivered_through, read_through| Event::MarksMoved {
            conversation_id: ConversationId::of_pair(user(0), user(1)),
            delivered_through,
            read_through,
            own_read_through: 9,
        };
        assert_eq!(mark_reached(&moved(3, 0), 3, false), Some(false));
        assert_eq!(mark_reached(&moved(3, 0), 3, true), None);
        assert_eq!(mark_reached(&moved(3, 3), 3, false), Some(true));
        assert_eq!(mark_reached(&moved(3, 3), 3, true), Some(true));
        assert_eq!(mark_reached(&moved(2, 2), 3, false), None, "of an earlier message");
    }
}
