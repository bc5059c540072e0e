//! Registered users with devices, made a few at a time.

use std::future::Future;
use std::sync::Arc;

use colloquy_tests::device::Device;
use colloquy_tests::rest::Rest;
use futures_util::{StreamExt, stream};
use indicatif::ProgressBar;

/// Users registered at the same time.
const AT_ONCE: usize = 16;

/// `count` users with `devices` devices each, in order.
pub(crate) async fn register(rest: &Rest, count: usize, devices: usize) -> Vec<Arc<Device>> {
    let progress = ProgressBar::new(count as u64).with_message("users");
    let users = (0..count).map(|_| register_user(rest.clone(), devices));
    let made = in_order(users, &progress).await;
    progress.finish_and_clear();
    made.into_iter().flatten().map(Arc::new).collect()
}

async fn register_user(rest: Rest, devices: usize) -> Vec<Device> {
    let first = rest.register_user("Load", "device-1").await;
    let mut all = vec![first];
    for n in 2..=devices {
        let next = rest.add_device(&all[0], &format!("device-{n}")).await;
        all.push(next);
    }
    all
}

/// Runs a few of `futures` at a time; their results come in order.
pub(crate) async fn in_order<F: Future>(
    futures: impl Iterator<Item = F>,
    progress: &ProgressBar,
) -> Vec<F::Output> {
    let results = stream::iter(futures).buffered(AT_ONCE);
    results.inspect(|_| progress.inc(1)).collect().await
}
