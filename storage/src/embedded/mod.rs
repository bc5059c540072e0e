//! All ports on one fjall database.
