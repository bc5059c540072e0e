//! A model elsewhere that says what people want: an OpenAI-compatible `/chat/completions`.

use std::time::Duration;

use async_trait::async_trait;
use colloquy_actors::agent::{ClassifierFailed, IntentClassifier};
use colloquy_protocol::agent::{Intent, IntentLabel};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};

use crate::config::{Agents, Config};

/// How long it may take; people wait for it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Examples of each intent that it is shown.
const EXAMPLES_SHOWN: usize = 3;
/// Largest answer that is read, bytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// What it says where nothing fits.
const NONE: &str = "none";

/// The classifier that is configured cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenClassifierError {
    /// Its address or its key is none.
    #[error(transparent)]
    Unusable(#[from] ClassifierFailed),
    /// Its key cannot be read.
    #[error("agents.classifier_key_file cannot be read: {0}")]
    Key(std::io::Error),
}

impl Config {
    /// The classifier elsewhere, if there is one.
    ///
    /// # Errors
    /// [`OpenClassifierError`].
    pub fn classifier(&self) -> Result<Option<HttpClassifier>, OpenClassifierError> {
        let Agents { classifier_url, classifier_model, classifier_key_file, .. } = &self.agents;
        if classifier_url.is_empty() {
            return Ok(None);
        }
        let key = match classifier_key_file.as_os_str().is_empty() {
            true => None,
            false => Some(std::fs::read_to_string(classifier_key_file).map_err(OpenClassifierError::Key)?),
        };
        let key = key.as_deref().map(str::trim);
        Ok(Some(HttpClassifier::new(classifier_url, classifier_model.clone(), key)?))
    }
}

/// The model.
pub struct HttpClassifier {
    http: Client,
    url: Url,
    model: String,
}

#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    messages: [Line<'a>; 2],
    temperature: f32,
    max_tokens: u32,
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
    content: String,
}

impl HttpClassifier {
    /// The model of this name beneath `base`, such as `https://api.example/v1`; `key` is sent as a bearer token. Connects to
    /// nothing yet.
    ///
    /// # Errors
    /// [`ClassifierFailed`] if there is no such address, or the key cannot be sent.
    pub fn new(base: &str, model: String, key: Option<&str>) -> Result<Self, ClassifierFailed> {
        let failed = |why: &str| ClassifierFailed(why.to_owned());
        let mut url: Url = base.parse().map_err(|_| failed("agents.classifier_url is not a web address"))?;
        url.path_segments_mut()
            .map_err(|()| failed("agents.classifier_url is not a web address"))?
            .pop_if_empty()
            .extend(["chat", "completions"]);
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let bearer = HeaderValue::try_from(format!("Bearer {key}"));
            let mut bearer = bearer.map_err(|_| failed("the classifier's key cannot be sent"))?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let http = Client::builder()
            .timeout(TIMEOUT)
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| ClassifierFailed(error.without_url().to_string()))?;
        Ok(Self { http, url, model })
    }
}

#[async_trait]
impl IntentClassifier for HttpClassifier {
    async fn classify(
        &self,
        text: &str,
        intents: &[Intent],
    ) -> Result<Option<IntentLabel>, ClassifierFailed> {
        let instructions = instructions(intents);
        let question = Question {
            model: &self.model,
            messages: [Line { role: "system", content: &instructions }, Line { role: "user", content: text }],
            temperature: 0.0,
            max_tokens: 32,
        };
        // What is asked is somebody's words: no error repeats them, or the address (PRIVATE).
        let failed = |error: reqwest::Error| ClassifierFailed(error.without_url().to_string());
        let mut response = self.http.post(self.url.clone()).json(&question).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(ClassifierFailed(format!("it answered {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX_BYTES {
                return Err(ClassifierFailed("its answer is too long".to_owned()));
            }
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| ClassifierFailed("its answer has another form".to_owned()))?;
        let said = answer.choices.into_iter().next().map(|choice| choice.message.content).unwrap_or_default();
        Ok(label_in(&said))
    }
}

fn instructions(intents: &[Intent]) -> String {
    let mut text = format!(
        "Say what the user wants: answer with one of these labels and nothing else, or with {NONE} if none fits.\n"
    );
    for intent in intents {
        let examples = intent.examples.iter().take(EXAMPLES_SHOWN).map(|example| format!("\"{example}\""));
        text.push_str(&format!("{}: {}\n", intent.label, examples.collect::<Vec<_>>().join(", ")));
    }
    text
}

/// The label that an answer is.
fn label_in(said: &str) -> Option<IntentLabel> {
    let said = said.trim().trim_matches(|c: char| !c.is_ascii_alphanumeric());
    IntentLabel::new(said).ok().filter(|label| label.as_str() != NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_label_however_it_is_dressed_up_and_a_sentence_is_none() {
        assert_eq!(label_in(" \"opening-hours\".\n").unwrap().as_str(), "opening-hours");
        for other in ["none", "None.", "", "I think it is opening-hours", "Opening Hours"] {
            assert_eq!(label_in(other), None, "{other}");
        }
    }

    #[test]
    fn it_is_told_all_labels_with_a_few_examples() {
        let examples = (0..5).map(|n| format!("example {n}")).collect();
        let told = instructions(&[Intent { label: IntentLabel::new("help").unwrap(), examples }]);
        assert!(told.ends_with("help: \"example 0\", \"example 1\", \"example 2\"\n"), "{told}");
    }

    #[test]
    fn an_address_that_is_none_is_refused_at_the_start() {
        assert!(HttpClassifier::new("no address", "m".into(), None).is_err());
        assert!(HttpClassifier::new("http://127.0.0.1:9/v1", "m".into(), Some("key\n")).is_err());
        assert!(HttpClassifier::new("http://127.0.0.1:9/v1", "m".into(), Some("key")).is_ok());
    }
}
