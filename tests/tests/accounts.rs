//! Registering and published keys under bad input and races.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::DeviceId;
use colloquy_protocol::limits::{DEVICES_PER_USER_MAX, NAME_MAX_CHARS};
use colloquy_protocol::rest::accounts::{ChangeProfile, LogIn, Profile, Register, Tokens, UserCard};
use colloquy_protocol::rest::devices::{ClaimKeys, ClaimedKeys};
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::device::DeviceKeys;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::rest::{Answer, PASSWORD, Rest};
use colloquy_tests::server::Server;
use futures_util::future::join_all;
use reqwest::Method;
use std::collections::BTreeSet;

const RACERS: usize = 16;
const PHONE: &str = "+4930123456789";
const OTHER_PHONE: &str = "+12025550143";

fn register(name: &str) -> Register {
    let email = Some(format!("{}@example.org", fresh_uuid().simple()));
    Register { phone: None, email, name: name.to_owned(), password: PASSWORD.to_owned() }
}

fn register_by_phone(name: &str, phone: &str) -> Register {
    Register { phone: Some(phone.to_owned()), email: None, ..register(name) }
}

async fn log_in_by_phone(rest: &Rest, phone: &str, password: &str) -> Answer {
    let log_in =
        LogIn { phone: Some(phone.to_owned()), email: None, agent_id: None, password: password.to_owned() };
    rest.post("/v1/logins", None, &log_in).await
}

/// In a query `+` is a space: it is sent as `%2B`.
async fn find_by_phone(rest: &Rest, phone: &str, token: &str) -> Answer {
    rest.get(&format!("/v1/users?phone={}", phone.replace('+', "%2B")), token).await
}

async fn change(rest: &Rest, token: &str, change: &ChangeProfile) -> Answer {
    let body = serde_json::to_string(change).expect("a change is json");
    rest.request(Method::PATCH, "/v1/me", Some(token), Some(body)).await
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
    let phone = Some(PHONE.to_owned());
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

#[tokio::test]
async fn somebody_known_by_a_phone_number_alone_is_found_and_logs_in_by_it() {
    let (server, rest) = start().await;
    server.secrets().add("phone", PHONE);
    let made = rest.post("/v1/accounts", None, &register_by_phone("Grace", PHONE)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let tokens: Tokens = made.read();
    let profile: Profile = rest.get("/v1/me", &tokens.access_token).await.read();
    assert_eq!((profile.phone.as_deref(), profile.email), (Some(PHONE), None));

    let again: Tokens = log_in_by_phone(&rest, PHONE, PASSWORD).await.read();
    assert_eq!(again.user_id, tokens.user_id);
    assert_ne!(again.login_id, tokens.login_id);
    let finder: Tokens = rest.post("/v1/accounts", None, &register("Finder")).await.read();
    let found = find_by_phone(&rest, PHONE, &finder.access_token).await;
    assert!(!found.body.contains(PHONE), "a card says a name, not how to reach it");
    let found: UserCard = found.read();
    assert_eq!((found.user_id, found.name.as_str()), (tokens.user_id, "Grace"));
    let nobody = find_by_phone(&rest, OTHER_PHONE, &finder.access_token).await;
    assert_eq!(nobody.refusal(), ErrorCode::UnknownUser);
}

#[tokio::test]
async fn a_wrong_password_and_a_number_nobody_has_are_told_alike() {
    let (_server, rest) = start().await;
    let made = rest.post("/v1/accounts", None, &register_by_phone("Grace", PHONE)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let wrong = log_in_by_phone(&rest, PHONE, "a wrong password").await.problem();
    let nobody = log_in_by_phone(&rest, OTHER_PHONE, PASSWORD).await.problem();
    assert_eq!(wrong.code, ErrorCode::InvalidCredentials);
    assert_eq!((wrong.detail, wrong.title), (nobody.detail, nobody.title));
}

#[tokio::test]
async fn a_phone_number_of_another_form_is_refused_by_its_field() {
    let (_server, rest) = start().await;
    let somebody: Tokens = rest.post("/v1/accounts", None, &register("Left")).await.read();
    for phone in ["", "4930123456789", "+0301234567", "+49 30 123456", "+123456", "+1234567890123456"] {
        let phone = phone.to_owned();
        let refused = [
            rest.post("/v1/accounts", None, &register_by_phone("Grace", &phone)).await,
            log_in_by_phone(&rest, &phone, PASSWORD).await,
            change(
                &rest,
                &somebody.access_token,
                &ChangeProfile { phone: Some(phone.clone()), ..ChangeProfile::default() },
            )
            .await,
        ];
        for answer in refused {
            let problem = answer.problem();
            assert_eq!((problem.code, problem.field.as_deref()), (ErrorCode::InvalidField, Some("phone")));
        }
    }
}

#[tokio::test]
async fn a_changed_phone_number_is_the_one_that_counts_and_the_old_one_is_free_again() {
    let (_server, rest) = start().await;
    let tokens: Tokens = rest.post("/v1/accounts", None, &register_by_phone("Grace", PHONE)).await.read();
    let to = |phone: &str| ChangeProfile { phone: Some(phone.to_owned()), ..ChangeProfile::default() };
    let profile: Profile = change(&rest, &tokens.access_token, &to(OTHER_PHONE)).await.read();
    assert_eq!((profile.phone.as_deref(), profile.name.as_str()), (Some(OTHER_PHONE), "Grace"));
    assert_eq!(log_in_by_phone(&rest, PHONE, PASSWORD).await.refusal(), ErrorCode::InvalidCredentials);
    let again: Tokens = log_in_by_phone(&rest, OTHER_PHONE, PASSWORD).await.read();
    assert_eq!(again.user_id, tokens.user_id);

    let next = rest.post("/v1/accounts", None, &register_by_phone("Heidi", PHONE)).await;
    assert_eq!(next.status, 201, "the old number is anybody's: {}", next.body);
    let next: Tokens = next.read();
    let taken = change(&rest, &next.access_token, &to(OTHER_PHONE)).await.problem();
    assert_eq!((taken.code, taken.field.as_deref()), (ErrorCode::PhoneTaken, Some("phone")));
    let taken = rest.post("/v1/accounts", None, &register_by_phone("Ivan", OTHER_PHONE)).await.problem();
    assert_eq!((taken.code, taken.field.as_deref()), (ErrorCode::PhoneTaken, Some("phone")));
    // One's own number again is no conflict, and a number can be added to an account that has none.
    let same: Profile = change(&rest, &next.access_token, &to(PHONE)).await.read();
    assert_eq!(same.phone.as_deref(), Some(PHONE));
    let by_email: Tokens = rest.post("/v1/accounts", None, &register("Judy")).await.read();
    let added: Profile = change(&rest, &by_email.access_token, &to("+33123456789")).await.read();
    assert!(added.email.is_some(), "what is left out stays as it is");
    let judy: Tokens = log_in_by_phone(&rest, "+33123456789", PASSWORD).await.read();
    assert_eq!(judy.user_id, by_email.user_id);
}
