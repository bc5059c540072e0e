//! Which pod ought to own a conversation: rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to
//! increase hit rates", 1998). Pure.
//!
//! Every pod that sees the same members names the same owner, and when a pod comes or goes, only the conversations it
//! gains or had move. Pods that see different members name different owners for a while, which breaks nothing (FENCE).

use colloquy_protocol::ids::ConversationId;
use colloquy_storage::model::live::PodId;

/// The pods that may own conversations, as this pod sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    candidates: Vec<Candidate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    pod_id: PodId,
    seed: u64,
}

impl Placement {
    /// Among these pods.
    pub fn among(pods: impl IntoIterator<Item = PodId>) -> Self {
        let candidate = |pod_id: PodId| Candidate { seed: seed_of(&pod_id), pod_id };
        Self { candidates: pods.into_iter().map(candidate).collect() }
    }

    /// The pod that ought to own a conversation; `None` if there is no candidate.
    #[must_use]
    pub fn owner_of(&self, conversation_id: ConversationId) -> Option<&PodId> {
        let (high, low) = conversation_id.0.as_u64_pair();
        let place = mixed(high ^ mixed(low));
        // Names break the tie that two equal weights would be.
        let heavier = |one: &&Candidate, other: &&Candidate| {
            let weight = |candidate: &Candidate| mixed(candidate.seed ^ place);
            weight(one).cmp(&weight(other)).then_with(|| one.pod_id.cmp(&other.pod_id))
        };
        self.candidates.iter().max_by(heavier).map(|candidate| &candidate.pod_id)
    }
}

/// The pods' names.
impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, candidate) in self.candidates.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{}", candidate.pod_id)?;
        }
        Ok(())
    }
}

/// Spreads a name over 64 bits (FNV-1a). The same in every release: pods of two releases must agree.
fn seed_of(pod_id: &PodId) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mixed(pod_id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    fn pod(name: &str) -> PodId {
        PodId::new(name).unwrap()
    }

    fn conversation(n: u128) -> ConversationId {
        // Ids are hashes of pairs: consecutive numbers are the harder case.
        ConversationId(Uuid::from_u128(n))
    }

    #[test]
    fn conversations_are_spread_evenly() {
        let placement = Placement::among(["a", "b", "c"].map(pod));
        let mut counts = BTreeMap::<PodId, u32>::new();
        for n in 0..30_000 {
            *counts.entry(placement.owner_of(conversation(n)).unwrap().clone()).or_default() += 1;
        }
        assert!(counts.values().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_pod_that_goes_moves_only_its_own_conversations() {
        let before = Placement::among(["a", "b", "c"].map(pod));
        let after = Placement::among(["c", "a"].map(pod));
        for n in 0..5_000 {
            let owner = before.owner_of(conversation(n)).unwrap();
            if *owner != pod("b") {
                assert_eq!(after.owner_of(conversation(n)), Some(owner));
            }
        }
    }

    #[test]
    fn every_release_places_a_conversation_on_the_same_pod() {
        let placement = Placement::among(["colloquy-0", "colloquy-1", "colloquy-2"].map(pod));
        let owners: Vec<&str> =
            (0..8).map(|n| placement.owner_of(conversation(n)).unwrap().as_str()).collect();
        let last: String = owners.iter().map(|owner| owner.chars().last().unwrap()).collect();
        assert_eq!(last, "20201012");
    }

    #[test]
    fn without_a_candidate_there_is_no_owner() {
        assert_eq!(Placement::default().owner_of(conversation(1)), None);
    }
}
