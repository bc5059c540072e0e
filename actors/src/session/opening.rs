//! From `auth` to `auth_success`, and the list of what the device has missed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use colloquy_accounts::authenticate::{AuthError, Authenticated};
use colloquy_protocol::close::CloseCode;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{Auth, TokenRefresh};
use colloquy_protocol::frame::server::{AuthSuccess, ServerFrame, TokenRefreshed};
use colloquy_protocol::ids::{ConversationId, DeviceId, SessionId, UserId};
use colloquy_storage::model::cursor::CursorKind;
use colloquy_storage::model::device::DeviceList;
use colloquy_storage::ports::{StoreError, StoreResult};
use ractor::ActorRef;

use super::{
    Attendance, Counting, Delivery, MAILBOX_CAPACITY, MurmurThrottle, OpenSession, Phase, Preauthentication,
    SessionHandle, SessionMessage, SessionState, TypingThrottle, millis, refusal,
};
use crate::conversation::Moved;
use crate::supervision::{ActorKind, Letter, Mailbox};

/// Conversations read at once while looking for what was missed.
pub(super) const WALK_PAGE: usize = 500;

/// Why a device is not let in: what it is told, and how its socket is closed.
#[derive(Debug)]
struct NotLetIn {
    code: ErrorCode,
    close: CloseCode,
}

/// What a device has to be brought up to date with.
#[derive(Default)]
struct Missed {
    /// Where it stands.
    delivery: Delivery,
    /// What its user has not read.
    unread_count: u64,
    /// Held by the device, and not known to be.
    acked: Vec<(ConversationId, u64)>,
}

impl From<AuthError> for NotLetIn {
    fn from(error: AuthError) -> Self {
        let (code, close) = match error {
            AuthError::Invalid => (ErrorCode::InvalidToken, CloseCode::InvalidToken),
            AuthError::Expired => (ErrorCode::TokenExpired, CloseCode::TokenExpired),
            AuthError::Revoked => (ErrorCode::TokenRevoked, CloseCode::TokenRevoked),
            AuthError::Early | AuthError::Unavailable(_) => (ErrorCode::Unavailable, CloseCode::Internal),
        };
        Self { code, close }
    }
}

impl From<StoreError> for NotLetIn {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a session could not be opened");
        Self { code: ErrorCode::Unavailable, close: CloseCode::Internal }
    }
}

impl SessionState {
    pub(super) async fn preauthenticated(
        &mut self,
        myself: &ActorRef<Letter<SessionMessage>>,
        preauthentication: Preauthentication,
    ) {
        let Preauthentication { token, device_id } = preauthentication;
        if let Err(why) = self.let_in(myself, &token, None, &device_id, HashMap::new()).await {
            self.turn_away(&why);
        }
    }

    pub(super) async fn open(&mut self, myself: &ActorRef<Letter<SessionMessage>>, auth: Auth) {
        let resume =
            auth.resume.iter().map(|cursor| (cursor.conversation_id, cursor.after_sequence)).collect();
        let let_in = self.let_in(myself, &auth.auth_token, Some(auth.user_id), &auth.device_id, resume).await;
        if let Err(why) = let_in {
            self.turn_away(&why);
        }
    }

    fn turn_away(&mut self, why: &NotLetIn) {
        self.refuse(refusal(why.code, why.close.reason()));
        self.outlet.line().closing().request(why.close);
    }

    async fn let_in(
        &mut self,
        myself: &ActorRef<Letter<SessionMessage>>,
        token: &str,
        claimed: Option<UserId>,
        device_id: &DeviceId,
        resume: HashMap<ConversationId, u64>,
    ) -> Result<(), NotLetIn> {
        let who = self.services.authenticator.authenticate(token).await?;
        if claimed.is_some_and(|claimed| claimed != who.user_id) {
            return Err(AuthError::Invalid.into());
        }
        self.devices_with(&who, device_id).await?;
        let handle = self.handle_for(myself, &who, device_id);
        // Found by others first, then what was missed is listed: a message stored in between is in both, and
        // `Delivery` drops the second (NOLOSS).
        let attendance = Attendance::begin(Arc::clone(&handle), &self.services);
        attendance.is_known_elsewhere().await;
        // Looked at again now that a revocation or a removal finds the session: one that came in between did not (AUTHZ).
        self.services.authenticator.authenticate(token).await?;
        let devices = self.devices_with(&who, device_id).await?;
        let Missed { delivery, unread_count, acked } = self.missed(&handle, &resume).await?;
        self.outlet.line().authenticated_until(who.expires_at);
        self.phase = Phase::Open(Box::new(OpenSession {
            attendance,
            delivery,
            continuing: false,
            retransmits: VecDeque::new(),
            counting: Counting::default(),
            pending: HashMap::new(),
            next_token: 0,
            recent: VecDeque::new(),
            typing: TypingThrottle::default(),
            murmurs: MurmurThrottle::new(tokio::time::Instant::now()),
            is_agent: None,
            notices: BTreeMap::new(),
            resyncing: false,
        }));
        self.welcome(&handle, &who, &devices, unread_count).await?;
        self.keep_reading(myself);
        for (conversation_id, through) in acked {
            let kind = CursorKind::Delivered(handle.device_id.clone());
            self.advance(conversation_id, Moved { kind, through, message_ids: Vec::new() }).await?;
        }
        if let Some((new_endpoint, reconnect_after)) = self.services.drain.slot() {
            self.migrate(&new_endpoint, reconnect_after);
        }
        Ok(())
    }

    /// The user's devices, if this is one of them and the log-in is bound to it.
    async fn devices_with(&self, who: &Authenticated, device_id: &DeviceId) -> Result<DeviceList, NotLetIn> {
        let not = |code| NotLetIn { code, close: CloseCode::UnknownDevice };
        let devices = self.services.keys.devices(who.user_id).await?;
        if !devices.devices.iter().any(|device| device.device_id == *device_id) {
            return Err(not(ErrorCode::UnknownDevice));
        }
        // Registering a device binds the log-in to it; one that has not cannot speak for a device that is there (AUTHZ).
        if who.device_id.as_ref() != Some(device_id) {
            return Err(not(ErrorCode::DeviceMismatch));
        }
        Ok(devices)
    }

    fn handle_for(
        &self,
        myself: &ActorRef<Letter<SessionMessage>>,
        who: &Authenticated,
        device_id: &DeviceId,
    ) -> Arc<SessionHandle> {
        let services = &self.services;
        let depth = services.metrics.depth_of(ActorKind::Session);
        Arc::new(SessionHandle {
            session_id: SessionId(services.entropy.uuid_v7(services.clock.now())),
            user_id: who.user_id,
            device_id: device_id.clone(),
            login_id: who.login_id,
            mailbox: Mailbox::new(myself.clone(), depth, MAILBOX_CAPACITY),
            closing: self.outlet.line().closing().clone(),
            ended: AtomicBool::new(false),
            is_entered: AtomicBool::new(false),
            resyncs: AtomicBool::new(false),
        })
    }

    /// Lists what the device does not hold, and counts what its user has not read.
    async fn missed(
        &self,
        handle: &SessionHandle,
        resume: &HashMap<ConversationId, u64>,
    ) -> StoreResult<Missed> {
        let (user_id, own) = (handle.user_id, CursorKind::Delivered(handle.device_id.clone()));
        let mut held: HashMap<ConversationId, u64> = HashMap::new();
        let mut seen: HashMap<ConversationId, u64> = HashMap::new();
        for cursor in self.services.cursors.of_user(user_id).await? {
            if cursor.kind == own {
                held.insert(cursor.conversation_id, cursor.through);
            } else if matches!(cursor.kind, CursorKind::Read | CursorKind::Sent) {
                let through = seen.entry(cursor.conversation_id).or_default();
                *through = cursor.through.max(*through);
            }
        }
        let (mut missed, mut after) = (Missed::default(), None);
        loop {
            let page = self.services.directory.walk(user_id, after, WALK_PAGE).await?;
            for at_end in &page {
                let id = at_end.conversation.conversation_id;
                let end = at_end.end.last_sequence;
                // The client knows best what it holds: it may have lost its store, or not have acked yet.
                let known = held.get(&id).copied().unwrap_or(0);
                let holds = resume.get(&id).copied().unwrap_or(known);
                // Its ack may have been lost, or the lazy write of it.
                if holds.min(end) > known {
                    missed.acked.push((id, holds.min(end)));
                }
                missed.delivery.resume(id, holds, end);
                missed.unread_count += end.saturating_sub(seen.get(&id).copied().unwrap_or(0));
            }
            match page.last() {
                Some(last) if page.len() == WALK_PAGE => after = Some(last.conversation.conversation_id),
                _ => return Ok(missed),
            }
        }
    }

    async fn welcome(
        &self,
        handle: &SessionHandle,
        who: &Authenticated,
        devices: &DeviceList,
        unread_count: u64,
    ) -> StoreResult<()> {
        let services = &self.services;
        let one_time_key_count = services.keys.one_time_keys(handle.user_id, &handle.device_id).await?;
        self.send(&ServerFrame::AuthSuccess {
            payload: AuthSuccess {
                session_id: handle.session_id,
                server_time: services.clock.now(),
                unread_count,
                heartbeat_interval_ms: millis(services.heartbeat_interval),
                token_expires_at: who.expires_at,
                device_list_version: devices.version,
                one_time_key_count,
            },
        });
        Ok(())
    }

    /// A fresh token on the open socket: of the same user and log-in, or the socket is closed.
    pub(super) async fn token_refreshed(&mut self, refresh: TokenRefresh) {
        let Phase::Open(open) = &self.phase else { return };
        let handle = Arc::clone(&open.attendance.handle);
        let why = match self.services.authenticator.authenticate(&refresh.auth_token).await {
            Ok(who) if (who.user_id, who.login_id) == (handle.user_id, handle.login_id) => {
                self.outlet.line().authenticated_until(who.expires_at);
                let payload = TokenRefreshed { token_expires_at: who.expires_at };
                return self.send(&ServerFrame::TokenRefreshed { payload });
            }
            Ok(_) => NotLetIn::from(AuthError::Invalid),
            Err(error) => NotLetIn::from(error),
        };
        if matches!(why.code, ErrorCode::TokenRevoked) {
            return self.turn_away(&why);
        }
        // The old token still counts until it runs out; the client may try again.
        self.refuse(refusal(why.code, why.close.reason()));
    }
}

/// Users, each once.
pub(super) fn distinct(users: Vec<UserId>) -> BTreeSet<UserId> {
    users.into_iter().collect()
}
