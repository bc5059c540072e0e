//! What an account says of its user, to themselves and to others.

use std::sync::Arc;

use colloquy_protocol::ids::UserId;
use colloquy_protocol::limits::{MEDIA_URL_MAX_BYTES, NAME_MAX_CHARS};
use colloquy_protocol::rest::accounts::{ChangeProfile, Profile, UserCard};
use colloquy_storage::model::account::{Taken, User, UserChange};
use colloquy_storage::ports::{self, StoreError, StoreResult};

use crate::contact::{Contact, parse_email, parse_phone};
use crate::invalid_field::InvalidField;

/// Why a profile was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeProfileError {
    /// A value is out of its bounds.
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    /// The phone number is another user's.
    #[error("the phone number is taken")]
    PhoneTaken,
    /// The email address is another user's.
    #[error("the email address is taken")]
    EmailTaken,
    /// There is no such user (any more).
    #[error("no such user")]
    UnknownUser,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads and changes profiles. Cheap to clone.
#[derive(Clone)]
pub struct Profiles {
    accounts: Arc<dyn ports::Accounts>,
}

impl Profiles {
    /// The service over the accounts.
    #[must_use]
    pub fn new(accounts: Arc<dyn ports::Accounts>) -> Self {
        Self { accounts }
    }

    /// A user's own account.
    ///
    /// # Errors
    /// The store's.
    pub async fn own(&self, user_id: UserId) -> StoreResult<Option<Profile>> {
        Ok(self.accounts.get(user_id).await?.map(profile))
    }

    /// Changes a user's own account.
    ///
    /// # Errors
    /// [`ChangeProfileError`].
    pub async fn change(
        &self,
        user_id: UserId,
        request: ChangeProfile,
    ) -> Result<Profile, ChangeProfileError> {
        let change = UserChange {
            name: request.name.as_deref().map(parse_name).transpose()?,
            avatar_url: request.avatar_url.map(parse_avatar_url).transpose()?,
            phone: request.phone.map(parse_phone).transpose()?,
            email: request.email.as_deref().map(parse_email).transpose()?,
            password_hash: None,
        };
        match self.accounts.change(user_id, change).await? {
            Ok(Some(user)) => Ok(profile(user)),
            Ok(None) => Err(ChangeProfileError::UnknownUser),
            Err(Taken::Phone) => Err(ChangeProfileError::PhoneTaken),
            Err(Taken::Email) => Err(ChangeProfileError::EmailTaken),
        }
    }

    /// What others may see of a user.
    ///
    /// # Errors
    /// The store's.
    pub async fn card(&self, user_id: UserId) -> StoreResult<Option<UserCard>> {
        Ok(self.accounts.get(user_id).await?.map(card))
    }

    /// What others may see of the user with a phone number or address.
    ///
    /// # Errors
    /// The store's.
    pub async fn find(&self, contact: &Contact) -> StoreResult<Option<UserCard>> {
        let user = match contact {
            Contact::Phone(phone) => self.accounts.find_by_phone(phone).await?,
            Contact::Email(email) => self.accounts.find_by_email(email).await?,
        };
        Ok(user.map(card))
    }
}

fn profile(user: User) -> Profile {
    Profile {
        user_id: user.user_id,
        phone: user.phone,
        email: user.email,
        name: user.name,
        avatar_url: user.avatar_url,
        created_at: user.created_at,
    }
}

fn card(user: User) -> UserCard {
    UserCard { user_id: user.user_id, name: user.name, avatar_url: user.avatar_url }
}

/// A name: trimmed, then 1 to 100 characters (Unicode scalar values), none of them a control character.
///
/// # Errors
/// [`InvalidField`] names the rule.
pub fn parse_name(text: &str) -> Result<String, InvalidField> {
    let name = text.trim();
    let fits = (1..=NAME_MAX_CHARS).contains(&name.chars().count());
    if fits && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(InvalidField::new("name", "1 to 100 characters after trimming, no control characters"))
}

/// An avatar: `https://`, a host, visible ASCII, no user info, at most 2048 bytes. Empty means none.
fn parse_avatar_url(text: String) -> Result<Option<String>, InvalidField> {
    if text.is_empty() {
        return Ok(None);
    }
    let rest = text.strip_prefix("https://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    // A backslash is a slash to browsers, so what follows it must not pass for a host.
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&b));
    if text.len() <= MEDIA_URL_MAX_BYTES && plain && !host.is_empty() && !authority.contains('@') {
        return Ok(Some(text));
    }
    Err(InvalidField::new("avatar_url", "an https URL of at most 2048 bytes, or empty to remove it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::TestStore;

    #[test]
    fn a_name_is_trimmed_and_counted_in_characters() {
        assert_eq!(parse_name("  Ann 🦀 ").unwrap(), "Ann 🦀");
        assert!(parse_name(&"🦀".repeat(100)).is_ok());
        for bad in ["", "   ", "\u{200b}\u{0}", "a\nb", &"🦀".repeat(101)] {
            assert!(parse_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_avatar_is_an_https_url() {
        assert_eq!(parse_avatar_url(String::new()).unwrap(), None);
        for good in ["https://a.de/x.png", "https://a.de:8443?x=1", "https://a.de"] {
            assert!(parse_avatar_url(good.into()).is_ok(), "{good}");
        }
        let long = format!("https://a.de/{}", "x".repeat(2048));
        for bad in [
            "http://a.de",
            "https://",
            "https:///x",
            "javascript:alert(1)",
            "https://a@b.de",
            "https://a b",
            "https://:1",
            "https://a\\@b.de",
            &long,
        ] {
            assert!(parse_avatar_url(bad.into()).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_left_out_stays_and_what_is_taken_is_refused() {
        let store = TestStore::open().await;
        let ann = store.register("a@b.de", "correct horse").await;
        let bob = store.register("b@b.de", "correct horse").await;
        let profiles = store.profiles();
        let change = ChangeProfile { name: Some(" Ann ".into()), ..ChangeProfile::default() };
        let changed = profiles.change(ann.user_id, change).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.email.as_deref()), ("Ann", Some("a@b.de")));
        let change = ChangeProfile { email: Some("A@B.DE".into()), ..ChangeProfile::default() };
        let refused = profiles.change(bob.user_id, change).await;
        assert!(matches!(refused, Err(ChangeProfileError::EmailTaken)));
    }
}
