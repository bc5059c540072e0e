//! Devices and their keys.

use colloquy_protocol::rest::devices::{ClaimedKeys, DeviceList, KeyCount, PublishKeys};
use colloquy_protocol::signing::KeyPurpose;
use serde_json::json;

use crate::fixture::{Device, Fixture};

#[tokio::test]
async fn a_device_is_registered_once_listed_and_claimed_from() {
    let fixture = Fixture::open().await;
    let (ann, bob) = (fixture.user("ann").await, fixture.user("bob").await);
    let phone = fixture.device(&ann, "phone", 1).await;
    let again = fixture.put("/v1/devices/phone", &ann.access_token, &phone.registration()).await;
    assert_eq!(again.json::<KeyCount>().one_time_key_count, 3);
    let path = format!("/v1/users/{}/devices", ann.user_id);
    let list: DeviceList = fixture.get(&path, &bob.access_token).await.json();
    assert_eq!((list.version, list.devices.len()), (1, 1));
    assert_eq!(list.devices[0].identity_key, phone.registration().identity_key);
    let path = format!("/v1/users/{}/keys/claim", ann.user_id);
    let claim = json!({"device_ids": ["phone", "unknown"]});
    let claimed: ClaimedKeys = fixture.post(&path, Some(&bob.access_token), &claim).await.json();
    assert_eq!(claimed.keys.len(), 1);
    assert!(!claimed.keys[0].fallback);
}

#[tokio::test]
async fn a_bad_signature_and_malformed_base64_are_told_apart() {
    let fixture = Fixture::open().await;
    let ann = fixture.user("ann").await;
    let phone = Device::new(ann.user_id, "phone", 1);
    let mut forged = phone.registration();
    forged.fallback_key = Device::new(ann.user_id, "laptop", 1).key(KeyPurpose::Fallback, "f", 201);
    let answer = fixture.put("/v1/devices/phone", &ann.access_token, &forged).await;
    assert_eq!(answer.problem(), (422, "bad_key_signature".into()));
    assert_eq!(answer.field().as_deref(), Some("fallback_key"));
    let mut malformed = phone.registration();
    malformed.identity_key = "not base64!".into();
    let answer = fixture.put("/v1/devices/phone", &ann.access_token, &malformed).await;
    assert_eq!(answer.problem(), (422, "invalid_field".into()));
    assert_eq!(answer.field().as_deref(), Some("identity_key"));
    let list = format!("/v1/users/{}/devices", ann.user_id);
    let list: DeviceList = fixture.get(&list, &ann.access_token).await.json();
    assert_eq!(list.version, 0, "nothing was registered");
}

#[tokio::test]
async fn a_malformed_device_id_in_the_path_is_refused_by_name() {
    let fixture = Fixture::open().await;
    let ann = fixture.user("ann").await;
    let phone = Device::new(ann.user_id, "phone", 1);
    for path in
        ["/v1/devices/a%20secret", "/v1/devices/%F0%9F%A6%80", &format!("/v1/devices/{}", "x".repeat(65))]
    {
        let answer = fixture.put(path, &ann.access_token, &phone.registration()).await;
        assert_eq!(answer.problem(), (422, "invalid_field".into()), "{path}");
        assert_eq!(answer.field().as_deref(), Some("device_id"));
        assert!(!answer.text().contains("secret"));
    }
}

#[tokio::test]
async fn a_log_in_speaks_for_one_device() {
    let fixture = Fixture::open().await;
    let ann = fixture.user("ann").await;
    fixture.device(&ann, "phone", 1).await;
    let laptop = Device::new(ann.user_id, "laptop", 2);
    let answer = fixture.put("/v1/devices/laptop", &ann.access_token, &laptop.registration()).await;
    assert_eq!(answer.problem(), (403, "device_mismatch".into()));
    let keys =
        PublishKeys { one_time_keys: vec![laptop.key(KeyPurpose::OneTime, "k9", 9)], fallback_key: None };
    let answer = fixture.post("/v1/devices/laptop/keys", Some(&ann.access_token), &keys).await;
    assert_eq!(answer.problem(), (403, "unknown_device".into()));
}

#[tokio::test]
async fn a_device_with_other_keys_needs_another_name() {
    let fixture = Fixture::open().await;
    let ann = fixture.user("ann").await;
    fixture.device(&ann, "phone", 1).await;
    let second = fixture.log_in("ann").await.json::<colloquy_protocol::rest::accounts::Tokens>();
    let impostor = Device::new(ann.user_id, "phone", 2);
    let answer = fixture.put("/v1/devices/phone", &second.access_token, &impostor.registration()).await;
    assert_eq!(answer.problem(), (409, "device_exists".into()));
}

#[tokio::test]
async fn one_time_keys_are_published_again_without_effect_and_reused_ids_are_refused() {
    let fixture = Fixture::open().await;
    let ann = fixture.user("ann").await;
    let phone = fixture.device(&ann, "phone", 1).await;
    let publish = async |key_id: &str, byte: u8| {
        let one_time_keys = vec![phone.key(KeyPurpose::OneTime, key_id, byte)];
        let keys = PublishKeys { one_time_keys, fallback_key: None };
        fixture.post("/v1/devices/phone/keys", Some(&ann.access_token), &keys).await
    };
    assert_eq!(publish("k9", 9).await.json::<KeyCount>().one_time_key_count, 4);
    assert_eq!(publish("k9", 9).await.json::<KeyCount>().one_time_key_count, 4);
    assert_eq!(publish("k9", 10).await.problem(), (409, "key_id_reused".into()));
}

#[tokio::test]
async fn a_removed_device_takes_its_log_in_with_it() {
    let fixture = Fixture::open().await;
    let ann = fixture.user("ann").await;
    let second = fixture.log_in("ann").await.json::<colloquy_protocol::rest::accounts::Tokens>();
    fixture.device(&ann, "phone", 1).await;
    let removed = fixture.delete("/v1/devices/phone", &second.access_token).await;
    assert_eq!(removed.status.as_u16(), 204);
    assert!(removed.body.is_empty());
    let revoked = fixture.get("/v1/me", &ann.access_token).await;
    assert_eq!(revoked.problem(), (401, "token_revoked".into()));
    let again = fixture.delete("/v1/devices/phone", &second.access_token).await;
    assert_eq!(again.problem(), (403, "unknown_device".into()));
}

#[tokio::test]
async fn nobody_has_no_devices() {
    let fixture = Fixture::open().await;
    let ann = fixture.user("ann").await;
    let nobody = "/v1/users/00000000-0000-7000-8000-000000000000";
    let answer = fixture.get(&format!("{nobody}/devices"), &ann.access_token).await;
    assert_eq!(answer.problem(), (404, "unknown_user".into()));
    let claim = json!({"device_ids": ["phone"]});
    let answer = fixture.post(&format!("{nobody}/keys/claim"), Some(&ann.access_token), &claim).await;
    assert_eq!(answer.problem(), (404, "unknown_user".into()));
}
