//! `/v1/conversations`: opening, listing, reading back.
//!
//! What comes from cursors (`unread_count`, `read_through`, `delivered_through`, a message's `status`) may lag the
//! open sockets by the interval in which sessions write their cursors; it never runs ahead of the truth.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use colloquy_accounts::agents::Agents;
use colloquy_accounts::devices::Devices;
use colloquy_accounts::profile::Profiles;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::server::DeliveredMessage;
use colloquy_protocol::ids::{ConversationId, DeviceId, UserId};
use colloquy_protocol::limits::PAGE_MAX_MESSAGES;
use colloquy_protocol::rest::conversations::{
    Conversation as View, Conversations as ViewList, History, OpenConversation,
};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::conversation::{Conversation, ConversationAtEnd, ListPosition};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{Conversations, Cursors, MessageLog, StoreError, StoreResult};
use futures_util::StreamExt;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::conversation_view::{Progress, Viewer};
use super::given_up::GivenUp;
use crate::extract::{Caller, Json, Path, Query};
use crate::openapi::problems;
use crate::problem::Refusal;

/// Conversations or messages in a page unless asked for otherwise.
const PAGE_DEFAULT: usize = 30;
/// Messages on a page end before they weigh more than this together; the first is always there.
const PAGE_MAX_BYTES: usize = 1024 * 1024;
/// Conversations of one list, or questions in them, that are looked up at the same time.
pub(super) const LOOK_UPS_AT_ONCE: usize = 8;

problems!(OpenProblems: CALLER, ALWAYS; MalformedFrame, TooLarge, UnknownUser, InvalidParticipant);
problems!(ListProblems: CALLER, ALWAYS; InvalidField, UnknownDevice);
problems!(ShowProblems: CALLER, ALWAYS; InvalidField, UnknownDevice, UnknownConversation);
problems!(HistoryProblems: CALLER, ALWAYS; InvalidField, InvalidWindow, UnknownDevice, UnknownConversation);

pub(crate) enum RouteError {
    InvalidParticipant,
    UnknownUser,
    UnknownDevice,
    /// Also for one the caller does not take part in: whether it exists is not theirs to know (AUTHZ).
    UnknownConversation,
    InvalidLimit,
    InvalidCursor,
    BothDirections,
    InvalidWindow,
    Store(StoreError),
}

impl From<StoreError> for RouteError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let invalid =
            |field: &str, rule: &str| Refusal::new(ErrorCode::InvalidField).field(field).detail(rule);
        let refusal = match self {
            Self::InvalidParticipant => Refusal::new(ErrorCode::InvalidParticipant).field("participant_id"),
            Self::UnknownUser => Refusal::new(ErrorCode::UnknownUser),
            Self::UnknownDevice => Refusal::new(ErrorCode::UnknownDevice),
            Self::UnknownConversation => Refusal::new(ErrorCode::UnknownConversation),
            Self::InvalidLimit => invalid("limit", "1 to 100"),
            Self::InvalidCursor => invalid("cursor", "the next_cursor of the page before"),
            Self::BothDirections => invalid("before", "give at most one of after and before"),
            Self::InvalidWindow => Refusal::new(ErrorCode::InvalidWindow),
            Self::Store(error) => error.into(),
        };
        refusal.into_response()
    }
}

/// Everything a view of a conversation is made from.
#[derive(Clone)]
pub(crate) struct Records {
    conversations: Arc<dyn Conversations>,
    log: Arc<dyn MessageLog>,
    cursors: Arc<dyn Cursors>,
    devices: Devices,
    given_up: GivenUp,
}

impl axum::extract::FromRef<super::RestState> for Records {
    fn from_ref(state: &super::RestState) -> Self {
        Self {
            conversations: Arc::from_ref(state),
            log: Arc::from_ref(state),
            cursors: Arc::from_ref(state),
            devices: Devices::from_ref(state),
            given_up: GivenUp {
                letters: Arc::from_ref(state),
                log: Arc::from_ref(state),
                agents: Agents::from_ref(state),
            },
        }
    }
}

impl Records {
    async fn viewer(&self, caller: &Caller, device_id: Option<DeviceId>) -> Result<Viewer, RouteError> {
        if let Some(device_id) = &device_id
            && !self.devices.has(caller.user_id, device_id).await?
        {
            return Err(RouteError::UnknownDevice);
        }
        Ok(Viewer { user_id: caller.user_id, device_id })
    }

    async fn own_conversation(
        &self,
        user_id: UserId,
        conversation_id: ConversationId,
    ) -> Result<Conversation, RouteError> {
        let conversation = self.conversations.get(conversation_id).await?;
        conversation.filter(|conversation| conversation.has(user_id)).ok_or(RouteError::UnknownConversation)
    }

    async fn progress(&self, conversation: &Conversation) -> StoreResult<Progress> {
        let cursors = self.cursors.of_conversation(conversation.conversation_id).await?;
        Ok(Progress::new(&conversation.participants, &cursors))
    }

    async fn view(&self, viewer: &Viewer, at_end: ConversationAtEnd) -> StoreResult<(View, usize)> {
        let progress = self.progress(&at_end.conversation).await?;
        let last = match SequenceWindow::new(at_end.end.last_sequence, at_end.end.last_sequence) {
            Ok(window) => {
                let id = at_end.conversation.conversation_id;
                self.log.read(id, window, 1, PAGE_MAX_BYTES).await?.pop()
            }
            // Number 0: nothing has been said yet.
            Err(_) => None,
        };
        let weight = last.as_ref().map_or(0, |message| message.weight());
        Ok((progress.conversation(viewer, at_end, last.as_deref()), weight))
    }

    /// Says in `views` which questions of the viewer were given up. After all else has been read: who sees that a question
    /// counts as read must not miss why.
    async fn say_what_was_given_up(&self, viewer: &Viewer, views: &mut [View]) -> StoreResult<()> {
        let conversations: Vec<ConversationId> = views.iter().map(|view| view.conversation_id).collect();
        let mut given_up = self.given_up.of(viewer.user_id, &conversations).await?;
        for view in views {
            view.given_up = given_up.remove(&view.conversation_id).unwrap_or_default();
        }
        Ok(())
    }

    /// One conversation, with all that is said of it.
    async fn whole_view(&self, viewer: &Viewer, conversation: Conversation) -> StoreResult<View> {
        let end = self.log.end(conversation.conversation_id).await?;
        let (mut view, _) = self.view(viewer, ConversationAtEnd { conversation, end }).await?;
        self.say_what_was_given_up(viewer, std::slice::from_mut(&mut view)).await?;
        Ok(view)
    }
}

fn limit(asked: Option<usize>) -> Result<usize, RouteError> {
    let limit = asked.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX_MESSAGES).contains(&limit) { Ok(limit) } else { Err(RouteError::InvalidLimit) }
}

/// Opens the 1:1 conversation with another user, or finds it.
#[utoipa::path(post, path = "/v1/conversations", tag = "conversations", security(("bearer" = [])),
    request_body = OpenConversation,
    responses((status = 201, description = "It is new", body = View),
        (status = 200, description = "It was there", body = View), OpenProblems))]
pub(crate) async fn open(
    caller: Caller,
    State(records): State<Records>,
    State(profiles): State<Profiles>,
    State(clock): State<Clock>,
    Json(request): Json<OpenConversation>,
) -> Result<(StatusCode, axum::Json<View>), RouteError> {
    let other = request.participant_id;
    if other == caller.user_id {
        return Err(RouteError::InvalidParticipant);
    }
    profiles.card(other).await?.ok_or(RouteError::UnknownUser)?;
    let (conversation, new) = records.conversations.open_pair(caller.user_id, other, clock.now()).await?;
    let viewer = Viewer { user_id: caller.user_id, device_id: None };
    let view = records.whole_view(&viewer, conversation).await?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, axum::Json(view)))
}

/// Which page of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListPage {
    /// 1 to 100; 30 unless given.
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// One of the caller's devices: the one whose ciphertexts are wanted.
    device_id: Option<DeviceId>,
}

/// The caller's conversations, those with the newest messages first.
#[utoipa::path(get, path = "/v1/conversations", tag = "conversations", security(("bearer" = [])), params(ListPage),
    responses((status = 200, description = "One page", body = ViewList), ListProblems))]
pub(crate) async fn list(
    caller: Caller,
    State(records): State<Records>,
    Query(page): Query<ListPage>,
) -> Result<axum::Json<ViewList>, RouteError> {
    let limit = limit(page.limit)?;
    let after = page.cursor.as_deref().map(position).transpose()?;
    let viewer = records.viewer(&caller, page.device_id).await?;
    // One more than the page holds tells whether there is a next one.
    let found = records.conversations.list(caller.user_id, after, limit + 1).await?;
    let mut more = found.len() > limit;
    let positions: Vec<ListPosition> = found.iter().map(position_of).collect();
    let views = found.into_iter().take(limit).map(|at_end| records.view(&viewer, at_end));
    let mut views = futures_util::stream::iter(views).buffered(LOOK_UPS_AT_ONCE);
    let (mut conversations, mut bytes) = (Vec::new(), 0);
    while let Some(next) = views.next().await {
        let (view, weight) = next?;
        bytes += weight;
        if bytes > PAGE_MAX_BYTES && !conversations.is_empty() {
            more = true;
            break;
        }
        conversations.push(view);
    }
    records.say_what_was_given_up(&viewer, &mut conversations).await?;
    let last = conversations.len().checked_sub(1).and_then(|index| positions.get(index));
    let next_cursor = last.filter(|_| more).map(cursor);
    Ok(axum::Json(ViewList { conversations, next_cursor }))
}

fn position_of(at_end: &ConversationAtEnd) -> ListPosition {
    let conversation_id = at_end.conversation.conversation_id;
    ListPosition { last_activity: at_end.last_activity(), conversation_id }
}

fn cursor(position: &ListPosition) -> String {
    format!("{}-{}", position.last_activity, position.conversation_id.0.simple())
}

fn position(cursor: &str) -> Result<ListPosition, RouteError> {
    let parts = cursor
        .split_once('-')
        .and_then(|(last_activity, id)| Some((last_activity.parse().ok()?, Uuid::try_parse(id).ok()?)));
    let (last_activity, id) = parts.ok_or(RouteError::InvalidCursor)?;
    Ok(ListPosition { last_activity, conversation_id: ConversationId(id) })
}

/// Through which device.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThroughDevice {
    /// One of the caller's devices: the one whose ciphertexts are wanted.
    device_id: Option<DeviceId>,
}

/// One of the caller's conversations.
#[utoipa::path(get, path = "/v1/conversations/{conversation_id}", tag = "conversations", security(("bearer" = [])),
    params(("conversation_id" = ConversationId, Path, description = "One of the caller's conversations"),
        ThroughDevice),
    responses((status = 200, description = "The conversation", body = View), ShowProblems))]
pub(crate) async fn show(
    caller: Caller,
    State(records): State<Records>,
    Path(conversation_id): Path<ConversationId>,
    Query(through): Query<ThroughDevice>,
) -> Result<axum::Json<View>, RouteError> {
    let viewer = records.viewer(&caller, through.device_id).await?;
    let conversation = records.own_conversation(caller.user_id, conversation_id).await?;
    let view = records.whole_view(&viewer, conversation).await?;
    Ok(axum::Json(view))
}

/// Which page of a conversation.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryPage {
    /// One of the caller's devices: the one whose ciphertexts are wanted. Without it `content` is null.
    device_id: Option<DeviceId>,
    /// Messages from the one after this number on.
    after: Option<u64>,
    /// Messages just below this number.
    before: Option<u64>,
    /// 1 to 100; 30 unless given.
    limit: Option<usize>,
}

/// A page of a conversation: always in the order of the messages' numbers. Without `after` and `before`, the newest.
#[utoipa::path(get, path = "/v1/conversations/{conversation_id}/messages", tag = "conversations",
    security(("bearer" = [])),
    params(("conversation_id" = ConversationId, Path, description = "One of the caller's conversations"),
        HistoryPage),
    responses((status = 200, description = "One page", body = History), HistoryProblems))]
pub(crate) async fn history(
    caller: Caller,
    State(records): State<Records>,
    Path(conversation_id): Path<ConversationId>,
    Query(page): Query<HistoryPage>,
) -> Result<axum::Json<History>, RouteError> {
    let limit = limit(page.limit)?;
    let viewer = records.viewer(&caller, page.device_id).await?;
    let conversation = records.own_conversation(caller.user_id, conversation_id).await?;
    let last = records.log.end(conversation_id).await?.last_sequence;
    let (messages, more) = match (page.after, page.before) {
        (Some(_), Some(_)) => return Err(RouteError::BothDirections),
        (Some(u64::MAX), None) | (None, Some(0)) => return Err(RouteError::InvalidWindow),
        (Some(after), None) => forward(&*records.log, conversation_id, after + 1, last, limit).await?,
        (None, before) => {
            let end = before.map_or(last, |before| last.min(before - 1));
            backward(&*records.log, conversation_id, end, limit).await?
        }
    };
    let progress = records.progress(&conversation).await?;
    let messages: Vec<DeliveredMessage> =
        messages.iter().map(|message| progress.message(&viewer, message)).collect();
    Ok(axum::Json(History { conversation_id, messages, more }))
}

/// Messages from `from` on, and whether more follow.
async fn forward(
    log: &dyn MessageLog,
    conversation_id: ConversationId,
    from: u64,
    last: u64,
    limit: usize,
) -> StoreResult<(Vec<Arc<Message>>, bool)> {
    let to = last.min(from.saturating_add(limit as u64 - 1));
    // Beyond the end of the log: nothing yet.
    let Ok(window) = SequenceWindow::new(from, to) else { return Ok((Vec::new(), false)) };
    let mut messages = log.read(conversation_id, window, limit, PAGE_MAX_BYTES).await?;
    if messages.is_empty() {
        // Retention may have taken the whole window, and more: the page begins with what is left.
        let oldest = log.oldest(conversation_id).await?.filter(|oldest| *oldest > to);
        let left = oldest.map(|oldest| (oldest, last.min(oldest.saturating_add(limit as u64 - 1))));
        if let Some(Ok(window)) = left.map(|(from, to)| SequenceWindow::new(from, to)) {
            messages = log.read(conversation_id, window, limit, PAGE_MAX_BYTES).await?;
        }
    }
    let more = messages.last().is_some_and(|message| message.sequence_number < last);
    Ok((messages, more))
}

/// The messages that end with number `end`, and whether more come before them.
async fn backward(
    log: &dyn MessageLog,
    conversation_id: ConversationId,
    end: u64,
    limit: usize,
) -> StoreResult<(Vec<Arc<Message>>, bool)> {
    let from = end.saturating_sub(limit as u64 - 1).max(1);
    let Ok(window) = SequenceWindow::new(from, end) else { return Ok((Vec::new(), false)) };
    // The page must touch `end`, so the byte bound cuts it at its start, which the log's own bound would not. A page
    // of the heaviest messages is some 6 MB, read and dropped again.
    let mut messages = log.read(conversation_id, window, limit, usize::MAX).await?;
    let mut bytes = 0;
    let fitting = messages
        .iter()
        .rev()
        .take_while(|message| {
            bytes += message.weight();
            bytes <= PAGE_MAX_BYTES
        })
        .count()
        .max(1);
    messages.drain(..messages.len().saturating_sub(fitting));
    let more = messages.first().is_some_and(|message| message.sequence_number > 1);
    Ok((messages, more))
}
