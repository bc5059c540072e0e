//! Killing the server at any moment loses nothing that was acked and doubles nothing (DURABLE, ONCE, ORDER, NOLOSS).

use colloquy_tests::ambient::{count_from_env, seed};
use colloquy_tests::checker::{DeviceRecord, check_all};
use colloquy_tests::courier::Pace;
use colloquy_tests::dialogue::{Dialogue, Side};
use colloquy_tests::metrics::sum;
use colloquy_tests::pair::Pair;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// `COLLOQUY_CRASH_MESSAGES`: messages each client sends.
const MESSAGES: u64 = 10_000;
/// `COLLOQUY_CRASH_KILLS`: how often the server is killed.
const KILLS: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acked_message_is_there_once_in_order_and_without_a_hole_after_five_kills() {
    let messages = count_from_env("COLLOQUY_CRASH_MESSAGES", MESSAGES);
    let kills = count_from_env("COLLOQUY_CRASH_KILLS", KILLS);
    let seed = seed();
    println!("COLLOQUY_TEST_SEED={seed}: {kills} kills under 2 x {messages} messages");
    let mut rng = StdRng::seed_from_u64(seed);
    // Moments are counts of acks: at each of them both windows are full and a commit is on its way.
    let mut moments: Vec<u64> = (0..kills).map(|_| rng.random_range(1..2 * messages)).collect();
    moments.sort_unstable();

    let mut pair = Pair::start().await;
    let addresses = [vec![pair.server.address()], vec![pair.server.address()]];
    let mut dialogue = Dialogue::begin([&pair.left, &pair.right], addresses, Pace::Window, messages);
    for moment in moments {
        println!("killed after {} acks", dialogue.acks(moment).await);
        pair.server.kill_9();
        pair.server.restart().await;
    }
    let sides = dialogue.end().await;
    for Side { record, reconnects } in &sides {
        println!(
            "sent {}, answers {}, shown {}, reconnects {reconnects}",
            record.sent.len(),
            record.acked.len(),
            record.shown.len()
        );
    }
    let records: Vec<DeviceRecord> = sides.into_iter().map(|side| side.record).collect();

    let scraped = pair.server.scrape().await;
    let duplicates = sum(&scraped, "colloquy_duplicates_total", &[]);
    println!("since the last kill {duplicates} retries were answered with their first message");

    let log = pair.log().await;
    println!("the log holds {} messages", log.len());
    assert_eq!(log.len() as u64, 2 * messages);
    assert_eq!(check_all(&records, &log), Ok(()));
}
