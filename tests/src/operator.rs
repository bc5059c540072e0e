//! Whoever runs a server, at the command line.

use std::path::Path;
use std::process::Output;

use tokio::process::Command;

use crate::server::{Server, binary};

/// `colloquy admin`, with the key that lies in `data_dir`.
pub async fn admin(server: &Server, data_dir: &Path, arguments: &[&str]) -> Output {
    let asked = Command::new(binary("colloquy"))
        .arg("admin")
        .args(arguments)
        .args(["--operations", &format!("http://{}", server.operations()), "--data-dir"])
        .arg(data_dir)
        .kill_on_drop(true)
        .output();
    asked.await.expect("the command can be run")
}

/// `colloquy admin dead-letters`, on the server's own machine.
pub async fn dead_letters(server: &Server, arguments: &[&str]) -> Output {
    admin(server, &server.data_dir(), &[&["dead-letters"], arguments].concat()).await
}

/// What a command has printed; it did what it was told.
#[allow(clippy::must_use_candidate, reason = "that it was done may be all there is to know")]
pub fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What a command has complained of that did not.
#[must_use]
pub fn complained(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
