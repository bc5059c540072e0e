//! The real SDK on an empty profile.

use colloquy_client::surroundings::Surroundings;
use colloquy_client::sync::BackoffPolicy;
use colloquy_client::{Client, ProfileOptions, Unlock};
use tempfile::TempDir;

/// A crashed server is back within a moment: nobody waits for it half a minute.
const BACKOFF: BackoffPolicy = BackoffPolicy { first_ms: 20, max_ms: 200, stable_after_ms: 1_000 };

/// A client of the server at `url` that nobody is logged in with, and the folder of its profile.
pub async fn open(url: String) -> (Client, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let options = ProfileOptions {
        folder: folder.path().join("store"),
        unlock: Unlock::KeyFile(folder.path().join("key")),
        server_url: url,
        device_id: None,
        platform: "terminal".to_owned(),
    };
    let surroundings = Surroundings::of_this_machine().expect("this machine encrypts");
    (Client::open_with(options, BACKOFF, surroundings).await.expect("an empty profile is opened"), folder)
}
