//! The live directory and the signal bus on Redis.
