//! Registering and published keys under bad input and races.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::DeviceId;
use colloquy_protocol::limits::{DEVICES_PER_USER_MAX, NAME_MAX_CHARS};
use colloquy_protocol::rest::accounts::{Profile, Register, Tokens};
use colloquy_protocol::rest::devices::{ClaimKeys, ClaimedKeys};
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::device::DeviceKeys;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::rest::{PASSWORD, Rest};
use colloquy_tests::server::Server;
use futures_util::future::join_all;
use std::collections::BTreeSet;

const RACERS: usize = 16;

fn register(name: &str) -> Register {
    let email = Some(format!("{}@example.org", fresh_uuid().simple()));
    Register { phone: None, email, name: name.to_owned(), password: PASSWORD.to_owned() }
}

async fn start() -> (Server, Rest) {
    let server = Server::start(ServerOptions::default()).await;
    let rest = server.rest();
    (server, rest)
}

#[tokio::test]
async fn an_empty_or_overlong_name_is_refused_by_its_field() {
    let (_server, rest) = start().await;
    for name in ["", "   ", "\u{1f98a}".repeat(NAME_MAX_CHARS + 1).as_str()] {
        let problem = rest.post("/v1/accounts", None, &register(name)).await.problem();
        assert_eq!(problem.code, ErrorCode::InvalidField, "{name:?}");
        assert_eq!(problem.field.as_deref(), Some("name"));
    }
}

#[tokio::test]
async fn a_name_of_four_byte_characters_reads_back_as_it_was_written() {
    let (_server, rest) = start().await;
    for name in ["\u{1f98a}".repeat(NAME_MAX_CHARS), "\u{20bb7}\u{91ce}\u{5bb6} \u{1d49c}da".to_owned()] {
        let tokens: Tokens = rest.post("/v1/accounts", None, &register(&name)).await.read();
        let profile: Profile = rest.get("/v1/me", &tokens.access_token).await.read();
        assert_eq!(profile.name, name);
    }
}

#[tokio::test]
async fn of_many_registrations_with_one_email_at_once_one_succeeds() {
    let (_server, rest) = start().await;
    let body = register("Left");
    let racing = (0..RACERS).map(|_| rest.post("/v1/accounts", None, &body));
    let answers = join_all(racing).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|answer| answer.refusal() == ErrorCode::EmailTaken));
}

#[tokio::test]
async fn of_many_registrations_with_one_phone_at_once_one_succeeds() {
    let (_server, rest) = start().await;
    let phone = Some("+4930123456789".to_owned());
    let bodies: Vec<Register> =
        (0..RACERS).map(|_| Register { phone: phone.clone(), ..register("Left") }).collect();
    let answers = join_all(bodies.iter().map(|body| rest.post("/v1/accounts", None, body))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|answer| answer.refusal() == ErrorCode::PhoneTaken));
    // The losers' email addresses were not taken on the way.
    let again: Vec<u16> = join_all(bodies.iter().map(|body| {
        let alone = Register { phone: None, ..body.clone() };
        let rest = rest.clone();
        async move { rest.post("/v1/accounts", None, &alone).await.status }
    }))
    .await;
    assert_eq!(again.iter().filter(|status| **status == 201).count(), RACERS - 1);
}

#[tokio::test]
async fn a_one_time_key_is_claimed_once_and_then_the_fallback_key_is_handed_out() {
    let pair = Pair::start().await;
    let claim = ClaimKeys { device_ids: vec![pair.right.device_id.clone()] };
    let path = format!("/v1/users/{}/keys/claim", pair.right.user_id);
    let token = Some(pair.left.tokens.access_token.as_str());
    let answers = join_all((0..RACERS).map(|_| pair.rest.post(&path, token, &claim))).await;
    let mut one_time = BTreeSet::new();
    let mut fallbacks = 0;
    for answer in answers {
        let claimed: ClaimedKeys = answer.read();
        assert_eq!(claimed.keys.len(), 1);
        match claimed.keys[0].fallback {
            true => fallbacks += 1,
            false => assert!(one_time.insert(claimed.keys[0].key.key.clone()), "handed out twice"),
        }
    }
    assert_eq!((one_time.len(), fallbacks), (2, RACERS - 2));
}

#[tokio::test]
async fn a_key_whose_signature_does_not_verify_is_refused() {
    let pair = Pair::start().await;
    let tokens = pair.rest.log_in(&pair.left.email).await;
    let device_id = DeviceId::new("left-laptop").unwrap();
    let mut registration = DeviceKeys::generate().registration(tokens.user_id, &device_id, 1);
    registration.one_time_keys[0].key = registration.fallback_key.key.clone();
    let answer = pair.rest.put("/v1/devices/left-laptop", &tokens.access_token, &registration).await;
    assert_eq!(answer.refusal(), ErrorCode::BadKeySignature);
}

#[tokio::test]
async fn a_user_has_at_most_so_many_devices() {
    let pair = Pair::start().await;
    for n in 1..DEVICES_PER_USER_MAX {
        pair.rest.add_device(&pair.left, &format!("device-{n}")).await;
    }
    let tokens = pair.rest.log_in(&pair.left.email).await;
    let device_id = DeviceId::new("one-too-many").unwrap();
    let registration = DeviceKeys::generate().registration(tokens.user_id, &device_id, 1);
    let answer = pair.rest.put("/v1/devices/one-too-many", &tokens.access_token, &registration).await;
    assert_eq!(answer.refusal(), ErrorCode::TooManyDevices);
}
