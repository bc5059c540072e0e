//! What operators see: health and metrics.

use colloquy_tests::metrics::{Sample, sum};
use colloquy_tests::pair::Pair;
use colloquy_tests::rest::http_client;

#[tokio::test]
async fn the_health_endpoints_answer() {
    let pair = Pair::start().await;
    for path in ["livez", "readyz", "startupz"] {
        let url = format!("http://{}/{path}", pair.server.operations());
        assert_eq!(http_client().get(url).send().await.unwrap().status(), 200, "{path}");
    }
    let public = format!("http://{}/metrics", pair.server.address());
    assert_eq!(http_client().get(public).send().await.unwrap().status(), 404, "metrics are not public");
}

#[tokio::test]
async fn exits_are_counted_by_actor_kind_and_reason() {
    let pair = Pair::start().await;
    pair.connect(&pair.left).await.close().await;
    let mut newer = pair.connect(&pair.left).await;
    newer.send_many(&pair.left, &[&pair.right], 1).await;
    newer.close().await;
    // An exit is counted a moment after the socket it belonged to was closed.
    let is_counted =
        |samples: &[Sample]| sum(samples, "colloquy_actor_exits_total", &[("kind", "Session")]) >= 2.0;
    let scraped = pair.server.scrape_until(is_counted).await;
    let exits: Vec<_> = scraped.iter().filter(|s| s.name == "colloquy_actor_exits_total").collect();
    assert!(exits.iter().all(|s| s.label("kind").is_some() && s.label("reason").is_some()));
    assert!(sum(&scraped, "colloquy_messages_appended_total", &[]) >= 1.0);
}

#[tokio::test]
async fn no_invariant_is_reported_broken_after_ordinary_traffic() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 50).await;
    right.send_many(&pair.right, &[&pair.left], 50).await;
    let scraped = pair.server.scrape().await;
    let violations = scraped.iter().filter(|s| s.name == "colloquy_invariant_violations_total");
    let violations: Vec<_> = violations.collect();
    assert!(!violations.is_empty(), "each invariant is counted from the start");
    assert!(violations.iter().all(|sample| sample.value == 0.0), "{violations:?}");
}

#[tokio::test]
async fn no_label_holds_an_id() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    for sample in pair.server.scrape().await {
        let private = [pair.left.user_id.to_string(), pair.conversation().to_string()];
        assert!(!private.iter().any(|id| sample.labels.contains(id)), "PRIVATE: {}", sample.name);
    }
}
