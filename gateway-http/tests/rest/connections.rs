//! The accept loop, over real sockets: slow clients, too many clients, stopping.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use colloquy_gateway_http::server::{HttpServer, ServerOptions, Stopped};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<Stopped>,
}

fn run(router: Router, options: ServerOptions) -> Running {
    let server = HttpServer::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
    let address = server.local_address().unwrap();
    let (stop, stopping) = watch::channel(false);
    Running { address, stop, served: tokio::spawn(server.serve(router, stopping)) }
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// Everything the server sends until it closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // A reset is a close too.
    let _ = stream.read_to_string(&mut text).await;
    text
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("hello") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed after {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

#[tokio::test]
async fn a_client_that_sends_its_head_too_slowly_is_let_go() {
    let server = run(hello(), ServerOptions { header_read_timeout_ms: 50, ..ServerOptions::default() });
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    assert!(!rest(slow).await.contains("hello"));
    let silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(rest(silent).await, "");
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(REQUEST).await.unwrap();
    assert!(answer(&mut idle).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(idle).await, "", "an idle connection is not kept for ever");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused() {
    let server = run(hello(), ServerOptions::default());
    let mut endless = TcpStream::connect(server.address).await.unwrap();
    let line = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}", "x".repeat(64 * 1024));
    // The server may close before it has read all of it.
    let _ = endless.write_all(line.as_bytes()).await;
    let text = rest(endless).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
}

#[tokio::test]
async fn a_connection_over_the_bound_waits_until_another_ends() {
    let server = run(hello(), ServerOptions { connections_max: 1, ..ServerOptions::default() });
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(REQUEST).await.unwrap();
    answer(&mut first).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(REQUEST).await.unwrap();
    first.write_all(REQUEST).await.unwrap();
    answer(&mut first).await;
    assert_eq!(second.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_stop_closes_the_port_and_lets_requests_in_flight_finish() {
    let (entered, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, finish) = (Arc::clone(&entered), Arc::clone(&finish));
        async move || {
            entered.notify_one();
            finish.notified().await;
            "hello"
        }
    };
    let server = run(Router::new().route("/", get(handler)), ServerOptions::default());
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    entered.notified().await;
    server.stop.send(true).unwrap();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    finish.notify_one();
    let text = rest(client).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("hello"), "{text}");
    assert_eq!(server.served.await.unwrap(), Stopped { cut_off: 0 });
}

#[tokio::test]
async fn a_request_that_outlasts_the_deadline_is_cut_off() {
    let entered = Arc::new(Notify::new());
    let handler = {
        let entered = Arc::clone(&entered);
        async move || -> &'static str {
            entered.notify_one();
            std::future::pending().await
        }
    };
    let options = ServerOptions { stop_deadline_ms: 20, ..ServerOptions::default() };
    let server = run(Router::new().route("/", get(handler)), options);
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    entered.notified().await;
    drop(server.stop);
    assert_eq!(server.served.await.unwrap(), Stopped { cut_off: 1 });
    assert_eq!(rest(client).await, "");
}

#[tokio::test]
async fn an_upgraded_socket_outlives_the_stop() {
    let handler = async |mut request: axum::extract::Request| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut socket = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            let mut byte = [0; 1];
            socket.read_exact(&mut byte).await.unwrap();
            socket.write_all(&byte).await.unwrap();
        });
        let switching = [("connection", "upgrade"), ("upgrade", "echo")];
        (axum::http::StatusCode::SWITCHING_PROTOCOLS, switching)
    };
    let options = ServerOptions { connections_max: 1, ..ServerOptions::default() };
    let server = run(Router::new().route("/", get(handler)), options);
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.read_u8().await.unwrap()));
    }
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    server.stop.send(true).unwrap();
    assert_eq!(server.served.await.unwrap(), Stopped { cut_off: 0 });
    client.write_all(b"x").await.unwrap();
    assert_eq!(rest(client).await, "x");
}
