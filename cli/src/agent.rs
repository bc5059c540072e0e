//! `colloquy agent`: the sidecar of one agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use colloquy_client::{Client, ClientError, Identifier, ProfileOptions, Unlock};
use colloquy_protocol::agent::AgentId;
use colloquy_runtime::config::Config;
use colloquy_runtime::telemetry;
use colloquy_sidecar::prompt::HistoryLimits;
use colloquy_sidecar::upstream::{Bruno, Completions, Service};
use colloquy_sidecar::{DeskOptions, SidecarError, Upstream};
use reqwest::Url;
use tokio::net::TcpListener;

use crate::advice::advise;
use crate::chat::{STORE_FOLDER, profile_folder};
use crate::enrolment::read_secret;
use crate::signals::StopSignals;
use crate::{Outcome, say};

/// What `colloquy agent` is told.
#[derive(Args)]
pub(crate) struct Agent {
    /// The agent's name, as it is registered.
    #[arg(long, value_name = "AGENT")]
    id: AgentId,
    /// The server.
    #[arg(long, value_name = "URL", env = "COLLOQUY_SERVER", default_value = crate::DEFAULT_SERVER)]
    server: String,
    /// A file that holds the key that the agent logs in with; needed the first time, and after the key was changed.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Where the server posts the agent's turns: the address of the sink that it is registered with.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Where profiles are kept [default: the data folder of this user].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
    /// The model's name, with --upstream.
    #[arg(long, value_name = "NAME", default_value = "default", requires = "upstream")]
    model: String,
    /// A file that holds what the model is told before everything else, with --upstream.
    #[arg(long, value_name = "FILE", requires = "upstream")]
    instructions_file: Option<PathBuf>,
    /// A file that holds the key for the model, with --upstream.
    #[arg(long, value_name = "FILE", requires = "upstream")]
    upstream_key_file: Option<PathBuf>,
    /// How long an answer may take, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    timeout_s: u64,
    /// For how long an agent that cannot be asked is asked again before people are told so, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    patience_s: u64,
    /// Questions that the agent is asked at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = at_once)]
    at_once: usize,
    /// Earlier messages of a conversation that the agent is shown.
    #[arg(long, value_name = "MESSAGES", default_value_t = 20)]
    history: usize,
}

/// What is asked: one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Asked {
    /// A model behind an OpenAI-compatible API, such as http://127.0.0.1:11434/v1.
    #[arg(long, value_name = "URL")]
    upstream: Option<Url>,
    /// Any HTTP service: questions are posted to it as JSON.
    #[arg(long, value_name = "URL")]
    service: Option<Url>,
    /// An agent that is built in: bruno, who needs no model.
    #[arg(long, value_name = "NAME", value_parser = ["bruno"])]
    built_in: Option<String>,
}

fn at_once(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err("a number from 1 to 1024".to_owned()),
    }
}

/// Runs the verb.
pub(crate) fn run(options: Agent) -> Outcome {
    telemetry::start(&Config::default().log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(agent(options)))
}

async fn agent(options: Agent) -> Outcome {
    // Before anything is started: a signal meanwhile stops the agent as any other does.
    let mut signals = StopSignals::new()?;
    let client = open(&options).await?;
    let upstream = upstream(&options, &client)?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| format!("{} cannot be listened on: {error}", options.listen))?;
    say(&format!(
        "{} takes its turns on http://{}/ and answers on {}",
        options.id,
        listener.local_addr()?,
        options.server
    ));
    let desk = DeskOptions {
        at_once: options.at_once,
        patience: Duration::from_secs(options.patience_s),
        history: HistoryLimits { messages: options.history, ..HistoryLimits::default() },
    };
    let ran = colloquy_sidecar::run(client, listener, upstream, desk, signals.next()).await;
    ran.map_err(|error| match error {
        SidecarError::LoggedOut => {
            format!("{} was logged out: if it has another key now, give that with --key-file", options.id)
                .into()
        }
        error => error.into(),
    })
}

/// The agent's own profile, logged in.
async fn open(options: &Agent) -> Result<Client, Box<dyn std::error::Error>> {
    let folder = profile_folder(options.data_dir.as_deref(), options.id.as_str())?;
    let explained = |error: &ClientError| advise(error, &options.server);
    let client = Client::open(ProfileOptions {
        unlock: Unlock::KeyFile(folder.join("key")),
        folder: folder.join(STORE_FOLDER),
        server_url: options.server.clone(),
        device_id: None,
        platform: "agent".to_owned(),
    })
    .await
    .map_err(|error| explained(&error))?;
    if !client.is_logged_in()? {
        let file = options.key_file.as_deref().ok_or_else(|| {
            format!(
                "{0} is not logged in here: give its key with --key-file (`colloquy admin agents add {0} --key-file FILE` makes one)",
                options.id
            )
        })?;
        let key = read_secret(file)?;
        client.log_in(Identifier::Agent(options.id.clone()), key).await.map_err(|error| explained(&error))?;
    }
    Ok(client)
}

fn upstream(options: &Agent, client: &Client) -> Result<Upstream, Box<dyn std::error::Error>> {
    let timeout = Duration::from_secs(options.timeout_s);
    if let Some(url) = &options.asked.upstream {
        let key = options.upstream_key_file.as_deref().map(read_secret).transpose()?;
        let read = |file: &Path| {
            std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
        };
        let instructions = options.instructions_file.as_deref().map(read).transpose()?;
        let model = options.model.clone();
        return Ok(Upstream::Completions(Completions::new(
            url,
            model,
            instructions,
            key.as_deref(),
            timeout,
        )?));
    }
    if let Some(url) = &options.asked.service {
        return Ok(Upstream::Service(Service::new(url.clone(), timeout)?));
    }
    Ok(Upstream::Bruno(Bruno::new(client.clone())))
}
