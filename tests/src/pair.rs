//! Two registered people on a fresh server: where most tests begin.

use std::sync::Arc;

use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::rest::conversations::Conversation;
use tokio::time::timeout;

use crate::DEADLINE;
use crate::checker::Logged;
use crate::device::Device;
use crate::options::ServerOptions;
use crate::raw_client::RawClient;
use crate::rest::Rest;
use crate::server::Server;

/// A server, and two people with one device each.
pub struct Pair {
    /// The server.
    pub server: Server,
    /// Its REST interface.
    pub rest: Rest,
    /// One person's device.
    pub ada: Arc<Device>,
    /// The other's.
    pub ben: Arc<Device>,
}

impl Pair {
    /// With the default configuration.
    pub async fn start() -> Self {
        Self::start_with(ServerOptions::default()).await
    }

    /// With another one.
    pub async fn start_with(options: ServerOptions) -> Self {
        let server = Server::start(options).await;
        let rest = server.rest();
        let ada = Arc::new(rest.register_user("Ada", "ada-phone").await);
        let ben = Arc::new(rest.register_user("Ben", "ben-phone").await);
        Self { server, rest, ada, ben }
    }

    /// Opens a socket for `device`.
    pub async fn connect(&self, device: &Device) -> RawClient {
        RawClient::connect(self.server.address(), device).await
    }

    /// Opens a socket for each of the two.
    pub async fn connect_both(&self) -> (RawClient, RawClient) {
        (self.connect(&self.ada).await, self.connect(&self.ben).await)
    }

    /// Their conversation.
    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        self.ada.conversation_with(&self.ben)
    }

    /// What the server holds of their conversation in the end, as a checker wants it.
    pub async fn log(&self) -> Vec<Logged> {
        let history = self.rest.whole_history(&self.ada, self.conversation()).await;
        let logged = history.messages.iter().map(|message| Logged {
            message_id: message.message_id,
            sequence_number: message.sequence_number,
            sender_id: message.sender_id,
        });
        logged.collect()
    }

    /// Asks for the conversation as `reader` sees it until it `fits`: what comes from cursors may lag the sockets
    /// by the interval in which they are written.
    pub async fn conversation_that(
        &self,
        reader: &Device,
        fits: impl Fn(&Conversation) -> bool,
    ) -> Conversation {
        let path = format!("/v1/conversations/{}?device_id={}", self.conversation(), reader.device_id);
        let asked = timeout(DEADLINE, async {
            loop {
                let seen: Conversation = self.rest.get(&path, &reader.tokens.access_token).await.read();
                if fits(&seen) {
                    return seen;
                }
            }
        });
        asked.await.expect("what is said over the sockets shows over REST soon")
    }

    /// Fails unless a message still gets from one to the other: whatever was done before, the service goes on.
    pub async fn assert_conversation_works(&self) {
        let (mut ada, mut ben) = self.connect_both().await;
        let message = ada.send_message(&self.ada, &[&self.ben], "still there?").await;
        let ack = ada.expect_ack(&message).await;
        let shown = ben.expect("message", |frame| crate::raw_client::message_with_id(frame, ack.message_id));
        assert_eq!(shown.await.sequence_number, ack.sequence_number);
        ada.close().await;
        ben.close().await;
    }
}
