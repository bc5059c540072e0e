//! Log-ins and the rotation of their refresh tokens.

use std::time::Duration;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{DeviceId, LoginId, UserId};

use super::StoreResult;
use crate::model::login::{Login, Presented, Rotation};

/// Log-ins. A revoked one is gone.
#[async_trait]
pub trait Logins: Send + Sync + 'static {
    /// Records a log-in.
    async fn create(&self, login: Login) -> StoreResult<()>;

    /// By id.
    async fn get(&self, login_id: LoginId) -> StoreResult<Option<Login>>;

    /// A user's, newest first.
    async fn list(&self, user_id: UserId) -> StoreResult<Vec<Login>>;

    /// Answers a refresh token, atomically: of any number of concurrent calls with the newest generation one rotates.
    /// `grace` is how long after a rotation, by clocks that may differ by as much, the generation before it counts as a
    /// retry; under the rotation's own request id it does so for ever.
    async fn rotate(
        &self,
        login_id: LoginId,
        presented: Presented,
        now: UnixMillis,
        grace: Duration,
    ) -> StoreResult<Rotation>;

    /// Binds a log-in to a device; says whether it is bound to this device now (it may be bound to another).
    async fn bind(&self, login_id: LoginId, device_id: &DeviceId) -> StoreResult<bool>;

    /// Revokes one log-in of a user; says whether there was one.
    async fn revoke(&self, user_id: UserId, login_id: LoginId) -> StoreResult<bool>;

    /// Revokes every log-in bound to a device; says which.
    async fn revoke_device(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<Vec<LoginId>>;
}
