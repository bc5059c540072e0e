//! A TCP proxy between two processes that can be cut: as in a network that drops every packet, nothing arrives, nothing
//! is refused, and what was sent meanwhile comes late if both ends are still there.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes carried at once.
const CHUNK: usize = 16 * 1024;

/// What becomes of what is carried.
#[derive(Clone, Copy, Default)]
struct Way {
    is_cut: bool,
    /// How often all connections were broken.
    breaks: u64,
}

/// A running proxy. Dropping it ends it, and every connection through it.
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Carries what comes in at a free port to `target`, which need not listen yet.
    pub async fn to(target: SocketAddr) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any).await.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let (way, watched) = watch::channel(Way::default());
        Self { address, way, accepting: tokio::spawn(accept(listener, target, watched)) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing gets through.
    pub fn cut(&self) {
        self.way.send_modify(|way| way.is_cut = true);
    }

    /// From now on everything does.
    pub fn heal(&self) {
        self.way.send_modify(|way| way.is_cut = false);
    }

    /// Every connection through it ends here and now; others can be made.
    pub fn break_all(&self) {
        self.way.send_modify(|way| way.breaks += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, cut: watch::Receiver<Way>) {
    while let Ok((near, _)) = listener.accept().await {
        // Whatever is broken from now on ends this one too.
        let breaks = cut.borrow().breaks;
        tokio::spawn(carry(near, target, cut.clone(), breaks));
    }
}

/// Carries one connection both ways until both ends are done, or the proxy is.
async fn carry(near: TcpStream, target: SocketAddr, mut cut: watch::Receiver<Way>, breaks: u64) {
    if passage(&mut cut).await.is_none() {
        return;
    }
    // Refused: the near end sees its connection end, as without a proxy.
    let Ok(far) = TcpStream::connect(target).await else { return };
    let (near, far) = (near.into_split(), far.into_split());
    tokio::join!(
        carry_one_way(near.0, far.1, cut.clone(), breaks),
        carry_one_way(far.0, near.1, cut, breaks)
    );
}

async fn carry_one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut cut: watch::Receiver<Way>,
    breaks: u64,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        // The end of a proxy ends what goes through it.
        let read = tokio::select! {
            read = from.read(&mut chunk) => read.unwrap_or(0),
            () = broken(cut.clone(), breaks) => return,
        };
        // The end of a connection does not get through a cut either.
        if passage(&mut cut).await.is_none() || read == 0 || to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

/// Waits until nothing is cut; `None` if the proxy is gone.
async fn passage(cut: &mut watch::Receiver<Way>) -> Option<()> {
    cut.wait_for(|way| !way.is_cut).await.ok().map(drop)
}

/// Waits until connections are broken once more than so often, or the proxy is gone.
async fn broken(mut cut: watch::Receiver<Way>, breaks: u64) {
    let _ = cut.wait_for(|way| way.breaks != breaks).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn through() -> (Proxy, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap()).await;
        let near = TcpStream::connect(proxy.address()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (proxy, near, far)
    }

    #[tokio::test]
    async fn what_is_sent_during_a_cut_arrives_when_it_is_healed() {
        let (proxy, mut near, mut far) = through().await;
        near.write_all(b"before").await.unwrap();
        let mut read = [0; 6];
        far.read_exact(&mut read).await.unwrap();
        proxy.cut();
        near.write_all(b"during").await.unwrap();
        far.write_all(b"answer").await.unwrap();
        assert!(far.try_read(&mut read).is_err(), "nothing has come");
        proxy.heal();
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"during");
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"answer");
    }

    #[tokio::test]
    async fn connections_that_are_broken_end_at_both_ends() {
        let (proxy, mut near, mut far) = through().await;
        proxy.break_all();
        assert_eq!(near.read(&mut [0; 1]).await.unwrap_or(0), 0);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn the_end_of_one_end_is_the_end_of_the_other_and_so_is_the_proxys() {
        let (_proxy, near, mut far) = through().await;
        drop(near);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap_or(0), 0);
        let (proxy, _near, mut far) = through().await;
        drop(proxy);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn where_nobody_listens_nobody_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        drop(listener);
        let proxy = Proxy::to(target).await;
        let mut near = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(near.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }
}
