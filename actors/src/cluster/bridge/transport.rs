//! A connected socket, and the means to cut it.

use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use socket2::{SockRef, Socket};
use tokio::net::TcpStream;

/// A connection that stands, encrypted or not.
pub(super) struct Transport {
    /// The other end.
    pub(super) remote: SocketAddr,
    /// Cuts it.
    pub(super) cutter: Cutter,
    halves: (BoxRead, BoxWrite),
}

impl Transport {
    /// In clear.
    pub(super) fn plain(stream: TcpStream) -> std::io::Result<Self> {
        let (remote, cutter) = (stream.peer_addr()?, Cutter::of(&stream)?);
        let (read, write) = stream.into_split();
        Ok(Self { remote, cutter, halves: (Box::new(read), Box::new(write)) })
    }

    /// Encrypted.
    pub(super) fn encrypted(
        remote: SocketAddr,
        cutter: Cutter,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { remote, cutter, halves: (Box::new(read), Box::new(write)) }
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

/// A second hold on a socket. Dropped, it cuts the connection: a writer that waits for a frozen peer fails at once, and
/// what the kernel still holds is thrown away, not delivered when the peer thaws. Killing the actors that own the socket
/// would do neither.
pub(super) struct Cutter(Socket);

impl Cutter {
    /// Of this connection.
    pub(super) fn of(stream: &TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        SockRef::from(stream).try_clone().map(Self)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        // Both fail only on a connection that has already ended.
        let _ = self.0.set_linger(Some(Duration::ZERO));
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
