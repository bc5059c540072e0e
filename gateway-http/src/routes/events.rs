//! `/events`: what agents, and brokers for them, tell the server. The statuses are those that Knative's data plane acts on:
//! what is 4xx is not sent again, but for 404, 408, 409 and 429; what is 5xx is.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cloudevents::{AttributesReader, Data, Event};
use colloquy_accounts::agents::{AgentError, Agents};
use colloquy_accounts::signed_event::{Signed, SignedEvents};
use colloquy_actors::agent::{AnswerError, Turns};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::event::{
    AGENT_RESPONSE, AGENT_RESPONSE_DELTA, AgentResponse, AgentResponseDelta, MESSAGE_RECEIVED,
    MessageReceived,
};
use colloquy_protocol::ids::{DeviceAddress, UserId};

use crate::extract::{Caller, EventData, events_of, is_signed, parsed};
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
/// not stored. `messaging.message.received` is a message, from whoever says it, agent or person; what the feed tells under that
/// type is signed by nobody, and refused (401). Of a batch, what comes before
/// an event that is refused has been taken, and the whole of it may be sent again.
///
/// Whoever posts an event answers for it with its access token. One that comes through a broker, such as a trigger of Knative,
/// brings none: its data is a JWT (`datacontenttype: application/jwt`), whose header is
/// `{"alg": "EdDSA", "typ": "colloquy-event+jwt", "kid": "<user_id>/<device_id>"}`, whose claims are `exp` (a week ahead at most),
/// the event's `type` and its `data`, and which is signed with this device's `signing_key`. Any token beside it is passed over.
#[utoipa::path(post, path = "/events", tag = "agents", security((), ("bearer" = [])),
    request_body(content = AgentResponse, description = "The data of `agent.response`, as a CloudEvent 1.0",
        content_type = "application/cloudevents+json"),
    responses((status = 202, description = "Everything is stored"), EventProblems))]
pub(crate) async fn take(
    caller: Result<Caller, Refusal>,
    State(agents): State<Agents>,
    State(turns): State<Turns>,
    State(signed): State<SignedEvents>,
    request: Request,
) -> Result<StatusCode, RouteError> {
    let events = match events_of(request, caller.is_ok()).await {
        Ok(events) => events,
        // Who posts it matters first; but it may be signed, and too large.
        Err(refusal) => {
            let of_caller = caller.err().filter(|_| refusal.code() != ErrorCode::TooLarge);
            return Err(RouteError::Refused(of_caller.unwrap_or(refusal)));
        }
    };
    let mut taker = Taker { poster: None, agents, turns, signed, agent: None };
    taker.admit(caller, &events).await?;
    for event in events {
        taker.take(event).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

struct Taker {
    /// The device that posts, if what it posts is not all signed.
    poster: Option<DeviceAddress>,
    agents: Agents,
    turns: Turns,
    signed: SignedEvents,
    /// Known to be one.
    agent: Option<UserId>,
}

impl Taker {
    /// Whoever posts what is not signed answers for it, before any of it is taken.
    async fn admit(&mut self, caller: Result<Caller, Refusal>, events: &[Event]) -> Result<(), RouteError> {
        if events.iter().all(is_signed) {
            return Ok(());
        }
        let caller = caller.map_err(RouteError::Refused)?;
        let is_answer = |event: &Event| event.ty() != MESSAGE_RECEIVED && !is_signed(event);
        let answers = events.iter().any(is_answer);
        if answers {
            self.admit_agent(caller.user_id).await?;
        }
        let device_id = caller.device_id.clone().ok_or_else(|| {
            let detail = "register a device with this log-in first";
            RouteError::Refused(Refusal::new(ErrorCode::UnknownDevice).detail(detail))
        })?;
        self.poster = Some(DeviceAddress { user_id: caller.user_id, device_id });
        Ok(())
    }

    /// AUTHZ: only agents answer, and each as itself; everybody writes as themselves.
    async fn admit_agent(&mut self, user_id: UserId) -> Result<(), RouteError> {
        if self.agent != Some(user_id) {
            self.agents.of_user(user_id).await.map_err(RouteError::Agent)?;
            self.agent = Some(user_id);
        }
        Ok(())
    }

    async fn take(&mut self, mut event: Event) -> Result<(), RouteError> {
        let (author, data) = match EventData::take(&mut event).map_err(RouteError::Refused)? {
            EventData::Plain(data) => {
                let missing = || RouteError::Refused(Refusal::new(ErrorCode::InvalidToken));
                (self.poster.clone().ok_or_else(missing)?, data)
            }
            EventData::Signed(token) => {
                let signed = self.signed.open(&token, event.ty()).await;
                let Signed { author, data } = signed.map_err(|error| RouteError::Refused(error.into()))?;
                (author, Data::Json(data))
            }
        };
        let DeviceAddress { user_id, device_id } = author;
        if event.ty() != MESSAGE_RECEIVED {
            self.admit_agent(user_id).await?;
        }
        let answered = match event.ty() {
            AGENT_RESPONSE => {
                let response: AgentResponse = parsed(data).map_err(RouteError::Refused)?;
                self.turns.answer(user_id, device_id, response).await.map(drop)
            }
            MESSAGE_RECEIVED => {
                let received: MessageReceived = parsed(data).map_err(RouteError::Refused)?;
                self.turns.received(user_id, device_id, received).await
            }
            AGENT_RESPONSE_DELTA => {
                let delta: AgentResponseDelta = parsed(data).map_err(RouteError::Refused)?;
                self.turns.delta(user_id, delta).await
            }
            _ => return Err(RouteError::Refused(Refusal::new(ErrorCode::UnknownEvent))),
        };
        answered.map_err(RouteError::Answer)
    }
}
