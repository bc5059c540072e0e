//! Going away without losing anything (DRAIN): conversations to the other pods, clients to where they are to go.

use std::time::Duration;

use colloquy_actors::node::Node;
use colloquy_protocol::close::CloseCode;
use tokio::time::{Instant, sleep};

/// Clients are spread over this much time for each of them when they are asked to move, so that a node with few
/// lets them go at once and one with many does not send them all in the same moment.
const MIGRATION_SPREAD_PER_SESSION: Duration = Duration::from_millis(1);
/// How often it is looked whether all clients have gone.
const POLL: Duration = Duration::from_millis(25);
/// How long sockets may take to close once they are told to.
const CLOSE_GRACE: Duration = Duration::from_secs(3);

/// Hands the conversations over, sends every client to `endpoint` within `window`, and closes the sockets of those that
/// stay. Nothing new must come in any more; [`Node::stop`] is next.
pub async fn drain(node: &Node, endpoint: &str, window: Duration) {
    // First: who moves finds their conversations where they will stay.
    node.hand_over().await;
    let sessions = u32::try_from(node.open_sessions()).unwrap_or(u32::MAX);
    let spread = (MIGRATION_SPREAD_PER_SESSION * sessions).min(window / 2);
    tracing::info!(sessions, "draining");
    node.migrate(endpoint, spread);
    all_gone(node, window).await;
    node.close_sessions(CloseCode::Draining);
    all_gone(node, CLOSE_GRACE).await;
}

/// Waits until no session is open, or so long.
async fn all_gone(node: &Node, at_most: Duration) {
    let deadline = Instant::now() + at_most;
    while node.open_sessions() > 0 && Instant::now() < deadline {
        sleep(POLL).await;
    }
}
