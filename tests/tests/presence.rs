//! Who is here: told to those who asked and share a conversation, and to nobody else.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::frame::client::{ClientFrame, PresenceSubscribe};
use colloquy_protocol::frame::server::{Presence, ServerFrame};
use colloquy_protocol::ids::UserId;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::RawClient;

async fn subscribe(client: &mut RawClient, user_id: UserId) {
    client.send(&ClientFrame::PresenceSubscribe(PresenceSubscribe { user_ids: vec![user_id] })).await;
}

async fn expect_status(client: &mut RawClient, user_id: UserId, status: PresenceStatus) -> Presence {
    client
        .expect("presence", |frame| match frame {
            ServerFrame::Presence { payload } if payload.user_id == user_id && payload.status == status => {
                Some(*payload)
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_watcher_sees_somebody_come_and_go() {
    let pair = Pair::start().await;
    let mut ada = pair.connect(&pair.ada).await;
    ada.send_many(&pair.ada, &[&pair.ben], 1).await;
    subscribe(&mut ada, pair.ben.user_id).await;
    expect_status(&mut ada, pair.ben.user_id, PresenceStatus::Offline).await;

    let ben = pair.connect(&pair.ben).await;
    expect_status(&mut ada, pair.ben.user_id, PresenceStatus::Online).await;
    ben.close().await;
    let gone = expect_status(&mut ada, pair.ben.user_id, PresenceStatus::Offline).await;
    assert!(gone.last_seen.is_some());
}

#[tokio::test]
async fn somebody_with_two_devices_is_gone_when_the_last_one_is() {
    let pair = Pair::start().await;
    let tablet = pair.rest.add_device(&pair.ben, "ben-tablet").await;
    let mut ada = pair.connect(&pair.ada).await;
    let message = ada.send_message(&pair.ada, &[&pair.ben, &tablet], "hello").await;
    ada.expect_ack(&message).await;
    let ben = pair.connect(&pair.ben).await;
    let on_tablet = pair.connect(&tablet).await;
    subscribe(&mut ada, pair.ben.user_id).await;
    expect_status(&mut ada, pair.ben.user_id, PresenceStatus::Online).await;

    ben.close().await;
    ada.heartbeat().await;
    let is_gone = |frame: &ServerFrame| matches!(frame, ServerFrame::Presence { payload } if payload.status == PresenceStatus::Offline);
    assert!(!ada.has_seen(is_gone), "the tablet is still here");
    on_tablet.close().await;
    expect_status(&mut ada, pair.ben.user_id, PresenceStatus::Offline).await;
}

#[tokio::test]
async fn a_stranger_learns_nothing_about_somebody_they_share_no_conversation_with() {
    let pair = Pair::start().await;
    let mut stranger = pair.connect(&pair.ada).await;
    subscribe(&mut stranger, pair.ben.user_id).await;
    stranger.expect_refusal(ErrorCode::UnknownUser).await;
    let ben = pair.connect(&pair.ben).await;
    ben.close().await;
    stranger.heartbeat().await;
    let told = |frame: &ServerFrame| matches!(frame, ServerFrame::Presence { .. });
    assert!(!stranger.has_seen(told), "AUTHZ: presence goes to those who share a conversation");
}

#[tokio::test]
async fn after_unsubscribing_nothing_more_is_told() {
    let pair = Pair::start().await;
    let mut ada = pair.connect(&pair.ada).await;
    ada.send_many(&pair.ada, &[&pair.ben], 1).await;
    subscribe(&mut ada, pair.ben.user_id).await;
    expect_status(&mut ada, pair.ben.user_id, PresenceStatus::Offline).await;
    let nobody = PresenceSubscribe { user_ids: vec![pair.ben.user_id] };
    ada.send(&ClientFrame::PresenceUnsubscribe(nobody)).await;
    ada.heartbeat().await;
    let mut ben = pair.connect(&pair.ben).await;
    let message = ben.send_message(&pair.ben, &[&pair.ada], "hello").await;
    ben.expect_ack(&message).await;
    ada.expect_message().await;
    ada.heartbeat().await;
    assert!(!ada.has_seen(|frame| matches!(frame, ServerFrame::Presence { .. })));
}
