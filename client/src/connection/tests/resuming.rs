//! Connections that break at a bad moment, and what is there after the next.

use super::server::Server;
use super::{connected, numbered, person, texts};

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_first_text_survives_a_connection_that_breaks_before_it_is_stored() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let (_a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    connected(&mut b).await;
    server.hold_device_lists(bob.user_id);
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    server.wait_for_held_device_list().await;
    server.drop_sockets(bob.user_id);
    connected(&mut b).await;
    alice.client.send_text(bob.user_id, "text 2").await.unwrap();
    super::sent(&alice.client).await;
    server.release_device_lists();
    assert_eq!(texts(&mut b, 2).await, numbered(2));
}
