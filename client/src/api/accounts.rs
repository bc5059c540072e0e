//! `/v1/accounts`, `/v1/logins`, `/v1/me` and `/v1/users`.

use colloquy_protocol::ids::{LoginId, UserId};
use colloquy_protocol::rest::accounts::{
    ChangeProfile, LogIn, Logins, Profile, Refresh, Register, Tokens, UserCard,
};
use reqwest::Method;

use super::{Api, ApiError};

/// How a user is looked up.
#[derive(Clone, PartialEq, Eq)]
pub enum UserQuery {
    /// A phone number, E.164.
    Phone(String),
    /// An email address.
    Email(String),
    /// A user id.
    Id(UserId),
}

impl std::fmt::Debug for UserQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserQuery(..)")
    }
}

impl Api {
    /// `POST /v1/accounts`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `phone_taken`, `email_taken` or `invalid_field`; and what every call fails with.
    pub async fn register(&self, body: &Register) -> Result<Tokens, ApiError> {
        self.call(Method::POST, self.url(&["v1", "accounts"], &[]), None, Some(body)).await
    }

    /// `POST /v1/logins`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `invalid_credentials`; and what every call fails with.
    pub async fn log_in(&self, body: &LogIn) -> Result<Tokens, ApiError> {
        self.call(Method::POST, self.url(&["v1", "logins"], &[]), None, Some(body)).await
    }

    /// `POST /v1/logins/refresh`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `refresh_token_reused`, `token_revoked` or `invalid_token`.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, ApiError> {
        let body = Refresh { refresh_token: refresh_token.to_owned(), request_id: None };
        self.call(Method::POST, self.url(&["v1", "logins", "refresh"], &[]), None, Some(&body)).await
    }

    /// `GET /v1/logins`.
    ///
    /// # Errors
    /// What every call fails with.
    pub async fn logins(&self, bearer: &str) -> Result<Logins, ApiError> {
        self.call::<(), _>(Method::GET, self.url(&["v1", "logins"], &[]), Some(bearer), None).await
    }

    /// `DELETE /v1/logins/current`.
    ///
    /// # Errors
    /// What every call fails with.
    pub async fn log_out(&self, bearer: &str) -> Result<(), ApiError> {
        self.call_without_answer(Method::DELETE, self.url(&["v1", "logins", "current"], &[]), bearer).await
    }

    /// `DELETE /v1/logins/{id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_login`; and what every call fails with.
    pub async fn revoke_login(&self, bearer: &str, id: LoginId) -> Result<(), ApiError> {
        let url = self.url(&["v1", "logins", &id.to_string()], &[]);
        self.call_without_answer(Method::DELETE, url, bearer).await
    }

    /// `GET /v1/me`.
    ///
    /// # Errors
    /// What every call fails with.
    pub async fn me(&self, bearer: &str) -> Result<Profile, ApiError> {
        self.call::<(), _>(Method::GET, self.url(&["v1", "me"], &[]), Some(bearer), None).await
    }

    /// `PATCH /v1/me`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `invalid_field`, `phone_taken` or `email_taken`.
    pub async fn change_me(&self, bearer: &str, change: &ChangeProfile) -> Result<Profile, ApiError> {
        self.call(Method::PATCH, self.url(&["v1", "me"], &[]), Some(bearer), Some(change)).await
    }

    /// `GET /v1/users`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_user`; and what every call fails with.
    pub async fn find_user(&self, bearer: &str, query: &UserQuery) -> Result<UserCard, ApiError> {
        let (name, value) = match query {
            UserQuery::Phone(phone) => ("phone", phone.clone()),
            UserQuery::Email(email) => ("email", email.clone()),
            UserQuery::Id(id) => ("user_id", id.to_string()),
        };
        let url = self.url(&["v1", "users"], &[(name, &value)]);
        self.call::<(), _>(Method::GET, url, Some(bearer), None).await
    }
}
