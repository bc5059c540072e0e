//! `/openapi.json`.

use axum::Extension;
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::OpenApi;

/// The description, written once.
#[derive(Clone)]
pub(crate) struct Description(Bytes);

impl Description {
    pub(crate) fn new(description: &OpenApi) -> Self {
        Self(serde_json::to_vec(description).expect("a description has string keys only").into())
    }
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "description",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub(crate) async fn show(Extension(Description(json)): Extension<Description>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], json)
}
