//! What `--help` says beyond the options: examples, keys, the commands of a script, where keys are kept.

use colloquy_client::terminal::{KEYS, SCRIPT_GRAMMAR};

/// Of the program.
pub(crate) const COLLOQUY: &str = "\
Examples:
  colloquy serve                            on 127.0.0.1:8080, data in ./.colloquy
  colloquy demo                             watch two people meet and talk
  colloquy chat --profile first             talk; asks to register or log in
  colloquy config default > colloquy.toml   every value, with its default

`colloquy VERB --help` has more examples.";

/// Of `serve`.
pub(crate) const SERVE: &str = "\
Examples:
  colloquy serve
  colloquy serve --data-dir /var/lib/colloquy --listen 127.0.0.1:8080
  colloquy serve --config colloquy.toml
  COLLOQUY_LIMITS__SOCKETS_MAX=50000 colloquy serve

Later sources win: the defaults, the file, COLLOQUY_* variables (two
underscores part a section from a name), options. TLS is ended in front of it.
SIGTERM or Ctrl-C drains: clients are sent elsewhere and what is held is
written out; a second one ends the process at once. Once it can be reached, it
prints its addresses on standard output; logs go to standard error.";

/// Of `agent`.
pub(crate) const AGENT: &str = "\
Examples:
  colloquy admin agents add agent-bruno --name Bruno \\
    --sink http://127.0.0.1:9000/ --key-file bruno.key
  colloquy agent --id agent-bruno --key-file bruno.key --built-in bruno
  colloquy agent --id agent-bruno --upstream http://127.0.0.1:11434/v1 \\
    --model llama3 --instructions-file bruno.txt
  colloquy agent --id agent-auditor --listen 127.0.0.1:9001 \\
    --key-file auditor.key --service http://127.0.0.1:9101/

Holds the agent's keys, so that the agent needs none. The server posts to the
sink that it is somebody's turn; the question is decrypted here and asked in
plain HTTP, with what was said before; the answer goes back encrypted.
--upstream is an OpenAI-compatible API. --service is posted JSON: turn_id,
conversation_id, user_id, text, history; it answers {\"text\": \"...\"}, or bit
by bit: application/x-ndjson of {\"delta\": \"...\"}, {\"status\": \"...\"} and in the
end {\"done\": true}; {\"tell\": {\"user_id\": ..., \"text\": ...}} has it write to
somebody else, to hand over. {\"approval_request\": {\"action\": ...,
\"arguments\": {...}, \"expires_in_seconds\": ...}} asks whoever asked for
approval (agent.approval.request); the arguments are in one line, and no key
stands twice in them. What is decided is posted in the place of a text, as
\"approval\", signed by a device of whoever decided, once. Whoever asked sees the
answer grow, and may stop it, but for that to a decision. The header
idempotency-key names what is asked: a question that is asked again after a crash
has the same. Whatever dies, each question is answered once.

Its keys and conversations are in a profile of the agent's name; one process
at a time uses it. The key file is needed for the first log-in only.";

/// Of `admin`.
pub(crate) const ADMIN: &str = "\
Examples:
  colloquy admin migrate --config colloquy.toml
  colloquy admin agents list";

/// Of `admin agents`.
pub(crate) const ADMIN_AGENTS: &str = "\
Examples:
  colloquy admin agents add agent-bruno --name Bruno \\
    --sink http://127.0.0.1:9000/ --key-file bruno.key
  colloquy admin agents list
  colloquy admin agents show agent-bruno > bruno.json
  colloquy admin agents change agent-bruno --profile bruno.json
  colloquy admin agents change agent-bruno --sink http://127.0.0.1:9001/
  colloquy admin agents new-key agent-bruno --key-file bruno.key
  colloquy admin agents remove agent-bruno

Talks to the server's operations port, which must be running, and proves with
the key that the server signs tokens with that it may: run it where that key
can be read, with the server's configuration (--config or COLLOQUY_*
variables). An agent's sink must be on a host that agents.sink_hosts names.
--profile takes JSON: name, description, version, owner, capabilities,
intents, sink, sink_mode, when_busy, limits; options change it. An agent logs
in with its key, which is shown once, or written to --key-file, which only you
can read.";

/// Of `admin dead-letters`.
pub(crate) const ADMIN_DEAD_LETTERS: &str = "\
Examples:
  colloquy admin dead-letters list
  colloquy admin dead-letters replay 01890a5d-ac96-774b-8cce-b302099a8057
  colloquy admin dead-letters replay --all --agent agent-bruno
  colloquy admin dead-letters drop --all --agent agent-bruno
  colloquy admin dead-letters list --feed
  colloquy admin dead-letters replay --all --feed

A message to an agent is given up when the agent refuses it, fails on it or
leaves it without an answer again and again while it answers others; when it
has refused it for ten minutes; or when the message is a day old and the agent
still cannot take it. Its conversation goes on without it.
Nothing is lost: the message stays where it is, and `replay` takes it to the
agent once more, out of its order. It leaves the list when it is answered, and
may be replayed as often as needed: it is answered once.

The feed (feed.enabled) tells its sink of every message. With --feed these are
the messages that the sink did not take: the feed goes on without them.
`replay` tells it of one once more, late, as the same event as before; what it
takes leaves the list.";

/// Of `admin migrate`.
pub(crate) const ADMIN_MIGRATE: &str = "\
Examples:
  colloquy admin migrate --config colloquy.toml
  COLLOQUY_STORE__BACKEND=mongodb COLLOQUY_STORE__MONGODB_URI=mongodb://... \\
    colloquy admin migrate

For store.backend = \"mongodb\". To be run before the first `serve`, after an
update, and after store.messages_days or store.idempotency_keys_hours was
changed; servers may run meanwhile. It prints what it made and changed, and may
be run again, and by several at once.";

/// Of `demo`.
pub(crate) const DEMO: &str = "\
Examples:
  colloquy demo
  colloquy demo --server http://127.0.0.1:9000
  colloquy demo --agent                     a person asks an agent

Without --server it uses the server on 127.0.0.1:8080, or if there is none, one
of its own.

A server of its own listens on a free port of this machine, keeps its data in
a temporary folder, and ends with the conversation. The exit code is 0 only if
every message arrived once and was read.";

/// Of `config`.
pub(crate) const CONFIG: &str = "\
Examples:
  colloquy config default > colloquy.toml
  colloquy config check colloquy.toml
  colloquy config default | colloquy config check -";

/// Of `config check`.
pub(crate) const CONFIG_CHECK: &str = "\
Examples:
  colloquy config check colloquy.toml
  colloquy config check - < colloquy.toml

COLLOQUY_* variables count too, as they do for `serve`. What cannot be used is
named with the reason, and the exit code is not 0. That ports are free and the
data folder can be written is seen at the start only.";

/// Of `chat`.
pub(crate) fn chat() -> String {
    format!(
        "{CHAT}\n\nKeys and commands on the screen:\n{}\n\n{SCRIPTS}\n{}",
        indented(KEYS),
        indented(SCRIPT_GRAMMAR)
    )
}

const CHAT: &str = "\
Examples:
  colloquy chat --profile first
  colloquy chat --profile first --passphrase
  colloquy chat --profile second --register --email b@example.com \\
    --name Second --password-file password.txt
  echo 'send a@example.com hello' | colloquy chat --profile second --script -

Where keys are kept:
  A profile lies in DIR/profiles/NAME, where DIR is --data-dir; `store` in it
  holds the device's keys and all messages, encrypted. Without a passphrase
  the key to that store lies beside it, in the file `key`, readable by its
  owner only: this keeps out other users of the machine, and whoever gets hold
  of the store alone, but not whoever gets hold of the whole folder, as in a
  backup or on a stolen disk. With --passphrase or --passphrase-file there is
  no such file, and the folder is worth nothing without the passphrase. Which
  of the two it is, is settled when the profile is made. Without the key file,
  or the passphrase, the profile is lost.";

const SCRIPTS: &str = "\
Scripts (--script):
  One command a line, in; one JSON object a line, out, each with an `event`.
  Blank lines and lines that begin with # are passed over. The first command
  that fails ends the script with an exit code that is not 0. ADDRESS is an
  email address, a phone number such as +4915112345678, or a user id.
";

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| if line.is_empty() { String::new() } else { format!("  {line}") });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_set_in_and_blank_lines_stay_blank() {
        assert_eq!(indented("a\n\n b"), "  a\n\n   b");
    }
}
