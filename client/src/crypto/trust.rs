//! Pinning: the keys a device showed first are the keys it has (trust on first use).
//!
//! A server can name any device in a list. It cannot do so unseen: whatever changes about a user whose devices
//! are known is an [`IdentityChange`], and changes the safety number.

use colloquy_protocol::ids::{DeviceAddress, DeviceId};
use colloquy_protocol::limits::{DEVICES_PER_USER_MAX, FORMER_DEVICES_PER_USER_MAX};
use colloquy_protocol::rest::devices::DeviceList;

use super::peer::PeerDevice;

/// What changed about a user's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityChange {
    /// The device.
    pub address: DeviceAddress,
    /// How it changed.
    pub kind: IdentityChangeKind,
}

/// How a known user's device changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityChangeKind {
    /// A device that was not there before.
    Added,
    /// A known device id with other keys: set up anew, or somebody else's.
    Replaced,
    /// A device that is there no longer.
    Removed,
    /// A device that was removed before this one heard of it. What it wrote is read. Told of at first sight too: it
    /// leaves the list one day, and then nothing else would say that it was ever believed.
    Former,
}

/// The outcome of comparing a device list with what is known.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Every device to be written back, the removed ones too.
    pub peers: Vec<PeerDevice>,
    /// What a person should be told. Empty the first time a user is seen.
    pub changes: Vec<IdentityChange>,
    /// Devices whose keys are not what they signed; nothing is ever encrypted for them.
    pub untrusted: Vec<DeviceId>,
}

/// Compares `list` with the `known` devices of that user (removed ones too). `own` is left out, if it is listed.
/// `is_first` if no list of that user was ever seen: knowing no device does not say so, because the list of this
/// device's own user may name no other. A list of more than [`DEVICES_PER_USER_MAX`] is read no further, nor one of more than
/// [`FORMER_DEVICES_PER_USER_MAX`] former ones.
#[must_use]
pub fn reconcile(
    known: Vec<PeerDevice>,
    list: &DeviceList,
    own: &DeviceAddress,
    is_first: bool,
) -> Reconciled {
    let mut known = known;
    let mut outcome = Reconciled::default();
    for device in list.devices.iter().take(DEVICES_PER_USER_MAX) {
        if list.user_id == own.user_id && device.device_id == own.device_id {
            continue;
        }
        let before = known
            .iter()
            .position(|peer| peer.address().device_id == device.device_id)
            .map(|index| known.swap_remove(index));
        let Ok(published) = PeerDevice::published(list.user_id, device) else {
            outcome.untrusted.push(device.device_id.clone());
            outcome.peers.extend(before);
            continue;
        };
        let (peer, change) = match before {
            None => (published, (!is_first).then_some(IdentityChangeKind::Added)),
            Some(mut pinned) if is_same_identity(&pinned, &published) => {
                let came_back = pinned.is_removed().then_some(IdentityChangeKind::Added);
                pinned.set_removed(false);
                (pinned, came_back)
            }
            // Sessions with the old keys are dropped with them: they belong to another device.
            Some(_) => (published, Some(IdentityChangeKind::Replaced)),
        };
        if let Some(kind) = change {
            outcome.changes.push(IdentityChange { address: peer.address().clone(), kind });
        }
        outcome.peers.push(peer);
    }
    for device in list.former.iter().take(FORMER_DEVICES_PER_USER_MAX) {
        let is_it = |peer: &PeerDevice| peer.address().device_id == device.device_id;
        let is_own = list.user_id == own.user_id && device.device_id == own.device_id;
        // What a device has not signed is believed neither while it is there nor afterwards.
        let Ok(mut former) = PeerDevice::published(list.user_id, device) else { continue };
        if is_own || outcome.peers.iter().any(is_it) {
            continue;
        }
        let kind = match known.iter().position(is_it) {
            Some(index) if is_same_identity(&known[index], &former) => continue,
            Some(index) => {
                known.swap_remove(index);
                IdentityChangeKind::Replaced
            }
            None => IdentityChangeKind::Former,
        };
        former.set_removed(true);
        outcome.changes.push(IdentityChange { address: former.address().clone(), kind });
        outcome.peers.push(former);
    }
    for mut gone in known {
        if !gone.is_removed() {
            gone.set_removed(true);
            let address = gone.address().clone();
            outcome.changes.push(IdentityChange { address, kind: IdentityChangeKind::Removed });
        }
        outcome.peers.push(gone);
    }
    outcome
}

fn is_same_identity(a: &PeerDevice, b: &PeerDevice) -> bool {
    a.identity_key() == b.identity_key() && a.signing_key() == b.signing_key()
}
