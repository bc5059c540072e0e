//! `colloquy demo --agent`: a person asks an agent, which is a model behind a sidecar.

use std::time::Duration;

use colloquy_client::api::Api;
use colloquy_client::network::Internet;
use colloquy_client::{Client, Event, Identifier, ProfileOptions, ShownContent, Unlock};
use colloquy_protocol::agent::{AgentId, AgentProfile, DEFAULT_AGENT};
use colloquy_protocol::ids::UserId;
use colloquy_protocol::rest::agents::AddAgent;
use colloquy_runtime::admin::admin_token;
use colloquy_runtime::config::Config;
use colloquy_sidecar::upstream::Completions;
use colloquy_sidecar::{DeskOptions, Upstream};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::advice::advise;
use crate::demo::Person;
use crate::demo_model::DemoModel;
use crate::own_server::OwnServer;
use crate::{Outcome, say, say_on};

/// What the person asks.
const QUESTIONS: [&str; 3] = [
    "Who reads this besides you?",
    "And what happens if you are killed while you think about it?",
    "Then I ask once more.",
];
/// How long the model may take.
const MODEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Holds the conversation over `server`.
pub(crate) async fn demo(server: &OwnServer) -> Outcome {
    let model = DemoModel::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let sink = format!("http://{}/", listener.local_addr()?);
    let (user_id, key) = register(server, &sink).await?;
    say(&format!("{DEFAULT_AGENT} is registered: the server posts its turns to {sink}"));
    let folder = tempfile::tempdir()?;
    let agent = Client::open(ProfileOptions {
        folder: folder.path().join("store"),
        unlock: Unlock::KeyFile(folder.path().join("key")),
        server_url: server.url().to_owned(),
        device_id: None,
        platform: "agent".to_owned(),
    })
    .await?;
    let agent_id = AgentId::new(DEFAULT_AGENT)?;
    agent.log_in(Identifier::Agent(agent_id), key).await.map_err(|error| advise(&error, server.url()))?;
    say(&format!("its sidecar has its keys, and asks the model at {}\n", model.url()));
    let completions = Completions::new(&model.url().parse()?, "demo".to_owned(), None, None, MODEL_TIMEOUT)?;
    let upstream = Upstream::Completions(completions);
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { drop(stopped.await) };
    let sidecar = colloquy_sidecar::run(agent, listener, upstream, DeskOptions::default(), stopped);
    let talking = async {
        let talked = talk(server.url(), user_id).await;
        drop(stop);
        talked
    };
    let (ran, talked) = tokio::join!(sidecar, talking);
    ran?;
    talked
}

async fn register(server: &OwnServer, sink: &str) -> Result<(UserId, String), Box<dyn std::error::Error>> {
    let config = Config { data_dir: server.data_dir(), ..Config::default() };
    let api = Api::new(server.operations_url(), std::sync::Arc::new(Internet::new()?))?;
    let body = AddAgent { agent_id: AgentId::new(DEFAULT_AGENT)?, profile: AgentProfile::new("Bruno", sink) };
    let added = api.add_agent(&admin_token(&config)?, &body).await?;
    Ok((added.agent.user_id, added.key))
}

async fn talk(server: &str, agent: UserId) -> Outcome {
    let mut person = Person::join("a person", server).await?;
    for question in QUESTIONS {
        let asked = Instant::now();
        say(&format!("{:>13}: {question}", person.name));
        person.client.send_text(agent, question).await?;
        let mut shown = 0;
        let answer = person
            .wait("an answer", |event| match event {
                Event::AnswerGrows(answer) => {
                    shown = show(shown, &answer.text);
                    None
                }
                Event::MessageReceived(message) => Some(Ok(message)),
                Event::MessageFailed { reason, .. } => {
                    Some(Err(format!("a question was not sent: {reason}")))
                }
                Event::DecryptionFailed { failure, .. } => {
                    Some(Err(format!("an answer cannot be read: {failure}")))
                }
                _ => None,
            })
            .await??;
        let ShownContent::Text(answer) = answer.content else {
            return Err("an answer came without its text".into());
        };
        show(shown, &answer);
        say("");
        say(&format!("{:>15}{} ms", "", asked.elapsed().as_millis()));
    }
    say(&format!(
        "\n{0} questions, {0} answers, each once; the server has read none of them",
        QUESTIONS.len()
    ));
    person.client.shutdown().await;
    Ok(())
}

/// Writes what has been added to an answer since `shown` bytes of it were; says how much is written now.
fn show(shown: usize, text: &str) -> usize {
    let Some(added) = text.get(shown..).filter(|added| !added.is_empty()) else { return shown };
    let head = if shown == 0 { format!("{:>13}: ", "Bruno") } else { String::new() };
    say_on(&format!("{head}{added}"));
    text.len()
}
