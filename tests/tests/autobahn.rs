//! The transport below `/ws` passes Autobahn's cases.

use std::net::SocketAddr;
use std::process::Stdio;

use colloquy_tests::DEADLINE;
use colloquy_tests::kosoku;
use colloquy_tests::server::binary;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// Cases that apply, of the 517 there are: all but those of permessage-deflate.
const CASES: usize = 301;

#[tokio::test]
async fn every_case_of_autobahn_that_applies_passes() {
    let mut echo = Command::new(binary("examples/echo"))
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the echo server can be started");
    let mut lines = BufReader::new(echo.stdout.take().expect("standard output is piped")).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.expect("the echo server is ready in time");
    let line = line.unwrap().expect("the echo server prints its port");
    let port = line.rsplit(|c: char| !c.is_ascii_digit()).find(|word| !word.is_empty());
    let port: u16 = port.expect("the line ends with the port").parse().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let report = kosoku::run(SocketAddr::from(([127, 0, 0, 1], port)), folder.path()).await;
    let failures = kosoku::failures(&report);
    println!("{} cases, {} failed", report.len(), failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(report.len(), CASES, "every case that applies was run");
    echo.kill().await.unwrap();
}
