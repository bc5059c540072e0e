//! Around every REST request: an id, a time limit, a count and a line in the log.
//!
//! What is logged is the route's pattern, never the path or query: those name people (PRIVATE).

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_storage::ambient::{Clock, Entropy};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use tracing::Instrument;

use crate::problem::Refusal;

/// Names the request in our log; give it to support.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Labels of an answered request. The route is a pattern of ours, so there are few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

/// Labels of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    method: String,
    route: String,
}

/// How many requests came, and how long they took.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
}

impl HttpMetrics {
    /// Registers the families.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let requests = Family::default();
        let durations: Family<RouteLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_5, 2.0, 16)));
        registry.register("http_requests", "Answered REST requests", requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "From a request's head to its answer",
            Unit::Seconds,
            durations.clone(),
        );
        Self { requests, durations }
    }

    fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        let labels = RequestLabels { method: method.clone(), route: route.clone(), status };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&RouteLabels { method, route }).observe(took.as_secs_f64());
    }
}

/// What [`observe`] needs.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    pub(crate) metrics: HttpMetrics,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) request_timeout: Duration,
}

/// The outermost middleware.
pub(crate) async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = observer.entropy.uuid_v7(observer.clock.now());
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let span = tracing::info_span!("request", %request_id, method, route);
    let answer = tokio::time::timeout(observer.request_timeout, next.run(request)).instrument(span.clone());
    let mut response = answer.await.unwrap_or_else(|_| {
        Refusal::new(ErrorCode::Unavailable).detail("the request took too long").into_response()
    });
    let (took, status) = (started.elapsed(), response.status());
    observer.metrics.answered(method, route, status.as_u16(), took);
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), took_us, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), took_us, "answered");
        }
    });
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    // Tokens, profiles and messages are nothing for a cache on the way.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A client may invent methods; a metric must not grow by them (BOUND).
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
