//! Lists that come late, and users whose devices come and go.

use colloquy_protocol::limits::DEVICES_PER_USER_MAX;
use colloquy_protocol::rest::devices::Device;

use super::desk::{Desk, address, published, user};
use crate::crypto::DeviceAccount;
use crate::event::Event;
use crate::message::ShownContent;
use crate::store::peers::REMOVED_PER_USER_MAX;

#[test]
fn an_older_device_list_does_not_win() {
    let mut desk = Desk::of_two();
    let mut older = desk.list(2);
    older.version -= 1;
    older.devices.clear();
    desk.learn(0, &older);
    let number = desk.text(0, "hello");
    assert_eq!(desk.deliver(1, [number]).events.len(), 1);
}

#[test]
fn devices_long_gone_crowd_out_none_that_is_there() {
    let mut desk = Desk::of_two();
    let mut list = desk.list(2);
    let laptop = list.devices[0].clone();
    let passing = |name: String| published(&mut DeviceAccount::generate(address(2, &name))).0;
    for round in 0..=REMOVED_PER_USER_MAX / (DEVICES_PER_USER_MAX - 1) + 1 {
        let names = (1..DEVICES_PER_USER_MAX).map(|n| format!("passing-{round}-{n}"));
        let devices: Vec<Device> = names.map(passing).collect();
        list.version += 1;
        list.devices = [vec![laptop.clone()], devices].concat();
        desk.learn(0, &list);
    }
    list.version += 1;
    list.devices = vec![laptop];
    desk.learn(0, &list);
    let known = desk.seats[0].store.read(|tx| tx.peers(user(2))).unwrap();
    assert_eq!(known.len(), REMOVED_PER_USER_MAX + 1);
    assert_eq!(known.iter().filter(|peer| !peer.is_removed()).count(), 1);
    let number = desk.text(0, "hello");
    assert_eq!(desk.deliver(1, [number]).events.len(), 1);
}

/// Found by seed 65 with 5,500 texts, and by seed 31828095484.
#[test]
fn what_a_device_wrote_before_it_was_removed_is_read_by_one_that_never_met_it() {
    let mut desk = Desk::of_two();
    let tablet = desk.sit_unseen(1, "tablet", Some(1));
    let number = desk.text(tablet, "written before I was removed");
    desk.remove(tablet);
    assert_eq!(desk.deliver(1, [number]).blocked_on, Some(user(1)));
    desk.learn(1, &desk.list(1));
    let [Event::MessageReceived(message)] = &desk.deliver(1, [number]).events[..] else {
        panic!("it is read")
    };
    assert_eq!(message.content, ShownContent::Text("written before I was removed".to_owned()));
    let answer = desk.text(1, "nothing is written to it any more");
    assert!(desk.shown(answer, 0).content.is_some() && desk.shown(answer, tablet).content.is_none());
}
