//! A stand-in for a model: an OpenAI-compatible `/chat/completions` on a free port, that says what it was asked, word by
//! word to whoever wants that.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Largest request that is read, bytes.
const REQUEST_MAX_BYTES: usize = 1024 * 1024;
/// Between two words.
const WORD_PAUSE: Duration = Duration::from_millis(80);
/// Words that wait for whoever reads.
const WORDS_MAX: usize = 16;

/// The running model. Ends when dropped.
pub(crate) struct DemoModel {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl DemoModel {
    /// Starts it.
    ///
    /// # Errors
    /// No port can be had.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener));
        Ok(Self { address, _serving: serving })
    }

    /// What stands before `/chat/completions`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(respond))
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

async fn respond(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let body = Limited::new(request.into_body(), REQUEST_MAX_BYTES).collect().await;
    let asked = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body.to_bytes()).ok());
    let (status, said) = match asked.as_ref().and_then(answer) {
        Some(text) if asked.is_some_and(|asked| asked["stream"] == true) => {
            let (sender, body) = Channel::new(WORDS_MAX);
            tokio::spawn(say(text, sender));
            let mut response = Response::new(Either::Right(body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            return Ok(response);
        }
        Some(text) => {
            (StatusCode::OK, json!({"choices": [{"message": {"role": "assistant", "content": text}}]}))
        }
        None => (StatusCode::BAD_REQUEST, json!({"error": {"message": "messages are needed"}})),
    };
    let mut response = Response::new(Either::Left(Full::from(said.to_string())));
    *response.status_mut() = status;
    Ok(response)
}

/// Says it word by word, for as long as somebody reads.
async fn say(text: String, mut reader: Sender<Bytes, Infallible>) {
    for word in text.split_inclusive(' ') {
        let event = json!({"choices": [{"delta": {"content": word}, "finish_reason": null}]});
        if reader.send_data(format!("data: {event}\n\n").into()).await.is_err() {
            return;
        }
        sleep(WORD_PAUSE).await;
    }
    let _ = reader.send_data(Bytes::from_static(b"data: [DONE]\n\n")).await;
}

/// What it says to a conversation.
fn answer(request: &Value) -> Option<String> {
    let messages = request["messages"].as_array()?;
    let asked = messages.last()?["content"].as_str()?;
    let questions = messages.iter().filter(|message| message["role"] == "user").count();
    let words = asked.split_whitespace().count();
    Some(format!("Your question number {questions} has {words} words. A model would say more."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_long_the_last_question_is_and_which_one() {
        let line = |role: &str, content: &str| json!({"role": role, "content": content});
        let request =
            json!({"messages": [line("user", "one"), line("assistant", "x"), line("user", "and now two")]});
        assert_eq!(answer(&request).unwrap(), "Your question number 2 has 3 words. A model would say more.");
        assert_eq!(answer(&json!({"messages": []})), None);
        assert_eq!(answer(&json!([])), None);
    }
}
