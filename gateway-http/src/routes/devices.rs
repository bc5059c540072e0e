//! `/v1/devices` and `/v1/users/{user_id}/devices`: devices and the keys they publish (E2EE).

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use colloquy_accounts::devices::{
    Devices, LookUpError, PublishKeysError, RegisterDeviceError, RemoveDeviceError,
};
use colloquy_accounts::signed_key::KeyError;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_protocol::rest::devices::{
    ClaimKeys, ClaimedKeys, DeviceList, KeyCount, PublishKeys, RegisterDevice,
};

use crate::extract::{Caller, Json, Path};
use crate::openapi::problems;
use crate::problem::Refusal;
use crate::rate_limit::RateLimits;

problems!(RegisterProblems: CALLER, BODY, ALWAYS;
    BadKeySignature, DeviceMismatch, DeviceExists, TooManyDevices, TooManyKeys, KeyIdReused);
problems!(PublishProblems: CALLER, BODY, ALWAYS;
    BadKeySignature, UnknownDevice, DeviceMismatch, TooManyKeys, KeyIdReused);
problems!(RemoveProblems: CALLER, ALWAYS; InvalidField, UnknownDevice);
problems!(ListProblems: CALLER, ALWAYS; InvalidField, UnknownUser);
problems!(ClaimProblems: CALLER, BODY, ALWAYS; UnknownUser, RateLimited);

pub(crate) enum RouteError {
    Limited(Refusal),
    Register(RegisterDeviceError),
    Publish(PublishKeysError),
    Remove(RemoveDeviceError),
    LookUp(LookUpError),
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Limited(refusal) => refusal,
            Self::Register(RegisterDeviceError::Key(error)) | Self::Publish(PublishKeysError::Key(error)) => {
                match error {
                    KeyError::InvalidField(error) => error.into(),
                    KeyError::BadSignature(field) => Refusal::new(ErrorCode::BadKeySignature).field(field),
                    KeyError::TooManyKeys => Refusal::new(ErrorCode::TooManyKeys),
                    KeyError::KeyIdReused => Refusal::new(ErrorCode::KeyIdReused),
                }
            }
            Self::Register(RegisterDeviceError::DeviceMismatch)
            | Self::Publish(PublishKeysError::DeviceMismatch) => Refusal::new(ErrorCode::DeviceMismatch),
            Self::Register(RegisterDeviceError::DeviceExists) => Refusal::new(ErrorCode::DeviceExists),
            Self::Register(RegisterDeviceError::TooManyDevices) => Refusal::new(ErrorCode::TooManyDevices),
            Self::Publish(PublishKeysError::UnknownDevice)
            | Self::Remove(RemoveDeviceError::UnknownDevice) => Refusal::new(ErrorCode::UnknownDevice),
            Self::LookUp(LookUpError::InvalidField(error)) => error.into(),
            Self::LookUp(LookUpError::UnknownUser) => Refusal::new(ErrorCode::UnknownUser),
            Self::Register(RegisterDeviceError::Store(error))
            | Self::Publish(PublishKeysError::Store(error))
            | Self::Remove(RemoveDeviceError::Store(error))
            | Self::LookUp(LookUpError::Store(error)) => error.into(),
        };
        refusal.into_response()
    }
}

/// Registers a device and binds the caller's log-in to it. Doing it again with the same keys changes nothing.
#[utoipa::path(put, path = "/v1/devices/{device_id}", tag = "devices", security(("bearer" = [])),
    params(("device_id" = DeviceId, Path, description = "The device, as its owner names it")),
    request_body = RegisterDevice,
    responses((status = 200, description = "Registered", body = KeyCount), RegisterProblems))]
pub(crate) async fn register(
    caller: Caller,
    State(devices): State<Devices>,
    Path(device_id): Path<DeviceId>,
    Json(request): Json<RegisterDevice>,
) -> Result<axum::Json<KeyCount>, RouteError> {
    devices.register(&caller, &device_id, request).await.map(axum::Json).map_err(RouteError::Register)
}

/// Publishes more keys of the device the caller's log-in is bound to.
#[utoipa::path(post, path = "/v1/devices/{device_id}/keys", tag = "devices", security(("bearer" = [])),
    params(("device_id" = DeviceId, Path, description = "The caller's own device")),
    request_body = PublishKeys,
    responses((status = 200, description = "Published", body = KeyCount), PublishProblems))]
pub(crate) async fn publish(
    caller: Caller,
    State(devices): State<Devices>,
    Path(device_id): Path<DeviceId>,
    Json(request): Json<PublishKeys>,
) -> Result<axum::Json<KeyCount>, RouteError> {
    devices.publish(&caller, &device_id, request).await.map(axum::Json).map_err(RouteError::Publish)
}

/// Removes one of the caller's devices, with its keys and log-ins. Nothing is delivered to it any more.
#[utoipa::path(delete, path = "/v1/devices/{device_id}", tag = "devices", security(("bearer" = [])),
    params(("device_id" = DeviceId, Path, description = "One of the caller's devices")),
    responses((status = 204, description = "Removed"), RemoveProblems))]
pub(crate) async fn remove(
    caller: Caller,
    State(devices): State<Devices>,
    Path(device_id): Path<DeviceId>,
) -> Result<StatusCode, RouteError> {
    devices.remove(caller.user_id, &device_id).await.map_err(RouteError::Remove)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A user's devices.
#[utoipa::path(get, path = "/v1/users/{user_id}/devices", tag = "devices", security(("bearer" = [])),
    params(("user_id" = UserId, Path, description = "Any user")),
    responses((status = 200, description = "Their devices", body = DeviceList), ListProblems))]
pub(crate) async fn list(
    _caller: Caller,
    State(devices): State<Devices>,
    Path(user_id): Path<UserId>,
) -> Result<axum::Json<DeviceList>, RouteError> {
    devices.list(user_id).await.map(axum::Json).map_err(RouteError::LookUp)
}

/// Takes one key from each of a user's devices, to open sessions with them.
#[utoipa::path(post, path = "/v1/users/{user_id}/keys/claim", tag = "devices", security(("bearer" = [])),
    params(("user_id" = UserId, Path, description = "Any user")),
    request_body = ClaimKeys,
    responses((status = 200, description = "One key for each device that exists", body = ClaimedKeys), ClaimProblems))]
pub(crate) async fn claim(
    caller: Caller,
    State(devices): State<Devices>,
    State(limits): State<Arc<RateLimits>>,
    Path(user_id): Path<UserId>,
    Json(request): Json<ClaimKeys>,
) -> Result<axum::Json<ClaimedKeys>, RouteError> {
    limits.check_look_up(caller.user_id).map_err(RouteError::Limited)?;
    devices.claim(user_id, request).await.map(axum::Json).map_err(RouteError::LookUp)
}
