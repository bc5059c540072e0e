//! A value out of its documented bounds. Names the field and the rule, never the value (PRIVATE).

/// Which field was refused, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct InvalidField {
    /// The field as it is named in the request.
    pub field: &'static str,
    /// What its value has to be.
    pub rule: &'static str,
}

impl InvalidField {
    pub(crate) const fn new(field: &'static str, rule: &'static str) -> Self {
        Self { field, rule }
    }
}
