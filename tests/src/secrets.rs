//! What must never stand in a log (PRIVATE): collected while a test runs, searched for when its server ends.

use std::sync::{Arc, Mutex, PoisonError};

/// Secrets of one server's test, shared by everything that makes some.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Vec<Secret>>>);

#[derive(Clone)]
struct Secret {
    what: &'static str,
    text: String,
}

impl Secrets {
    /// `text` must not stand in a log; `what` names it in the failure.
    pub fn add(&self, what: &'static str, text: impl Into<String>) {
        let text = text.into();
        assert!(text.len() >= 4, "a {what} of under 4 bytes would be found everywhere");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Secret { what, text });
    }

    /// What kinds of secret stand in `log`.
    #[must_use]
    pub fn found_in(&self, log: &str) -> Vec<&'static str> {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().filter(|secret| log.contains(&secret.text)).map(|secret| secret.what).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_log_is_named_by_its_kind() {
        let secrets = Secrets::default();
        secrets.add("password", "correct horse");
        secrets.add("email", "left@example.org");
        assert_eq!(secrets.found_in("login ok"), Vec::<&str>::new());
        assert_eq!(secrets.found_in("login of left@example.org ok"), ["email"]);
    }
}
