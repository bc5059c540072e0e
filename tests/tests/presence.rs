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
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    subscribe(&mut left, pair.right.user_id).await;
    expect_status(&mut left, pair.right.user_id, PresenceStatus::Offline).await;

    let right = pair.connect(&pair.right).await;
    expect_status(&mut left, pair.right.user_id, PresenceStatus::Online).await;
    right.close().await;
    let gone = expect_status(&mut left, pair.right.user_id, PresenceStatus::Offline).await;
    assert!(gone.last_seen.is_some());
}

#[tokio::test]
async fn somebody_with_two_devices_is_gone_when_the_last_one_is() {
    let pair = Pair::start().await;
    let tablet = pair.rest.add_device(&pair.right, "right-tablet").await;
    let mut left = pair.connect(&pair.left).await;
    let message = left.send_message(&pair.left, &[&pair.right, &tablet], "hello").await;
    left.expect_ack(&message).await;
    let right = pair.connect(&pair.right).await;
    let on_tablet = pair.connect(&tablet).await;
    subscribe(&mut left, pair.right.user_id).await;
    expect_status(&mut left, pair.right.user_id, PresenceStatus::Online).await;

    right.close().await;
    left.heartbeat().await;
    let is_gone = |frame: &ServerFrame| matches!(frame, ServerFrame::Presence { payload } if payload.status == PresenceStatus::Offline);
    assert!(!left.has_seen(is_gone), "the tablet is still here");
    on_tablet.close().await;
    expect_status(&mut left, pair.right.user_id, PresenceStatus::Offline).await;
}

#[tokio::test]
async fn a_stranger_learns_nothing_about_somebody_they_share_no_conversation_with() {
    let pair = Pair::start().await;
    let mut stranger = pair.connect(&pair.left).await;
    subscribe(&mut stranger, pair.right.user_id).await;
    stranger.expect_refusal(ErrorCode::UnknownUser).await;
    let right = pair.connect(&pair.right).await;
    right.close().await;
    stranger.heartbeat().await;
    let told = |frame: &ServerFrame| matches!(frame, ServerFrame::Presence { .. });
    assert!(!stranger.has_seen(told), "AUTHZ: presence goes to those who share a conversation");
}

#[tokio::test]
async fn after_unsubscribing_nothing_more_is_told() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    subscribe(&mut left, pair.right.user_id).await;
    expect_status(&mut left, pair.right.user_id, PresenceStatus::Offline).await;
    let nobody = PresenceSubscribe { user_ids: vec![pair.right.user_id] };
    left.send(&ClientFrame::PresenceUnsubscribe(nobody)).await;
    left.heartbeat().await;
    let mut right = pair.connect(&pair.right).await;
    let message = right.send_message(&pair.right, &[&pair.left], "hello").await;
    right.expect_ack(&message).await;
    left.expect_message().await;
    left.heartbeat().await;
    assert!(!left.has_seen(|frame| matches!(frame, ServerFrame::Presence { .. })));
}
