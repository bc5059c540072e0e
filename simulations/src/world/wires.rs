//! What stands for TCP: between pods, and between people's devices and the pods.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_actors::cluster::bridge::{Listening, Transport, Wires};
use colloquy_client::ApiError;
use colloquy_client::api::{ANSWER_MAX_BYTES, CALL_TIMEOUT};
use colloquy_client::network::{ByteStream, Network as ClientNetwork};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use reqwest::{Request, StatusCode, Url};
use tokio::time::timeout;

use super::network::{Listener, Network, Place, Stream};

/// Where pods' bridges find each other.
pub(crate) struct PodWires {
    pub(crate) network: Network,
    pub(crate) place: Place,
}

impl fmt::Debug for PodWires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PodWires({})", self.place.0)
    }
}

/// Between this pod and that one.
fn transport(remote: SocketAddr, stream: Stream) -> Transport {
    let cutter = stream.cutter();
    let (read, write) = tokio::io::split(stream);
    Transport::new(remote, cutter, read, write)
}

#[async_trait]
impl Wires for PodWires {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listening>> {
        Ok(Box::new(Incoming(self.network.listen(self.place, address)?)))
    }

    async fn dial(&self, address: &str) -> io::Result<Transport> {
        let address: SocketAddr = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(transport(address, self.network.connect(self.place, address).await?))
    }

    fn spare_address(&self, _: IpAddr) -> SocketAddr {
        // The same port in every run, and an address that no world of another process has: the loopback network is wide.
        let [_, a, b, c] = std::process::id().to_be_bytes();
        SocketAddr::from(([127, 64 | (a & 63), b, c], 7000 + self.place.0))
    }
}

struct Incoming(Listener);

#[async_trait]
impl Listening for Incoming {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.0.address())
    }

    async fn accept(&mut self) -> io::Result<Transport> {
        Ok(transport(self.0.address(), self.0.accept().await))
    }
}

/// Chooses the pod that a new connection goes to, as a load balancer would.
pub(crate) trait Balance: Send + Sync {
    /// Its address.
    fn choose(&self, from: Place) -> SocketAddr;
}

/// What a device reaches its server over.
pub(crate) struct DeviceWires<B> {
    pub(crate) network: Network,
    pub(crate) place: Place,
    pub(crate) balance: B,
}

impl<B> fmt::Debug for DeviceWires<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceWires({})", self.place.0)
    }
}

impl<B: Balance + 'static> ClientNetwork for DeviceWires<B> {
    fn exchange(&self, request: Request) -> BoxFuture<'_, Result<(StatusCode, Vec<u8>), ApiError>> {
        Box::pin(async move {
            let exchange = async {
                let stream = self.network.connect(self.place, self.balance.choose(self.place)).await?;
                ask(stream, request).await
            };
            match timeout(CALL_TIMEOUT, exchange).await {
                Ok(answer) => answer.map_err(ApiError::Unreachable),
                Err(late) => Err(ApiError::Unreachable(Box::new(late))),
            }
        })
    }

    fn connect<'a>(&'a self, _: &'a Url) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let stream = self.network.connect(self.place, self.balance.choose(self.place)).await?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

/// One request over a connection of its own.
pub(super) async fn ask(
    stream: Stream,
    request: Request,
) -> Result<(StatusCode, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with the exchange: whoever gives it up drops the sender.
    let connection = tokio::spawn(connection);
    let body =
        request.body().and_then(|body| body.as_bytes()).map(Bytes::copy_from_slice).unwrap_or_default();
    let path = match request.url().query() {
        Some(query) => format!("{}?{query}", request.url().path()),
        None => request.url().path().to_owned(),
    };
    let mut built = hyper::Request::builder().method(request.method()).uri(path).header("host", "colloquy");
    for (name, value) in request.headers() {
        built = built.header(name, value);
    }
    let answer = sender.send_request(built.body(Full::new(body))?).await;
    let outcome = async {
        let (head, body) = answer?.into_parts();
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await?.to_bytes();
        Ok((head.status, body.to_vec()))
    };
    let outcome = outcome.await;
    connection.abort();
    outcome
}
