//! The description of the REST interface at `/openapi.json`.
//!
//! Each route names the codes it can answer with once, in `problems!`; the statuses follow from the codes.

use std::collections::BTreeMap;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::problem::{PROBLEM_JSON, Problem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

/// The name of the security scheme that every route but the public ones asks for.
pub(crate) const BEARER: &str = "bearer";

/// What any route can answer with.
pub(crate) const ALWAYS: &[ErrorCode] = &[ErrorCode::Busy, ErrorCode::Unavailable, ErrorCode::Internal];
/// What a route that asks who is calling can answer with.
pub(crate) const CALLER: &[ErrorCode] =
    &[ErrorCode::InvalidToken, ErrorCode::TokenExpired, ErrorCode::TokenRevoked];
/// What a route that takes a body can answer with.
pub(crate) const BODY: &[ErrorCode] =
    &[ErrorCode::MalformedFrame, ErrorCode::TooLarge, ErrorCode::InvalidField];

/// Declares what a route can be refused with: `problems!(Name: GROUP, GROUP; Code, Code)`.
macro_rules! problems {
    ($name:ident: $($group:ident),*; $($code:ident),* $(,)?) => {
        pub(crate) struct $name;
        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String, utoipa::openapi::RefOr<utoipa::openapi::Response>,
            > {
                $crate::openapi::problem_responses(&[
                    $($crate::openapi::$group,)*
                    &[$(colloquy_protocol::error_code::ErrorCode::$code),*],
                ])
            }
        }
    };
}
pub(crate) use problems;

/// One response for each status, naming its codes.
pub(crate) fn problem_responses(groups: &[&[ErrorCode]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for code in groups.iter().copied().flatten() {
        let codes = by_status.entry(code.http_status()).or_default();
        if !codes.contains(&code.as_str()) {
            codes.push(code.as_str());
        }
        // The one code that comes with a second status: a body of another content type.
        if *code == ErrorCode::MalformedFrame {
            by_status.entry(415).or_insert_with(|| vec![code.as_str()]);
        }
    }
    let response = |(status, codes): (u16, Vec<&'static str>)| {
        let content =
            ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name(Problem::name())))).build();
        let response = ResponseBuilder::new()
            .description(format!("`{}`", codes.join("`, `")))
            .content(PROBLEM_JSON, content)
            .build();
        (status.to_string(), RefOr::T(response))
    };
    by_status.into_iter().map(response).collect()
}

/// The description without its routes.
pub(crate) fn skeleton() -> OpenApi {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let components = ComponentsBuilder::new()
        .security_scheme(BEARER, SecurityScheme::Http(bearer))
        .schema(Problem::name(), Problem::schema())
        .schema(ErrorCode::name(), ErrorCode::schema())
        .build();
    let info = InfoBuilder::new()
        .title("Colloquy")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Accounts, devices and conversations of an end-to-end encrypted messaging platform. Messages are sent \
             and received over the WebSocket at /ws.",
        ))
        .build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}
