//! `/admin/dead-letters`: turns that were given up, listed and taken to their agents once more; and with `feed`, messages that the
//! feed's sink did not take.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use colloquy_actors::agent::{DeadLetterOffice, ReplayError};
use colloquy_actors::feed::FeedOffice;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::rest::dead_letters::{
    AskDeadLetters, DeadLetterEntries, DeadLetterEntry, Replayed, WhoseDeadLetter,
};
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::ports::StoreError;

use crate::admin::Admin;
use crate::extract::{Path, Query};
use crate::problem::Refusal;

pub(crate) enum RouteError {
    /// An agent's are asked for among the feed's.
    AgentOfFeed,
    Replay(ReplayError),
    Store(StoreError),
}

impl From<ReplayError> for RouteError {
    fn from(error: ReplayError) -> Self {
        Self::Replay(error)
    }
}

impl From<StoreError> for RouteError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::AgentOfFeed => Refusal::new(ErrorCode::InvalidField)
                .field("agent_id")
                .detail("the feed's dead letters are no agent's: leave out agent_id, or feed"),
            Self::Replay(ReplayError::Unknown) => Refusal::new(ErrorCode::UnknownDeadLetter),
            Self::Replay(ReplayError::UnknownAgent) => Refusal::new(ErrorCode::UnknownAgent),
            Self::Replay(ReplayError::Store(error)) | Self::Store(error) => error.into(),
        };
        refusal.into_response()
    }
}

type Answer<T> = Result<T, RouteError>;

pub(crate) async fn list(
    _: Admin,
    State(office): State<DeadLetterOffice>,
    State(feed): State<FeedOffice>,
    Query(asked): Query<AskDeadLetters>,
) -> Answer<axum::Json<DeadLetterEntries>> {
    let (page, next) = match (&asked.agent_id, asked.feed) {
        (agent_id, false) => office.page(agent_id.as_ref(), asked.after).await?,
        (None, true) => feed.page(asked.after).await?,
        (Some(_), true) => return Err(RouteError::AgentOfFeed),
    };
    Ok(axum::Json(DeadLetterEntries { dead_letters: page.into_iter().map(entry).collect(), next }))
}

pub(crate) async fn show(
    _: Admin,
    State(office): State<DeadLetterOffice>,
    State(feed): State<FeedOffice>,
    Path(turn_id): Path<MessageId>,
    Query(whose): Query<WhoseDeadLetter>,
) -> Answer<axum::Json<DeadLetterEntry>> {
    let letter = if whose.feed { feed.get(turn_id).await? } else { office.get(turn_id).await? };
    Ok(axum::Json(entry(letter.ok_or(ReplayError::Unknown)?)))
}

pub(crate) async fn replay(
    _: Admin,
    State(office): State<DeadLetterOffice>,
    State(feed): State<FeedOffice>,
    Path(turn_id): Path<MessageId>,
    Query(whose): Query<WhoseDeadLetter>,
) -> Answer<axum::Json<Replayed>> {
    let replayed = if whose.feed {
        feed.replay(turn_id).await?.ok_or(ReplayError::Unknown)?
    } else {
        office.replay(turn_id).await?
    };
    Ok(axum::Json(replayed))
}

pub(crate) async fn remove(
    _: Admin,
    State(office): State<DeadLetterOffice>,
    State(feed): State<FeedOffice>,
    Path(turn_id): Path<MessageId>,
    Query(whose): Query<WhoseDeadLetter>,
) -> Answer<StatusCode> {
    let was_there = if whose.feed { feed.drop(turn_id).await? } else { office.drop(turn_id).await? };
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(ReplayError::Unknown.into()) }
}

fn entry(letter: DeadLetter) -> DeadLetterEntry {
    DeadLetterEntry {
        turn_id: letter.turn_id,
        agent_id: letter.agent_id,
        conversation_id: letter.conversation_id,
        sequence_number: letter.sequence_number,
        reason: letter.reason,
        status: letter.status,
        tries: letter.tries,
        died_at: letter.died_at,
        replayed_at: letter.replayed_at,
    }
}
