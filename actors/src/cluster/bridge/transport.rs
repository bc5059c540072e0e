//! A connection that stands, and the means to cut it.

use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection that stands, encrypted or not.
pub struct Transport {
    /// The other end.
    pub(super) remote: SocketAddr,
    cutter: Cutter,
    halves: (BoxRead, BoxWrite),
}

impl Transport {
    /// Over TCP, in clear.
    pub(super) fn tcp(stream: TcpStream) -> std::io::Result<Self> {
        let remote = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream).try_clone()?;
        let (read, write) = stream.into_split();
        Ok(Self::new(remote, TcpCutter(socket), read, write))
    }

    /// Over something else. Dropping `cutter` must fail what waits to be read or written, at once, and throw away what
    /// is on its way.
    pub fn new(
        remote: SocketAddr,
        cutter: impl Send + 'static,
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self { remote, cutter: Cutter(Box::new(cutter)), halves: (Box::new(read), Box::new(write)) }
    }

    /// The same connection, with what `wrap` makes of its stream.
    pub(super) async fn wrapped<S, F>(
        self,
        wrap: impl FnOnce(tokio::io::Join<BoxRead, BoxWrite>) -> F,
    ) -> std::io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
        F: Future<Output = std::io::Result<S>>,
    {
        let Self { remote, cutter, halves: (read, write) } = self;
        let (read, write) = tokio::io::split(wrap(tokio::io::join(read, write)).await?);
        Ok(Self { remote, cutter, halves: (Box::new(read), Box::new(write)) })
    }

    /// As `ractor_cluster` takes it: under a number, by which its session is known again. The cutter stays here.
    pub(super) fn numbered(self, number: u64) -> (Cutter, Box<dyn ClusterBidiStream>) {
        (self.cutter, Box::new(Numbered { number, halves: self.halves }))
    }
}

struct Numbered {
    number: u64,
    halves: (BoxRead, BoxWrite),
}

impl ClusterBidiStream for Numbered {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        self.halves
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.number.to_string())
    }
}

/// A second hold on a connection. Dropped, it cuts it: a writer that waits for a frozen peer fails at once, and what is
/// on its way is thrown away, not delivered when the peer thaws. Killing the actors that own it would do neither.
pub(super) struct Cutter(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send>);

struct TcpCutter(Socket);

impl Drop for TcpCutter {
    fn drop(&mut self) {
        // Both fail only on a connection that has already ended.
        let _ = self.0.set_linger(Some(Duration::ZERO));
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
