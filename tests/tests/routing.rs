//! Which agent a message goes to, asked over REST and by the real SDK.

use colloquy_client::{Registration, RouteHints};
use colloquy_protocol::agent::{AgentId, AgentProfile, Capability, Intent, IntentLabel};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::rest::routes::{AskRoute, Route, RouteLevel};
use colloquy_tests::DEADLINE;
use colloquy_tests::agent::Agent;
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::device::Device;
use colloquy_tests::metrics::sum;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::raw_client::RawClient;
use colloquy_tests::rest::PASSWORD;
use colloquy_tests::sdk;
use colloquy_tests::server::Server;
use colloquy_tests::sidecar::AgentService;
use serde_json::json;
use tokio::time::{interval, timeout};

const NOWHERE: &str = "http://127.0.0.1:9/";

fn profile(name: &str, label: &str, examples: &[&str]) -> AgentProfile {
    let examples = examples.iter().map(|example| (*example).to_owned()).collect();
    let intents = vec![Intent { label: IntentLabel::new(label).expect("it is plain"), examples }];
    AgentProfile { intents, ..AgentProfile::new(name, NOWHERE) }
}

/// A server with a default agent, one that knows opening hours, and one that can do triage; and somebody who asks.
struct Town {
    server: Server,
    bruno: Agent,
    clerk: Agent,
    person: Device,
}

impl Town {
    async fn with(options: ServerOptions) -> Self {
        let server = Server::start(options).await;
        let bruno = Agent::register(&server, "agent-bruno", NOWHERE).await;
        let clerk = profile("Clerk", "opening-hours", &["when are you open", "what are your opening hours"]);
        let clerk = Agent::register_with(&server, "agent-clerk", clerk).await;
        let mut doctor = profile("Doctor", "symptom", &["my head hurts", "I have a fever"]);
        doctor.capabilities.push(Capability::new("triage").expect("it is plain"));
        Agent::register_with(&server, "agent-doctor", doctor).await;
        let person = server.rest().register_user("Ann", "phone").await;
        let town = Self { server, bruno, clerk, person };
        town.knows("agent-doctor").await;
        town
    }

    /// The server looks every now and then which agents there are.
    async fn knows(&self, name: &str) {
        let asked = AskRoute { agent_id: AgentId::new(name).ok(), ..AskRoute::default() };
        let known = async {
            let mut look = interval(std::time::Duration::from_millis(50));
            while self.ask(&asked).await.status != 200 {
                look.tick().await;
            }
        };
        timeout(DEADLINE, known).await.expect("the server finds its agents");
    }

    async fn ask(&self, asked: &AskRoute) -> colloquy_tests::rest::Answer {
        self.server.rest().post("/v1/route", Some(&self.person.tokens.access_token), asked).await
    }

    async fn route(&self, asked: AskRoute) -> (String, RouteLevel) {
        let route: Route = self.ask(&asked).await.read();
        (route.agent_id.to_string(), route.level)
    }
}

fn text(text: &str) -> AskRoute {
    AskRoute { text: Some(text.to_owned()), ..AskRoute::default() }
}

#[tokio::test]
async fn five_levels_decide_in_their_order_and_each_is_counted() {
    let mut town = Town::with(ServerOptions::default()).await;
    let mut asked = AskRoute::default();
    assert_eq!(town.route(asked.clone()).await, ("agent-bruno".into(), RouteLevel::Default));
    asked.capability = Capability::new("triage").ok();
    assert_eq!(town.route(asked.clone()).await, ("agent-doctor".into(), RouteLevel::Capability));
    asked.intent = IntentLabel::new("opening-hours").ok();
    assert_eq!(town.route(asked.clone()).await, ("agent-clerk".into(), RouteLevel::Intent));
    let mut socket = RawClient::connect(town.server.address(), &town.person).await;
    let question = socket.send_message(&town.person, &[&town.bruno.device], "hello").await;
    socket.expect_ack(&question).await;
    asked.conversation_id = Some(town.person.conversation_with(&town.bruno.device));
    assert_eq!(town.route(asked.clone()).await, ("agent-bruno".into(), RouteLevel::Context));
    asked.agent_id = AgentId::new("agent-doctor").ok();
    assert_eq!(town.route(asked.clone()).await, ("agent-doctor".into(), RouteLevel::Explicit));
    let samples = town.server.scrape().await;
    for level in RouteLevel::ALL {
        let count = sum(&samples, "colloquy_routes_total", &[("level", level.as_str())]);
        assert!(count >= 1.0, "{level:?}");
    }
    // Whom they write to is whom the route names.
    let route: Route = town.ask(&AskRoute { intent: asked.intent, ..AskRoute::default() }).await.read();
    assert_eq!(route.user_id, town.clerk.device.user_id);
    town.server.kill_9();
}

#[tokio::test]
async fn what_there_is_not_and_what_is_anothers_is_refused() {
    let town = Town::with(ServerOptions::default()).await;
    let refused = async |asked: AskRoute| town.ask(&asked).await.refusal();
    let nobody = AskRoute { agent_id: AgentId::new("agent-nobody").ok(), ..AskRoute::default() };
    assert_eq!(refused(nobody).await, ErrorCode::UnknownAgent);
    let other = town.server.rest().register_user("Bob", "phone").await;
    let mut socket = RawClient::connect(town.server.address(), &other).await;
    let message = socket.send_message(&other, &[&town.bruno.device], "hello").await;
    socket.expect_ack(&message).await;
    let foreign = other.conversation_with(&town.bruno.device);
    let asked = AskRoute { conversation_id: Some(foreign), ..AskRoute::default() };
    assert_eq!(refused(asked).await, ErrorCode::UnknownConversation);
    assert_eq!(refused(text(&"x".repeat(1_001))).await, ErrorCode::InvalidField);
    let anonymous = town.server.rest().post("/v1/route", None, &AskRoute::default()).await;
    assert_eq!(anonymous.refusal(), ErrorCode::InvalidToken);
}

#[tokio::test]
async fn what_a_text_wants_is_found_out_once_and_written_down_nowhere() {
    let town = Town::with(ServerOptions::default()).await;
    for _ in 0..3 {
        let route = town.route(text("are you open at all, says the needle")).await;
        assert_eq!(route, ("agent-clerk".into(), RouteLevel::Intent));
    }
    assert_eq!(town.route(text("I have got a fever")).await, ("agent-doctor".into(), RouteLevel::Intent));
    assert_eq!(town.route(text("colourless green ideas")).await.1, RouteLevel::Default);
    let samples = town.server.scrape().await;
    let of = |source: &str| sum(&samples, "colloquy_intents_total", &[("source", source)]);
    assert_eq!((of("BuiltIn"), of("Cache"), of("Outside")), (3.0, 2.0, 0.0));
    assert!(!town.server.log().contains("needle"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_elsewhere_is_asked_once_for_each_text_and_done_without_when_it_is_away() {
    let model = AgentService::start(|request| {
        assert_eq!(request["path"], "/v1/chat/completions");
        json!({"choices": [{"message": {"role": "assistant", "content": "symptom"}}]})
    })
    .await;
    let options = ServerOptions::default()
        .set("agents.classifier_url", model.url("/v1"))
        .set("agents.classifier_model", "small");
    let town = Town::with(options).await;
    for _ in 0..3 {
        // The model says what the built-in classifier would not.
        assert_eq!(town.route(text("are you open?")).await, ("agent-doctor".into(), RouteLevel::Intent));
    }
    assert_eq!(model.asked().values().sum::<usize>(), 1);
    drop(model);
    assert_eq!(town.route(text("so when are you open?")).await, ("agent-clerk".into(), RouteLevel::Intent));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_finds_out_on_the_device_and_tells_the_server_a_label() {
    let town = Town::with(ServerOptions::default()).await;
    let (client, _folder) = sdk::open(format!("http://{}", town.server.address())).await;
    let email = format!("{}@example.org", fresh_uuid().simple());
    town.server.secrets().add("email", &email);
    let (name, password) = ("a person".to_owned(), PASSWORD.to_owned());
    let registration = Registration { phone: None, email: Some(email), name, password };
    client.register(registration).await.expect("an account is made");
    let route =
        client.route("When are you open on Sundays?", RouteHints::default()).await.expect("it is routed");
    assert_eq!((route.agent_id.as_str(), route.level), ("agent-clerk", RouteLevel::Intent));
    assert_eq!(route.reason, "it answers opening-hours");
    let of_no_kind =
        client.route("colourless green ideas", RouteHints::default()).await.expect("it is routed");
    assert_eq!(of_no_kind.level, RouteLevel::Default);
    let samples = town.server.scrape().await;
    assert_eq!(sum(&samples, "colloquy_intents_total", &[]), 0.0, "the server has found nothing out");
    let in_the_clear = RouteHints { in_the_clear: true, ..RouteHints::default() };
    let route = client.route("what are your hours", in_the_clear).await.expect("it is routed");
    assert_eq!(route.level, RouteLevel::Intent);
    let samples = town.server.scrape().await;
    assert_eq!(sum(&samples, "colloquy_intents_total", &[]), 1.0, "asked to, it has");
}
