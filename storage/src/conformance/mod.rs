//! The suite every adapter has to pass.
