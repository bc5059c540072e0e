//! An event as it stands in a request, in binary or structured mode: taken apart by hand, and not by the library that the server
//! uses.

use std::collections::BTreeMap;

use hyper::header::HeaderMap;
use serde_json::Value;

use crate::http_server::Posted;

/// Says in which mode an event is, and what its data is.
const CONTENT_TYPE: &str = "content-type";
/// What its data is, among its attributes.
const DATA_CONTENT_TYPE: &str = "datacontenttype";
/// The content type of an event in structured mode.
const STRUCTURED: &str = "application/cloudevents+json";

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent {
    /// Its attributes, extensions among them, wherever they stood; its content type is `datacontenttype`.
    pub attributes: BTreeMap<String, String>,
    /// Its data, as it stands in a body of its own.
    pub data: String,
}

impl CloudEvent {
    /// Takes it out of a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(posted: &Posted) -> Result<Self, String> {
        let body = std::str::from_utf8(&posted.body).map_err(|error| error.to_string())?;
        let event = if text(&posted.headers, CONTENT_TYPE).starts_with(STRUCTURED) {
            structured(body)?
        } else {
            binary(&posted.headers, body)
        };
        if event.attributes.contains_key("type") { Ok(event) } else { Err("it has no type".to_owned()) }
    }

    /// The headers that it has in binary mode.
    pub fn headers(&self) -> impl Iterator<Item = (String, &str)> {
        self.attributes.iter().map(|(name, value)| {
            let header =
                if name == DATA_CONTENT_TYPE { CONTENT_TYPE.to_owned() } else { format!("ce-{name}") };
            (header, value.as_str())
        })
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn binary(headers: &HeaderMap, body: &str) -> CloudEvent {
    let attributes = headers.keys().map(|header| header.as_str()).filter_map(|header| {
        let name = if header == CONTENT_TYPE { DATA_CONTENT_TYPE } else { header.strip_prefix("ce-")? };
        Some((name.to_owned(), text(headers, header)))
    });
    CloudEvent { attributes: attributes.collect(), data: body.to_owned() }
}

fn structured(body: &str) -> Result<CloudEvent, String> {
    let event: BTreeMap<String, Value> = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let texts = event
        .into_iter()
        .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    let mut attributes: BTreeMap<String, String> = texts.collect();
    if attributes.contains_key("data_base64") {
        return Err("its data would have to be decoded; nobody here sends that".to_owned());
    }
    let data = attributes.remove("data").unwrap_or_default();
    Ok(CloudEvent { attributes, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};
    use serde_json::json;

    fn posted(headers: &[(&'static str, &'static str)], body: &str) -> Posted {
        let headers = headers
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Posted { headers: headers.collect(), body: body.to_owned().into() }
    }

    #[test]
    fn an_event_is_the_same_in_either_mode() {
        let headers = [("ce-id", "1"), ("ce-type", "x"), ("content-type", "application/jwt")];
        let others = [("authorization", "Bearer x"), ("host", "here")];
        let binary =
            CloudEvent::of(&posted(&[headers.as_slice(), others.as_slice()].concat(), "a.b.c")).unwrap();
        let event = json!({"id": "1", "type": "x", "datacontenttype": "application/jwt", "data": "a.b.c"});
        let content_type = [("content-type", "application/cloudevents+json; charset=utf-8")];
        assert_eq!(CloudEvent::of(&posted(&content_type, &event.to_string())), Ok(binary.clone()));
        let mut own: Vec<(String, &str)> = binary.headers().collect();
        own.sort_unstable();
        assert_eq!(own, headers.map(|(name, value)| (name.to_owned(), value)));
        let event = json!({"type": "x", "data": {"n": 1}});
        let structured = CloudEvent::of(&posted(&content_type, &event.to_string())).unwrap();
        assert_eq!(structured.data, r#"{"n":1}"#);
    }

    #[test]
    fn what_is_no_event_or_cannot_be_read_is_refused() {
        assert!(CloudEvent::of(&posted(&[("ce-id", "1")], "{}")).is_err());
        let content_type = [("content-type", "application/cloudevents+json")];
        for body in ["{}", "[]", r#"{"type": "x", "data_base64": "eA"}"#] {
            assert!(CloudEvent::of(&posted(&content_type, body)).is_err(), "{body}");
        }
    }
}
