//! `colloquy admin agents`: which agents a running server has.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::rest::agents::{AddAgent, RegisteredAgent, ReviseAgent};

use crate::operator::{Operator, Where};
use crate::{Outcome, read_input, say};

/// What `colloquy admin agents` is told.
#[derive(Args)]
pub(crate) struct Agents {
    #[command(flatten)]
    place: Where,
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
    let Agents { place, verb } = options;
    Operator::carry_out(place, async |operator| Registry(operator).carry_out(verb).await)
}

/// The server's agents.
struct Registry(Operator);

impl Registry {
    async fn carry_out(&self, verb: AgentsVerb) -> Outcome {
        let (api, token) = (&self.0.api, self.0.token.as_str());
        match verb {
            AgentsVerb::List => {
                let agents = self.0.told(api.registered_agents(token).await)?.agents;
                agents.iter().for_each(|agent| say(&line(agent)));
                if agents.is_empty() {
                    say("there is no agent yet: colloquy admin agents add --help");
                }
            }
            AgentsVerb::Show { agent } => {
                let agent = self.0.told(api.registered_agent(token, &agent).await)?;
                say(&serde_json::to_string_pretty(&agent.profile)?);
            }
            AgentsVerb::Add { agent, said, key_file } => {
                let profile = said.apply(None)?;
                let added =
                    self.0.told(api.add_agent(token, &AddAgent { agent_id: agent, profile }).await)?;
                self.hand_over(&added.key, key_file)?;
            }
            AgentsVerb::Change { agent, said } => {
                let there = self.0.told(api.registered_agent(token, &agent).await)?;
                let body =
                    ReviseAgent { revision: there.revision, profile: said.apply(Some(there.profile))? };
                say(&line(&self.0.told(api.revise_agent(token, &agent, &body).await)?));
            }
            AgentsVerb::NewKey { agent, key_file } => {
                let renewed = self.0.told(api.renew_agent_key(token, &agent).await)?;
                self.hand_over(&renewed.key, key_file)?;
            }
            AgentsVerb::Remove { agent } => {
                self.0.told(api.remove_agent(token, &agent).await)?;
                say(&format!("{agent} is removed"));
            }
        }
        Ok(())
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
