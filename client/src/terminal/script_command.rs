//! The commands of a script, one a line.

use colloquy_protocol::ids::MessageId;

use super::address::parse_address;
use crate::api::accounts::UserQuery;
use crate::crypto::Verdict;

/// Every command, as help shows it: what to write, two spaces or more, what it does.
pub const SCRIPT_GRAMMAR: &str = "\
find ADDRESS           look somebody up
send ADDRESS TEXT...   put a text into the outbox
ask TEXT...            send a text to the agent that it is for
wait-sent              until the server has stored everything that was sent
wait-answer            until an agent has begun to answer
stop                   whoever is answering says no more
wait-request           until an agent has asked for approval, and print it
approve [MESSAGE]      allow what was printed last, or what this message asks
deny [MESSAGE]         do not
wait-messages N        until N messages of others have come since the start
read ADDRESS           everything there was seen
wait-read ADDRESS      until the newest own message there was seen
history ADDRESS        print the messages that are stored
safety ADDRESS         print the safety number
quit                   leave; the end of the lines does too";

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptCommand {
    /// `find ADDRESS`: look somebody up.
    Find(UserQuery),
    /// `send ADDRESS TEXT...`: put a text into the outbox.
    Send(UserQuery, String),
    /// `ask TEXT...`: send a text to the agent that it is for.
    Ask(String),
    /// `wait-sent`: until the server has stored everything.
    WaitSent,
    /// `wait-answer`: until an agent has begun to answer.
    WaitAnswer,
    /// `stop`: whoever is answering says no more.
    Stop,
    /// `wait-request`: until an agent has asked for approval.
    WaitRequest,
    /// `approve [MESSAGE]` and `deny [MESSAGE]`: decide on what was printed last, or on the request of this id.
    Decide(Verdict, Option<MessageId>),
    /// `wait-messages N`: until so many messages of others have come since the start.
    WaitMessages(u64),
    /// `read ADDRESS`: everything there was seen.
    Read(UserQuery),
    /// `wait-read ADDRESS`: until the newest own message was seen.
    WaitRead(UserQuery),
    /// `history ADDRESS`: print what is stored.
    History(UserQuery),
    /// `safety ADDRESS`: print the safety number.
    Safety(UserQuery),
    /// `quit`: leave.
    Quit,
}

impl ScriptCommand {
    /// Reads a line; nothing if it is not a command.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (verb, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let rest = rest.trim();
        let address = || parse_address(rest);
        match verb {
            "find" => address().map(Self::Find),
            "send" => {
                let (to, text) = rest.split_once(' ')?;
                Some(Self::Send(parse_address(to)?, text.trim_start().to_owned()))
            }
            "ask" => (!rest.is_empty()).then(|| Self::Ask(rest.to_owned())),
            "wait-sent" => rest.is_empty().then_some(Self::WaitSent),
            "wait-answer" => rest.is_empty().then_some(Self::WaitAnswer),
            "stop" => rest.is_empty().then_some(Self::Stop),
            "wait-request" => rest.is_empty().then_some(Self::WaitRequest),
            "approve" | "deny" => {
                let verdict = if verb == "approve" { Verdict::Approved } else { Verdict::Denied };
                let request = if rest.is_empty() { None } else { Some(rest.parse().ok()?) };
                Some(Self::Decide(verdict, request))
            }
            "wait-messages" => rest.parse().ok().map(Self::WaitMessages),
            "read" => address().map(Self::Read),
            "wait-read" => address().map(Self::WaitRead),
            "history" => address().map(Self::History),
            "safety" => address().map(Self::Safety),
            "quit" => rest.is_empty().then_some(Self::Quit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "0192f7a4-7c1e-7000-8000-000000000007";

    #[test]
    fn what_help_shows_is_what_is_understood() {
        let verbs: Vec<&str> = SCRIPT_GRAMMAR.lines().filter_map(|line| line.split(' ').next()).collect();
        for line in SCRIPT_GRAMMAR.lines() {
            let (form, _) = line.split_once("  ").unwrap();
            let command =
                form.replace("ADDRESS", "a@example.com").replace("TEXT...", "hello").replace('N', "3");
            let command = command.replace("[MESSAGE]", MESSAGE);
            assert!(ScriptCommand::parse(&command).is_some(), "{command}");
        }
        assert_eq!(verbs.len(), 15, "as many as there are commands");
    }

    #[test]
    fn lines_are_commands_or_nothing() {
        let email = || UserQuery::Email("a@example.com".to_owned());
        let parse = ScriptCommand::parse;
        assert_eq!(parse(" find a@example.com "), Some(ScriptCommand::Find(email())));
        let sent = ScriptCommand::Send(email(), "two words".to_owned());
        assert_eq!(parse("send a@example.com two words"), Some(sent));
        assert_eq!(parse("wait-messages 3"), Some(ScriptCommand::WaitMessages(3)));
        assert_eq!(parse("wait-sent"), Some(ScriptCommand::WaitSent));
        assert_eq!(parse("approve"), Some(ScriptCommand::Decide(Verdict::Approved, None)));
        let named = Some(MESSAGE.parse().unwrap());
        assert_eq!(parse(&format!("deny {MESSAGE}")), Some(ScriptCommand::Decide(Verdict::Denied, named)));
        assert_eq!(parse("wait-read a@example.com"), Some(ScriptCommand::WaitRead(email())));
        assert_eq!(parse("quit"), Some(ScriptCommand::Quit));
        for bad in [
            "",
            "say hello",
            "approve of it",
            "find",
            "find somebody",
            "send a@example.com",
            "wait-messages many",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
