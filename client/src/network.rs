//! How a client reaches its server: the machine's network, or a simulation's.

use std::fmt;
use std::io;

use futures_util::future::BoxFuture;
use reqwest::{Request, StatusCode, Url};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::api::{ANSWER_MAX_BYTES, ApiError, CALL_TIMEOUT, CONNECT_TIMEOUT};

/// A connection: bytes in order, both ways, until it breaks.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// Reaches servers.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Sends one request, and reads the answer to its end.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`]; [`ApiError::TooLarge`].
    fn exchange(&self, request: Request) -> BoxFuture<'_, Result<(StatusCode, Vec<u8>), ApiError>>;

    /// Opens a connection to the host and port of `url`, without encryption.
    ///
    /// # Errors
    /// Nobody is reached there.
    fn connect<'a>(&'a self, url: &'a Url) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>>;
}

/// The machine's own.
#[derive(Debug)]
pub struct Internet(reqwest::Client);

impl Internet {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`] if the machine has no means to encrypt.
    pub fn new() -> Result<Self, ApiError> {
        let http = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        http.map(Self).map_err(unreachable)
    }
}

/// The URL of a failed look-up names a phone number or an address: it must not reach a log (PRIVATE).
fn unreachable(error: reqwest::Error) -> ApiError {
    ApiError::Unreachable(Box::new(error.without_url()))
}

impl Network for Internet {
    fn exchange(&self, request: Request) -> BoxFuture<'_, Result<(StatusCode, Vec<u8>), ApiError>> {
        Box::pin(async move {
            let mut response = self.0.execute(request).await.map_err(unreachable)?;
            let status = response.status();
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
                if bytes.len() + chunk.len() > ANSWER_MAX_BYTES {
                    return Err(ApiError::TooLarge);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok((status, bytes))
        })
    }

    fn connect<'a>(&'a self, url: &'a Url) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let host = url.host_str().ok_or(io::ErrorKind::InvalidInput)?;
            let port = url.port_or_known_default().ok_or(io::ErrorKind::InvalidInput)?;
            // An IPv6 address stands in brackets in a url, and the resolver wants none.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, port)).await?;
            // Frames are small and somebody waits for each: Nagle's algorithm only adds delay.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}
