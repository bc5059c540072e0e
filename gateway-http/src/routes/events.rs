//! `/events`: what agents, and brokers for them, tell the server. The statuses are those that Knative's data plane acts on:
//! what is 4xx is not sent again, what is 429 or 5xx is.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cloudevents::{AttributesReader, Event};
use colloquy_accounts::agents::{AgentError, Agents};
use colloquy_actors::agent::{AnswerError, Turns};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::event::{
    AGENT_RESPONSE, AGENT_RESPONSE_DELTA, AgentResponse, AgentResponseDelta, MESSAGE_RECEIVED,
    MessageReceived,
};
use colloquy_protocol::ids::{DeviceId, UserId};

use crate::extract::{Caller, Events, data_of};
use crate::openapi::problems;
use crate::problem::Refusal;

problems!(EventProblems: CALLER, ALWAYS; MalformedEvent, MalformedFrame, TooLarge, UnknownEvent, UnknownTurn, NotAnAgent,
    TurnAnswered, UnknownDevice, InvalidField, MalformedEnvelope, SenderKeyMismatch, DeviceListStale, NoRecipientDevice, UnknownConversation,
    IdempotencyConflict);

pub(crate) enum RouteError {
    Refused(Refusal),
    Agent(AgentError),
    Answer(AnswerError),
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Refused(refusal) => refusal,
            Self::Agent(AgentError::Store(error)) | Self::Answer(AnswerError::Store(error)) => error.into(),
            Self::Agent(_) => Refusal::new(ErrorCode::NotAnAgent),
            Self::Answer(AnswerError::UnknownTurn) => Refusal::new(ErrorCode::UnknownTurn),
            // 409 would have a broker send the same again, which does not help.
            Self::Answer(AnswerError::Stale(_)) => {
                let detail = "encrypt for the devices that there are now, and send the event again";
                unprocessable(ErrorCode::DeviceListStale).detail(detail)
            }
            Self::Answer(AnswerError::Refused(code)) if code.is_retryable() => Refusal::new(code),
            Self::Answer(AnswerError::Refused(ErrorCode::TurnAnswered)) => {
                Refusal::new(ErrorCode::TurnAnswered)
            }
            Self::Answer(AnswerError::Refused(code)) => unprocessable(code),
        };
        refusal.into_response()
    }
}

fn unprocessable(code: ErrorCode) -> Refusal {
    Refusal::new(code).status(StatusCode::UNPROCESSABLE_ENTITY)
}

/// Takes CloudEvents: one, in binary or structured mode, or a batch.
///
/// `agent.response` answers a turn. It is stored when this returns; a second answer to the same turn is dropped, and taken
/// all the same. `agent.response.delta` is a piece of an answer that is being written: it is passed on to whoever is there, and
/// not stored. `messaging.message.received` is a message, from whoever posts it, agent or person. Of a batch, what comes before an event that is refused has been taken, and the whole of it may be sent again.
#[utoipa::path(post, path = "/events", tag = "agents", security(("bearer" = [])),
    request_body(content = AgentResponse, description = "The data of `agent.response`, as a CloudEvent 1.0",
        content_type = "application/cloudevents+json"),
    responses((status = 202, description = "Everything is stored"), EventProblems))]
pub(crate) async fn take(
    caller: Caller,
    State(agents): State<Agents>,
    State(turns): State<Turns>,
    Events(events): Events,
) -> Result<StatusCode, RouteError> {
    // AUTHZ: only agents answer, and each as itself; everybody writes as themselves.
    if events.iter().any(|event| event.ty() != MESSAGE_RECEIVED) {
        agents.of_user(caller.user_id).await.map_err(RouteError::Agent)?;
    }
    let device_id = caller.device_id.clone().ok_or_else(|| {
        let detail = "register a device with this log-in first";
        RouteError::Refused(Refusal::new(ErrorCode::UnknownDevice).detail(detail))
    })?;
    for event in events {
        take_one(&turns, caller.user_id, device_id.clone(), event).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

async fn take_one(
    turns: &Turns,
    caller: UserId,
    device_id: DeviceId,
    event: Event,
) -> Result<(), RouteError> {
    match event.ty() {
        AGENT_RESPONSE => {
            let response: AgentResponse = data_of(event).map_err(RouteError::Refused)?;
            turns.answer(caller, device_id, response).await.map_err(RouteError::Answer)?;
            Ok(())
        }
        MESSAGE_RECEIVED => {
            let received: MessageReceived = data_of(event).map_err(RouteError::Refused)?;
            turns.received(caller, device_id, received).await.map_err(RouteError::Answer)
        }
        AGENT_RESPONSE_DELTA => {
            let delta: AgentResponseDelta = data_of(event).map_err(RouteError::Refused)?;
            turns.delta(caller, delta).await.map_err(RouteError::Answer)
        }
        _ => Err(RouteError::Refused(Refusal::new(ErrorCode::UnknownEvent))),
    }
}
