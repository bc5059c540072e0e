//! Who a profile is: registering or logging in, from options or by asking.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use colloquy_client::{Client, Identifier, Registration};
use colloquy_protocol::limits::NAME_MAX_CHARS;

use crate::Outcome;
use crate::advice::advise;

/// What is needed once per profile.
#[derive(Args)]
pub(crate) struct Enrolment {
    /// Your email address.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Your phone number, such as +4915112345678.
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
    /// Your name as others see it, when registering.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Make a new account if the profile has none.
    #[arg(long)]
    register: bool,
    /// A file that holds the account's password; without it, it is asked for.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Registers or logs in. What is missing is asked for if `may_ask`.
pub(crate) async fn enrol(client: &Client, given: Enrolment, server: &str, may_ask: bool) -> Outcome {
    let may_ask = may_ask && std::io::stdin().is_terminal();
    let was_used = client.user_id()?.is_some();
    let is_named = given.email.is_some() || given.phone.is_some();
    // A profile that was used before has an account: it can only be logged in to.
    let is_new = !was_used && (given.register || (may_ask && !is_named && ask_whether_new()?));
    let (email, phone) = identity(&given, may_ask)?;
    if is_new {
        let name = match given.name {
            Some(name) => name,
            None if may_ask => ask(&format!("your name, at most {NAME_MAX_CHARS} characters"))?,
            None => return Err("registering needs --name".into()),
        };
        let password = password(given.password_file.as_deref(), may_ask, true)?;
        let registration = Registration { phone, email, name, password };
        client.register(registration).await.map_err(|error| advise(&error, server))?;
        return Ok(());
    }
    let identifier = match (email, phone) {
        (Some(email), _) => Identifier::Email(email),
        (None, Some(phone)) => Identifier::Phone(phone),
        (None, None) => return Err("logging in needs --email or --phone".into()),
    };
    let password = password(given.password_file.as_deref(), may_ask, false)?;
    client.log_in(identifier, password).await.map_err(|error| advise(&error, server))?;
    Ok(())
}

fn ask_whether_new() -> Result<bool, String> {
    loop {
        match ask("this profile has no account yet: (r)egister or (l)og in")?.as_str() {
            "r" | "register" => return Ok(true),
            "l" | "log in" | "login" => return Ok(false),
            _ => {}
        }
    }
}

/// An email address or a phone number, at least one of them.
fn identity(given: &Enrolment, may_ask: bool) -> Result<(Option<String>, Option<String>), String> {
    if given.email.is_some() || given.phone.is_some() {
        return Ok((given.email.clone(), given.phone.clone()));
    }
    if !may_ask {
        return Err("this profile is not logged in: give --email or --phone and --password-file, \
                    and --register --name NAME for a new account"
            .to_owned());
    }
    let answer = ask("your email address, or your phone number (+...)")?;
    Ok(if answer.starts_with('+') { (None, Some(answer)) } else { (Some(answer), None) })
}

fn password(file: Option<&Path>, may_ask: bool, is_new: bool) -> Result<String, String> {
    if let Some(file) = file {
        return read_secret(file);
    }
    if !may_ask {
        return Err("the password is needed: give --password-file".to_owned());
    }
    if is_new { ask_twice("a new password, at least 8 characters: ") } else { ask_hidden("password: ") }
}

/// Asks for the passphrase of a profile: for a new one twice, and it cannot be empty.
pub(crate) fn ask_passphrase(is_new: bool) -> Result<String, String> {
    let passphrase =
        if is_new { ask_twice("a passphrase for the new profile: ")? } else { ask_hidden("passphrase: ")? };
    if passphrase.is_empty() {
        return Err("a passphrase cannot be empty".to_owned());
    }
    Ok(passphrase)
}

fn ask_twice(prompt: &str) -> Result<String, String> {
    let first = ask_hidden(prompt)?;
    if ask_hidden("the same again: ")? != first {
        return Err("the two are not the same".to_owned());
    }
    Ok(first)
}

/// Asks at the terminal, whatever standard input is, and shows nothing of what is typed.
fn ask_hidden(prompt: &str) -> Result<String, String> {
    rpassword::prompt_password(prompt).map_err(|error| unasked(&error))
}

/// The first line of a file: editors end it with a line break that is not meant.
pub(crate) fn read_secret(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(format!("{}: its first line is empty", file.display())),
    }
}

fn ask(question: &str) -> Result<String, String> {
    let mut terminal = std::io::stderr();
    write!(terminal, "{question}: ").and_then(|()| terminal.flush()).map_err(|error| unasked(&error))?;
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(0) => Err("nothing was answered".to_owned()),
        Ok(_) => Ok(answer.trim().to_owned()),
        Err(error) => Err(unasked(&error)),
    }
}

fn unasked(error: &std::io::Error) -> String {
    format!("the terminal cannot be asked: {error}")
}
