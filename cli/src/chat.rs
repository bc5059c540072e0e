//! `colloquy chat`: the terminal client on one profile.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use colloquy_client::terminal::{self, Script};
use colloquy_client::{Client, ClientError, ProfileOptions, Unlock};
use tokio::sync::mpsc;

use crate::advice::advise;
use crate::enrolment::{self, Enrolment};
use crate::{Outcome, say};

/// Lines of a script read ahead of the one that runs.
const LINES_AHEAD_MAX: usize = 64;

/// The folder in a profile that holds its encrypted store.
pub(crate) const STORE_FOLDER: &str = "store";

/// What `colloquy chat` is told.
#[derive(Args)]
pub(crate) struct Chat {
    /// The server.
    #[arg(long, value_name = "URL", env = "COLLOQUY_SERVER", default_value = crate::DEFAULT_SERVER)]
    server: String,
    /// Which of your profiles on this machine.
    #[arg(long, value_name = "NAME", env = "COLLOQUY_PROFILE", default_value = "default")]
    profile: String,
    /// Where profiles are kept [default: the data folder of this user].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Ask for the passphrase that unlocks the profile; without one, a key file in the profile does.
    #[arg(long)]
    passphrase: bool,
    /// A file that holds the passphrase, instead of asking for it.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    enrolment: Enrolment,
    /// Take commands from a file, or from standard input with `-`, and answer in JSON, one object a line.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How long one `wait-` command of a script waits.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "script")]
    deadline_s: u64,
}

/// Runs the verb.
pub(crate) fn run(options: Chat) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(chat(options)))
}

async fn chat(options: Chat) -> Outcome {
    let folder = profile_folder(options.data_dir.as_deref(), &options.profile)?;
    let explained = |error: &ClientError| advise(error, &options.server);
    let client = Client::open(ProfileOptions {
        unlock: unlock(&options, &folder)?,
        // Beside the key file, not around it: the database owns its folder.
        folder: folder.join(STORE_FOLDER),
        server_url: options.server.clone(),
        device_id: None,
        platform: "terminal".to_owned(),
    })
    .await
    .map_err(|error| explained(&error))?;
    if !client.is_logged_in()? {
        enrolment::enrol(&client, options.enrolment, &options.server, options.script.is_none()).await?;
    }
    match options.script {
        Some(source) => script(&client, &source, Duration::from_secs(options.deadline_s)).await,
        None => {
            let title = format!("{} on {}", options.profile, options.server);
            Ok(terminal::run(&client, title).await?)
        }
    }
}

async fn script(client: &Client, source: &Path, deadline: Duration) -> Outcome {
    let lines = read_lines(source)?;
    let mut script = Script::start(client, deadline, |told| say(&told.to_string()))?;
    let ran = script.run(lines).await;
    client.shutdown().await;
    Ok(ran?)
}

/// Reads beside the script, so that events are told while it waits for a line.
fn read_lines(source: &Path) -> Result<mpsc::Receiver<std::io::Result<String>>, String> {
    let reader: Box<dyn BufRead + Send> = if source == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let opened = std::fs::File::open(source);
        Box::new(BufReader::new(opened.map_err(|error| format!("{}: {error}", source.display()))?))
    };
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    std::thread::Builder::new()
        .name("script".to_owned())
        .spawn(move || {
            for line in reader.lines() {
                let is_end = line.is_err();
                if sender.blocking_send(line).is_err() || is_end {
                    break;
                }
            }
        })
        .map_err(|error| format!("the script cannot be read: {error}"))?;
    Ok(receiver)
}

/// The folder of a profile, readable by its owner only.
pub(crate) fn profile_folder(data_dir: Option<&Path>, profile: &str) -> Result<PathBuf, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if profile.is_empty() || profile.starts_with('.') || !profile.chars().all(is_plain) {
        return Err("a profile's name is made of letters, digits, '-', '_' and '.'".to_owned());
    }
    let base = match data_dir {
        Some(folder) => folder.to_owned(),
        None => directories::ProjectDirs::from("", "", "colloquy")
            .ok_or("this user has no home folder: say where profiles are kept with --data-dir")?
            .data_dir()
            .to_owned(),
    };
    let folder = base.join("profiles").join(profile);
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn unlock(options: &Chat, folder: &Path) -> Result<Unlock, String> {
    if let Some(file) = &options.passphrase_file {
        return Ok(Unlock::passphrase(enrolment::read_secret(file)?));
    }
    if options.passphrase {
        // A mistake in the passphrase of a new profile would cost the profile: it is asked for twice.
        let is_new = !folder.join(STORE_FOLDER).exists();
        return Ok(Unlock::passphrase(enrolment::ask_passphrase(is_new)?));
    }
    Ok(Unlock::KeyFile(folder.join("key")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_cannot_leave_its_folder() {
        for bad in ["", "..", ".hidden", "a/b", "../a", "a\\b", "a b"] {
            assert!(profile_folder(Some(Path::new("/nowhere")), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_profile_is_made_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let folder = profile_folder(Some(base.path()), "work-2").unwrap();
        assert_eq!(folder, base.path().join("profiles/work-2"));
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
