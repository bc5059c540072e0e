//! The binary as a person meets it: what it prints, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Nobody listens there: the port is reserved, and never given out as a free one.
const NOBODY: &str = "http://127.0.0.1:1";

fn colloquy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_colloquy"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COLLOQUY_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    colloquy().args(arguments).output().expect("the binary can be started")
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What a command that fails says on standard error.
#[track_caller]
fn complaint(command: &mut Command) -> String {
    let output = command.output().expect("the binary can be started");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn check_of_input(text: &str) -> Output {
    let mut command = colloquy();
    command
        .args(["config", "check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary can be started");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// A server on free ports. Killed when dropped.
struct Served {
    process: Child,
    address: String,
}

impl Served {
    fn start(data_dir: &Path) -> Self {
        let mut process = serve(data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("it speaks");
        let address = line.strip_prefix("colloquy listening on http://").expect("it says where it listens");
        let address = address.split(' ').next().expect("an address").to_owned();
        Self { process, address }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).expect("a process id")), signal)
            .expect("it runs");
    }

    /// Its log; reading blocks until there is a line or it has ended.
    fn log(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.process.stderr.take().expect("piped, and taken once"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(data_dir: &Path) -> Command {
    let mut command = colloquy();
    command.args(["serve", "--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(data_dir).env("COLLOQUY_ACCOUNTS__PASSWORD_MEMORY_KIB", "8");
    command
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(printed(&["--version"]), concat!("colloquy ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(printed(&["chat", "--version"]), concat!("colloquy-chat ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn every_help_has_examples_of_its_own() {
    for (verb, example) in [
        (vec![], "colloquy demo"),
        (vec!["serve"], "colloquy serve --config colloquy.toml"),
        (vec!["chat"], "colloquy chat --profile first"),
        (vec!["demo"], "colloquy demo --server http://"),
        (vec!["admin"], "colloquy admin migrate --config colloquy.toml"),
        (vec!["admin", "migrate"], "COLLOQUY_STORE__BACKEND=mongodb"),
        (vec!["config"], "colloquy config default > colloquy.toml"),
        (vec!["config", "check"], "colloquy config check colloquy.toml"),
    ] {
        let help = printed(&[verb.as_slice(), &["--help"]].concat());
        let examples = help.split("Examples:").nth(1).unwrap_or_else(|| panic!("{verb:?} has none"));
        assert!(examples.contains(example), "{verb:?}: {help}");
    }
}

#[test]
fn the_help_of_chat_has_keys_commands_scripts_and_where_keys_are_kept() {
    let help = printed(&["chat", "--help"]);
    for expected in
        ["PageUp", "/safety", "/reconnect", "wait-messages N", "one JSON object a line", "profiles/NAME"]
    {
        assert!(help.contains(expected), "{expected}\n{help}");
    }
}

#[test]
fn an_unknown_verb_or_option_is_a_usage_error() {
    for arguments in
        [&["shout"][..], &["serve", "--loudly"], &["chat", "--passphrase", "--passphrase-file", "x"]]
    {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_default_configuration_is_good() {
    let output = check_of_input(&printed(&["config", "default"]));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the configuration is good\n");
}

#[test]
fn a_bad_configuration_is_named_with_field_and_reason() {
    for (text, field, reason) in [
        ("[limits]\nidle_timeout_ms = 0", "limits.idle_timeout_ms", "greater than 0"),
        ("[log]\nfilter = \"info,colloquy=shout\"", "log.filter", "is not a filter"),
        ("[accounts]\npassword_memory_kib = 1", "accounts.password_memory_kib", "must be 8"),
        ("[accounts]\naccess_token_lifetime_s = 60", "accounts.access_token_lifetime_s", "more than 60"),
        ("[limits]\nheartbeat_interval_ms = 60000", "limits.heartbeat_interval_ms", "half of limits.idle"),
        ("listen = \"0.0.0.0:8080\"", "public_endpoint", "wss://"),
        ("[store]\nbackend = \"mongodb\"", "store.mongodb_uri", "mongodb://"),
        ("[store]\nbackend = \"mysql\"", "store.backend", "unknown variant"),
        ("lisen = \"127.0.0.1:8080\"", "lisen", "unknown field"),
        ("[limits]\nsockets_max = \"many\"", "limits.sockets_max", "invalid type"),
        ("listen = ", "TOML", "parse error"),
    ] {
        let output = check_of_input(text);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(told.contains(field) && told.contains(reason), "{text}\n{told}");
        assert!(output.stdout.is_empty(), "{text}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_said_to_be_missing() {
    let told = complaint(colloquy().args(["config", "check", "/nowhere/colloquy.toml"]));
    assert!(told.contains("there is no configuration file at /nowhere/colloquy.toml"), "{told}");
}

#[test]
fn serve_refuses_what_the_check_refuses_options_included() {
    let folder = TempDir::new().unwrap();
    let told = complaint(serve(folder.path()).args(["--config", "/nowhere/colloquy.toml"]));
    assert!(told.contains("no configuration file"), "{told}");
    let told =
        complaint(colloquy().args(["serve", "--listen", "0.0.0.0:0", "--data-dir"]).arg(folder.path()));
    assert!(told.contains("public_endpoint: must be set"), "{told}");
}

#[test]
fn the_embedded_store_has_nothing_to_migrate() {
    let told = complaint(colloquy().args(["admin", "migrate"]));
    assert!(told.contains("nothing to migrate: store.backend is \"embedded\""), "{told}");
}

#[test]
fn a_database_that_does_not_answer_is_said_to_be_away_and_its_password_is_not_shown() {
    let folder = TempDir::new().unwrap();
    let mut commands = [colloquy(), serve(folder.path())];
    commands[0].args(["admin", "migrate"]);
    for command in &mut commands {
        command.env("COLLOQUY_STORE__BACKEND", "mongodb");
        command.env("COLLOQUY_STORE__MONGODB_URI", "mongodb://user:hidden@127.0.0.1:1/");
        let told = complaint(command);
        assert!(told.contains("mongodb cannot be used") && told.contains("no primary answers"), "{told}");
        assert!(!told.contains("hidden"), "{told}");
    }
}

#[test]
fn a_shared_signing_key_is_not_made_but_asked_for() {
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("shared.pem");
    let told = complaint(serve(folder.path()).env("COLLOQUY_ACCOUNTS__SIGNING_KEY_FILE", &key));
    assert!(told.contains("there is no signing key at") && told.contains("shared.pem"), "{told}");
    assert!(!key.exists());
}

#[test]
fn chatting_with_a_server_that_is_not_there_says_so() {
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "a password\n").unwrap();
    let mut chat = colloquy();
    chat.args(["chat", "--server", NOBODY, "--script", "-", "--email", "a@example.com", "--data-dir"]);
    let told = complaint(chat.arg(folder.path()).arg("--password-file").arg(&password));
    assert!(told.contains("127.0.0.1:1 cannot be reached: start the server first"), "{told}");
}

#[test]
fn a_demo_over_a_server_that_is_not_there_starts_no_other() {
    let told = complaint(colloquy().args(["demo", "--server", NOBODY]));
    assert!(told.contains("127.0.0.1:1 cannot be reached"), "{told}");
}

#[test]
fn a_data_directory_in_use_is_not_opened_twice() {
    let folder = TempDir::new().unwrap();
    let _first = Served::start(folder.path());
    let told = complaint(serve(folder.path()).stderr(Stdio::piped()));
    assert!(
        told.contains("in use by another process") && told.contains(folder.path().to_str().unwrap()),
        "{told}"
    );
}

#[test]
fn an_address_in_use_is_named() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let first = Served::start(folder.path());
    let mut second = colloquy();
    second.args(["serve", "--operations-listen", "127.0.0.1:0", "--listen", &first.address, "--data-dir"]);
    let told = complaint(second.arg(other.path()));
    assert!(told.contains(&format!("cannot listen on {}", first.address)), "{told}");
}

#[test]
fn a_signal_stops_a_server_properly() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = TempDir::new().unwrap();
        let mut served = Served::start(folder.path());
        served.signal(signal);
        assert!(served.process.wait().unwrap().success(), "{signal}");
    }
}

#[test]
fn a_second_signal_while_draining_ends_the_process_at_once() {
    let folder = TempDir::new().unwrap();
    let mut served = Served::start(folder.path());
    // A request whose body does not come keeps the drain waiting.
    let mut request = TcpStream::connect(&served.address).unwrap();
    let head = "POST /v1/logins HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\
                expect: 100-continue\r\n\r\n";
    request.write_all(head.as_bytes()).unwrap();
    let mut taken = [0; 12];
    request.read_exact(&mut taken).unwrap();
    assert_eq!(&taken, b"HTTP/1.1 100", "the request is being read");
    let mut log = served.log().lines();
    served.signal(Signal::SIGTERM);
    assert!(log.any(|line| line.unwrap().contains("draining")), "it drains");
    served.signal(Signal::SIGTERM);
    assert_eq!(served.process.wait().unwrap().code(), Some(1));
    assert!(log.any(|line| line.unwrap().contains("second signal")), "it says why");
}

#[test]
fn a_demo_brings_its_own_server_and_stops_it() {
    let told = printed(&["demo", "--own-server"]);
    assert!(told.contains("starting one for the demo"), "{told}");
    assert!(told.contains("6 messages sent, 6 delivered, 6 read, 0 lost"), "{told}");
    assert!(told.ends_with("the demo's server has stopped\n"), "{told}");
}

#[test]
fn a_demo_over_a_running_server_leaves_it_running() {
    let folder = TempDir::new().unwrap();
    let mut served = Served::start(folder.path());
    let told = printed(&["demo", "--server", &format!("http://{}", served.address)]);
    assert!(told.contains("6 messages sent, 6 delivered, 6 read, 0 lost"), "{told}");
    assert!(served.process.try_wait().unwrap().is_none());
}
