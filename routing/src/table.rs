//! The agents, and the decision between them. Five levels, in this order: the agent that was named, the one that the
//! conversation is with, one that answers what is wanted, one that can do what is needed, and the default.

use std::collections::BTreeMap;

use colloquy_protocol::agent::{AgentId, AgentProfile, Capability, DEFAULT_AGENT, IntentLabel};
use colloquy_protocol::ids::UserId;
use colloquy_protocol::rest::routes::{Route, RouteLevel as Level};

/// What decides. What is given and fits no agent is passed over, but for an agent that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// This agent and no other.
    pub agent: Option<AgentId>,
    /// The other participant of the conversation that the message belongs to, whether an agent or not.
    pub context: Option<UserId>,
    /// What is wanted.
    pub intent: Option<IntentLabel>,
    /// What the agent must be able to do.
    pub capability: Option<Capability>,
}

/// There is no agent for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The agent that was named is not registered.
    #[error("no such agent")]
    Unknown,
    /// Nothing fits, and there is no default agent.
    #[error("no agent fits, and agent-bruno, who is the default, is not registered")]
    Nobody,
}

/// The agents of an installation.
#[derive(Clone, Debug, Default)]
pub struct RoutingTable {
    agents: BTreeMap<AgentId, UserId>,
    users: BTreeMap<UserId, AgentId>,
    intents: BTreeMap<IntentLabel, Vec<AgentId>>,
    capabilities: BTreeMap<Capability, Vec<AgentId>>,
}

impl RoutingTable {
    /// Of these agents. Of several that fit, the first by name is taken.
    #[must_use]
    pub fn of<'a>(agents: impl IntoIterator<Item = (&'a AgentId, UserId, &'a AgentProfile)>) -> Self {
        let mut table = Self::default();
        for (agent_id, user_id, profile) in agents {
            table.agents.insert(agent_id.clone(), user_id);
            table.users.insert(user_id, agent_id.clone());
            for intent in &profile.intents {
                table.intents.entry(intent.label.clone()).or_default().push(agent_id.clone());
            }
            for capability in &profile.capabilities {
                table.capabilities.entry(capability.clone()).or_default().push(agent_id.clone());
            }
        }
        table.intents.values_mut().chain(table.capabilities.values_mut()).for_each(|agents| {
            agents.sort_unstable();
            agents.dedup();
        });
        table
    }

    /// Is this user an agent?
    #[must_use]
    pub fn is_agent(&self, user_id: UserId) -> bool {
        self.users.contains_key(&user_id)
    }

    /// Decides.
    ///
    /// # Errors
    /// [`NoRoute`].
    pub fn decide(&self, request: &Request) -> Result<Route, NoRoute> {
        if let Some(agent_id) = &request.agent {
            return self.to(agent_id, Level::Explicit, "it was named".to_owned()).ok_or(NoRoute::Unknown);
        }
        let of_context = request.context.and_then(|user_id| self.users.get(&user_id));
        if let Some(agent_id) = of_context {
            let route = self.to(agent_id, Level::Context, "the conversation is with it".to_owned());
            return route.ok_or(NoRoute::Nobody);
        }
        if let Some(label) = &request.intent
            && let Some(agents) = self.intents.get(label)
        {
            return self.first(agents, Level::Intent, &format!("it answers {label}"));
        }
        if let Some(capability) = &request.capability
            && let Some(agents) = self.capabilities.get(capability)
        {
            return self.first(agents, Level::Capability, &format!("it can {capability}"));
        }
        let reason = match (&request.intent, &request.capability) {
            (Some(label), _) => format!("nobody answers {label}"),
            (None, Some(capability)) => format!("nobody can {capability}"),
            (None, None) => "nothing says who else".to_owned(),
        };
        let default = AgentId::new(DEFAULT_AGENT).map_err(|_| NoRoute::Nobody)?;
        self.to(&default, Level::Default, reason).ok_or(NoRoute::Nobody)
    }

    fn first(&self, agents: &[AgentId], level: Level, why: &str) -> Result<Route, NoRoute> {
        let reason = match agents.len() {
            1 => why.to_owned(),
            others => format!("{why}, the first by name of {others}"),
        };
        agents.first().and_then(|agent_id| self.to(agent_id, level, reason)).ok_or(NoRoute::Nobody)
    }

    fn to(&self, agent_id: &AgentId, level: Level, reason: String) -> Option<Route> {
        let user_id = *self.agents.get(agent_id)?;
        Some(Route { agent_id: agent_id.clone(), user_id, level, reason })
    }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::agent::Intent;
    use uuid::Uuid;

    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn label(name: &str) -> IntentLabel {
        IntentLabel::new(name).unwrap()
    }

    fn can(name: &str) -> Capability {
        Capability::new(name).unwrap()
    }

    fn table(names: &[&str]) -> RoutingTable {
        let profile = |name: &str| {
            let mut profile = AgentProfile::new(name, "http://127.0.0.1:9/");
            if name.contains("doctor") {
                profile.capabilities.push(can("triage"));
                profile.intents.push(Intent { label: label("symptom"), examples: Vec::new() });
            }
            profile
        };
        let profiles: Vec<_> = names.iter().map(|name| (agent(name), profile(name))).collect();
        RoutingTable::of(
            (1_u128..).zip(&profiles).map(|(n, (agent_id, profile))| (agent_id, user(n), profile)),
        )
    }

    #[test]
    fn the_first_level_that_fits_decides_and_says_so() {
        let table = table(&["agent-bruno", "doctor-two", "doctor-one", "clerk"]);
        let mut request = Request::default();
        let mut decided = |change: &mut dyn FnMut(&mut Request)| {
            change(&mut request);
            let route = table.decide(&request).unwrap();
            (route.agent_id.to_string(), route.level, route.reason)
        };
        let (bruno, level, reason) = decided(&mut |_| {});
        assert_eq!(
            (bruno.as_str(), level, reason.as_str()),
            ("agent-bruno", Level::Default, "nothing says who else")
        );
        let (doctor, level, reason) = decided(&mut |request| request.capability = Some(can("triage")));
        assert_eq!((doctor.as_str(), level), ("doctor-one", Level::Capability));
        assert_eq!(reason, "it can triage, the first by name of 2");
        let (doctor, level, _) = decided(&mut |request| request.intent = Some(label("symptom")));
        assert_eq!((doctor.as_str(), level), ("doctor-one", Level::Intent));
        let (clerk, level, _) = decided(&mut |request| request.context = Some(user(4)));
        assert_eq!((clerk.as_str(), level), ("clerk", Level::Context));
        let (doctor, level, _) = decided(&mut |request| request.agent = Some(agent("doctor-two")));
        assert_eq!((doctor.as_str(), level), ("doctor-two", Level::Explicit));
    }

    #[test]
    fn what_fits_nobody_is_passed_over_but_a_name_is_not() {
        let table = table(&["agent-bruno", "clerk"]);
        let request = Request {
            context: Some(user(99)),
            intent: Some(label("symptom")),
            capability: Some(can("triage")),
            agent: None,
        };
        let route = table.decide(&request).unwrap();
        assert_eq!((route.level, route.reason.as_str()), (Level::Default, "nobody answers symptom"));
        let named = Request { agent: Some(agent("doctor-one")), ..request };
        assert_eq!(table.decide(&named), Err(NoRoute::Unknown));
        assert_eq!(super::RoutingTable::default().decide(&Request::default()), Err(NoRoute::Nobody));
    }
}
