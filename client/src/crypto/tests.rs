//! Several devices in memory, and a directory that hands out their keys.

use std::collections::BTreeMap;

use colloquy_protocol::envelope::{CiphertextKind, Envelope, OwnedSealedContent};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, DeviceId, IdempotencyKey, UserId};
use colloquy_protocol::limits::{CIPHERTEXTS_MAX, DEVICE_ID_MAX_BYTES, FRAME_MAX_BYTES, ONE_TIME_KEYS_MAX};
use colloquy_protocol::rest::devices::{ClaimedKey, Device, DeviceList, SignedKey};
use uuid::{Builder, Uuid};

use super::opening::{DecryptionFailure, Expected, Opened, open};
use super::peer::SESSIONS_PER_DEVICE_MAX;
use super::plaintext::TEXT_MAX_BYTES;
use super::safety_number::DeviceFingerprint;
use super::sealing::{Draft, SealError, seal, text_room};
use super::*;

struct Party {
    account: DeviceAccount,
    published: Device,
    one_time_keys: Vec<SignedKey>,
    fallback_key: SignedKey,
    peers: BTreeMap<DeviceAddress, PeerDevice>,
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

fn conversation() -> ConversationId {
    ConversationId::of_pair(user(1), user(2))
}

fn key(n: u8) -> IdempotencyKey {
    IdempotencyKey::new(Builder::from_random_bytes([n; 16]).into_uuid()).unwrap()
}

fn text(text: &str) -> Body {
    Body::Text(text.into())
}

impl Party {
    fn new(owner: u128, device: &str) -> Self {
        let address = DeviceAddress { user_id: user(owner), device_id: DeviceId::new(device).unwrap() };
        let mut account = DeviceAccount::generate(address);
        let registration = account.registration("test");
        let shown = account.unpublished();
        account.mark_published(&shown);
        let published = Device {
            device_id: account.device_id().clone(),
            platform: registration.platform,
            identity_key: registration.identity_key,
            signing_key: registration.signing_key,
            identity_signature: registration.identity_signature,
            registered_at: 0,
        };
        let (one_time_keys, fallback_key) = (registration.one_time_keys, registration.fallback_key);
        Self { account, published, one_time_keys, fallback_key, peers: BTreeMap::new() }
    }

    fn meet(&mut self, other: &Self) {
        let peer = PeerDevice::published(other.account.user_id(), &other.published).unwrap();
        self.peers.insert(peer.address().clone(), peer);
    }

    fn claim(&mut self) -> ClaimedKey {
        let device_id = self.account.device_id().clone();
        match self.one_time_keys.pop() {
            Some(key) => ClaimedKey { device_id, key, fallback: false },
            None => ClaimedKey { device_id, key: self.fallback_key.clone(), fallback: true },
        }
    }

    fn open_session_with(&mut self, other: &mut Self) {
        let claimed = other.claim();
        self.peers.get_mut(other.account.address()).unwrap().open_session(&self.account, &claimed).unwrap();
    }

    fn seal(&mut self, number: u8, body: &Body) -> Result<Envelope, SealError> {
        let mut peers: Vec<PeerDevice> = std::mem::take(&mut self.peers).into_values().collect();
        let draft =
            Draft { conversation_id: conversation(), idempotency_key: key(number), body, only_for: None };
        let outcome = seal(&self.account.identity(), &mut peers, draft);
        self.peers = peers.into_iter().map(|peer| (peer.address().clone(), peer)).collect();
        outcome
    }

    fn send(&mut self, other: &mut Self, number: u8, body: &Body) -> OwnedSealedContent {
        if self.peers[other.account.address()].needs_key() {
            self.open_session_with(other);
        }
        content(&self.seal(number, body).unwrap(), other)
    }

    fn receive(&mut self, from: &Self, sealed: &OwnedSealedContent) -> Result<Opened, DecryptionFailure> {
        self.receive_in(conversation(), from, sealed)
    }

    fn receive_in(
        &mut self,
        conversation_id: ConversationId,
        from: &Self,
        sealed: &OwnedSealedContent,
    ) -> Result<Opened, DecryptionFailure> {
        let peer = self.peers.get_mut(from.account.address()).unwrap();
        let own = self.account.address().clone();
        let expected = Expected { conversation_id, idempotency_key: None };
        open(&own, Some(&mut self.account), peer, sealed, expected)
    }

    /// Through its stored form and back, as after every restart.
    fn restart(&mut self) {
        let pickle = rmp_serde::to_vec_named(&self.account.pickle()).unwrap();
        self.account = DeviceAccount::from_pickle(rmp_serde::from_slice(&pickle).unwrap());
        for peer in self.peers.values_mut() {
            let pickle = rmp_serde::to_vec_named(&peer.pickle()).unwrap();
            let ratchets = rmp_serde::to_vec_named(&peer.ratchets()).unwrap();
            let ratchets = rmp_serde::from_slice(&ratchets).unwrap();
            *peer = PeerDevice::from_pickle(rmp_serde::from_slice(&pickle).unwrap(), Some(ratchets));
        }
    }
}

fn content(envelope: &Envelope, to: &Party) -> OwnedSealedContent {
    let address = to.account.address();
    let sealed = envelope.sealed_for(address.user_id, &address.device_id).unwrap();
    OwnedSealedContent {
        algorithm: sealed.algorithm,
        sender_key: sealed.sender_key.to_owned(),
        kind: sealed.kind,
        body: sealed.body.to_owned(),
    }
}

fn pair() -> (Party, Party) {
    let (mut alice, mut bob) = (Party::new(1, "phone"), Party::new(2, "laptop"));
    alice.meet(&bob);
    bob.meet(&alice);
    (alice, bob)
}

/// A corrupted copy: the last characters hold the message's authentication code.
fn damaged(sealed: &OwnedSealedContent) -> OwnedSealedContent {
    let mut bytes = vodozemac::base64_decode(&sealed.body).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    OwnedSealedContent { body: vodozemac::base64_encode(bytes), ..sealed.clone() }
}

#[test]
fn two_devices_talk_in_both_directions_across_restarts() {
    let (mut alice, mut bob) = pair();
    for n in 0..6 {
        let body = text(&format!("to bob {n}"));
        let sealed = alice.send(&mut bob, n, &body);
        assert_eq!(bob.receive(&alice, &sealed).unwrap().body, body);
        let body = text(&format!("to alice {n}"));
        let sealed = bob.send(&mut alice, 100 + n, &body);
        assert_eq!(alice.receive(&bob, &sealed).unwrap().body, body);
        alice.restart();
        bob.restart();
    }
    assert_eq!(bob.peers[alice.account.address()].session_count(), 1);
}

#[test]
fn an_envelope_names_every_device_that_needs_a_key_before_any_ratchet_moves() {
    let (mut alice, mut bob) = pair();
    let mut tablet = Party::new(2, "tablet");
    alice.meet(&tablet);
    let Err(SealError::NeedKeys(needed)) = alice.seal(1, &text("x")) else { panic!("sealed without keys") };
    assert_eq!(needed, vec![bob.account.address().clone(), tablet.account.address().clone()]);
    alice.open_session_with(&mut bob);
    alice.open_session_with(&mut tablet);
    let envelope = alice.seal(1, &text("x")).unwrap();
    assert_eq!(envelope.check_form(), Ok(()));
    tablet.meet(&alice);
    let sealed = content(&envelope, &tablet);
    assert_eq!(tablet.receive(&alice, &sealed).unwrap().body, text("x"));
}

#[test]
fn messages_are_readable_out_of_order_and_without_the_first() {
    let (mut alice, mut bob) = pair();
    let sealed: Vec<_> = (0..5).map(|n| alice.send(&mut bob, n, &text(&n.to_string()))).collect();
    for n in [3_usize, 1, 4, 2] {
        assert_eq!(bob.receive(&alice, &sealed[n]).unwrap().body, text(&n.to_string()));
    }
}

#[test]
fn a_replayed_ciphertext_is_recognised_and_breaks_nothing() {
    let (mut alice, mut bob) = pair();
    let first = alice.send(&mut bob, 1, &text("once"));
    bob.receive(&alice, &first).unwrap();
    assert_eq!(bob.receive(&alice, &first), Err(DecryptionFailure::KeyGone));
    let reply = bob.send(&mut alice, 2, &text("reply"));
    alice.receive(&bob, &reply).unwrap();
    let second = alice.send(&mut bob, 3, &text("twice"));
    assert_eq!(second.kind, CiphertextKind::Normal);
    bob.receive(&alice, &second).unwrap();
    assert_eq!(bob.receive(&alice, &second), Err(DecryptionFailure::KeyGone));
    assert!(!bob.peers[alice.account.address()].is_wedged());
}

#[test]
fn a_message_whose_key_was_forgotten_calls_for_a_repair_and_leaves_the_session_whole() {
    let (mut alice, mut bob) = pair();
    let early = alice.send(&mut bob, 0, &text("early"));
    for n in 1..60 {
        let sealed = alice.send(&mut bob, n, &text("later"));
        if n > 50 {
            bob.receive(&alice, &sealed).unwrap();
        }
    }
    let failure = bob.receive(&alice, &early).unwrap_err();
    assert_eq!((failure, failure.calls_for_repair()), (DecryptionFailure::KeyGone, true));
    assert!(!bob.peers[alice.account.address()].is_wedged());
    let sealed = bob.send(&mut alice, 100, &text("again, please"));
    assert_eq!(sealed.kind, CiphertextKind::Normal, "the session goes on");
}

#[test]
fn what_fails_late_under_a_retired_session_leaves_the_new_one_whole() {
    let (mut alice, mut bob) = pair();
    let first = alice.send(&mut bob, 1, &text("hello"));
    bob.receive(&alice, &first).unwrap();
    let [lost, late, later] = [2, 3, 4].map(|n| alice.send(&mut bob, n, &text("lost")));
    assert_eq!(bob.receive(&alice, &damaged(&lost)), Err(DecryptionFailure::Corrupt));
    let repair = bob.send(&mut alice, 5, &Body::SessionRepair { message_ids: vec![] });
    assert_eq!(bob.receive(&alice, &damaged(&late)), Err(DecryptionFailure::Corrupt));
    assert!(!bob.peers[alice.account.address()].is_wedged(), "the new session has not been heard from yet");
    alice.receive(&bob, &repair).unwrap();
    let answer = alice.send(&mut bob, 6, &Body::Resend { items: vec![] });
    bob.receive(&alice, &answer).unwrap();
    assert_eq!(bob.receive(&alice, &damaged(&later)), Err(DecryptionFailure::Corrupt));
    assert!(!bob.peers[alice.account.address()].is_wedged(), "the new session is in use");
    let sealed = alice.send(&mut bob, 7, &text("lost"));
    assert_eq!(bob.receive(&alice, &damaged(&sealed)), Err(DecryptionFailure::Corrupt));
    assert!(bob.peers[alice.account.address()].is_wedged(), "this was of the new session itself");
}

#[test]
fn a_damaged_ciphertext_wedges_the_session_and_a_new_one_repairs_it() {
    let (mut alice, mut bob) = pair();
    let hello = alice.send(&mut bob, 1, &text("hello"));
    bob.receive(&alice, &hello).unwrap();
    let reply = bob.send(&mut alice, 2, &text("reply"));
    alice.receive(&bob, &reply).unwrap();
    // The chain is known from its first message on; before that, damage looks like an unknown session.
    let before = alice.send(&mut bob, 6, &text("before"));
    assert_eq!(bob.receive(&alice, &damaged(&before)), Err(DecryptionFailure::UnknownSession));
    bob.receive(&alice, &before).unwrap();
    let lost = alice.send(&mut bob, 3, &text("lost"));
    assert_eq!(bob.receive(&alice, &damaged(&lost)), Err(DecryptionFailure::Corrupt));
    assert!(bob.peers[alice.account.address()].is_wedged());
    // The repair comes under a new session, and the answer to it too.
    let repair = bob.send(&mut alice, 4, &Body::SessionRepair { message_ids: vec![] });
    assert_eq!(repair.kind, CiphertextKind::PreKey);
    alice.receive(&bob, &repair).unwrap();
    let again = alice.send(&mut bob, 5, &Body::Resend { items: vec![] });
    assert!(bob.receive(&alice, &again).is_ok());
    assert!(!bob.peers[alice.account.address()].is_wedged());
    assert_eq!(bob.peers[alice.account.address()].session_count(), 2);
    // What was on its way under the old session is still readable.
    assert_eq!(bob.receive(&alice, &lost).unwrap().body, text("lost"));
}

#[test]
fn a_device_that_lost_its_sessions_says_which_kind_of_failure_it_is() {
    let (mut alice, mut bob) = pair();
    let hello = alice.send(&mut bob, 1, &text("hello"));
    bob.receive(&alice, &hello).unwrap();
    let reply = bob.send(&mut alice, 2, &text("reply"));
    alice.receive(&bob, &reply).unwrap();
    let normal = alice.send(&mut bob, 3, &text("normal"));
    bob.meet(&alice);
    assert_eq!(bob.receive(&alice, &normal), Err(DecryptionFailure::UnknownSession));
    assert_eq!(bob.receive(&alice, &hello), Err(DecryptionFailure::MissingOneTimeKey));
}

#[test]
fn a_fallback_key_opens_sessions_when_one_time_keys_have_run_out() {
    let (mut alice, mut bob) = pair();
    bob.one_time_keys.clear();
    for n in 0..2 {
        alice.peers.get_mut(bob.account.address()).unwrap().wedge();
        let sealed = alice.send(&mut bob, n, &text("hello"));
        assert_eq!(bob.receive(&alice, &sealed).unwrap().body, text("hello"));
    }
}

#[test]
fn a_ciphertext_moved_to_another_conversation_sender_or_device_is_not_believed() {
    let (mut alice, mut bob) = pair();
    let sealed = alice.send(&mut bob, 1, &text("yes"));
    let elsewhere = ConversationId::of_pair(user(2), user(3));
    assert_eq!(bob.receive_in(elsewhere, &alice, &sealed), Err(DecryptionFailure::Moved));
    let mallory = Party::new(3, "phone");
    bob.meet(&mallory);
    let sealed = alice.send(&mut bob, 2, &text("yes"));
    assert_eq!(bob.receive(&mallory, &sealed), Err(DecryptionFailure::SenderKeyChanged));
    let mut forged = sealed;
    forged.sender_key = mallory.account.sender_key();
    assert_eq!(bob.receive(&mallory, &forged), Err(DecryptionFailure::SenderKeyChanged));
    let sealed = alice.send(&mut bob, 3, &text("yes"));
    let peer = bob.peers.get_mut(alice.account.address()).unwrap();
    let expected = Expected { conversation_id: conversation(), idempotency_key: Some(key(4)) };
    let own = bob.account.address().clone();
    let opened = open(&own, Some(&mut bob.account), peer, &sealed, expected);
    assert_eq!(opened, Err(DecryptionFailure::Moved));
}

#[test]
fn a_message_for_one_device_tells_the_others_nothing() {
    let (mut alice, mut bob) = pair();
    let mut tablet = Party::new(2, "tablet");
    tablet.meet(&alice);
    alice.meet(&tablet);
    alice.open_session_with(&mut bob);
    alice.open_session_with(&mut tablet);
    let mut peers: Vec<PeerDevice> = std::mem::take(&mut alice.peers).into_values().collect();
    let only = bob.account.address().clone();
    let draft = Draft {
        conversation_id: conversation(),
        idempotency_key: key(1),
        body: &text("for the laptop"),
        only_for: Some(&only),
    };
    let envelope = seal(&alice.account.identity(), &mut peers, draft).unwrap();
    let sealed = content(&envelope, &tablet);
    assert_eq!(tablet.receive(&alice, &sealed).unwrap().body, Body::Blank);
    let sealed = content(&envelope, &bob);
    assert_eq!(bob.receive(&alice, &sealed).unwrap().body, text("for the laptop"));
}

#[test]
fn keys_that_their_device_did_not_sign_are_refused() {
    let (mut alice, mut bob) = pair();
    let mallory = Party::new(3, "phone");
    let mut forged = bob.published.clone();
    forged.identity_key = mallory.published.identity_key;
    assert!(matches!(PeerDevice::published(user(2), &forged), Err(UntrustedKey::BadSignature)));
    assert!(matches!(PeerDevice::published(user(3), &bob.published), Err(UntrustedKey::BadSignature)));
    let mut claimed = bob.claim();
    claimed.fallback = true;
    let peer = alice.peers.get_mut(bob.account.address()).unwrap();
    assert_eq!(peer.open_session(&alice.account, &claimed), Err(UntrustedKey::BadSignature));
    claimed.fallback = false;
    assert_eq!(peer.open_session(&alice.account, &claimed), Ok(()));
}

#[test]
fn a_key_made_while_others_were_published_is_not_taken_for_published() {
    let Party { mut account, .. } = Party::new(1, "phone");
    account.refill(ONE_TIME_KEYS_MAX - 2);
    let on_its_way = account.unpublished();
    account.rotate_fallback_key();
    account.mark_published(&on_its_way);
    let left = account.unpublished();
    assert!(left.fallback_key.is_some());
    account.mark_published(&left);
    let left = account.unpublished();
    assert!(left.fallback_key.is_none() && left.one_time_keys.is_empty());
}

#[test]
fn a_text_for_many_devices_is_as_long_as_a_frame_can_hold() {
    assert_eq!([0, 1, 5].map(text_room), [TEXT_MAX_BYTES; 3]);
    let mut alice = Party::new(1, "phone");
    for count in 1..CIPHERTEXTS_MAX {
        let device = format!("{count:0>DEVICE_ID_MAX_BYTES$}");
        let mut other = Party::new(2, &device);
        alice.meet(&other);
        alice.open_session_with(&mut other);
        if ![5, 6, 12, CIPHERTEXTS_MAX - 1].contains(&count) {
            continue;
        }
        let room = text_room(count);
        assert!(room > 500, "{room}");
        let envelope = alice.seal(1, &text(&"x".repeat(room))).unwrap();
        let bytes = serde_json::to_vec(&envelope).unwrap().len();
        assert!((FRAME_MAX_BYTES / 2..=FRAME_MAX_BYTES - 512).contains(&bytes), "{count}: {bytes}");
    }
}

#[test]
fn sessions_with_one_device_are_bounded() {
    let (mut alice, mut bob) = pair();
    for n in 0..2 * u8::try_from(SESSIONS_PER_DEVICE_MAX).unwrap() {
        alice.peers.get_mut(bob.account.address()).unwrap().wedge();
        let sealed = alice.send(&mut bob, n, &text("hello"));
        bob.receive(&alice, &sealed).unwrap();
    }
    assert_eq!(bob.peers[alice.account.address()].session_count(), SESSIONS_PER_DEVICE_MAX);
}

#[test]
fn a_change_of_known_devices_is_told_and_the_first_sight_is_not() {
    let (alice, bob) = pair();
    let list = |devices: &[&Party]| DeviceList {
        user_id: user(2),
        version: 1,
        devices: devices.iter().map(|party| party.published.clone()).collect(),
        former: Vec::new(),
    };
    let own = alice.account.address();
    let first = reconcile(Vec::new(), &list(&[&bob]), own, true);
    assert!(first.changes.is_empty() && first.peers.len() == 1);
    let tablet = Party::new(2, "tablet");
    let second = reconcile(first.peers, &list(&[&bob, &tablet]), own, false);
    let kinds = |outcome: &Reconciled| outcome.changes.iter().map(|c| c.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&second), vec![IdentityChangeKind::Added]);
    let reinstalled = Party::new(2, "laptop");
    let third = reconcile(second.peers, &list(&[&reinstalled, &tablet]), own, false);
    assert_eq!(kinds(&third), vec![IdentityChangeKind::Replaced]);
    let fourth = reconcile(third.peers, &list(&[&reinstalled]), own, false);
    assert_eq!(kinds(&fourth), vec![IdentityChangeKind::Removed]);
    let removed: Vec<bool> = fourth.peers.iter().map(PeerDevice::is_removed).collect();
    assert_eq!(removed.iter().filter(|removed| **removed).count(), 1);
    let fifth = reconcile(fourth.peers, &list(&[&reinstalled]), own, false);
    assert!(fifth.changes.is_empty(), "a removal is told once");
    let mut forged = tablet.published.clone();
    forged.signing_key = alice.published.signing_key.clone();
    let forged = DeviceList { user_id: user(2), version: 2, devices: vec![forged], former: Vec::new() };
    assert_eq!(reconcile(Vec::new(), &forged, own, true).untrusted, vec![tablet.published.device_id]);
}

#[test]
fn the_first_other_device_of_a_user_who_had_none_is_told() {
    let (alice, _) = pair();
    let tablet = Party::new(1, "tablet");
    let list = |devices: &[&Party]| DeviceList {
        user_id: user(1),
        version: 1,
        devices: devices.iter().map(|party| party.published.clone()).collect(),
        former: Vec::new(),
    };
    let own = alice.account.address();
    let alone = reconcile(Vec::new(), &list(&[&alice]), own, true);
    assert!(alone.changes.is_empty() && alone.peers.is_empty());
    let joined = reconcile(alone.peers, &list(&[&alice, &tablet]), own, false);
    assert_eq!(joined.changes[0].kind, IdentityChangeKind::Added);
}

#[test]
fn a_removed_device_can_still_be_read_and_is_never_written_to() {
    let (mut alice, mut bob) = pair();
    let sealed = alice.send(&mut bob, 1, &text("sent before it was removed"));
    bob.peers.get_mut(alice.account.address()).unwrap().set_removed(true);
    assert!(bob.receive(&alice, &sealed).is_ok());
    assert!(bob.peers[alice.account.address()].is_removed());
}

#[test]
fn a_device_that_was_removed_before_it_was_met_is_told_once_and_with_other_keys_again() {
    let (alice, bob) = pair();
    let (gone, forged) = (Party::new(2, "gone"), Party::new(2, "forged"));
    let mut unsigned = forged.published;
    unsigned.signing_key = alice.published.signing_key.clone();
    let list = |former: Vec<Device>| DeviceList {
        user_id: user(2),
        version: 1,
        devices: vec![bob.published.clone()],
        former,
    };
    let own = alice.account.address();
    let first = reconcile(Vec::new(), &list(vec![gone.published.clone(), unsigned]), own, true);
    assert_eq!(first.changes.len(), 1, "also at first sight");
    let IdentityChange { address, kind } = &first.changes[0];
    assert_eq!((address, *kind), (gone.account.address(), IdentityChangeKind::Former));
    assert!(first.untrusted.is_empty(), "nothing is written to it, so it is in nobody's way");
    let removed = |outcome: &Reconciled| outcome.peers.iter().filter(|peer| peer.is_removed()).count();
    assert_eq!((first.peers.len(), removed(&first)), (2, 1));
    let second = reconcile(first.peers, &list(vec![gone.published]), own, false);
    assert!(second.changes.is_empty());
    let reinstalled = Party::new(2, "gone");
    let third = reconcile(second.peers, &list(vec![reinstalled.published]), own, false);
    assert_eq!(third.changes[0].kind, IdentityChangeKind::Replaced);
    assert_eq!((third.peers.len(), removed(&third)), (2, 1));
}

#[test]
fn both_sides_see_the_same_safety_number_until_a_key_changes() {
    let print = |party: &Party| {
        let keys = party.account.identity_keys();
        DeviceFingerprint { identity_key: keys.curve25519, signing_key: keys.ed25519 }
    };
    let (alice, bob) = pair();
    let tablet = Party::new(2, "tablet");
    let (a, b, t) = (print(&alice), print(&bob), print(&tablet));
    let one_side = SafetyNumber::between((user(1), &[a]), (user(2), &[b, t]));
    let other_side = SafetyNumber::between((user(2), &[t, b]), (user(1), &[a]));
    assert_eq!(one_side, other_side);
    assert_eq!(one_side.digits().len(), 60);
    assert!(one_side.digits().bytes().all(|digit| digit.is_ascii_digit()));
    assert_eq!(one_side.to_string().split(' ').count(), 12);
    assert_ne!(one_side, SafetyNumber::between((user(1), &[a]), (user(2), &[b])));
    assert_ne!(one_side, SafetyNumber::between((user(1), &[a]), (user(3), &[b, t])));
}

#[test]
fn debug_prints_hold_no_keys() {
    let (alice, bob) = pair();
    let account = format!("{:?} {:?}", alice.account, alice.account.pickle());
    let peer = &alice.peers[bob.account.address()];
    let peer = format!("{peer:?} {:?} {:?}", peer.pickle(), peer.ratchets());
    assert!(!account.contains(&alice.account.sender_key()) && !peer.contains(&bob.account.sender_key()));
}
