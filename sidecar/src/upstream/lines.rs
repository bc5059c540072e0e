//! The lines of an answer that comes bit by bit.

use reqwest::Response;

use super::{UpstreamError, unavailable};

/// Longest line, bytes.
const LINE_MAX_BYTES: usize = 256 * 1024;
/// All of them, bytes: a word of an answer comes in a few hundred.
const LINES_MAX_BYTES: usize = 64 * 1024 * 1024;

/// The lines of one response.
pub(super) struct Lines {
    response: Response,
    splitter: Splitter,
    read: usize,
}

impl Lines {
    pub(super) fn of(response: Response) -> Self {
        Self { response, splitter: Splitter::default(), read: 0 }
    }

    /// The next line, without its end; nothing at the end of the response, where what is no whole line is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, UpstreamError> {
        loop {
            if let Some(line) = self.splitter.next() {
                return Ok(Some(line));
            }
            let Some(chunk) = self.response.chunk().await.map_err(|error| unavailable(&error))? else {
                return Ok(None);
            };
            self.read += chunk.len();
            if self.read > LINES_MAX_BYTES || self.splitter.rest() > LINE_MAX_BYTES {
                return Err(UpstreamError::Refused("its answer is too long".to_owned()));
            }
            self.splitter.push(&chunk);
        }
    }
}

/// Cuts bytes into lines. Pure.
#[derive(Default)]
struct Splitter {
    bytes: Vec<u8>,
    /// Where the next line begins; what is before it has been given out.
    from: usize,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.from);
        self.from = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that are no whole line yet.
    fn rest(&self) -> usize {
        self.bytes.len() - self.from
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let length = self.bytes[self.from..].iter().position(|byte| *byte == b'\n')?;
        let line = &self.bytes[self.from..self.from + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.from += length + 1;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_were_cut() {
        let text = b"one\r\n\ntwo\nthree";
        for size in 1..=text.len() {
            let mut splitter = Splitter::default();
            let mut lines = Vec::new();
            for chunk in text.chunks(size) {
                splitter.push(chunk);
                lines.extend(std::iter::from_fn(|| splitter.next()));
            }
            assert_eq!(lines, [&b"one"[..], b"", b"two"], "{size}");
        }
    }
}
