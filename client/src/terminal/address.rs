//! How a person is named on a command line: an email address, a phone number or a user id.

use crate::api::accounts::UserQuery;

/// Reads an address; nothing if it is none of the three.
#[must_use]
pub fn parse_address(text: &str) -> Option<UserQuery> {
    if let Ok(user) = text.parse() {
        return Some(UserQuery::Id(user));
    }
    if text.contains('@') {
        return Some(UserQuery::Email(text.to_owned()));
    }
    let digits = text.strip_prefix('+')?;
    let is_phone = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_phone.then(|| UserQuery::Phone(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_email_a_phone_number_or_an_id() {
        assert!(matches!(parse_address("a@example.com"), Some(UserQuery::Email(_))));
        assert!(matches!(parse_address("+4915112345678"), Some(UserQuery::Phone(_))));
        assert!(matches!(parse_address("0192f7a4-7c1e-7000-8000-000000000001"), Some(UserQuery::Id(_))));
        for bad in ["", "+", "somebody", "+49 151", "4915112345678"] {
            assert!(parse_address(bad).is_none(), "{bad}");
        }
    }
}
