//! A model behind an OpenAI-compatible `/chat/completions`. It is asked to answer bit by bit, and may answer at once.

use std::borrow::Cow;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{UpstreamError, broken_off, http, is_written_in, parsed, post, whole};
use crate::draft::Draft;
use crate::prompt::{Prompt, Role};

/// A model.
#[derive(Clone, Debug)]
pub struct Completions {
    url: Url,
    model: String,
    /// Said before everything else.
    instructions: Option<String>,
    headers: HeaderMap,
    http: Client,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<Line<'a>>,
    stream: bool,
}

/// Stands for what was asked before the history that a model is shown.
const LEFT_OUT: &str = "[…]";

#[derive(Serialize)]
struct Line<'a> {
    role: &'static str,
    content: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Reply,
}

#[derive(Deserialize)]
struct Reply {
    content: Option<String>,
}

/// One event of an answer that comes bit by bit.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<ChunkChoice>,
}

#[derive(Deserialize)]
struct ChunkChoice {
    delta: Reply,
    finish_reason: Option<String>,
}

/// What is streamed to is written in this (HTML standard, section 9.2) ...
const EVENT_STREAM: &str = "text/event-stream";
/// ... and ends so.
const DONE: &[u8] = b"[DONE]";

impl Completions {
    /// The model of this name beneath `base`, such as `https://api.example/v1`, which has `timeout` for an answer. `key`
    /// is sent as a bearer token.
    ///
    /// # Errors
    /// [`UpstreamError::Refused`] if `base` can have nothing beneath it, or the key cannot be sent.
    pub fn new(
        base: &Url,
        model: String,
        instructions: Option<String>,
        key: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, UpstreamError> {
        let mut url = base.clone();
        url.path_segments_mut()
            .map_err(|()| UpstreamError::Refused("not a web address".to_owned()))?
            .pop_if_empty()
            .extend(["chat", "completions"]);
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let bearer = HeaderValue::try_from(format!("Bearer {key}"));
            let mut bearer =
                bearer.map_err(|_| UpstreamError::Refused("the key cannot be sent".to_owned()))?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(Self { url, model, instructions, headers, http: http(timeout)? })
    }

    pub(super) async fn ask(
        &self,
        prompt: &Prompt,
        text: &str,
        draft: &mut Draft,
    ) -> Result<String, UpstreamError> {
        let question = Request { model: &self.model, messages: self.lines(prompt, text), stream: true };
        let key = prompt.idempotency_key();
        let response = post(&self.http, &self.url, self.headers.clone(), &key, &question).await?;
        if is_written_in(&response, EVENT_STREAM) {
            return follow(Lines::of(response), draft).await;
        }
        let answer: Answer = whole(response).await?;
        let first = answer.choices.into_iter().next().and_then(|choice| choice.message.content);
        first.ok_or_else(|| UpstreamError::Refused("the model has said nothing".to_owned()))
    }

    /// After the instructions, user and assistant in turns, the user first: many a model's template takes nothing else. What one
    /// of them has said in several messages is one.
    fn lines<'a>(&'a self, prompt: &'a Prompt, text: &'a str) -> Vec<Line<'a>> {
        let history = prompt.history.iter().map(|said| match said.role {
            Role::User => ("user", said.text.as_str()),
            Role::Assistant => ("assistant", said.text.as_str()),
        });
        let is_answer_first = prompt.history.first().is_some_and(|said| said.role == Role::Assistant);
        let left_out = is_answer_first.then_some(("user", LEFT_OUT));
        let said = left_out.into_iter().chain(history).chain([("user", text)]);
        let instructions = self.instructions.iter().map(|content| ("system", content.as_str()));
        let mut lines: Vec<Line<'a>> = Vec::new();
        for (role, text) in instructions.chain(said) {
            match lines.last_mut().filter(|last| last.role == role) {
                Some(last) => last.content.to_mut().extend(["\n", text]),
                None => lines.push(Line { role, content: text.into() }),
            }
        }
        lines
    }
}

/// Takes in what is said bit by bit, to its end.
async fn follow(mut lines: Lines, draft: &mut Draft) -> Result<String, UpstreamError> {
    let mut is_complete = false;
    loop {
        let line = match lines.next().await {
            // What has come to its end is not lost with the connection.
            Err(_) if is_complete => break,
            line => line?,
        };
        let Some(line) = line else { break };
        // Comments, names and ids of events say nothing.
        let Some(data) = line.strip_prefix(b"data:") else { continue };
        let data = data.trim_ascii();
        if data == DONE {
            is_complete = true;
            break;
        }
        let chunk: Chunk = parsed(data)?;
        // Only one answer was asked for; the last event may be about what it has cost.
        let Some(choice) = chunk.choices.into_iter().next() else { continue };
        draft.append(&choice.delta.content.unwrap_or_default());
        is_complete |= choice.finish_reason.is_some() || draft.is_full();
        if draft.is_full() {
            break;
        }
    }
    if is_complete { Ok(draft.text().to_owned()) } else { Err(broken_off()) }
}
