//! `colloquy admin agents`: which agents a running server has.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use colloquy_client::api::Api;
use colloquy_client::network::Internet;
use colloquy_client::{ApiError, ClientError};
use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::rest::agents::{AddAgent, RegisteredAgent, ReviseAgent};
use colloquy_runtime::admin::{admin_token, admin_url};
use colloquy_runtime::config::Config;

use crate::advice::advise;
use crate::{Outcome, read_input, say};

/// What `colloquy admin agents` is told.
#[derive(Args)]
pub(crate) struct Agents {
    /// The server's TOML file.
    #[arg(long, value_name = "FILE", env = "COLLOQUY_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Where the server keeps its data, and the key that tokens are signed with [default: .colloquy].
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// The server's operations address [default: that of its configuration, on this machine].
    #[arg(long, value_name = "URL", global = true)]
    operations: Option<String>,
    #[command(subcommand)]
    verb: AgentsVerb,
}

#[derive(Subcommand)]
enum AgentsVerb {
    /// One line for each agent.
    List,
    /// What an agent says of itself, as JSON that `--profile` takes.
    Show {
        /// The agent's name.
        agent: AgentId,
    },
    /// Register an agent; prints its key, unless there is a --key-file.
    Add {
        /// The agent's name: lower-case letters, digits and hyphens.
        agent: AgentId,
        #[command(flatten)]
        said: Said,
        #[command(flatten)]
        key_file: KeyFile,
    },
    /// Change what an agent says of itself.
    Change {
        /// The agent's name.
        agent: AgentId,
        #[command(flatten)]
        said: Said,
    },
    /// Give an agent another key. The one before it stops working at once.
    NewKey {
        /// The agent's name.
        agent: AgentId,
        #[command(flatten)]
        key_file: KeyFile,
    },
    /// Remove an agent: it is logged out and gets nothing more. Its conversations stay.
    Remove {
        /// The agent's name.
        agent: AgentId,
    },
}

/// What an agent says of itself.
#[derive(Args)]
struct Said {
    /// A JSON file with all of it, `-` for standard input.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// As shown to people.
    #[arg(long)]
    name: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Where its messages are posted.
    #[arg(long, value_name = "URL")]
    sink: Option<String>,
}

#[derive(Args)]
struct KeyFile {
    /// Write the key to this new file, readable by you only, and not to the screen.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(options: Agents) -> Outcome {
    let mut config = Config::read(options.config.as_deref())?;
    config.data_dir = options.data_dir.unwrap_or(config.data_dir);
    config.check()?;
    let url = options.operations.unwrap_or_else(|| admin_url(&config));
    let token = admin_token(&config)?;
    let api = Api::new(&url, Arc::new(Internet::new()?))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(Admin { api, token, url }.carry_out(options.verb)))
}

struct Admin {
    api: Api,
    token: String,
    url: String,
}

impl Admin {
    async fn carry_out(&self, verb: AgentsVerb) -> Outcome {
        let (api, token) = (&self.api, self.token.as_str());
        match verb {
            AgentsVerb::List => {
                let agents = self.told(api.registered_agents(token).await)?.agents;
                agents.iter().for_each(|agent| say(&line(agent)));
                if agents.is_empty() {
                    say("there is no agent yet: colloquy admin agents add --help");
                }
            }
            AgentsVerb::Show { agent } => {
                let agent = self.told(api.registered_agent(token, &agent).await)?;
                say(&serde_json::to_string_pretty(&agent.profile)?);
            }
            AgentsVerb::Add { agent, said, key_file } => {
                let profile = said.apply(None)?;
                let added = self.told(api.add_agent(token, &AddAgent { agent_id: agent, profile }).await)?;
                self.hand_over(&added.key, key_file)?;
            }
            AgentsVerb::Change { agent, said } => {
                let there = self.told(api.registered_agent(token, &agent).await)?;
                let body =
                    ReviseAgent { revision: there.revision, profile: said.apply(Some(there.profile))? };
                say(&line(&self.told(api.revise_agent(token, &agent, &body).await)?));
            }
            AgentsVerb::NewKey { agent, key_file } => {
                let renewed = self.told(api.renew_agent_key(token, &agent).await)?;
                self.hand_over(&renewed.key, key_file)?;
            }
            AgentsVerb::Remove { agent } => {
                self.told(api.remove_agent(token, &agent).await)?;
                say(&format!("{agent} is removed"));
            }
        }
        Ok(())
    }

    /// The answer, or what to do about a refusal.
    fn told<T>(&self, answer: Result<T, ApiError>) -> Result<T, String> {
        answer.map_err(|error| match error.code() {
            Some(ErrorCode::AgentExists) => {
                "there is an agent of this name: take another, or give it another key with `new-key`".to_owned()
            }
            Some(ErrorCode::UnknownAgent) => "there is no such agent: `list` shows them".to_owned(),
            Some(ErrorCode::AgentChanged) => "somebody else has changed it just now: try again".to_owned(),
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

    fn hand_over(&self, key: &str, file: KeyFile) -> Outcome {
        let Some(path) = file.key_file else {
            say(key);
            return Ok(());
        };
        if let Err(error) = write_key(&path, key) {
            // It is the only copy there is.
            say(key);
            return Err(format!("{} cannot be written, so here is the key: {error}", path.display()).into());
        }
        say(&format!("the key is in {}", path.display()));
        Ok(())
    }
}

/// Written beside it first: a file that was there, and that others may read, is not written into.
fn write_key(path: &Path, key: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    writeln!(file, "{key}").and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&beside, path))
}

impl Said {
    /// What the file says, or what was said before, with what the options change.
    fn apply(self, before: Option<AgentProfile>) -> Result<AgentProfile, Box<dyn std::error::Error>> {
        let from_file = self.profile.as_deref().map(read_profile).transpose()?;
        let mut profile = match (from_file.or(before), &self.name, &self.sink) {
            (Some(profile), _, _) => profile,
            (None, Some(name), Some(sink)) => AgentProfile::new(name, sink),
            (None, _, _) => return Err("an agent needs a --name and a --sink, or a --profile".into()),
        };
        profile.name = self.name.unwrap_or(profile.name);
        profile.sink = self.sink.unwrap_or(profile.sink);
        profile.description = self.description.unwrap_or(profile.description);
        Ok(profile)
    }
}

fn read_profile(path: &Path) -> Result<AgentProfile, String> {
    let text = if path == Path::new("-") {
        read_input()?
    } else {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?
    };
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn line(agent: &RegisteredAgent) -> String {
    let RegisteredAgent { agent_id, revision, profile, .. } = agent;
    let AgentProfile { name, version, sink, .. } = profile;
    let agent_id = agent_id.as_str();
    format!("{agent_id:<24} {name:<24} version {version:<10} revision {revision:<4} {sink}")
}
