//! A small server: accounts, devices, one log per conversation, and faults on demand.

mod rest;
mod socket;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, SendMessage};
use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::frame::server::{Migration, ServerFrame};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, DeviceId, MessageId, UserId};
use colloquy_protocol::problem::Problem;
use colloquy_protocol::rest::devices::{Device, SignedKey};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use uuid::Uuid;

const TOKENS_LAST_MS: u64 = 3_600_000;
/// Frames that may wait for one socket; no test pushes as many.
const PUSHES_MAX: usize = 4096;

/// What happens to the next message a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The sender's connection breaks, and nothing is stored.
    DropBeforeStore,
    /// The sender's connection breaks before the ack, and all is stored.
    DropAfterStore,
    /// Recipients get it three times.
    Repeat,
    /// Recipients get it only when they ask.
    Withhold,
    /// Recipients' connections break.
    DropReceiver,
    /// Recipients get another ciphertext.
    Damage,
    Refuse(ErrorCode),
    /// It is stored, and its sender is told that its device list is stale.
    StoreAndCallStale,
}

struct Registered {
    device: Device,
    one_time_keys: Vec<SignedKey>,
    fallback_key: SignedKey,
}

struct Stored {
    id: MessageId,
    sender: DeviceAddress,
    sent: SendMessage,
    is_damaged: bool,
}

enum Push {
    Frame(Box<ServerFrame>),
    Close(u16),
    Drop,
}

#[derive(Default)]
struct State {
    users: Vec<(UserId, String, String)>,
    devices: BTreeMap<UserId, BTreeMap<DeviceId, Registered>>,
    log: BTreeMap<ConversationId, Vec<Stored>>,
    sockets: Vec<(DeviceAddress, mpsc::Sender<Push>)>,
    faults: VecDeque<Fault>,
    acks: BTreeMap<(UserId, ConversationId), u64>,
    reads: BTreeMap<(UserId, ConversationId), u64>,
    /// Turns that were given up, the newest first.
    given_up: BTreeMap<ConversationId, Vec<MessageId>>,
    /// Read receipts are lost before they are taken.
    loses_reads: bool,
    /// Read receipts that came, lost ones too.
    reads_heard: usize,
    /// Pages of lists of conversations that were asked for.
    lists: usize,
    /// So many times keys are not taken for now.
    refused_keys: usize,
    conflicts: usize,
    refreshes: usize,
    ports: Vec<u16>,
    counter: u128,
    /// Who has asked for whose device list.
    devices_asked: Vec<(UserId, UserId)>,
    /// Device lists this user asks for are answered later.
    held: Option<UserId>,
    /// Requests that wait for that.
    holding: usize,
}

#[derive(Clone)]
pub(super) struct Server {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<()>>,
    port: u16,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self { state: Arc::default(), changed: Arc::new(watch::channel(()).0), port: 0 }.listen().await
    }

    /// The same server at another port.
    pub(super) async fn listen(&self) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, ..self.clone() };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    pub(super) fn conflicts(&self) -> usize {
        self.state().conflicts
    }

    /// The id of the message of this number.
    pub(super) fn message_id(&self, conversation: ConversationId, number: usize) -> MessageId {
        self.state().log[&conversation][number - 1].id
    }

    /// A turn is given up, and counts as read: whoever asked is told of the one now, and of both by the list of conversations.
    pub(super) fn give_up(&self, asker: UserId, turn: TurnPlace) {
        let mut state = self.state();
        let log = &state.log[&turn.conversation_id];
        let index = log.iter().position(|stored| stored.id == turn.turn_id).unwrap();
        let receiver = log[index].sent.payload.receiver_id;
        state.reads.insert((receiver, turn.conversation_id), index as u64 + 1);
        state.given_up.entry(turn.conversation_id).or_default().insert(0, turn.turn_id);
        for (_, socket) in state.sockets.iter().filter(|(address, _)| address.user_id == asker) {
            let frame = ServerFrame::TurnGivenUp { payload: turn };
            let _ = socket.try_send(Push::Frame(Box::new(frame)));
        }
    }

    pub(super) fn stored(&self) -> usize {
        self.state().log.values().map(Vec::len).sum()
    }

    pub(super) fn close_all(&self, code: u16) {
        for (_, socket) in &self.state().sockets {
            let _ = socket.try_send(Push::Close(code));
        }
    }

    /// Read receipts are lost from here on, or no longer.
    pub(super) fn lose_read_receipts(&self, lose: bool) {
        self.state().loses_reads = lose;
    }

    pub(super) async fn wait_for_read_receipts(&self, least: usize) {
        self.wait(|state| state.reads_heard >= least).await;
    }

    pub(super) fn read_receipts(&self) -> usize {
        self.state().reads_heard
    }

    /// Pages of lists of conversations that were asked for.
    pub(super) fn lists(&self) -> usize {
        self.state().lists
    }

    /// From here on the device list of a user names a device that did not sign its keys.
    pub(super) fn forge_device(&self, user: UserId) {
        let mut state = self.state();
        let devices = state.devices.get_mut(&user).unwrap();
        let (_, real) = devices.first_key_value().unwrap();
        let forged = Registered {
            device: Device { device_id: DeviceId::new("forged").unwrap(), ..real.device.clone() },
            one_time_keys: Vec::new(),
            fallback_key: real.fallback_key.clone(),
        };
        devices.insert(forged.device.device_id.clone(), forged);
    }

    /// Breaks the connections of a user.
    pub(super) fn drop_sockets(&self, user: UserId) {
        for (address, socket) in &self.state().sockets {
            if address.user_id == user {
                let _ = socket.try_send(Push::Drop);
            }
        }
    }

    /// The device lists that `user` asks for are not answered before [`Server::release_device_lists`].
    pub(super) fn hold_device_lists(&self, user: UserId) {
        self.state().held = Some(user);
    }

    pub(super) fn release_device_lists(&self) {
        self.state().held = None;
        self.changed.send_replace(());
    }

    pub(super) async fn wait_for_device_list(&self, asker: UserId, of: UserId) {
        self.wait(|state| state.devices_asked.contains(&(asker, of))).await;
    }

    pub(super) async fn wait_for_held_device_list(&self) {
        self.wait(|state| state.holding > 0).await;
    }

    pub(super) fn migrate_all(&self, to: &Self) {
        for (address, socket) in &self.state().sockets {
            let payload = Migration {
                new_endpoint: to.url(),
                session_token: address.user_id.to_string(),
                reconnect_after_ms: 1,
            };
            let _ = socket.try_send(Push::Frame(Box::new(ServerFrame::Migration { payload })));
        }
    }

    pub(super) fn refreshes(&self) -> usize {
        self.state().refreshes
    }

    /// The ports that sockets came to, in order.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.state().ports.clone()
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn refuse_keys(&self, times: usize) {
        self.state().refused_keys = times;
    }

    /// Forgets that a user ever registered a device.
    pub(super) fn forget_devices(&self, user: UserId) {
        self.state().devices.remove(&user);
    }

    pub(super) fn take_keys(&self, user: UserId, count: usize) {
        for device in self.state().devices.get_mut(&user).unwrap().values_mut() {
            device.one_time_keys.drain(..count);
        }
    }

    pub(super) async fn wait_for_keys(&self, user: UserId, least: usize) {
        self.wait(|state| state.devices[&user].values().all(|device| device.one_time_keys.len() >= least))
            .await;
    }

    pub(super) async fn wait_for_ack(&self, user: UserId, conversation: ConversationId, number: u64) {
        self.wait(|state| state.acks.get(&(user, conversation)) == Some(&number)).await;
    }

    async fn wait(&self, is_so: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !is_so(&self.state()) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(super::PATIENCE, waiting).await.expect("the server should have seen it");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn serve(self, stream: TcpStream) {
        let mut start = [0; 7];
        while stream.peek(&mut start).await.is_ok_and(|count| count > 0 && count < start.len()) {
            tokio::task::yield_now().await;
        }
        if &start == b"GET /ws" { self.serve_socket(stream).await } else { self.serve_rest(stream).await }
    }

    async fn serve_rest(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let (head, body) = loop {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.unwrap_or(0);
            if count == 0 {
                return;
            }
            bytes.extend_from_slice(&chunk[..count]);
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                break (head, bytes[end + 4..].to_vec());
            }
        };
        let mut line = head.split(' ');
        let (method, target) = (line.next().unwrap(), line.next().unwrap());
        let user = header(&head, "authorization")
            .and_then(|token| token.strip_prefix("Bearer ").map(|token| token.parse().unwrap()));
        if target.ends_with("/devices") && user.is_some() && self.state().held == user {
            self.state().holding += 1;
            self.changed.send_replace(());
            self.wait(|state| state.held.is_none()).await;
        }
        let (status, answer) = match self.state().rest(method, target, user, &body) {
            Ok(answer) => (200, answer),
            Err(code) => (code.http_status(), serde_json::to_value(Problem::new(code)).unwrap()),
        };
        self.changed.send_replace(());
        let answer = answer.to_string();
        let length = answer.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all((head + &answer).as_bytes()).await;
    }

    async fn serve_socket(self, stream: TcpStream) {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        let Some(Ok(Message::Text(first))) = socket.next().await else { return };
        let Ok(ClientFrame::Auth(auth)) = ClientFrame::parse(&first) else { return };
        let own = DeviceAddress { user_id: auth.user_id, device_id: auth.device_id.clone() };
        let (push, mut pushes) = mpsc::channel(PUSHES_MAX);
        {
            let mut state = self.state();
            for frame in state.greeting(&auth, &own) {
                push.try_send(Push::Frame(Box::new(frame))).unwrap_or_else(|_| panic!("too many pages"));
            }
            state.sockets.push((own.clone(), push.clone()));
            state.ports.push(self.port);
        }
        loop {
            tokio::select! {
                pushed = pushes.recv() => match pushed {
                    Some(Push::Frame(frame)) => {
                        if socket.send(Message::text(frame.to_json())).await.is_err() { break }
                    }
                    Some(Push::Close(code)) => {
                        let frame = CloseFrame { code: code.into(), reason: "".into() };
                        let _ = socket.close(Some(frame)).await;
                        break;
                    }
                    Some(Push::Drop) | None => break,
                },
                received = socket.next() => {
                    let Some(Ok(message)) = received else { break };
                    let Message::Text(text) = message else { continue };
                    let frame = ClientFrame::parse(&text).unwrap();
                    let goes_on = self.state().frame(&own, frame, &push);
                    self.changed.send_replace(());
                    if !goes_on { break }
                }
            }
        }
        self.state().sockets.retain(|(_, socket)| !socket.same_channel(&push));
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

impl State {
    fn next_id(&mut self) -> Uuid {
        self.counter += 1;
        Uuid::from_u128(self.counter)
    }
}

fn is_participant(stored: &Stored, user: UserId) -> bool {
    stored.sender.user_id == user || stored.sent.payload.receiver_id == user
}
