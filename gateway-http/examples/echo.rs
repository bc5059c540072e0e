//! Echoes WebSocket messages over the very transport of `/ws`: what a conformance suite is pointed at.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use colloquy_gateway_http::server::{HttpServer, ServerOptions};
use colloquy_gateway_http::websocket::{Transport, tuned};
use tokio::sync::watch;

/// The suite's largest message.
const MESSAGE_MAX_BYTES: usize = 16 * 1024 * 1024;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let server = HttpServer::bind(SocketAddr::from(([127, 0, 0, 1], 0)), ServerOptions::default())?;
    let address = server.local_address()?;
    #[allow(clippy::print_stdout, reason = "whoever starts this reads where it listens")]
    {
        println!("echo listening on ws://{address}");
    }
    let (_stop, stopped) = watch::channel(false);
    let handler = async |upgrade: WebSocketUpgrade| {
        tuned(upgrade, Transport { message_max_bytes: MESSAGE_MAX_BYTES }).on_upgrade(echo)
    };
    server.serve(Router::new().route("/", any(handler)), stopped).await;
    Ok(())
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let sent = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => continue,
        };
        if sent.is_err() {
            return;
        }
    }
}
