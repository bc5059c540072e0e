//! A talk with an agent whose messages the test reads and answers.

use colloquy_protocol::ids::MessageId;

use crate::agent::Agent;
use crate::device::Device;
use crate::options::ServerOptions;
use crate::raw_client::RawClient;
use crate::server::Server;
use crate::sink::Sink;

/// A server, an agent with a sink, and somebody who writes to it.
pub struct Talk {
    /// The server.
    pub server: Server,
    /// Where the agent takes its messages.
    pub sink: Sink,
    /// The agent.
    pub agent: Agent,
    /// The person ...
    pub user: Device,
    /// ... and their connection.
    pub socket: RawClient,
}

impl Talk {
    /// With a server that is set up as usual.
    pub async fn begun() -> Self {
        Self::begun_on(Server::start(ServerOptions::default()).await).await
    }

    /// On this server.
    pub async fn begun_on(server: Server) -> Self {
        let sink = Sink::start().await;
        let agent = Agent::register(&server, "agent-bruno", &sink.url()).await;
        let user = server.rest().register_user("Ann", "phone").await;
        let socket = RawClient::connect(server.address(), &user).await;
        Self { server, sink, agent, user, socket }
    }

    /// Writes to the agent.
    pub async fn ask(&mut self, text: &str) -> MessageId {
        let question = self.socket.send_message(&self.user, &[&self.agent.device], text).await;
        self.socket.expect_ack(&question).await.message_id
    }

    /// The agent answers.
    pub async fn answer(&self, turn_id: MessageId, text: &str) {
        let event = self.agent.event(&self.agent.answer(turn_id, &[&self.user], text));
        assert_eq!(self.agent.post(&self.server, &event).await.status, 202);
    }
}
