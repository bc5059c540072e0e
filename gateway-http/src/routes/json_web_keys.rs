//! `/.well-known/jwks.json`.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use colloquy_accounts::signing_key::JsonWebKeySet;

/// The keys that other services verify access tokens with.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "logins",
    responses((status = 200, description = "RFC 7517", body = JsonWebKeySet)))]
pub(crate) async fn show(State(keys): State<JsonWebKeySet>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(keys))
}
