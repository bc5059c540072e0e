//! Killing the server at any moment loses nothing that was acked and doubles nothing (DURABLE, ONCE, ORDER, NOLOSS).

use std::sync::Arc;

use colloquy_tests::ambient::{count_from_env, seed};
use colloquy_tests::checker::check_all;
use colloquy_tests::courier::{Courier, Surroundings};
use colloquy_tests::metrics::sum;
use colloquy_tests::pair::Pair;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

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
    let (generation, generations) = watch::channel(0);
    let (acked, mut acks) = watch::channel(0);
    let around = Surroundings { generation: generations, acked };
    let address = pair.server.address();
    let mut couriers = Vec::new();
    for (device, peer) in [(&pair.left, &pair.right), (&pair.right, &pair.left)] {
        let courier = Courier::new(Arc::clone(device), Arc::clone(peer), messages, messages);
        couriers.push(tokio::spawn(courier.run(address, around.clone())));
    }
    for moment in moments {
        acks.wait_for(|count| *count >= moment).await.unwrap();
        println!("killed after {} acks", *acks.borrow());
        pair.server.kill_9();
        pair.server.restart().await;
        generation.send_modify(|generation| *generation += 1);
    }
    let mut records = Vec::new();
    for courier in couriers {
        let (record, reconnects) = courier.await.unwrap();
        println!(
            "sent {}, answers {}, shown {}, reconnects {reconnects}",
            record.sent.len(),
            record.acked.len(),
            record.shown.len()
        );
        records.push(record);
    }

    let scraped = pair.server.scrape().await;
    let duplicates = sum(&scraped, "colloquy_duplicates_total", &[]);
    println!("since the last kill {duplicates} retries were answered with their first message");

    let log = pair.log().await;
    println!("the log holds {} messages", log.len());
    assert_eq!(log.len() as u64, 2 * messages);
    assert_eq!(check_all(&records, &log), Ok(()));
}
