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
    pub left: Arc<Device>,
    /// The other's.
    pub right: Arc<Device>,
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
        let left = Arc::new(rest.register_user("Left", "left-phone").await);
        let right = Arc::new(rest.register_user("Right", "right-phone").await);
        Self { server, rest, left, right }
    }

    /// Opens a socket for `device`.
    pub async fn connect(&self, device: &Device) -> RawClient {
        RawClient::connect(self.server.address(), device).await
    }

    /// Opens a socket for each of the two.
    pub async fn connect_both(&self) -> (RawClient, RawClient) {
        (self.connect(&self.left).await, self.connect(&self.right).await)
    }

    /// Their conversation.
    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        self.left.conversation_with(&self.right)
    }

    /// What the server holds of their conversation in the end, as a checker wants it.
    pub async fn log(&self) -> Vec<Logged> {
        let history = self.rest.whole_history(&self.left, self.conversation()).await;
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
        let (mut left, mut right) = self.connect_both().await;
        let message = left.send_message(&self.left, &[&self.right], "still there?").await;
        let ack = left.expect_ack(&message).await;
        let shown =
            right.expect("message", |frame| crate::raw_client::message_with_id(frame, ack.message_id));
        assert_eq!(shown.await.sequence_number, ack.sequence_number);
        left.close().await;
        right.close().await;
    }
}
