//! What has happened, in order: hashed to the byte, and the notable part of it kept to be read.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::network::Place;

/// Notes that are kept; later ones are hashed and counted, and not kept (BOUND).
const NOTES_MAX: usize = 100_000;

/// The run's record. Clones write to the same one.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    hash: Sha256,
    parcels: u64,
    notes: Vec<Note>,
    /// Where every parcel is written down, if anywhere.
    file: Option<BufWriter<File>>,
}

/// Something that a person would want to read.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Note {
    /// When, milliseconds from the beginning.
    pub(crate) at_ms: u64,
    /// What kind of thing.
    pub(crate) kind: Kind,
    /// In words.
    pub(crate) text: String,
}

/// Kinds of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Something was broken.
    Fault,
    /// Something was made whole.
    Repair,
    /// A device was connected, or was so no longer.
    Device,
    /// Part of the run's own course.
    Phase,
    /// An invariant was seen not to hold.
    Violation,
}

impl Trace {
    /// From now on every parcel is written down, a line each: when, from, to, how long, and the hash of everything so far.
    pub(crate) fn write_to(&self, file: File) {
        self.lock().file = Some(BufWriter::new(file));
    }

    /// Bytes were put on a wire.
    pub(crate) fn sent(&self, now: Duration, from: Place, to: Place, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.parcels += 1;
        inner.hash.update(now.as_micros().to_le_bytes());
        inner.hash.update(from.0.to_le_bytes());
        inner.hash.update(to.0.to_le_bytes());
        inner.hash.update((bytes.len() as u64).to_le_bytes());
        inner.hash.update(bytes);
        let digest = if inner.file.is_some() { hexadecimal(&inner.hash) } else { String::new() };
        if let Some(file) = &mut inner.file {
            let (micros, shown) =
                (now.as_micros(), String::from_utf8_lossy(bytes).escape_debug().to_string());
            // A record that cannot be written is missed by whoever asked for it, and by nothing else.
            let _ = writeln!(file, "{micros} {} {} {} {} {shown}", from.0, to.0, bytes.len(), &digest[..16]);
        }
    }

    /// Something else has happened.
    pub(crate) fn note(&self, now: Duration, kind: Kind, text: impl fmt::Display) {
        let (at_ms, text) = (u64::try_from(now.as_millis()).unwrap_or(u64::MAX), text.to_string());
        let mut inner = self.lock();
        inner.hash.update(at_ms.to_le_bytes());
        inner.hash.update(text.as_bytes());
        if inner.notes.len() < NOTES_MAX {
            inner.notes.push(Note { at_ms, kind, text });
        }
    }

    /// The hash of everything so far, in hexadecimal.
    pub(crate) fn digest(&self) -> String {
        hexadecimal(&self.lock().hash)
    }

    /// How often bytes were put on a wire.
    pub(crate) fn parcels(&self) -> u64 {
        self.lock().parcels
    }

    /// What a person would want to read.
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.lock().notes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hexadecimal(hash: &Sha256) -> String {
    hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
