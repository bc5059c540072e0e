//! A model behind an OpenAI-compatible `/chat/completions`.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};

use super::{UpstreamError, http, post};
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
}

#[derive(Serialize)]
struct Line<'a> {
    role: &'static str,
    content: &'a str,
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

    pub(super) async fn ask(&self, prompt: &Prompt) -> Result<String, UpstreamError> {
        let question = Request { model: &self.model, messages: self.lines(prompt) };
        let turn = prompt.turn_id.to_string();
        let answer: Answer = post(&self.http, &self.url, self.headers.clone(), &turn, &question).await?;
        let first = answer.choices.into_iter().next().and_then(|choice| choice.message.content);
        first.ok_or_else(|| UpstreamError::Refused("the model has said nothing".to_owned()))
    }

    fn lines<'a>(&'a self, prompt: &'a Prompt) -> Vec<Line<'a>> {
        let instructions = self.instructions.iter().map(|content| Line { role: "system", content });
        let history = prompt.history.iter().map(|said| Line {
            role: match said.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            },
            content: &said.text,
        });
        instructions.chain(history).chain([Line { role: "user", content: &prompt.text }]).collect()
    }
}
