//! Users. Phone numbers and email addresses are unique.

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::UserId;

use super::StoreResult;
use crate::model::account::{Taken, User, UserChange};

/// Users.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// Makes an account, unless its phone number or email address is another's.
    async fn create(&self, user: User) -> StoreResult<Result<(), Taken>>;

    /// By id.
    async fn get(&self, user_id: UserId) -> StoreResult<Option<User>>;

    /// By exact phone number.
    async fn find_by_phone(&self, phone: &str) -> StoreResult<Option<User>>;

    /// By exact email address, in lower case.
    async fn find_by_email(&self, email: &str) -> StoreResult<Option<User>>;

    /// Changes an account and returns it as it is then; `None` if there is no such user. A phone number or
    /// address that is given up becomes free.
    async fn change(&self, user_id: UserId, change: UserChange) -> StoreResult<Result<Option<User>, Taken>>;

    /// Records when users were last connected, in bulk; never moves one back. Unknown users are skipped.
    async fn seen(&self, seen: Vec<(UserId, UnixMillis)>) -> StoreResult<()>;
}
