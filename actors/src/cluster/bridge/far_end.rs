//! The far end of a link that stands without a bridge, for tests of what is sent.

use std::sync::Arc;

use colloquy_storage::model::live::PodId;
use prometheus_client::metrics::counter::Counter;

use super::links::Links;
use super::outgoing::Outgoing;
use super::packet::Packet;
use super::window::Count;

/// Where frames to one pod come out.
pub(in crate::cluster) struct FarEnd {
    links: Links,
    outgoing: Arc<Outgoing>,
}

impl FarEnd {
    /// A link to this pod stands from now on.
    pub(in crate::cluster) fn of(links: &Links, pod_id: &PodId) -> Self {
        let counter = Counter::default();
        let outgoing = Arc::new(Outgoing::to(pod_id.clone(), &counter, &counter));
        links.stand(&outgoing);
        Self { links: links.clone(), outgoing }
    }

    /// Takes in every frame that has been sent since, in order, which makes room for as many.
    pub(in crate::cluster) fn take(&self) -> Vec<Vec<u8>> {
        let unacknowledged = self.outgoing.unacknowledged();
        let mut frames = Vec::new();
        for filling in self.outgoing.empty() {
            let Packet::Parcel(parcel) = Packet::decode(filling.seal(0, Count::default())).unwrap() else {
                panic!("only parcels are sent");
            };
            frames.extend(parcel.frames().map(|frame| frame.unwrap().to_vec()));
        }
        assert_eq!(unacknowledged.frames, frames.len() as u64);
        self.outgoing.forgive();
        frames
    }

    /// The link falls.
    pub(in crate::cluster) fn fall(self) {
        self.links.fall(&self.outgoing);
    }
}
