//! What only the embedded store promises: crashes, reopening, locks.
