//! The form of phone numbers and email addresses: how an account is found.

use colloquy_protocol::agent::AgentId;

use crate::invalid_field::InvalidField;

/// The longest address that SMTP can carry (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const EMAIL_MAX_BYTES: usize = 254;
/// RFC 5321, section 4.5.3.1.1.
const EMAIL_LOCAL_MAX_BYTES: usize = 64;
/// RFC 1035, section 2.3.4.
const DOMAIN_LABEL_MAX_BYTES: usize = 63;
/// Digits of an E.164 number: at most 15; fewer than 7 reach nobody from abroad.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// Where one account is looked up.
#[derive(Clone, PartialEq, Eq)]
pub enum Contact {
    /// An E.164 phone number.
    Phone(String),
    /// An email address in lower case.
    Email(String),
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Phone(_) => "Phone(..)",
            Self::Email(_) => "Email(..)",
        })
    }
}

impl Contact {
    /// Exactly one of the two.
    ///
    /// # Errors
    /// [`InvalidField`] if neither or both are given, or the one given is malformed.
    pub fn exactly_one(phone: Option<String>, email: Option<String>) -> Result<Self, InvalidField> {
        match (phone, email) {
            (Some(phone), None) => Ok(Self::Phone(parse_phone(phone)?)),
            (None, Some(email)) => Ok(Self::Email(parse_email(&email)?)),
            _ => Err(InvalidField::new("phone", "give exactly one of phone and email")),
        }
    }
}

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// A person.
    Contact(Contact),
    /// A program.
    Agent(AgentId),
}

impl Identifier {
    /// Exactly one of the three.
    ///
    /// # Errors
    /// [`InvalidField`] if none or several are given, or the one given is malformed.
    pub fn exactly_one(
        phone: Option<String>,
        email: Option<String>,
        agent_id: Option<AgentId>,
    ) -> Result<Self, InvalidField> {
        match agent_id {
            None => Contact::exactly_one(phone, email).map(Self::Contact),
            Some(agent_id) if phone.is_none() && email.is_none() => Ok(Self::Agent(agent_id)),
            Some(_) => Err(InvalidField::new("agent_id", "give exactly one of phone, email and agent_id")),
        }
    }
}

/// An E.164 number: `+`, then 7 to 15 digits, the first not 0.
///
/// # Errors
/// [`InvalidField`] names the rule.
pub fn parse_phone(text: String) -> Result<String, InvalidField> {
    let valid = text.strip_prefix('+').is_some_and(|digits| {
        PHONE_DIGITS.contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    });
    if valid {
        return Ok(text);
    }
    Err(InvalidField::new("phone", "E.164: +, then 7 to 15 digits, the first not 0"))
}

/// An email address, in lower case.
///
/// The rule is narrower than RFC 5321 on purpose: at most 254 bytes of ASCII; before the last `@` 1 to 64 letters,
/// digits or ``.!#$%&'*+/=?^_`{|}~-`` (no quoting); after it a domain of two or more labels (letters, digits, inner
/// hyphens). Whether mail arrives there is not checked. Lower case also before the `@`: no mail provider in use tells
/// `Ann@` from `ann@`, and people do not either.
///
/// # Errors
/// [`InvalidField`] names the rule.
pub fn parse_email(text: &str) -> Result<String, InvalidField> {
    let is_local = |local: &str| {
        (1..=EMAIL_LOCAL_MAX_BYTES).contains(&local.len())
            && local.bytes().all(|b| b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&b))
    };
    let is_label = |label: &str| {
        (1..=DOMAIN_LABEL_MAX_BYTES).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let valid = text.len() <= EMAIL_MAX_BYTES
        && text.rsplit_once('@').is_some_and(|(local, domain)| {
            is_local(local) && domain.contains('.') && domain.split('.').all(is_label)
        });
    if valid {
        return Ok(text.to_ascii_lowercase());
    }
    Err(InvalidField::new("email", "an address of at most 254 bytes, like ann@example.org"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_number_is_e164() {
        for good in ["+1234567", "+4915112345678", "+123456789012345"] {
            assert!(parse_phone(good.into()).is_ok(), "{good}");
        }
        for bad in ["", "+", "1234567", "+0123456", "+123456", "+1234567890123456", "+12 34567", "+١٢٣٤٥٦٧"]
        {
            assert!(parse_phone(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_email_address_is_kept_in_lower_case() {
        assert_eq!(parse_email("Ann.Lee+x@Example.ORG").unwrap(), "ann.lee+x@example.org");
        let long = format!("a@{}.org", "b.".repeat(130));
        for bad in
            ["", "a", "@b.c", "a@", "a@b", "a@b..c", "a b@c.de", "a@-b.de", "ä@b.de", "a@b.de\n", &long]
        {
            assert!(parse_email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exactly_one_of_phone_and_email_names_an_account() {
        let (phone, email) = (Some("+12345678".to_owned()), Some("a@b.de".to_owned()));
        assert!(Contact::exactly_one(phone.clone(), None).is_ok());
        assert!(Contact::exactly_one(None, email.clone()).is_ok());
        assert!(Contact::exactly_one(phone, email).is_err());
        assert!(Contact::exactly_one(None, None).is_err());
    }

    #[test]
    fn debug_shows_no_number_and_no_address() {
        assert_eq!(format!("{:?}", Contact::Phone("+12345678".into())), "Phone(..)");
    }
}
