//! What waits to be sent to other pods: one bounded queue for each pod that can be reached.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use colloquy_storage::model::live::PodId;
use tokio::sync::mpsc;

/// Frames that may wait for one pod (BOUND).
const WAITING_MAX_FRAMES: usize = 8192;
/// The largest frame, bytes: a message of the largest size, with room.
const FRAME_MAX_BYTES: usize = 1024 * 1024;

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The pod cannot be reached.
    NoLink,
    /// Too much waits for it.
    Full,
    /// The frame is larger than any may be.
    TooLarge,
}

/// Sends to every pod that can be reached. Whoever carries the frames attaches a link and takes them out of it.
#[derive(Clone, Debug, Default)]
pub struct Links(Arc<ArcSwap<HashMap<PodId, mpsc::Sender<Vec<u8>>>>>);

impl Links {
    /// Puts a frame into a pod's queue. It may be lost with the link; frames of one link arrive in order.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn send(&self, to: &PodId, frame: Vec<u8>) -> Result<(), Unsent> {
        if frame.len() > FRAME_MAX_BYTES {
            return Err(Unsent::TooLarge);
        }
        let links = self.0.load();
        let link = links.get(to).ok_or(Unsent::NoLink)?;
        link.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unsent::Full,
            mpsc::error::TrySendError::Closed(_) => Unsent::NoLink,
        })
    }

    /// A link to a pod stands: what is sent from now on comes out here. Replaces an earlier link.
    #[must_use]
    pub fn attach(&self, pod_id: &PodId) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX_FRAMES);
        self.0.rcu(|links| {
            let mut links = HashMap::clone(links);
            links.insert(pod_id.clone(), sender.clone());
            links
        });
        receiver
    }

    /// The link to a pod is gone, and what waited in it.
    pub fn detach(&self, pod_id: &PodId) {
        self.0.rcu(|links| {
            let mut links = HashMap::clone(links);
            links.remove(pod_id);
            links
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_of_the_newest_link_in_order_and_up_to_a_bound() {
        let (links, pod) = (Links::default(), PodId::new("b").unwrap());
        assert_eq!(links.send(&pod, vec![0]), Err(Unsent::NoLink));
        let mut old = links.attach(&pod);
        links.send(&pod, vec![1]).unwrap();
        let mut new = links.attach(&pod);
        links.send(&pod, vec![2]).unwrap();
        links.send(&pod, vec![3]).unwrap();
        assert_eq!((new.try_recv(), new.try_recv()), (Ok(vec![2]), Ok(vec![3])));
        assert_eq!(old.try_recv(), Ok(vec![1]));
        assert!(old.try_recv().is_err());
        for _ in 0..WAITING_MAX_FRAMES {
            links.send(&pod, Vec::new()).unwrap();
        }
        assert_eq!(links.send(&pod, Vec::new()), Err(Unsent::Full));
        assert_eq!(links.send(&pod, vec![0; FRAME_MAX_BYTES + 1]), Err(Unsent::TooLarge));
        links.detach(&pod);
        assert_eq!(links.send(&pod, Vec::new()), Err(Unsent::NoLink));
    }
}
