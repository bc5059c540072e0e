//! CloudEvents in a request: one in binary or structured mode, or a batch (CloudEvents HTTP protocol binding 1.0.2).

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use cloudevents::binding::http::to_event;
use cloudevents::event::SpecVersion;
use cloudevents::{AttributesReader, Data, Event};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::event::SIGNED_DATA;
use colloquy_protocol::limits::{
    EVENT_MAX_BYTES, EVENTS_IN_BATCH_MAX, EVENTS_MAX_BYTES, SIGNED_EVENT_MAX_BYTES,
};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::problem::Refusal;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
/// What an event in binary mode cannot do without.
const REQUIRED: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];

/// The events of a request, in their order; at least one. From who says not who they are, no batch is read: a broker sends none.
///
/// # Errors
/// [`ErrorCode::MalformedEvent`], [`ErrorCode::TooLarge`], [`ErrorCode::InvalidToken`]; what was sent is not repeated (PRIVATE).
pub(crate) async fn events_of(request: Request, is_known: bool) -> Result<Vec<Event>, Refusal> {
    let (parts, body) = request.into_parts();
    let mode = Mode::of(&parts.headers)?;
    if mode == Mode::Batch && !is_known {
        return Err(
            Refusal::new(ErrorCode::InvalidToken).detail("a batch needs Authorization: Bearer <token>")
        );
    }
    let limit = if mode == Mode::Batch { EVENTS_MAX_BYTES } else { SIGNED_EVENT_MAX_BYTES };
    let body = to_bytes(body, limit).await.map_err(|error| {
        let is_too_large = error.into_inner().downcast_ref::<LengthLimitError>().is_some();
        if is_too_large { too_large() } else { malformed("the body could not be read") }
    })?;
    read(mode, &parts.headers, &body)
}

/// The data of an event.
pub(crate) enum EventData {
    /// JSON, which whoever posts it answers for.
    Plain(Data),
    /// A JWT that says whose it is: [`SIGNED_DATA`].
    Signed(String),
}

impl EventData {
    /// Takes it out of an event.
    ///
    /// # Errors
    /// [`ErrorCode::MalformedEvent`]; what was sent is not repeated (PRIVATE).
    pub(crate) fn take(event: &mut Event) -> Result<Self, Refusal> {
        let is_signed = is_signed(event);
        let (_, _, data) = event.take_data();
        let data = data.ok_or_else(|| malformed("the event has no data"))?;
        if !is_signed {
            return Ok(Self::Plain(data));
        }
        let token = match data {
            Data::Json(Value::String(token)) | Data::String(token) => Some(token),
            Data::Binary(bytes) => String::from_utf8(bytes).ok(),
            Data::Json(_) => None,
        };
        // Some write every text as JSON, with quotes around it; no JWT has any.
        let token = token.map(|token| token.trim().trim_matches('"').to_owned());
        token.map(Self::Signed).ok_or_else(|| malformed("the data is not a JWT"))
    }
}

/// What JSON says.
///
/// # Errors
/// [`ErrorCode::MalformedEvent`]; what was sent is not repeated (PRIVATE).
pub(crate) fn parsed<T: DeserializeOwned>(data: Data) -> Result<T, Refusal> {
    let data = match data {
        Data::Json(value) => serde_json::from_value(value),
        Data::Binary(bytes) => serde_json::from_slice(&bytes),
        Data::String(text) => serde_json::from_str(&text),
    };
    data.map_err(|_| malformed("a field of the data is unknown, missing or of the wrong type"))
}

/// Does it say by itself whose it is?
pub(crate) fn is_signed(event: &Event) -> bool {
    let media_type = event.datacontenttype().and_then(|kind| kind.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(SIGNED_DATA)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Binary,
    Structured,
    Batch,
}

impl Mode {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let kind =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            STRUCTURED => Ok(Self::Structured),
            BATCH => Ok(Self::Batch),
            _ if headers.contains_key(REQUIRED[0]) => Ok(Self::Binary),
            _ => {
                let detail = "send a CloudEvent: ce-* headers, application/cloudevents+json, or a batch";
                Err(malformed(detail).status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
            }
        }
    }
}

fn read(mode: Mode, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, Refusal> {
    let events = match mode {
        Mode::Batch => {
            let batch: Vec<&RawValue> =
                serde_json::from_slice(body).map_err(|_| malformed("not a batch of CloudEvents 1.0"))?;
            if batch.len() > EVENTS_IN_BATCH_MAX {
                return Err(wrong_number());
            }
            batch.into_iter().map(|event| structured(event.get().as_bytes())).collect::<Result<_, _>>()?
        }
        Mode::Structured => vec![structured(body)?],
        Mode::Binary => {
            // The library would make up what is missing.
            let is_missing = |name| headers.get(name).is_none_or(HeaderValue::is_empty);
            if REQUIRED.into_iter().any(is_missing) {
                return Err(malformed("ce-specversion, ce-id, ce-source and ce-type are needed"));
            }
            let event = to_event(headers, body.to_vec()).map_err(|_| malformed("not a CloudEvent 1.0"))?;
            vec![bounded(event, body.len())?]
        }
    };
    check(&events)?;
    Ok(events)
}

fn structured(json: &[u8]) -> Result<Event, Refusal> {
    let event = serde_json::from_slice(json).map_err(|_| malformed("not a CloudEvent 1.0"))?;
    bounded(event, json.len())
}

/// An event that came in so many bytes.
fn bounded(event: Event, bytes: usize) -> Result<Event, Refusal> {
    let most = if is_signed(&event) { SIGNED_EVENT_MAX_BYTES } else { EVENT_MAX_BYTES };
    if bytes > most { Err(too_large()) } else { Ok(event) }
}

fn check(events: &[Event]) -> Result<(), Refusal> {
    if events.is_empty() {
        return Err(wrong_number());
    }
    for event in events {
        if event.specversion() != SpecVersion::V10 {
            return Err(malformed("specversion must be 1.0"));
        }
        if event.id().is_empty() || event.source().is_empty() {
            return Err(malformed("id and source must not be empty"));
        }
    }
    Ok(())
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(ErrorCode::MalformedEvent).detail(detail)
}

fn wrong_number() -> Refusal {
    malformed("a batch has 1 to 64 events")
}

fn too_large() -> Refusal {
    let detail = "an event has at most 65536 bytes, 118544 if it is signed, and a batch 1048576";
    Refusal::new(ErrorCode::TooLarge).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;
    use serde_json::json;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(header).collect()
    }

    fn taken(headers: &HeaderMap, body: &str) -> Result<Vec<Event>, Refusal> {
        read(Mode::of(headers)?, headers, body.as_bytes())
    }

    const BINARY: [(&str, &str); 5] = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/agents/x"),
        ("ce-type", "agent.response"),
    ];

    fn an_event() -> Value {
        json!({"specversion": "1.0", "id": "1", "source": "/agents/x", "type": "agent.response",
            "datacontenttype": "application/json", "data": {"a": 1}})
    }

    #[test]
    fn an_event_is_the_same_in_every_mode() {
        let binary = taken(&headers(&BINARY), r#"{"a": 1}"#).unwrap();
        let kind = headers(&[("content-type", "application/cloudevents+json; charset=utf-8")]);
        let one = taken(&kind, &an_event().to_string()).unwrap();
        let kind = headers(&[("content-type", "application/cloudevents-batch+json")]);
        let batch = taken(&kind, &json!([an_event(), an_event()]).to_string()).unwrap();
        assert_eq!(batch.len(), 2);
        for mut event in binary.into_iter().chain(one).chain(batch) {
            let named = (event.id().to_owned(), event.source().to_string(), event.ty().to_owned());
            assert_eq!(named, ("1".into(), "/agents/x".into(), "agent.response".into()));
            let EventData::Plain(data) = EventData::take(&mut event).unwrap() else {
                panic!("it is not signed")
            };
            assert_eq!(parsed::<Value>(data).unwrap(), json!({"a": 1}));
        }
    }

    #[test]
    fn signed_data_is_a_text_in_every_mode() {
        let mut pairs = BINARY;
        pairs[0].1 = "application/jwt";
        let binary = taken(&headers(&pairs), "a.b.c\n").unwrap();
        // As `to_binary` of the SDK of PyPI writes it.
        let quoted = taken(&headers(&pairs), "\"a.b.c\"").unwrap();
        let kind = headers(&[("content-type", "application/cloudevents+json")]);
        let with = |member: &str, text: &str| {
            let mut event = an_event();
            event.as_object_mut().unwrap().remove("data");
            event["datacontenttype"] = json!("application/JWT; x=y");
            event[member] = json!(text);
            taken(&kind, &event.to_string()).unwrap()
        };
        for mut event in [binary, quoted, with("data", "a.b.c"), with("data_base64", "YS5iLmM=")].concat() {
            let EventData::Signed(token) = EventData::take(&mut event).unwrap() else {
                panic!("it is signed")
            };
            assert_eq!(token, "a.b.c");
        }
        assert!(EventData::take(&mut with("data_base64", "/w==").remove(0)).is_err());
    }

    #[test]
    fn what_is_no_event_is_refused_and_not_repeated() {
        for missing in 1..BINARY.len() {
            let mut pairs = BINARY.to_vec();
            pairs.remove(missing);
            assert!(taken(&headers(&pairs), "{}").is_err(), "{missing}");
        }
        let mut wrong = BINARY;
        wrong[1].1 = "0.3";
        assert!(taken(&headers(&wrong), "{}").is_err());
        wrong[1].1 = "2.0";
        assert!(taken(&headers(&wrong), "{}").is_err());
        let kind = headers(&[("content-type", "application/cloudevents+json")]);
        for body in [
            "",
            "secret",
            "[]",
            r#"{"specversion": "1.0"}"#,
            r#"{"specversion": "1.0", "id": "", "source": "", "type": "secret"}"#,
        ] {
            let refused = taken(&kind, body).unwrap_err();
            assert_eq!(refused.code(), ErrorCode::MalformedEvent, "{body}");
            assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
        }
        let kind = headers(&[("content-type", "application/cloudevents-batch+json")]);
        let many = vec![an_event(); EVENTS_IN_BATCH_MAX + 1];
        for body in ["[]".to_owned(), "{}".to_owned(), Value::from(many).to_string()] {
            assert_eq!(taken(&kind, &body).unwrap_err().code(), ErrorCode::MalformedEvent, "{body}");
        }
        assert!(taken(&headers(&[("content-type", "application/json")]), "{}").is_err());
    }

    #[test]
    fn an_event_is_no_larger_than_a_frame() {
        let refused = taken(&headers(&BINARY), &"x".repeat(EVENT_MAX_BYTES + 1)).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::TooLarge);
        let mut pairs = BINARY;
        pairs[0].1 = "application/jwt";
        assert!(taken(&headers(&pairs), &"x".repeat(EVENT_MAX_BYTES + 1)).is_ok(), "it is in base64");
        let mut large = an_event();
        large["data"] = json!("x".repeat(EVENT_MAX_BYTES));
        let kind = headers(&[("content-type", "application/cloudevents-batch+json")]);
        let refused = taken(&kind, &json!([an_event(), large]).to_string()).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::TooLarge, "nor in a batch");
        assert!(format!("{refused:?}").contains(&SIGNED_EVENT_MAX_BYTES.to_string()), "{refused:?}");
    }
}
