//! Whoever runs the installation: how a running server is asked for what only they may.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use colloquy_client::api::Api;
use colloquy_client::network::Internet;
use colloquy_client::{ApiError, ClientError};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_runtime::admin::{admin_token, admin_url};
use colloquy_runtime::config::Config;

use crate::Outcome;
use crate::advice::advise;

/// Which server.
#[derive(Args)]
pub(crate) struct Where {
    /// The server's TOML file.
    #[arg(long, value_name = "FILE", env = "COLLOQUY_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Where the server keeps its data, and the key that tokens are signed with [default: .colloquy].
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// The server's operations address [default: that of its configuration, on this machine].
    #[arg(long, value_name = "URL", global = true)]
    operations: Option<String>,
}

/// A server, and the proof that it may be asked.
pub(crate) struct Operator {
    pub(crate) api: Api,
    pub(crate) token: String,
    url: String,
}

impl Operator {
    /// Has the operator of the server `place` do something.
    pub(crate) fn carry_out<W: Future<Output = Outcome>>(
        place: Where,
        work: impl FnOnce(Self) -> W,
    ) -> Outcome {
        let mut config = Config::read(place.config.as_deref())?;
        config.data_dir = place.data_dir.unwrap_or(config.data_dir);
        config.check()?;
        let url = place.operations.unwrap_or_else(|| admin_url(&config));
        let token = admin_token(&config)?;
        let api = Api::new(&url, Arc::new(Internet::new()?))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(Box::pin(work(Self { api, token, url })))
    }

    /// The answer, or what to do about a refusal.
    pub(crate) fn told<T>(&self, answer: Result<T, ApiError>) -> Result<T, String> {
        answer.map_err(|error| match error.code() {
            Some(ErrorCode::AgentExists) => {
                "there is an agent of this name: take another, or give it another key with `new-key`".to_owned()
            }
            Some(ErrorCode::UnknownAgent) => {
                "there is no such agent: `colloquy admin agents list` shows them".to_owned()
            }
            Some(ErrorCode::AgentChanged) => "somebody else has changed it just now: try again".to_owned(),
            Some(ErrorCode::UnknownDeadLetter) => {
                "it is no dead letter, or no more: `colloquy admin dead-letters list` shows them, and with --feed those \
                 of the feed"
                    .to_owned()
            }
            Some(ErrorCode::InvalidToken) => {
                "the server signs its tokens with another key than this one: name its configuration with --config, or \
                 its data with --data-dir"
                    .to_owned()
            }
            _ => match error {
                ApiError::Unreachable(_) => format!(
                    "{} cannot be reached: start the server first, or name its operations address with --operations",
                    self.url
                ),
                error => advise(&ClientError::Api(error), &self.url),
            },
        })
    }
}
