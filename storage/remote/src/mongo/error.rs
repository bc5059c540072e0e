//! The driver's errors without what stands in them: the text of a refused write holds the key that was refused, which may
//! be a phone number (PRIVATE).

use std::collections::BTreeSet;

use colloquy_storage::ports::StoreError;
use mongodb::error::{Error, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR, WriteFailure};

/// The server's code for a document that a unique index refuses.
const DUPLICATE_KEY: i32 = 11000;

/// Codes of a server that is no primary, or is about to be none: another one takes the same operation.
const NOT_PRIMARY: [i32; 8] = [91, 189, 10058, 10107, 11600, 11602, 13435, 13436];

/// What went wrong, in the driver's words for kinds of errors and the server's codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mongodb: {what}, code {code}, labels {labels:?}")]
pub struct MongoFailure {
    /// The kind of error.
    what: &'static str,
    /// The server's code; 0 for what is not an answer of a server.
    code: i32,
    /// What the server or the driver say may be done about it.
    labels: BTreeSet<String>,
}

/// An operation has taken too long.
#[derive(Debug)]
pub(in crate::mongo) struct DeadlineElapsed;

pub(in crate::mongo) fn deadline_elapsed() -> Error {
    Error::custom(DeadlineElapsed)
}

/// What the port's caller is told.
pub(in crate::mongo) fn unavailable(error: &Error) -> StoreError {
    let (what, code) = describe(error);
    StoreError::unavailable(MongoFailure { what, code, labels: error.labels().iter().cloned().collect() })
}

/// May the operation do better when it is repeated?
pub(in crate::mongo) fn is_transient(error: &Error) -> bool {
    let is_labelled =
        error.contains_label(RETRYABLE_WRITE_ERROR) || error.contains_label(TRANSIENT_TRANSACTION_ERROR);
    let is_connection = matches!(*error.kind, ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. });
    is_labelled || is_connection || NOT_PRIMARY.contains(&describe(error).1)
}

/// Was a document refused by a unique index?
pub(in crate::mongo) fn is_duplicate(error: &Error) -> bool {
    describe(error).1 == DUPLICATE_KEY
}

/// Is it the server's answer `code`?
pub(in crate::mongo) fn has_code(error: &Error, code: i32) -> bool {
    describe(error).1 == code
}

/// Which unique index refused a document, by its name. The rest of the server's text may hold the key (PRIVATE).
pub(in crate::mongo) fn duplicate_index(error: &Error) -> Option<&str> {
    let text = match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY => &write.message,
        ErrorKind::Command(command) if command.code == DUPLICATE_KEY => &command.message,
        ErrorKind::InsertMany(many) => {
            let errors = many.write_errors.as_deref().unwrap_or_default();
            &errors.iter().find(|error| error.code == DUPLICATE_KEY)?.message
        }
        _ => return None,
    };
    text.split_once("index: ")?.1.split_whitespace().next()
}

/// Were documents of an unordered insertion refused by unique indexes, and is that all that went wrong?
pub(in crate::mongo) fn is_duplicates_alone(error: &Error) -> bool {
    let ErrorKind::InsertMany(refused) = &*error.kind else { return false };
    let errors = refused.write_errors.as_deref().unwrap_or_default();
    let are_duplicates = !errors.is_empty() && errors.iter().all(|error| error.code == DUPLICATE_KEY);
    are_duplicates && refused.write_concern_error.is_none()
}

/// Which document of an ordered insertion a unique index refused, if that is all that went wrong.
pub(in crate::mongo) fn refused_at(error: &Error) -> Option<usize> {
    let ErrorKind::InsertMany(refused) = &*error.kind else { return None };
    // Without the majority's word, what came before is not known to be stored either.
    if refused.write_concern_error.is_some() {
        return None;
    }
    match refused.write_errors.as_deref() {
        Some([only]) if only.code == DUPLICATE_KEY => Some(only.index),
        _ => None,
    }
}

fn describe(error: &Error) -> (&'static str, i32) {
    match &*error.kind {
        ErrorKind::Command(command) => ("a command failed", command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => ("a write was refused", write.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
            ("a write was not acknowledged", concern.code)
        }
        ErrorKind::InsertMany(many) => match (&many.write_concern_error, many.write_errors.as_deref()) {
            (Some(concern), _) => ("an insertion was not acknowledged", concern.code),
            (None, Some([first, ..])) => ("an insertion was refused", first.code),
            (None, _) => ("an insertion failed", 0),
        },
        ErrorKind::Io(_) => ("a connection failed", 0),
        ErrorKind::ConnectionPoolCleared { .. } => ("a connection was given up", 0),
        ErrorKind::ServerSelection { .. } => ("no primary answers", 0),
        ErrorKind::Authentication { .. } => ("authentication failed", 0),
        ErrorKind::DnsResolve { .. } => ("a name cannot be resolved", 0),
        ErrorKind::InvalidTlsConfig { .. } => ("what tls needs cannot be used", 0),
        ErrorKind::InvalidResponse { .. } => ("an answer makes no sense", 0),
        ErrorKind::InvalidArgument { .. } => ("a request makes no sense", 0),
        ErrorKind::Custom(_) if error.get_custom::<DeadlineElapsed>().is_some() => ("no answer in time", 0),
        _ => ("the driver failed", 0),
    }
}
