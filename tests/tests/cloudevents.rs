//! Events between us and another implementation of CloudEvents: the `cloudevents` SDK of PyPI.

use std::collections::BTreeMap;

use colloquy_protocol::agent::{AgentProfile, SinkMode};
use colloquy_protocol::event::{AgentMessage, PublishedMessage};
use colloquy_tests::agent::Agent;
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::cloudevents::{CloudEventsSdk, Mode};
use colloquy_tests::device::unseal;
use colloquy_tests::feed::Feed;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::RawClient;
use colloquy_tests::server::Server;
use colloquy_tests::sink::Sink;
use hyper::HeaderMap;
use serde_json::json;

#[tokio::test]
async fn the_sdk_reads_our_events_in_binary_mode_and_we_take_its_in_every_mode() {
    round_trips(SinkMode::Binary).await;
}

#[tokio::test]
async fn the_sdk_reads_our_events_in_structured_mode_and_we_take_its_in_every_mode() {
    round_trips(SinkMode::Structured).await;
}

#[tokio::test]
async fn the_sdk_reads_what_the_feed_tells_in_either_mode() {
    let mut sdk = CloudEventsSdk::start();
    for mode in ["binary", "structured"] {
        let mut feed = Feed::start().await;
        let options = feed.subscribe(ServerOptions::default()).set("feed.mode", mode);
        let pair = Pair::start_with(options).await;
        let mut left = pair.connect(&pair.left).await;
        left.send_many(&pair.left, &[&pair.right], 1).await;
        let told = feed.next().await;
        let understood = sdk.read(&plain(&told.headers), &told.body).await;
        assert_eq!(understood.attributes["type"], "messaging.message.received");
        assert_eq!(understood.attributes["id"], format!("{}/received", told.message.message_id));
        let conversation = pair.conversation().to_string();
        assert_eq!(understood.attributes["source"], format!("/conversations/{conversation}"));
        assert_eq!(understood.attributes["conversationid"], conversation);
        assert_eq!(understood.attributes["partitionkey"], conversation);
        let message: PublishedMessage = serde_json::from_value(understood.data).expect("the data is ours");
        assert_eq!(message, told.message, "{mode}");
    }
}

/// Headers as the SDK is handed them.
fn plain(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = headers.iter().map(|(name, value)| (name, value.to_str().expect("plain text")));
    text.map(|(name, value)| (name.to_string(), value.to_owned())).collect()
}

async fn round_trips(sink_mode: SinkMode) {
    let server = Server::start(ServerOptions::default()).await;
    let mut sink = Sink::start().await;
    let profile = AgentProfile { sink_mode, ..AgentProfile::new("Bruno", sink.url()) };
    let agent = Agent::register_with(&server, "agent-bruno", profile).await;
    let user = server.rest().register_user("A person", "phone").await;
    let mut socket = RawClient::connect(server.address(), &user).await;
    let mut sdk = CloudEventsSdk::start();
    let rest = server.rest();
    for mode in [Mode::Binary, Mode::Structured, Mode::Batch] {
        let question = socket.send_message(&user, &[&agent.device], "a question").await;
        let turn_id = socket.expect_ack(&question).await.message_id;

        let received = sink.next().await;
        let understood = sdk.read(&plain(&received.headers), &received.body).await;
        assert_eq!(understood.attributes["type"], "agent.message");
        assert_eq!(understood.attributes["id"], turn_id.to_string());
        assert_eq!(
            understood.attributes["source"],
            format!("/conversations/{}", received.message.conversation_id)
        );
        assert_eq!(understood.attributes["agentid"], "agent-bruno");
        let message: AgentMessage = serde_json::from_value(understood.data).expect("the data is ours");
        assert_eq!(message, received.message);

        let said = format!("{mode:?}");
        let attributes = json!({
            "id": fresh_uuid().to_string(), "source": "/agents/agent-bruno", "type": "agent.response",
            "specversion": "1.0", "datacontenttype": "application/json",
        });
        let data = serde_json::to_value(agent.answer(turn_id, &[&user], &said)).expect("it is json");
        let made = sdk.make(mode, &attributes, &data).await;
        let headers: Vec<(&str, &str)> =
            made.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let token = Some(agent.device.tokens.access_token.as_str());
        let taken = rest.post_text("/events", token, &headers, made.body).await;
        assert_eq!(taken.status, 202, "{mode:?}: {}", taken.body);
        let shown = socket.expect_message().await;
        assert_eq!(unseal(&shown.content.expect("it is for this device").body), said);

        // Signed, and without a token: it is the answer that there is.
        let attributes = json!({
            "id": fresh_uuid().to_string(), "source": "/agents/agent-bruno", "type": "agent.response",
            "specversion": "1.0", "datacontenttype": "application/jwt",
        });
        let signed = json!(agent.device.signed_data("agent.response", &data));
        let made = sdk.make(mode, &attributes, &signed).await;
        let headers: Vec<(&str, &str)> =
            made.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        // No broker sends batches, and nobody unknown may.
        let taken =
            rest.post_text("/events", token.filter(|_| mode == Mode::Batch), &headers, made.body).await;
        assert_eq!(taken.status, 202, "{mode:?}: {}", taken.body);
    }
}
