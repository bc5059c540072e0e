//! New accounts.

use std::sync::Arc;

use colloquy_protocol::ids::UserId;
use colloquy_protocol::rest::accounts::{Register, Tokens};
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::model::account::{Taken, User};
use colloquy_storage::ports::{self, StoreError};

use crate::access_token::SigningFailed;
use crate::contact::{parse_email, parse_phone};
use crate::invalid_field::InvalidField;
use crate::logins::{Logins, OpenError};
use crate::password::{Password, PasswordError, Passwords};
use crate::profile::parse_name;

/// Why no account was made.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// A value is out of its bounds, or neither phone nor email was given.
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    /// The phone number is another user's.
    #[error("the phone number is taken")]
    PhoneTaken,
    /// The email address is another user's.
    #[error("the email address is taken")]
    EmailTaken,
    /// The password could not be hashed now.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token could be signed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

impl From<Taken> for RegisterError {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Phone => Self::PhoneTaken,
            Taken::Email => Self::EmailTaken,
        }
    }
}

impl From<OpenError> for RegisterError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => Self::Store(error),
            OpenError::Signing(error) => Self::Signing(error),
        }
    }
}

/// Makes accounts. Cheap to clone.
#[derive(Clone)]
pub struct Registrations {
    accounts: Arc<dyn ports::Accounts>,
    passwords: Arc<Passwords>,
    logins: Logins,
    clock: Clock,
    entropy: Entropy,
}

impl Registrations {
    /// The service over its parts.
    #[must_use]
    pub fn new(
        accounts: Arc<dyn ports::Accounts>,
        passwords: Arc<Passwords>,
        logins: Logins,
        clock: Clock,
        entropy: Entropy,
    ) -> Self {
        Self { accounts, passwords, logins, clock, entropy }
    }

    /// Makes an account and logs its user in.
    ///
    /// If the answer is lost, a retry is told that the number or address is taken, and logging in with the same
    /// password succeeds.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn register(&self, request: Register) -> Result<Tokens, RegisterError> {
        let phone = request.phone.map(parse_phone).transpose()?;
        let email = request.email.as_deref().map(parse_email).transpose()?;
        if phone.is_none() && email.is_none() {
            return Err(InvalidField::new("phone", "give phone, email or both").into());
        }
        let name = parse_name(&request.name)?;
        let password = Password::new(request.password)?;
        // Only to save the hash: who is first is decided by `create`.
        self.check_free(phone.as_deref(), email.as_deref()).await?;
        let password_hash = self.passwords.hash(password).await?;
        let now = self.clock.now();
        let user_id = UserId(self.entropy.uuid_v7(now));
        let user = User {
            user_id,
            phone,
            email,
            name,
            avatar_url: None,
            password_hash,
            created_at: now,
            last_seen: None,
        };
        self.accounts.create(user).await??;
        Ok(self.logins.open(user_id).await?)
    }

    async fn check_free(&self, phone: Option<&str>, email: Option<&str>) -> Result<(), RegisterError> {
        if let Some(phone) = phone
            && self.accounts.find_by_phone(phone).await?.is_some()
        {
            return Err(RegisterError::PhoneTaken);
        }
        if let Some(email) = email
            && self.accounts.find_by_email(email).await?.is_some()
        {
            return Err(RegisterError::EmailTaken);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::TestStore;

    fn request() -> Register {
        Register {
            phone: Some("+4915112345678".into()),
            email: Some("Ann@Example.org".into()),
            name: "Ann".into(),
            password: "correct horse".into(),
        }
    }

    #[tokio::test]
    async fn a_number_or_address_makes_one_account_whoever_asks_at_the_same_time() {
        let store = TestStore::open().await;
        let registrations = store.registrations();
        let mut racing = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let registrations = registrations.clone();
            racing.spawn(async move { registrations.register(request()).await });
        }
        let outcomes = racing.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for outcome in outcomes {
            if let Err(error) = outcome {
                assert!(matches!(error, RegisterError::PhoneTaken | RegisterError::EmailTaken), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn each_bad_value_is_refused_by_name() {
        let store = TestStore::open().await;
        type Spoil = fn(&mut Register);
        let cases: [(&str, Spoil); 6] = [
            ("phone", |r| r.phone = Some("0151".into())),
            ("email", |r| r.email = Some("ann".into())),
            ("name", |r| r.name = " ".into()),
            ("name", |r| r.name = "🦀".repeat(101)),
            ("password", |r| r.password = "1234567".into()),
            ("phone", |r| (r.phone, r.email) = (None, None)),
        ];
        for (field, spoil) in cases {
            let mut bad = request();
            spoil(&mut bad);
            match store.registrations().register(bad).await {
                Err(RegisterError::InvalidField(invalid)) => assert_eq!(invalid.field, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
