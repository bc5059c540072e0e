//! What operators and orchestrators ask: `/metrics`, `/livez`, `/readyz`, `/startupz`. For a port of its own, not the
//! public one.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::problem::Refusal;
use crate::readiness::{Phase, Readiness};
use colloquy_protocol::error_code::ErrorCode;

/// The media type of the OpenMetrics text format, version 1.0.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The operations endpoints.
///
/// `/livez` answers as long as the process can answer at all; `/startupz` is 200 once it has started; `/readyz` is
/// 200 only while it is ready, so that a draining process gets no new connections.
pub fn operations_router(registry: Arc<Registry>, readiness: Readiness) -> Router {
    let metrics = get(async move |State(registry): State<Arc<Registry>>| metrics(&registry));
    let started = readiness.clone();
    Router::new()
        .route("/metrics", metrics)
        .with_state(registry)
        .route("/livez", get(async || "alive\n"))
        .route("/startupz", get(async move || phase(started.phase(), started.phase() != Phase::Starting)))
        .route("/readyz", get(async move || phase(readiness.phase(), readiness.phase() == Phase::Ready)))
}

fn phase(phase: Phase, good: bool) -> Response {
    let text = match phase {
        Phase::Starting => "starting\n",
        Phase::Ready => "ready\n",
        Phase::Draining => "draining\n",
    };
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => Refusal::new(ErrorCode::Internal).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    async fn get_from(router: &Router, path: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn probes_follow_the_phase() {
        let readiness = Readiness::new();
        let router = operations_router(Arc::new(Registry::default()), readiness.clone());
        let status = async |path: &str| get_from(&router, path).await.0.as_u16();
        let all = async || [status("/livez").await, status("/startupz").await, status("/readyz").await];
        assert_eq!(all().await, [200, 503, 503]);
        readiness.advance(Phase::Ready);
        assert_eq!(all().await, [200, 200, 200]);
        readiness.advance(Phase::Draining);
        assert_eq!(all().await, [200, 200, 503]);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics_text() {
        let mut registry = Registry::default();
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.register("frames", "Frames", counter.clone());
        counter.inc();
        let router = operations_router(Arc::new(registry), Readiness::new());
        let (status, kind, text) = get_from(&router, "/metrics").await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, OPEN_METRICS));
        assert!(text.contains("frames_total 1") && text.ends_with("# EOF\n"), "{text}");
    }
}
