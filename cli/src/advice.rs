//! What to do about a client's error, for a person.

use colloquy_client::{ApiError, ClientError, StoreError};
use colloquy_protocol::error_code::ErrorCode;

/// The error in words that say what to do.
pub(crate) fn advise(error: &ClientError, server: &str) -> String {
    match error {
        ClientError::Api(ApiError::Unreachable(_)) => {
            format!(
                "{server} cannot be reached: start the server first (make run), or name another with --server"
            )
        }
        ClientError::Api(ApiError::BadUrl) => {
            format!("{server} is not a server: --server takes a URL such as {}", crate::DEFAULT_SERVER)
        }
        ClientError::Api(ApiError::Refused(problem)) => match problem.code {
            ErrorCode::InvalidCredentials => {
                "wrong password, or no account with that address: try again, or register with --register"
                    .to_owned()
            }
            ErrorCode::EmailTaken => {
                "an account with this email address exists: log in instead, without --register".to_owned()
            }
            ErrorCode::PhoneTaken => {
                "an account with this phone number exists: log in instead, without --register".to_owned()
            }
            ErrorCode::RateLimited => "too many attempts: wait a minute and try again".to_owned(),
            _ => {
                let field = problem.field.as_ref().map(|field| format!(" ({field})")).unwrap_or_default();
                let detail = problem.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
                format!("the server refused this: {}{field}{detail}", problem.title)
            }
        },
        ClientError::Store(StoreError::InUse) => {
            "another process is using this profile: close it, or take another with --profile NAME".to_owned()
        }
        ClientError::Store(StoreError::WrongKey) => {
            "this is not the passphrase, or the key file, that the profile was made with".to_owned()
        }
        ClientError::Store(StoreError::NeedsPassphrase) => {
            "the profile was made with a passphrase: give it with --passphrase or --passphrase-file"
                .to_owned()
        }
        ClientError::Store(StoreError::NeedsKeyFile) => {
            "the profile was made without a passphrase: leave out --passphrase and --passphrase-file"
                .to_owned()
        }
        ClientError::OtherServer => {
            format!(
                "this profile was made with another server than {server}: take another with --profile NAME"
            )
        }
        ClientError::OtherUser => {
            "this profile belongs to another account: take another with --profile NAME".to_owned()
        }
        error => error.to_string(),
    }
}
