//! `colloquy admin dead-letters`: messages that agents, or the feed's sink, did not take, and that were given up.

use clap::{Args, Subcommand};
use colloquy_client::ApiError;
use colloquy_client::terminal::calendar::in_utc;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::rest::dead_letters::{AskDeadLetters, DeadLetterEntry, Replayed};

use crate::operator::{Operator, Where};
use crate::{Outcome, say};

/// What `colloquy admin dead-letters` is told.
#[derive(Args)]
pub(crate) struct DeadLetters {
    #[command(flatten)]
    place: Where,
    #[command(subcommand)]
    verb: DeadLettersVerb,
}

#[derive(Subcommand)]
enum DeadLettersVerb {
    /// One line for each, the oldest first.
    List {
        /// Only those of this agent.
        #[arg(long, conflicts_with = "feed")]
        agent: Option<AgentId>,
        /// Those that the feed's sink did not take, in the place of those that agents did not.
        #[arg(long)]
        feed: bool,
    },
    /// Take messages to their agents, or to the feed's sink, once more.
    Replay(Which),
    /// Give messages up for good: they stay in their conversations, without an answer, or untold.
    Drop(Which),
}

#[derive(Args)]
struct Which {
    /// The ids of the messages, as `list` shows them.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    turns: Vec<MessageId>,
    /// All of them.
    #[arg(long)]
    all: bool,
    /// Of all, only those of this agent.
    #[arg(long, requires = "all", conflicts_with = "feed")]
    agent: Option<AgentId>,
    /// Of those that the feed's sink did not take, in the place of those that agents did not.
    #[arg(long)]
    feed: bool,
}

/// Runs the verb.
pub(crate) fn run(options: DeadLetters) -> Outcome {
    let DeadLetters { place, verb } = options;
    Operator::carry_out(place, async |operator| match verb {
        DeadLettersVerb::List { agent, feed } => list(&operator, agent, feed).await,
        DeadLettersVerb::Replay(which) => replay(&operator, which).await,
        DeadLettersVerb::Drop(which) => give_up(&operator, which).await,
    })
}

async fn list(operator: &Operator, agent_id: Option<AgentId>, feed: bool) -> Outcome {
    let letters = all(operator, AskDeadLetters { agent_id, after: None, feed }).await?;
    letters.iter().for_each(|letter| say(&line(letter)));
    if letters.is_empty() {
        say(if feed { "there are no dead letters of the feed" } else { "there are no dead letters" });
    }
    Ok(())
}

async fn replay(operator: &Operator, which: Which) -> Outcome {
    let turns = which.turns(operator).await?;
    let (mut taken, count) = (0, turns.len());
    for turn_id in turns {
        let replayed = operator.api.replay_dead_letter(&operator.token, turn_id, which.feed).await;
        let replayed = if which.all { unless_gone(replayed, Replayed::Answered) } else { replayed };
        let replayed = operator.told(replayed)?;
        taken += usize::from(matches!(replayed, Replayed::Taken | Replayed::Answered));
        let came = if which.feed { outcome_of_feed(replayed) } else { outcome(replayed) };
        say(&format!("{turn_id} {came}"));
    }
    if taken == count { Ok(()) } else { Err(format!("{} of {count} were not taken", count - taken).into()) }
}

async fn give_up(operator: &Operator, which: Which) -> Outcome {
    for turn_id in which.turns(operator).await? {
        let dropped = operator.api.drop_dead_letter(&operator.token, turn_id, which.feed).await;
        operator.told(if which.all { unless_gone(dropped, ()) } else { dropped })?;
        say(&format!("{turn_id} is dropped"));
    }
    Ok(())
}

impl Which {
    async fn turns(&self, operator: &Operator) -> Result<Vec<MessageId>, String> {
        if !self.all {
            return Ok(self.turns.clone());
        }
        let asked = AskDeadLetters { agent_id: self.agent.clone(), after: None, feed: self.feed };
        let letters = all(operator, asked).await?;
        Ok(letters.into_iter().map(|letter| letter.turn_id).collect())
    }
}

/// One that is gone since it was listed was answered, or taken or dropped by somebody else's doing.
fn unless_gone<T>(answer: Result<T, ApiError>, gone: T) -> Result<T, ApiError> {
    match answer {
        Err(error) if error.code() == Some(ErrorCode::UnknownDeadLetter) => Ok(gone),
        answer => answer,
    }
}

/// All pages: there are at most [`DEAD_LETTERS_MAX`](colloquy_protocol::limits::DEAD_LETTERS_MAX).
async fn all(operator: &Operator, mut asked: AskDeadLetters) -> Result<Vec<DeadLetterEntry>, String> {
    let mut letters = Vec::new();
    loop {
        let page = operator.told(operator.api.dead_letters(&operator.token, &asked).await)?;
        letters.extend(page.dead_letters);
        asked.after = page.next;
        if asked.after.is_none() {
            return Ok(letters);
        }
    }
}

fn line(letter: &DeadLetterEntry) -> String {
    let DeadLetterEntry { turn_id, agent_id, reason, status, tries, died_at, replayed_at, .. } = letter;
    let status = status.map_or_else(String::new, |status| format!(" with {status}"));
    let replayed = replayed_at.map_or_else(String::new, |at| format!(", taken again {}", in_utc(at)));
    let (agent_id, reason, died) = (agent_id.as_str(), reason.as_str(), in_utc(*died_at));
    format!("{turn_id} {agent_id:<24} {reason}{status} after {tries} tries, given up {died}{replayed}")
}

fn outcome(replayed: Replayed) -> String {
    match replayed {
        Replayed::Taken => "is taken: it leaves the list when it is answered".to_owned(),
        Replayed::Answered => "was answered already".to_owned(),
        Replayed::Refused { status } => format!("is refused with {status}"),
        Replayed::Failed => "cannot be taken now: the agent is away, or fails".to_owned(),
        Replayed::Forbidden => {
            "cannot be taken: the agent's sink is on a host that agents.sink_hosts does not name".to_owned()
        }
        Replayed::Gone => "is no longer kept: `drop` takes it out of the list".to_owned(),
    }
}

fn outcome_of_feed(replayed: Replayed) -> String {
    match replayed {
        Replayed::Taken => "is taken".to_owned(),
        Replayed::Answered => "is no dead letter any more".to_owned(),
        Replayed::Refused { status } => format!("is refused with {status}"),
        Replayed::Failed => "cannot be taken now: the feed's sink is away, or fails".to_owned(),
        Replayed::Forbidden => "cannot be taken: the feed is off (feed.enabled)".to_owned(),
        Replayed::Gone => "is no longer kept: `drop --feed` takes it out of the list".to_owned(),
    }
}
