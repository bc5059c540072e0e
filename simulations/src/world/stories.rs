//! Worlds that have found something, kept as they are told: a few faults at set times, whatever else a seed may come to mean.

use std::time::Duration;

use colloquy_actors::supervision::ActorKind;

use super::plan::{Fault, Plan, Planned, Size};

/// A world that once found a defect.
pub(crate) struct Story {
    /// Its name on a command line.
    pub(crate) name: &'static str,
    /// What was wrong.
    pub(crate) defect: &'static str,
    seed: u64,
    size: Size,
    pods: u16,
    faults: fn() -> Vec<(u64, Fault)>,
}

/// Every one of them.
pub(crate) const STORIES: [Story; 5] = [
    Story {
        name: "clocks-apart",
        defect: "a token issued by a pod whose clock is 90 s ahead passed for a forgery at the others, and its device \
                 threw its log-in away",
        seed: 688_002_065,
        size: Size { texts: 300, faults: 0 },
        pods: 2,
        faults: clocks_apart,
    },
    Story {
        name: "two-conversations",
        defect: "a user's other device could not read what came far out of the order of encryption, because one ratchet \
                 served all conversations between two devices",
        seed: 12,
        size: Size { texts: 2_000, faults: 0 },
        pods: 3,
        faults: two_conversations,
    },
    Story {
        name: "broken-bridge",
        defect: "messages that were to be sent again were overtaken by later ones after 5 s",
        seed: 34,
        size: Size { texts: 2_000, faults: 0 },
        pods: 2,
        faults: broken_bridge,
    },
    Story {
        name: "gap-nobody-fills",
        defect: "a client that had found its message in the log waited for ever behind the number it had given it",
        seed: 6,
        size: Size { texts: 600, faults: 0 },
        pods: 3,
        faults: gap_nobody_fills,
    },
    Story {
        name: "removed-writer",
        defect: "what a device wrote before it was removed could not be read by devices that had not met it by then",
        seed: 31_828_095_484,
        size: Size { texts: 300, faults: 0 },
        pods: 1,
        faults: removed_writer,
    },
];

impl Story {
    /// The world.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::draw(self.seed, self.size);
        plan.pods = self.pods;
        plan.agents = 0;
        let planned = |(ms, fault)| Planned { at: Duration::from_millis(ms), fault };
        plan.faults = (self.faults)().into_iter().map(planned).collect();
        plan
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Each pod goes in turn, so that tokens of each are shown to the other.
fn clocks_apart() -> Vec<(u64, Fault)> {
    let mut faults = vec![(4_000, Fault::SetClock { pod: 2, ms: 92_000 })];
    for round in 0..4 {
        faults.push((6_000 + round * 8_000, Fault::DrainPod { pod: 2 }));
        faults.push((7_000 + round * 8_000, Fault::SetClock { pod: 2, ms: 92_000 }));
        faults.push((10_000 + round * 8_000, Fault::DrainPod { pod: 1 }));
    }
    faults
}

/// Everybody's devices are away for a while, one after the other, and the store is slow to take some conversations' messages.
fn two_conversations() -> Vec<(u64, Fault)> {
    (0..6)
        .flat_map(|round: u64| {
            let device = usize::try_from(round).unwrap_or(0) % 5;
            [
                (3_000 + round * 8_000, Fault::CutDevice { device, length: seconds(6.0) }),
                (4_000 + round * 8_000, Fault::CrashPod { pod: 1 + (round % 3) as u16, down: seconds(3.0) }),
                (6_000 + round * 8_000, Fault::CrashDevice { device: (device + 1) % 5, down: seconds(4.0) }),
            ]
        })
        .collect()
}

/// A pod dies, and while it is back the links of the other break, again and again.
fn broken_bridge() -> Vec<(u64, Fault)> {
    (0..5)
        .flat_map(|round: u64| {
            [
                (2_000 + round * 9_000, Fault::CrashPod { pod: 2, down: seconds(0.66) }),
                (3_085 + round * 9_000, Fault::KillActor { pod: 1, kind: ActorKind::Bridge }),
                (6_000 + round * 9_000, Fault::ResetPods { pods: (1, 2) }),
            ]
        })
        .collect()
}

/// Answers are lost at the owner, and the devices that waited for them read the log instead.
fn gap_nobody_fills() -> Vec<(u64, Fault)> {
    (0..6)
        .flat_map(|round: u64| {
            let pod = 1 + (round % 3) as u16;
            [
                (2_000 + round * 7_000, Fault::KillActor { pod, kind: ActorKind::StoreWriter }),
                (2_500 + round * 7_000, Fault::KillActor { pod, kind: ActorKind::Conversation }),
                (
                    3_000 + round * 7_000,
                    Fault::Sever { pods: (pod, pod % 3 + 1), one_way: true, length: seconds(4.0) },
                ),
                (
                    4_000 + round * 7_000,
                    Fault::ResetDevice { device: usize::try_from(round).unwrap_or(0) % 3 },
                ),
            ]
        })
        .collect()
}

/// A device is away from the beginning until another, which writes to it, has been removed.
fn removed_writer() -> Vec<(u64, Fault)> {
    vec![
        (0, Fault::CutDevice { device: 6, length: seconds(36.0) }),
        (34_000, Fault::RemoveDevice { device: 0 }),
    ]
}
