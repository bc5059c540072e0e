//! `/admin/dead-letters`: turns that were given up, listed and taken to their agents once more.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use colloquy_actors::agent::{DeadLetterOffice, ReplayError};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::rest::dead_letters::{AskDeadLetters, DeadLetterEntries, DeadLetterEntry, Replayed};
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::ports::StoreError;

use crate::admin::Admin;
use crate::extract::{Path, Query};
use crate::problem::Refusal;

pub(crate) enum RouteError {
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
    Query(asked): Query<AskDeadLetters>,
) -> Answer<axum::Json<DeadLetterEntries>> {
    let (page, next) = office.page(asked.agent_id.as_ref(), asked.after).await?;
    Ok(axum::Json(DeadLetterEntries { dead_letters: page.into_iter().map(entry).collect(), next }))
}

pub(crate) async fn show(
    _: Admin,
    State(office): State<DeadLetterOffice>,
    Path(turn_id): Path<MessageId>,
) -> Answer<axum::Json<DeadLetterEntry>> {
    let letter = office.get(turn_id).await?.ok_or(ReplayError::Unknown)?;
    Ok(axum::Json(entry(letter)))
}

pub(crate) async fn replay(
    _: Admin,
    State(office): State<DeadLetterOffice>,
    Path(turn_id): Path<MessageId>,
) -> Answer<axum::Json<Replayed>> {
    Ok(axum::Json(office.replay(turn_id).await?))
}

pub(crate) async fn remove(
    _: Admin,
    State(office): State<DeadLetterOffice>,
    Path(turn_id): Path<MessageId>,
) -> Answer<StatusCode> {
    if office.drop(turn_id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(ReplayError::Unknown.into()) }
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
