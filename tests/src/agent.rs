//! An agent as a server's operator registers it, with a device whose messages the test reads and answers itself.

use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::event::{AGENT_RESPONSE, AgentResponse};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::rest::accounts::{LogIn, Tokens};
use colloquy_protocol::rest::agents::{AddAgent, AddedAgent};
use serde_json::{Value, json};

use crate::ambient::{fresh_uuid, now};
use crate::device::Device;
use crate::rest::{Answer, Rest};
use crate::server::Server;

/// An agent.
pub struct Agent {
    /// Its name.
    pub agent_id: AgentId,
    /// What it logs in with.
    pub key: String,
    /// Its one device.
    pub device: Device,
}

impl Agent {
    /// Registers one whose messages go to `sink`, and its device.
    pub async fn register(server: &Server, name: &str, sink: &str) -> Self {
        Self::register_with(server, name, AgentProfile::new(name, sink)).await
    }

    /// The same with whatever it says of itself.
    pub async fn register_with(server: &Server, name: &str, profile: AgentProfile) -> Self {
        let agent_id = AgentId::new(name).expect("a test names its agents plainly");
        let token = server.admin_token();
        let admin = Rest::new(server.operations(), server.secrets().clone());
        let body = AddAgent { agent_id: agent_id.clone(), profile };
        let answer = admin.post("/admin/agents", Some(&token), &body).await;
        assert_eq!(answer.status, 201, "the agent is registered: {}", answer.body);
        let added: AddedAgent = answer.read();
        server.secrets().add("agent key", &added.key);
        let (agent, password) = (Some(agent_id.clone()), added.key.clone());
        let log_in = LogIn { phone: None, email: None, agent_id: agent, password };
        let tokens: Tokens = server.rest().post("/v1/logins", None, &log_in).await.read();
        let device = server.rest().register_device(tokens, "sidecar", String::new()).await;
        Self { agent_id, key: added.key, device }
    }

    /// The data of an answer to a turn, sealed for `recipients`.
    #[must_use]
    pub fn answer(&self, turn_id: MessageId, recipients: &[&Device], text: &str) -> AgentResponse {
        let content = self.device.compose_payload(recipients, text).content;
        AgentResponse { turn_id, content, r#type: MessageType::Text, timestamp: now() }
    }

    /// An answer as a CloudEvent.
    #[must_use]
    pub fn event(&self, response: &AgentResponse) -> Value {
        json!({
            "specversion": "1.0",
            "id": fresh_uuid().to_string(),
            "source": format!("/agents/{}", self.agent_id),
            "type": AGENT_RESPONSE,
            "datacontenttype": "application/json",
            "data": response,
        })
    }

    /// The same, signed by the agent's device: for a broker.
    #[must_use]
    pub fn signed_event(&self, response: &AgentResponse) -> Value {
        let mut event = self.event(response);
        let signed = self.device.signed_data(AGENT_RESPONSE, &event["data"]);
        (event["datacontenttype"], event["data"]) = (json!("application/jwt"), json!(signed));
        event
    }

    /// Posts an event in structured mode.
    pub async fn post(&self, server: &Server, event: &Value) -> Answer {
        self.post_over(&server.rest(), event).await
    }

    /// The same over connections that are there already.
    pub async fn post_over(&self, rest: &Rest, event: &Value) -> Answer {
        let token = Some(self.device.tokens.access_token.as_str());
        let headers = [("content-type", "application/cloudevents+json")];
        rest.post_text("/events", token, &headers, event.to_string()).await
    }
}
