//! A small server: accounts, devices, one log per conversation, and faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use colloquy_protocol::envelope::OwnedSealedContent;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::MessageStatus;
use colloquy_protocol::frame::client::{Auth, ClientFrame, SendMessage};
use colloquy_protocol::frame::server::{
    AuthSuccess, DeliveredMessage, DeviceListStale, ErrorPayload, MessageAck, MessagesPage, Migration,
    ReadReceipt, ServerFrame,
};
use colloquy_protocol::ids::{
    ConversationId, DeviceAddress, DeviceId, LoginId, MessageId, SessionId, UserId,
};
use colloquy_protocol::problem::Problem;
use colloquy_protocol::rest::accounts::{LogIn, Refresh, Register, Tokens, UserCard};
use colloquy_protocol::rest::conversations::{Conversation, ConversationKind, Conversations};
use colloquy_protocol::rest::devices::{
    ClaimKeys, ClaimedKey, ClaimedKeys, Device, DeviceList, KeyCount, PublishKeys, RegisterDevice, SignedKey,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use uuid::Uuid;

const TOKENS_LAST_MS: u64 = 3_600_000;
const PAGE: usize = 7;
const LIST_PAGE: usize = 2;
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

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap()
}

impl State {
    fn rest(
        &mut self,
        method: &str,
        target: &str,
        bearer: Option<UserId>,
        body: &[u8],
    ) -> Result<serde_json::Value, ErrorCode> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let answer = match (method, &path[..]) {
            ("POST", ["v1", "accounts"]) => {
                let register: Register = read(body);
                let user = UserId(self.next_id());
                self.users.push((user, register.email.unwrap(), register.name));
                json!(self.tokens(user))
            }
            ("POST", ["v1", "logins"]) => {
                let email = read::<LogIn>(body).email.unwrap();
                let user = self.users.iter().find(|(_, known, _)| *known == email);
                let user = user.ok_or(ErrorCode::InvalidCredentials)?.0;
                json!(self.tokens(user))
            }
            ("POST", ["v1", "logins", "refresh"]) => {
                let refresh_token = read::<Refresh>(body).refresh_token;
                let (user, spent) = refresh_token.split_once('/').unwrap();
                let user = user.parse().unwrap();
                if spent != self.refreshes.to_string() {
                    return Err(ErrorCode::RefreshTokenReused);
                }
                self.refreshes += 1;
                json!(self.tokens(user))
            }
            ("DELETE", ["v1", "logins", "current"]) => json!({}),
            ("PUT", ["v1", "devices", device]) => {
                let body: RegisterDevice = read(body);
                let device_id = DeviceId::new(device).unwrap();
                let count = body.one_time_keys.len();
                let registered = Registered {
                    device: Device {
                        device_id: device_id.clone(),
                        platform: body.platform,
                        identity_key: body.identity_key,
                        signing_key: body.signing_key,
                        identity_signature: body.identity_signature,
                        registered_at: 1,
                    },
                    one_time_keys: body.one_time_keys,
                    fallback_key: body.fallback_key,
                };
                self.devices.entry(bearer.unwrap()).or_default().insert(device_id, registered);
                json!(KeyCount { one_time_key_count: count as u64 })
            }
            ("POST", ["v1", "devices", device, "keys"]) => {
                if let Some(left) = self.refused_keys.checked_sub(1) {
                    self.refused_keys = left;
                    return Err(ErrorCode::Busy);
                }
                let body: PublishKeys = read(body);
                let devices = self.devices.get_mut(&bearer.unwrap()).unwrap();
                let device = devices.get_mut(&DeviceId::new(device).unwrap()).unwrap();
                for key in body.one_time_keys {
                    if device.one_time_keys.iter().all(|known| known.key_id != key.key_id) {
                        device.one_time_keys.push(key);
                    }
                }
                device.fallback_key = body.fallback_key.unwrap_or(device.fallback_key.clone());
                json!(KeyCount { one_time_key_count: device.one_time_keys.len() as u64 })
            }
            ("GET", ["v1", "users"]) => {
                let email = query.strip_prefix("email=").unwrap().replace("%40", "@");
                let user = self.users.iter().find(|(_, known, _)| *known == email);
                let (user_id, _, name) = user.ok_or(ErrorCode::UnknownUser)?.clone();
                json!(UserCard { user_id, name, avatar_url: None })
            }
            ("GET", ["v1", "users", user, "devices"]) => {
                let user_id = user.parse().unwrap();
                self.devices_asked.push((bearer.unwrap(), user_id));
                let devices = self.devices.get(&user_id).ok_or(ErrorCode::UnknownUser)?;
                let devices: Vec<Device> = devices.values().map(|device| device.device.clone()).collect();
                json!(DeviceList { user_id, version: devices.len() as u64, devices })
            }
            ("GET", ["v1", "conversations"]) => {
                let cursor = query.split('&').find_map(|pair| pair.strip_prefix("cursor="));
                json!(self.list(bearer.unwrap(), cursor.map_or(0, |cursor| cursor.parse().unwrap())))
            }
            ("POST", ["v1", "users", user, "keys", "claim"]) => {
                let devices = self.devices.get_mut(&user.parse().unwrap()).unwrap();
                let mut keys = Vec::new();
                for device_id in read::<ClaimKeys>(body).device_ids {
                    let Some(device) = devices.get_mut(&device_id) else { continue };
                    let key = device.one_time_keys.pop();
                    let fallback = key.is_none();
                    let key = key.unwrap_or_else(|| device.fallback_key.clone());
                    keys.push(ClaimedKey { device_id, key, fallback });
                }
                json!(ClaimedKeys { keys })
            }
            _ => return Err(ErrorCode::NotFound),
        };
        Ok(answer)
    }

    fn list(&mut self, own: UserId, skipped: usize) -> Conversations {
        self.lists += 1;
        let mut logs: Vec<_> =
            self.log.iter().filter(|(_, log)| log.iter().any(|stored| is_participant(stored, own))).collect();
        logs.sort_by_key(|(_, log)| std::cmp::Reverse(log.last().unwrap().id));
        let more = logs.len() > skipped + LIST_PAGE;
        let view = |(id, log): (&ConversationId, &Vec<Stored>)| {
            let (sender, receiver) = (log[0].sender.user_id, log[0].sent.payload.receiver_id);
            let other = if sender == own { receiver } else { sender };
            let mark = |marks: &BTreeMap<_, u64>, user| marks.get(&(user, *id)).copied().unwrap_or(0);
            Conversation {
                conversation_id: *id,
                r#type: ConversationKind::Pair,
                participants: vec![sender, receiver],
                last_sequence_number: log.len() as u64,
                last_message_at: Some(log.len() as u64),
                unread_count: 0,
                own_read_through: mark(&self.reads, own),
                read_through: mark(&self.reads, other),
                delivered_through: mark(&self.acks, other),
                created_at: 1,
                last_message: None,
            }
        };
        let conversations = logs.into_iter().skip(skipped).take(LIST_PAGE).map(view).collect();
        let next_cursor = more.then(|| (skipped + LIST_PAGE).to_string());
        Conversations { conversations, next_cursor }
    }

    fn tokens(&mut self, user_id: UserId) -> Tokens {
        Tokens {
            user_id,
            login_id: LoginId(self.next_id()),
            access_token: user_id.to_string(),
            access_token_expires_at: crate::ambient::now() + TOKENS_LAST_MS,
            refresh_token: format!("{user_id}/{}", self.refreshes),
        }
    }

    fn next_id(&mut self) -> Uuid {
        self.counter += 1;
        Uuid::from_u128(self.counter)
    }

    fn greeting(&mut self, auth: &Auth, own: &DeviceAddress) -> Vec<ServerFrame> {
        let devices = &self.devices[&own.user_id];
        let mut frames = vec![ServerFrame::AuthSuccess {
            payload: AuthSuccess {
                session_id: SessionId(Uuid::nil()),
                server_time: crate::ambient::now(),
                unread_count: 0,
                heartbeat_interval_ms: 25_000,
                token_expires_at: crate::ambient::now() + TOKENS_LAST_MS,
                device_list_version: devices.len() as u64,
                one_time_key_count: devices[&own.device_id].one_time_keys.len() as u64,
            },
        }];
        for (id, log) in &self.log {
            let is_in = log.iter().any(|stored| is_participant(stored, own.user_id));
            let after = auth.resume.iter().find(|cursor| cursor.conversation_id == *id);
            let after = after.map_or(0, |cursor| cursor.after_sequence);
            if is_in {
                frames.extend(pages(*id, log, after + 1, log.len() as u64, own));
            }
        }
        frames
    }

    fn frame(&mut self, own: &DeviceAddress, frame: ClientFrame, reply: &mpsc::Sender<Push>) -> bool {
        match frame {
            ClientFrame::Message(message) => return self.message(own, *message, reply),
            ClientFrame::DeliveryAck(ack) => {
                let position = ack.position.unwrap();
                let mark = self.acks.entry((own.user_id, position.conversation_id)).or_insert(0);
                *mark = (*mark).max(position.sequence_number);
            }
            ClientFrame::Retransmit(ask) => {
                let log = &self.log[&ask.conversation_id];
                for page in pages(ask.conversation_id, log, ask.from_sequence, ask.to_sequence, own) {
                    let _ = reply.try_send(Push::Frame(Box::new(page)));
                }
            }
            ClientFrame::ReadReceipt(receipt) => {
                self.reads_heard += 1;
                if self.loses_reads {
                    return true;
                }
                let newest = *receipt.message_ids.last().unwrap();
                let (id, index) = self
                    .log
                    .iter()
                    .find_map(|(id, log)| Some((*id, log.iter().position(|stored| stored.id == newest)?)))
                    .unwrap();
                let payload = ReadReceipt {
                    message_ids: receipt.message_ids,
                    read_by: own.user_id,
                    conversation_id: id,
                    through_sequence: index as u64 + 1,
                    timestamp: 1,
                };
                let mark = self.reads.entry((own.user_id, id)).or_insert(0);
                *mark = (*mark).max(payload.through_sequence);
                // The reader's own sockets are told too: that is how it knows that it was heard.
                for (_, socket) in &self.sockets {
                    let frame = ServerFrame::ReadReceipt { payload: payload.clone() };
                    let _ = socket.try_send(Push::Frame(Box::new(frame)));
                }
            }
            _ => {}
        }
        true
    }

    fn message(&mut self, own: &DeviceAddress, sent: SendMessage, reply: &mpsc::Sender<Push>) -> bool {
        let client_message_id = sent.client_message_id.clone();
        let refuse = |code: ErrorCode| {
            let payload = ErrorPayload {
                code,
                message: String::new(),
                retryable: code.is_retryable(),
                retry_after_ms: Some(1),
            };
            let client_message_id = Some(client_message_id.clone());
            let _ = reply.try_send(Push::Frame(Box::new(ServerFrame::Error { client_message_id, payload })));
        };
        let id = sent.payload.conversation_id;
        let same_key = |stored: &Stored| {
            stored.sender.user_id == own.user_id && stored.sent.idempotency_key == sent.idempotency_key
        };
        let known = self.log.get(&id).and_then(|log| log.iter().position(same_key));
        let fault =
            if known.is_some() { Fault::None } else { self.faults.pop_front().unwrap_or(Fault::None) };
        match fault {
            Fault::DropBeforeStore => return false,
            Fault::Refuse(code) => {
                refuse(code);
                return true;
            }
            _ => {}
        }
        if let Some(index) = known
            && self.log[&id][index].sent.payload != sent.payload
        {
            self.conflicts += 1;
            refuse(ErrorCode::IdempotencyConflict);
            return true;
        }
        let index = match known {
            Some(index) => index,
            None => {
                if let Some(stale) = self.stale(own, &sent) {
                    self.faults.push_front(fault);
                    let frame = ServerFrame::DeviceListStale { client_message_id, payload: stale };
                    let _ = reply.try_send(Push::Frame(Box::new(frame)));
                    return true;
                }
                self.store(own, sent, fault)
            }
        };
        if fault == Fault::StoreAndCallStale {
            let payload = DeviceListStale { conversation_id: id, missing: vec![], extra: vec![] };
            let frame = ServerFrame::DeviceListStale { client_message_id, payload };
            let _ = reply.try_send(Push::Frame(Box::new(frame)));
            return true;
        }
        if fault == Fault::DropAfterStore {
            return false;
        }
        let payload = MessageAck {
            message_id: self.log[&id][index].id,
            sequence_number: index as u64 + 1,
            status: MessageStatus::Sent,
            timestamp: 1,
        };
        let _ = reply.try_send(Push::Frame(Box::new(ServerFrame::MessageAck { client_message_id, payload })));
        true
    }

    fn stale(&self, own: &DeviceAddress, sent: &SendMessage) -> Option<DeviceListStale> {
        let expected: Vec<DeviceAddress> = [own.user_id, sent.payload.receiver_id]
            .iter()
            .flat_map(|user| {
                let devices = self.devices[user].keys();
                devices.map(|device| DeviceAddress { user_id: *user, device_id: device.clone() })
            })
            .filter(|address| address != own)
            .collect();
        let wrong = sent.payload.content.check_devices(&expected).err()?;
        Some(DeviceListStale {
            conversation_id: sent.payload.conversation_id,
            missing: wrong.missing,
            extra: wrong.extra,
        })
    }

    fn store(&mut self, own: &DeviceAddress, sent: SendMessage, fault: Fault) -> usize {
        let id = sent.payload.conversation_id;
        let stored = Stored {
            id: MessageId(self.next_id()),
            sender: own.clone(),
            sent,
            is_damaged: fault == Fault::Damage,
        };
        let log = self.log.entry(id).or_default();
        log.push(stored);
        let (index, stored) = (log.len() - 1, log.last().unwrap());
        for (address, socket) in &self.sockets {
            if address == own || !is_participant(stored, address.user_id) {
                continue;
            }
            let times = match fault {
                Fault::Repeat => 3,
                Fault::Withhold => 0,
                _ => 1,
            };
            for _ in 0..times {
                let payload = delivered(stored, index as u64 + 1, address);
                let _ = socket.try_send(Push::Frame(Box::new(ServerFrame::Message { payload })));
            }
            if fault == Fault::DropReceiver {
                let _ = socket.try_send(Push::Drop);
            }
        }
        index
    }
}

fn is_participant(stored: &Stored, user: UserId) -> bool {
    stored.sender.user_id == user || stored.sent.payload.receiver_id == user
}

fn delivered(stored: &Stored, number: u64, to: &DeviceAddress) -> DeliveredMessage {
    let sealed = stored.sent.payload.content.sealed_for(to.user_id, &to.device_id);
    let content = sealed.map(|sealed| {
        let mut bytes = vodozemac::base64_decode(sealed.body).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= u8::from(stored.is_damaged);
        OwnedSealedContent {
            algorithm: sealed.algorithm,
            sender_key: sealed.sender_key.to_owned(),
            kind: sealed.kind,
            body: vodozemac::base64_encode(bytes),
        }
    });
    DeliveredMessage {
        message_id: stored.id,
        sequence_number: number,
        sender_id: stored.sender.user_id,
        sender_device_id: stored.sender.device_id.clone(),
        receiver_id: stored.sent.payload.receiver_id,
        conversation_id: stored.sent.payload.conversation_id,
        content,
        r#type: stored.sent.payload.r#type,
        media_url: None,
        reply_to_message_id: None,
        timestamp: number,
        status: MessageStatus::Sent,
        idempotency_key: (stored.sender.user_id == to.user_id).then_some(stored.sent.idempotency_key),
    }
}

fn pages(id: ConversationId, log: &[Stored], from: u64, to: u64, own: &DeviceAddress) -> Vec<ServerFrame> {
    let messages: Vec<DeliveredMessage> = (1..)
        .zip(log)
        .filter(|(number, _)| (from..=to).contains(number))
        .map(|(number, stored)| delivered(stored, number, own))
        .collect();
    let count = messages.len().div_ceil(PAGE);
    let page = |(index, messages): (usize, &[DeliveredMessage])| ServerFrame::Messages {
        payload: MessagesPage { conversation_id: id, messages: messages.to_vec(), more: index + 1 < count },
    };
    messages.chunks(PAGE).enumerate().map(page).collect()
}
