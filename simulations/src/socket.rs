//! A WebSocket client that costs next to nothing, so that what is measured is the server.
//!
//! Frames are masked with zeros (RFC 6455, section 5.3, asks for a mask that is hard to guess to protect proxies;
//! there is none between a load generator and its server): the payload need not be touched. What is read is looked
//! at in place. Only what our server sends is understood: whole, unmasked text frames, pings and closes.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// Bytes that may lie in the kernel on their way to the server: what waits, waits where it is measured.
const SEND_BUFFER_BYTES: u32 = 16 * 1024;
/// Largest answer to the handshake.
const HANDSHAKE_MAX_BYTES: usize = 8 * 1024;

const FINAL_TEXT: u8 = 0x81;
const FINAL_PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
/// Two bytes of length follow.
const LENGTH_16: u8 = 126;
/// Eight bytes of length follow.
const LENGTH_64: u8 = 127;
const MASK_BYTES: usize = 4;

/// What came out of the socket.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A text frame; [`Socket::text`] shows it.
    Text(Range<usize>),
    /// The server closes, with this number.
    Close(u16),
}

/// One connection.
pub(crate) struct Socket {
    stream: TcpStream,
    inbound: Vec<u8>,
    /// Up to here `inbound` has been looked at.
    taken: usize,
    outbound: Vec<u8>,
    read_size: usize,
}

impl Socket {
    /// Connects and upgrades; reads at most `read_size` bytes at once.
    pub(crate) async fn connect(address: SocketAddr, read_size: usize) -> Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, inbound: Vec::new(), taken: 0, outbound: Vec::new(), read_size };
        // The key is any 16 bytes; an answer for it proves nothing to a client that knows its server.
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: Y29sbG9xdXktbG9hZC0xNg==\r\n\r\n"
        );
        socket.stream.write_all(request.as_bytes()).await?;
        socket.finish_handshake().await?;
        Ok(socket)
    }

    async fn finish_handshake(&mut self) -> Result<()> {
        loop {
            if let Some(end) = self.inbound.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let accepted = self.inbound.starts_with(b"HTTP/1.1 101 ");
                self.taken = end + 4;
                return if accepted { Ok(()) } else { Err(refused(&self.inbound)) };
            }
            if self.inbound.len() > HANDSHAKE_MAX_BYTES || !self.read().await? {
                return Err(refused(&self.inbound));
            }
        }
    }

    /// Puts one text frame into the write buffer; `write` appends its payload.
    pub(crate) fn push_text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.outbound.len();
        // Room for the header of a payload of 126 to 65,535 bytes, which nearly all of ours are.
        self.outbound.extend_from_slice(&[FINAL_TEXT, MASKED | LENGTH_16, 0, 0, 0, 0, 0, 0]);
        let payload = self.outbound.len();
        write(&mut self.outbound);
        let length = self.outbound.len() - payload;
        match u16::try_from(length) {
            // A short length must be written in its short form: the payload moves up.
            Ok(short) if short < u16::from(LENGTH_16) => {
                self.outbound[start + 1] = MASKED | u8::try_from(short).unwrap_or(0);
                self.outbound[start + 2..start + 2 + MASK_BYTES].fill(0);
                self.outbound.copy_within(payload.., payload - 2);
                self.outbound.truncate(start + 2 + MASK_BYTES + length);
            }
            Ok(length) => self.outbound[start + 2..start + 4].copy_from_slice(&length.to_be_bytes()),
            Err(_) => unreachable!("no frame of ours is longer than the server takes (64 KiB)"),
        }
    }

    /// Writes what was pushed.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        if !self.outbound.is_empty() {
            self.stream.write_all(&self.outbound).await?;
            self.outbound.clear();
        }
        Ok(())
    }

    /// Writes what was pushed as far as there is room now; true if there was for all of it.
    pub(crate) fn flush_some(&mut self) -> Result<bool> {
        while !self.outbound.is_empty() {
            match self.stream.try_write(&self.outbound) {
                Ok(written) => drop(self.outbound.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits until bytes have come, or there is room for what was pushed, or `until`; false at the end of the stream.
    pub(crate) async fn turn(&mut self, until: Instant) -> Result<bool> {
        let mut interest = Interest::READABLE;
        if !self.outbound.is_empty() {
            interest = interest.add(Interest::WRITABLE);
        }
        let Ok(ready) = timeout_at(until, self.stream.ready(interest)).await else { return Ok(true) };
        let ready = ready?;
        if ready.is_writable() {
            self.flush_some()?;
        }
        if ready.is_readable() {
            self.inbound.drain(..self.taken);
            self.taken = 0;
            self.inbound.reserve(self.read_size);
            match self.stream.try_read_buf(&mut self.inbound) {
                Ok(read) => return Ok(read > 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits for more bytes; false at the end of the stream. Safe to cancel.
    pub(crate) async fn read(&mut self) -> Result<bool> {
        self.inbound.drain(..self.taken);
        self.taken = 0;
        self.inbound.reserve(self.read_size);
        let read = self.stream.read_buf(&mut self.inbound).await?;
        Ok(read > 0)
    }

    /// The next whole frame among the bytes read. Pings are answered with the next flush.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>> {
        while let Some((opcode, payload)) = self.frame() {
            self.taken = payload.end;
            match opcode {
                FINAL_TEXT => return Ok(Some(Incoming::Text(payload))),
                0x88 => {
                    let code = self.inbound.get(payload.start..payload.start + 2);
                    let code = code.map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    return Ok(Some(Incoming::Close(code)));
                }
                0x89 => self.pong(payload),
                0x8a => {}
                _ => return Err(Error::new(ErrorKind::InvalidData, "not a frame our server sends")),
            }
        }
        Ok(None)
    }

    /// A text frame that [`Socket::next`] has just named.
    pub(crate) fn text(&self, range: Range<usize>) -> &[u8] {
        &self.inbound[range]
    }

    fn frame(&self) -> Option<(u8, Range<usize>)> {
        let bytes = self.inbound.get(self.taken..)?;
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (header, length) = match second {
            LENGTH_16 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
            LENGTH_64 => {
                let length: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
                (10, usize::try_from(u64::from_be_bytes(length)).ok()?)
            }
            short => (2, usize::from(short)),
        };
        let start = self.taken + header;
        let end = start.checked_add(length)?;
        (end <= self.inbound.len()).then_some((first, start..end))
    }

    fn pong(&mut self, payload: Range<usize>) {
        let length = u8::try_from(payload.len()).unwrap_or(0);
        self.outbound.extend_from_slice(&[FINAL_PONG, MASKED | length, 0, 0, 0, 0]);
        self.outbound.extend_from_slice(&self.inbound[payload]);
    }
}

fn refused(answer: &[u8]) -> Error {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Error::new(ErrorKind::ConnectionRefused, format!("no upgrade: {}", String::from_utf8_lossy(line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].ends_with(b"\r\n\r\n"));
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
            stream
        };
        let (socket, stream) = tokio::join!(Socket::connect(address, 64), server);
        (socket.unwrap(), stream)
    }

    #[tokio::test]
    async fn short_and_long_frames_are_written_in_their_shortest_form() {
        let (mut socket, mut server) = connected().await;
        socket.push_text(|out| out.extend_from_slice(b"hi"));
        socket.push_text(|out| out.extend_from_slice(&[b'x'; 300]));
        socket.flush().await.unwrap();
        let mut got = vec![0; 8 + 308];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got[..8], &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(&got[8..16], &[0x81, 0xfe, 1, 44, 0, 0, 0, 0]);
        assert!(got[16..].iter().all(|byte| *byte == b'x'));
    }

    #[tokio::test]
    async fn frames_are_read_however_they_are_cut_and_pings_are_answered() {
        let (mut socket, mut server) = connected().await;
        let mut wire = vec![0x89, 1, b'p', 0x81, 2, b'o', b'k', 0x81, 126, 1, 44];
        wire.extend_from_slice(&[b'y'; 300]);
        wire.extend_from_slice(&[0x88, 2, 0x0f, 0xa0]);
        let mut texts = Vec::new();
        let mut closed = None;
        for chunk in wire.chunks(7) {
            server.write_all(chunk).await.unwrap();
            assert!(socket.read().await.unwrap());
            while let Some(incoming) = socket.next().unwrap() {
                match incoming {
                    Incoming::Text(range) => texts.push(socket.text(range).len()),
                    Incoming::Close(code) => closed = Some(code),
                }
            }
        }
        assert_eq!((texts, closed), (vec![2, 300], Some(4000)));
        socket.flush().await.unwrap();
        let mut pong = [0; 7];
        server.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0x8a, 0x81, 0, 0, 0, 0, b'p']);
    }
}
