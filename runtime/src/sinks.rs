//! Posts events over HTTP, as CloudEvents 1.0: straight to each agent's sink, or all of them to a broker, which takes them to the
//! agents by their `agentid`; and what is told of all messages, to whoever is to be told.

use std::time::Duration;

use async_trait::async_trait;
use cloudevents::{EventBuilder, EventBuilderV10};
use colloquy_accounts::sink::SinkHosts;
use colloquy_actors::outbox::{Event, Posted, Sinks};
use colloquy_protocol::agent::SinkMode;
use colloquy_protocol::event::{AGENT_EXTENSION, CONVERSATION_EXTENSION};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};

/// How long a sink has to take an event, from connecting to its status. It answers the message later, by an event of its own.
const POST_TIMEOUT: Duration = Duration::from_secs(15);
/// The content type of data, and of a whole event in structured mode.
const JSON: &str = "application/json";
const STRUCTURED: &str = "application/cloudevents+json";
/// What belongs together for a broker that keeps order only within partitions (CloudEvents extension "partitioning").
const PARTITION_EXTENSION: &str = "partitionkey";
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to one host that are kept while nothing is posted.
const IDLE_PER_HOST_MAX: usize = 32;

/// Where events may go, and do.
#[derive(Clone, Debug, Default)]
pub struct SinkOptions {
    /// Hosts of agents' sinks that the installation allows.
    pub hosts: SinkHosts,
    /// Takes all events, in the place of agents' sinks, where whoever runs the installation has named one.
    pub broker: Option<Url>,
    /// Takes what is said of dead letters; without it, the broker does, if there is one.
    pub dead_letters: Option<Url>,
    /// Is told of all messages, and how, if anybody is to be.
    pub feed: Option<(Url, SinkMode)>,
}

/// The sinks that the installation allows.
pub struct HttpSinks {
    http: reqwest::Client,
    options: SinkOptions,
}

impl HttpSinks {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// If the machine has no means to encrypt.
    pub fn new(options: SinkOptions) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(POST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            // A redirect may lead behind the firewall.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { http, options })
    }

    async fn post_to(&self, url: Url, event: &Event, mode: SinkMode) -> Posted {
        let Some(request) = request(url, event, mode) else { return Posted::SILENT };
        match self.http.execute(request).await {
            Ok(response) => judged(response.status(), response.headers()),
            Err(error) => {
                tracing::debug!(error = %error.without_url(), "a sink cannot be reached");
                Posted::SILENT
            }
        }
    }
}

#[async_trait]
impl Sinks for HttpSinks {
    async fn post(&self, sink: &str, event: &Event) -> Posted {
        let mode = event.mode.unwrap_or_default();
        if let Some(broker) = &self.options.broker {
            return self.post_to(broker.clone(), event, mode).await;
        }
        // Again at every post: what is allowed may have changed since the agent was registered.
        match self.options.hosts.check(sink) {
            Ok(url) => self.post_to(url, event, mode).await,
            Err(_) => Posted::Forbidden,
        }
    }

    async fn announce(&self, event: &Event) -> Posted {
        match self.options.dead_letters.as_ref().or(self.options.broker.as_ref()) {
            Some(url) => self.post_to(url.clone(), event, event.mode.unwrap_or_default()).await,
            None => Posted::Taken,
        }
    }

    async fn publish(&self, event: &Event) -> Posted {
        match &self.options.feed {
            Some((url, mode)) => self.post_to(url.clone(), event, event.mode.unwrap_or(*mode)).await,
            None => Posted::Forbidden,
        }
    }
}

fn request(sink: Url, event: &Event, mode: SinkMode) -> Option<reqwest::Request> {
    let built = EventBuilderV10::new()
        .id(event.id.as_str())
        .source(event.source.as_str())
        .ty(event.kind)
        .time(date(event.time)?)
        .extension(CONVERSATION_EXTENSION, event.conversation_id.to_string())
        .extension(PARTITION_EXTENSION, event.conversation_id.to_string())
        .extension("traceparent", trace_parent(event));
    let built = match &event.agent_id {
        Some(agent_id) => built.extension(AGENT_EXTENSION, agent_id.to_string()),
        None => built,
    };
    let mut request = reqwest::Request::new(reqwest::Method::POST, sink);
    let parent = HeaderValue::try_from(trace_parent(event)).ok()?;
    request.headers_mut().insert("traceparent", parent);
    match mode {
        SinkMode::Binary => put_binary(&mut request, built.data(JSON, event.data.to_vec()))?,
        SinkMode::Structured => {
            let data: serde_json::Value = serde_json::from_slice(&event.data).ok()?;
            let event = built.data(JSON, data).build().ok()?;
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
            *request.body_mut() = Some(serde_json::to_vec(&event).ok()?.into());
        }
    }
    Some(request)
}

fn put_binary(request: &mut reqwest::Request, event: EventBuilderV10) -> Option<()> {
    let built = event.build().ok()?;
    let message: http::Request<Option<Vec<u8>>> = built.try_into().ok()?;
    let (parts, body) = message.into_parts();
    for (name, value) in &parts.headers {
        // The library writes the content type as an attribute of its own.
        let name = if name == "ce-datacontenttype" { CONTENT_TYPE } else { name.clone() };
        request.headers_mut().insert(name, value.clone());
    }
    *request.body_mut() = body.map(Into::into);
    Some(())
}

fn date(millis: u64) -> Option<chrono::DateTime<chrono::Utc>> {
    chrono::DateTime::from_timestamp_millis(i64::try_from(millis).ok()?)
}

/// A trace for each conversation, and in it a parent for each turn, the same for every try (W3C Trace Context, level 1).
fn trace_parent(event: &Event) -> String {
    let turn = event.id.split('/').next().unwrap_or_default();
    let (_, low) = turn.parse::<uuid::Uuid>().unwrap_or_default().as_u64_pair();
    format!("00-{}-{:016x}-01", event.conversation_id.0.simple(), low.max(1))
}

/// What a status means, by Knative's data-plane specification: what is retryable is tried again, what is 4xx otherwise is
/// not wanted.
fn judged(status: StatusCode, headers: &HeaderMap) -> Posted {
    if status.is_success() {
        return Posted::Taken;
    }
    let is_retryable = status.is_server_error() || matches!(status.as_u16(), 404 | 408 | 409 | 425 | 429);
    // Wrong with the sink, or the way to it, and not with what it was given.
    let is_elsewhere = matches!(status.as_u16(), 401 | 403 | 405 | 407 | 410);
    if is_retryable || is_elsewhere || status.is_redirection() || status.is_informational() {
        let is_busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        return Posted::Failed { retry_after: retry_after(headers), is_busy };
    }
    Posted::Refused { status: status.as_u16() }
}

/// Seconds only: a date would have to be compared with a clock that may be set differently.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::agent::AgentId;
    use colloquy_protocol::ids::ConversationId;

    const TURN: &str = "01890a5d-ac96-774b-8cce-b302099a8057";

    fn event() -> Event {
        Event {
            kind: "agent.message",
            id: TURN.to_owned(),
            source: "/conversations/x".to_owned(),
            conversation_id: ConversationId(uuid::Uuid::from_u128(7)),
            agent_id: Some(AgentId::new("agent-bruno").unwrap()),
            mode: None,
            time: 1_800_000_000_123,
            data: "{}".into(),
        }
    }

    #[test]
    fn an_event_goes_out_in_binary_mode_and_every_try_is_the_same() {
        let sink: Url = "http://127.0.0.1:9000/x".parse().unwrap();
        let sent = request(sink.clone(), &event(), SinkMode::Binary).unwrap();
        let header = |name: &str| sent.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((sent.method(), sent.url()), (&reqwest::Method::POST, &sink));
        assert_eq!(header("ce-specversion"), "1.0");
        assert_eq!((header("ce-id"), header("ce-type")), (TURN.into(), "agent.message".into()));
        assert_eq!(
            (header("ce-source"), header("ce-agentid")),
            ("/conversations/x".into(), "agent-bruno".into())
        );
        assert_eq!(header("ce-partitionkey"), header("ce-conversationid"));
        assert!(header("ce-time").starts_with("2027-01-15T08:00:00.123"), "{}", header("ce-time"));
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("traceparent"), "00-00000000000000000000000000000007-8cceb302099a8057-01");
        assert_eq!(sent.body().unwrap().as_bytes().unwrap(), b"{}");
        assert_eq!(request(sink, &event(), SinkMode::Binary).unwrap().headers(), sent.headers());
    }

    #[test]
    fn an_event_goes_out_whole_in_structured_mode() {
        let sink: Url = "http://127.0.0.1:9000/x".parse().unwrap();
        let sent = request(sink, &event(), SinkMode::Structured).unwrap();
        assert_eq!(sent.headers()[CONTENT_TYPE], STRUCTURED);
        assert_eq!(sent.headers()["traceparent"], "00-00000000000000000000000000000007-8cceb302099a8057-01");
        let body: serde_json::Value =
            serde_json::from_slice(sent.body().unwrap().as_bytes().unwrap()).unwrap();
        assert_eq!((&body["id"], &body["type"]), (&TURN.into(), &"agent.message".into()));
        assert_eq!((&body["agentid"], &body["data"]), (&"agent-bruno".into(), &serde_json::json!({})));
        assert!(body.get("data_base64").is_none());
    }

    #[test]
    fn what_a_status_means() {
        let judge = |status: u16| judged(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        for taken in [200, 202, 204] {
            assert_eq!(judge(taken), Posted::Taken);
        }
        for failed in [302, 307, 401, 403, 404, 405, 408, 409, 410, 425, 500, 502] {
            assert_eq!(judge(failed), Posted::SILENT, "{failed}");
        }
        for busy in [429, 503] {
            assert_eq!(judge(busy), Posted::Failed { retry_after: None, is_busy: true }, "{busy}");
        }
        for status in [400, 413, 415, 422] {
            assert_eq!(judge(status), Posted::Refused { status });
        }
        let headers: HeaderMap = [(RETRY_AFTER, "7".parse().unwrap())].into_iter().collect();
        let retry_after = Some(Duration::from_secs(7));
        let told = judged(StatusCode::BAD_GATEWAY, &headers);
        assert_eq!(told, Posted::Failed { retry_after, is_busy: false });
    }

    #[tokio::test]
    async fn nothing_is_posted_to_a_host_that_is_not_allowed() {
        let sinks = HttpSinks::new(SinkOptions {
            hosts: SinkHosts::parse(&["127.0.0.1"]).unwrap(),
            ..SinkOptions::default()
        })
        .unwrap();
        assert_eq!(sinks.post("http://169.254.169.254/latest", &event()).await, Posted::Forbidden);
        assert_eq!(sinks.post("no url", &event()).await, Posted::Forbidden);
        assert_eq!(sinks.announce(&event()).await, Posted::Taken, "nobody wants to hear of it");
        assert_eq!(sinks.publish(&event()).await, Posted::Forbidden, "nobody is to be told");
    }
}
