//! Which agent a message goes to: the registry as it was read last, and what people want by the agents' own examples.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::agent::{Intent, IntentLabel};
use colloquy_protocol::limits::ROUTING_TEXT_MAX_CHARS;
use colloquy_protocol::rest::routes::Route;
use colloquy_routing::{Classifier, NoRoute, Request, RoutingTable};
use colloquy_storage::model::agent::Agent;
use colloquy_storage::ports::cache::{Cache, CacheKey, MessageHash};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::metrics::{IntentSource, Metrics};

/// How long a classifier elsewhere is waited for. Then the built-in one says what it thinks.
const OUTSIDE_PATIENCE: Duration = Duration::from_secs(2);
/// How long the cache is waited for.
const CACHE_PATIENCE: Duration = Duration::from_millis(100);

/// A classifier could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the classifier cannot be asked: {0}")]
pub struct ClassifierFailed(pub String);

/// Says what a text wants: the port, behind which the composition root puts a model elsewhere, if one is configured.
#[async_trait]
pub trait IntentClassifier: Send + Sync + 'static {
    /// The label of one of `intents`, or nothing.
    ///
    /// # Errors
    /// [`ClassifierFailed`].
    async fn classify(&self, text: &str, intents: &[Intent])
    -> Result<Option<IntentLabel>, ClassifierFailed>;
}

/// What routes are found with.
pub struct RoutesArguments {
    /// Keeps what texts were found to want.
    pub cache: Arc<dyn Cache>,
    /// Under which texts are named in it: the same on all pods.
    pub secret: [u8; 32],
    /// Asked first, if there is one.
    pub outside: Option<Arc<dyn IntentClassifier>>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Finds routes. Cheap to clone.
#[derive(Clone)]
pub struct Routes {
    known: Arc<ArcSwapOption<Known>>,
    arguments: Arc<RoutesArguments>,
}

/// The agents, as they were read last.
struct Known {
    /// Changes with every change of any agent.
    revisions: Vec<u8>,
    table: RoutingTable,
    classifier: Classifier,
    intents: Vec<Intent>,
}

/// There is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is no agent for it.
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    /// It is not known yet which agents there are.
    #[error("it is not known yet which agents there are")]
    NotYet,
}

impl Routes {
    /// Knows no agents yet.
    #[must_use]
    pub fn new(arguments: RoutesArguments) -> Self {
        Self { known: Arc::default(), arguments: Arc::new(arguments) }
    }

    /// These are the agents, in the order of their names.
    pub(super) fn know(&self, agents: &[Agent]) {
        let revisions = revisions_of(agents);
        if self.known.load().as_ref().is_some_and(|known| known.revisions == revisions) {
            return;
        }
        let table =
            RoutingTable::of(agents.iter().map(|agent| (&agent.agent_id, agent.user_id, &agent.profile)));
        let intents: Vec<Intent> = agents.iter().flat_map(|agent| &agent.profile.intents).cloned().collect();
        let classifier =
            Classifier::of(intents.iter().map(|intent| (&intent.label, intent.examples.as_slice())));
        self.known.store(Some(Arc::new(Known { revisions, table, classifier, intents })));
    }

    /// Decides; `text` is only looked at where the request names neither agent nor intent, and no conversation with an agent.
    ///
    /// # Errors
    /// [`RouteError`].
    pub async fn find(&self, mut request: Request, text: Option<&str>) -> Result<Route, RouteError> {
        let known = self.known.load_full().ok_or(RouteError::NotYet)?;
        let is_decided =
            request.agent.is_some() || request.context.is_some_and(|user_id| known.table.is_agent(user_id));
        if let Some(text) = text.filter(|_| !is_decided && request.intent.is_none()) {
            request.intent = self.intent_of(&known, text).await;
        }
        let route = known.table.decide(&request)?;
        self.arguments.metrics.routed(route.level);
        Ok(route)
    }

    async fn intent_of(&self, known: &Known, text: &str) -> Option<IntentLabel> {
        let text: String = text.chars().take(ROUTING_TEXT_MAX_CHARS).collect();
        let key = CacheKey::Intent(self.name_of(known, &text));
        let cache = &self.arguments.cache;
        if let Ok(Ok(Some(label))) = timeout(CACHE_PATIENCE, cache.get(&key)).await {
            self.arguments.metrics.intent_found(IntentSource::Cache);
            return std::str::from_utf8(&label).ok().and_then(|label| IntentLabel::new(label).ok());
        }
        let (found, source) = self.classify(known, &text).await;
        self.arguments.metrics.intent_found(source);
        let is_final = source == IntentSource::Outside || self.arguments.outside.is_none();
        if is_final {
            let label = found.as_ref().map_or("", |label| label.as_str());
            // Not kept, it is found out again; so is what only stands in for a classifier that is away.
            let _ = timeout(CACHE_PATIENCE, cache.put(&key, Bytes::copy_from_slice(label.as_bytes()))).await;
        }
        found
    }

    async fn classify(&self, known: &Known, text: &str) -> (Option<IntentLabel>, IntentSource) {
        if let Some(outside) = &self.arguments.outside {
            match timeout(OUTSIDE_PATIENCE, outside.classify(text, &known.intents)).await {
                Ok(Ok(label)) => {
                    // What no agent answers is no intent, whatever a model says.
                    let label =
                        label.filter(|label| known.intents.iter().any(|intent| intent.label == *label));
                    return (label, IntentSource::Outside);
                }
                Ok(Err(error)) => tracing::warn!(%error, "what is wanted is found out here"),
                Err(_) => tracing::warn!("the classifier takes too long: what is wanted is found out here"),
            }
        }
        (known.classifier.classify(text).map(|guess| guess.intent), IntentSource::BuiltIn)
    }

    /// What a text is kept under: of other agents, another one.
    fn name_of(&self, known: &Known, text: &str) -> MessageHash {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.arguments.secret).expect("a key of any length makes a code");
        mac.update(&known.revisions);
        mac.update(text.as_bytes());
        MessageHash(mac.finalize().into_bytes().into())
    }
}

fn revisions_of(agents: &[Agent]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for agent in agents {
        hash.update(agent.user_id.0.as_bytes());
        hash.update(agent.revision.to_be_bytes());
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use colloquy_protocol::agent::{AgentId, AgentProfile};
    use colloquy_protocol::ids::UserId;
    use colloquy_protocol::rest::routes::RouteLevel;
    use colloquy_storage::local::LocalCache;
    use prometheus_client::registry::Registry;
    use uuid::Uuid;

    use super::*;

    fn agent(number: u128, revision: u64, name: &str, label: &str, examples: &[&str]) -> Agent {
        let mut profile = AgentProfile::new(name, "http://127.0.0.1:9/");
        profile.intents.push(Intent {
            label: IntentLabel::new(label).unwrap(),
            examples: examples.iter().map(|example| (*example).to_owned()).collect(),
        });
        Agent {
            agent_id: AgentId::new(name).unwrap(),
            user_id: UserId(Uuid::from_u128(number)),
            profile,
            revision,
            created_at: 0,
            changed_at: 0,
        }
    }

    fn agents() -> Vec<Agent> {
        vec![
            agent(1, 1, "agent-bruno", "help", &["help me"]),
            agent(2, 1, "agent-clerk", "opening-hours", &["when are you open"]),
        ]
    }

    /// Says always the same, and counts.
    struct Parrot(&'static str, AtomicUsize);

    #[async_trait]
    impl IntentClassifier for Parrot {
        async fn classify(&self, _: &str, _: &[Intent]) -> Result<Option<IntentLabel>, ClassifierFailed> {
            self.1.fetch_add(1, Ordering::SeqCst);
            match self.0 {
                "" => Err(ClassifierFailed("it is away".to_owned())),
                label => Ok(IntentLabel::new(label).ok()),
            }
        }
    }

    fn routes(outside: Option<Arc<dyn IntentClassifier>>) -> Routes {
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let cache = Arc::new(LocalCache::new());
        Routes::new(RoutesArguments { cache, secret: [7; 32], outside, metrics })
    }

    async fn found(routes: &Routes, text: &str) -> (String, RouteLevel) {
        let route = routes.find(Request::default(), Some(text)).await.unwrap();
        (route.agent_id.to_string(), route.level)
    }

    #[tokio::test]
    async fn what_is_wanted_decides_and_who_is_not_known_yet_is_nobody() {
        let routes = routes(None);
        assert_eq!(routes.find(Request::default(), None).await, Err(RouteError::NotYet));
        routes.know(&agents());
        assert_eq!(found(&routes, "are you open?").await, ("agent-clerk".into(), RouteLevel::Intent));
        assert_eq!(found(&routes, "xyzzy").await, ("agent-bruno".into(), RouteLevel::Default));
        routes.know(&[]);
        let nobody = routes.find(Request::default(), None).await;
        assert_eq!(nobody, Err(RouteError::NoRoute(NoRoute::Nobody)));
    }

    #[tokio::test]
    async fn a_classifier_elsewhere_is_asked_once_for_each_text_until_an_agent_changes() {
        let parrot = Arc::new(Parrot("help", AtomicUsize::new(0)));
        let routes = routes(Some(Arc::clone(&parrot) as Arc<dyn IntentClassifier>));
        routes.know(&agents());
        for _ in 0..3 {
            assert_eq!(found(&routes, "are you open?").await, ("agent-bruno".into(), RouteLevel::Intent));
        }
        assert_eq!(parrot.1.load(Ordering::SeqCst), 1);
        let mut changed = agents();
        changed[1].revision = 2;
        routes.know(&changed);
        found(&routes, "are you open?").await;
        assert_eq!(parrot.1.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_classifier_that_is_away_or_makes_things_up_is_done_without() {
        let parrot = Arc::new(Parrot("", AtomicUsize::new(0)));
        let away = routes(Some(Arc::clone(&parrot) as Arc<dyn IntentClassifier>));
        away.know(&agents());
        assert_eq!(found(&away, "are you open?").await, ("agent-clerk".into(), RouteLevel::Intent));
        found(&away, "are you open?").await;
        assert_eq!(parrot.1.load(Ordering::SeqCst), 2, "what stands in for it is not kept");
        let inventive = routes(Some(Arc::new(Parrot("world-peace", AtomicUsize::new(0)))));
        inventive.know(&agents());
        assert_eq!(found(&inventive, "are you open?").await, ("agent-bruno".into(), RouteLevel::Default));
    }
}
