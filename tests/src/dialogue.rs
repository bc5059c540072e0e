//! Two couriers that send each other so many messages, and end.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::checker::DeviceRecord;
use crate::courier::{Call, Courier, Orders, Pace, Standing, Surroundings, locked};
use crate::device::Device;
use crate::ledger::Ledger;

/// A dialogue that goes on.
pub struct Dialogue {
    sides: Vec<(JoinHandle<()>, Arc<Mutex<Ledger>>)>,
    acks: watch::Receiver<u64>,
    _orders: watch::Sender<Orders>,
}

/// What came of one side of it.
pub struct Side {
    /// What it did and saw.
    pub record: DeviceRecord,
    /// How often it had to connect anew.
    pub reconnects: usize,
}

impl Dialogue {
    /// Each of `devices` sends the other `messages`, and is at home at the first of its `addresses`.
    #[must_use]
    pub fn begin(
        devices: [&Arc<Device>; 2],
        addresses: [Vec<SocketAddr>; 2],
        pace: Pace,
        messages: u64,
    ) -> Self {
        let (acked, acks) = watch::channel(0);
        let call = Call::Finish { sends: messages, gets: messages };
        let (kept, orders) = watch::channel(Orders { number: 1, call });
        let both_ways = [(devices[0], devices[1]), (devices[1], devices[0])];
        let sides = both_ways.into_iter().zip(addresses).map(|((device, peer), addresses)| {
            let ledger = Arc::new(Mutex::new(Ledger::new(Arc::clone(device), Arc::clone(peer))));
            let (standing, _) = watch::channel(Standing::default());
            let around = Surroundings { orders: orders.clone(), standing, acked: acked.clone() };
            let courier = Courier::new(Arc::clone(&ledger), pace, addresses, around);
            (tokio::spawn(courier.run()), ledger)
        });
        Self { sides: sides.collect(), acks, _orders: kept }
    }

    /// Waits until so many messages are acked; returns how many that are.
    ///
    /// # Panics
    /// If both couriers end before.
    pub async fn acks(&mut self, count: u64) -> u64 {
        *self.acks.wait_for(|acks| *acks >= count).await.expect("couriers go on")
    }

    /// Waits until both have sent, had acked and hold everything.
    ///
    /// # Panics
    /// If a courier did.
    pub async fn end(self) -> Vec<Side> {
        let mut ended = Vec::new();
        for (courier, ledger) in self.sides {
            courier.await.expect("a courier does not panic");
            let mut ledger = locked(&ledger);
            let reconnects = ledger.take_reconnects().len();
            ended.push(Side { record: ledger.record().clone(), reconnects });
        }
        ended
    }
}
