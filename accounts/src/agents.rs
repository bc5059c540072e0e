//! Agents: users who are programs. An administrator registers them; each logs in with a key of its own instead of a
//! password, and from then on its devices and keys are those of any user.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::ids::UserId;
use colloquy_protocol::limits::AGENTS_MAX;
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::model::account::{User, UserChange};
use colloquy_storage::model::agent::{Agent, Revised};
use colloquy_storage::ports::{self, StoreError, StoreResult};
use zeroize::Zeroizing;

use crate::agent_profile::parse_agent_profile;
use crate::devices::{Devices, RemoveDeviceError};
use crate::invalid_field::InvalidField;
use crate::logins::{Logins, RevokeError};
use crate::password::{Password, PasswordError, Passwords};
use crate::sink::SinkHosts;

/// Random bytes of an agent's key.
const KEY_BYTES: usize = 32;
/// What an agent's key begins with, so that whoever finds one knows what it is.
const KEY_PREFIX: &str = "colloquy-agent-";

/// What an agent logs in with. Shown once, to whoever registers it. Wiped when dropped; `Debug` shows nothing.
pub struct AgentKey(Zeroizing<String>);

impl AgentKey {
    fn draw(entropy: &Entropy) -> Self {
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        entropy.fill(&mut *bytes);
        Self(Zeroizing::new(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice()))))
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgentKey(..)")
    }
}

/// Why an agent was not registered or changed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A value is out of its bounds.
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    /// The id is another agent's.
    #[error("the agent exists")]
    Exists,
    /// There are as many as there may be.
    #[error("there are {AGENTS_MAX} agents")]
    TooMany,
    /// There is no such agent.
    #[error("no such agent")]
    Unknown,
    /// Somebody else has changed it since.
    #[error("the agent was changed since")]
    Stale,
    /// A key could not be hashed now.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What [`Agents`] works with.
pub struct AgentsParts {
    /// Which agents there are.
    pub agents: Arc<dyn ports::Agents>,
    /// Who they are.
    pub accounts: Arc<dyn ports::Accounts>,
    /// Their log-ins in the store.
    pub stored_logins: Arc<dyn ports::Logins>,
    /// Their devices in the store.
    pub keys: Arc<dyn ports::KeyDirectory>,
    /// Ends their log-ins.
    pub logins: Logins,
    /// Removes their devices.
    pub devices: Devices,
    /// Hashes their keys.
    pub passwords: Arc<Passwords>,
    /// Where their messages may be posted.
    pub sink_hosts: SinkHosts,
    /// The time.
    pub clock: Clock,
    /// Ids and keys.
    pub entropy: Entropy,
}

/// Registers, changes and removes agents. Cheap to clone.
#[derive(Clone)]
pub struct Agents(Arc<AgentsParts>);

impl Agents {
    /// The service over its parts.
    #[must_use]
    pub fn new(parts: AgentsParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Registers an agent, and gives it a user and a key.
    ///
    /// If the answer is lost, a retry is told that the agent exists, and [`Self::renew_key`] gives it a key that is known.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn add(
        &self,
        agent_id: AgentId,
        profile: AgentProfile,
    ) -> Result<(Agent, AgentKey), AgentError> {
        let profile = parse_agent_profile(profile, &self.0.sink_hosts)?;
        // Only to save the hash: who is first is decided by `create`.
        if self.0.agents.get(&agent_id).await?.is_some() {
            return Err(AgentError::Exists);
        }
        // Nobody is kept out who comes at the same time: a few more than allowed do no harm.
        if self.0.agents.list(None, AGENTS_MAX).await?.len() >= AGENTS_MAX {
            return Err(AgentError::TooMany);
        }
        let (key, password_hash) = self.new_key().await?;
        let now = self.0.clock.now();
        let user_id = UserId(self.0.entropy.uuid_v7(now));
        let user = User {
            user_id,
            phone: None,
            email: None,
            name: profile.name.clone(),
            avatar_url: None,
            password_hash,
            created_at: now,
            last_seen: None,
        };
        // The user comes first: an agent without one could not be spoken to. A user whose agent was refused is nobody, and
        // nobody can find it.
        let _ = self.0.accounts.create(user).await?;
        let agent = Agent { agent_id, user_id, revision: 1, profile, created_at: now, changed_at: now };
        if self.0.agents.create(agent.clone()).await? { Ok((agent, key)) } else { Err(AgentError::Exists) }
    }

    /// One agent.
    ///
    /// # Errors
    /// [`AgentError::Unknown`], [`AgentError::Store`].
    pub async fn get(&self, agent_id: &AgentId) -> Result<Agent, AgentError> {
        self.0.agents.get(agent_id).await?.ok_or(AgentError::Unknown)
    }

    /// The agent that is this user.
    ///
    /// # Errors
    /// [`AgentError::Unknown`] if the user is none, [`AgentError::Store`].
    pub async fn of_user(&self, user_id: UserId) -> Result<Agent, AgentError> {
        self.0.agents.of_user(user_id).await?.ok_or(AgentError::Unknown)
    }

    /// All agents, in the order of their ids.
    ///
    /// # Errors
    /// The store's.
    pub async fn all(&self) -> StoreResult<Vec<Agent>> {
        self.0.agents.list(None, AGENTS_MAX).await
    }

    /// Changes what an agent says of itself, as it was at `revision`.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn revise(
        &self,
        agent_id: &AgentId,
        revision: u64,
        profile: AgentProfile,
    ) -> Result<Agent, AgentError> {
        let profile = parse_agent_profile(profile, &self.0.sink_hosts)?;
        let name = profile.name.clone();
        let now = self.0.clock.now();
        let agent = match self.0.agents.revise(agent_id, revision, profile.clone(), now).await? {
            Revised::Changed(agent) => agent,
            // A retry of a change whose answer was lost: what it was to do is done again.
            Revised::Stale(agent) if agent.revision == revision + 1 && agent.profile == profile => agent,
            Revised::Stale(_) => return Err(AgentError::Stale),
            Revised::Unknown => return Err(AgentError::Unknown),
        };
        self.rename(&agent, name).await?;
        Ok(agent)
    }

    /// Gives an agent another key. The one before it, and every log-in made with it, is over when this returns.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn renew_key(&self, agent_id: &AgentId) -> Result<AgentKey, AgentError> {
        let agent = self.get(agent_id).await?;
        let (key, password_hash) = self.new_key().await?;
        self.set_password_hash(agent.user_id, password_hash).await?;
        self.end_logins(agent.user_id).await?;
        Ok(key)
    }

    /// Takes an agent out: it cannot log in any more, has no devices, and nothing is routed or sent to it. Its user stays
    /// as the other side of the conversations it had.
    ///
    /// The registration goes last, so that a retry finishes what a crash left undone.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn remove(&self, agent_id: &AgentId) -> Result<(), AgentError> {
        let agent = self.get(agent_id).await?;
        // A key that nobody has seen.
        let (_, password_hash) = self.new_key().await?;
        self.set_password_hash(agent.user_id, password_hash).await?;
        self.end_logins(agent.user_id).await?;
        for device in self.0.keys.devices(agent.user_id).await?.devices {
            match self.0.devices.remove(agent.user_id, &device.device_id).await {
                Ok(()) | Err(RemoveDeviceError::UnknownDevice) => {}
                Err(RemoveDeviceError::Store(error)) => return Err(error.into()),
            }
        }
        if self.0.agents.remove(agent_id).await? { Ok(()) } else { Err(AgentError::Unknown) }
    }

    async fn new_key(&self) -> Result<(AgentKey, String), AgentError> {
        let key = AgentKey::draw(&self.0.entropy);
        let password_hash = self.0.passwords.hash(Password::new(key.as_str().to_owned())?).await?;
        Ok((key, password_hash))
    }

    async fn rename(&self, agent: &Agent, name: String) -> StoreResult<()> {
        let change = UserChange { name: Some(name), ..UserChange::default() };
        self.0.accounts.change(agent.user_id, change).await.map(drop)
    }

    async fn set_password_hash(&self, user_id: UserId, password_hash: String) -> StoreResult<()> {
        let change = UserChange { password_hash: Some(password_hash), ..UserChange::default() };
        self.0.accounts.change(user_id, change).await.map(drop)
    }

    async fn end_logins(&self, user_id: UserId) -> Result<(), AgentError> {
        for login in self.0.stored_logins.list(user_id).await? {
            match self.0.logins.revoke(user_id, login.login_id).await {
                // Somebody else has revoked it: as good.
                Ok(()) | Err(RevokeError::Unknown) => {}
                Err(RevokeError::Store(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logins::LogInError;
    use crate::test_store::TestStore;
    use colloquy_protocol::rest::accounts::LogIn;

    fn profile(name: &str) -> AgentProfile {
        AgentProfile::new(name, "http://127.0.0.1:9000/")
    }

    fn id(text: &str) -> AgentId {
        AgentId::new(text).unwrap()
    }

    fn log_in(agent: &str, key: &AgentKey) -> LogIn {
        LogIn { phone: None, email: None, agent_id: Some(id(agent)), password: key.as_str().to_owned() }
    }

    #[tokio::test]
    async fn an_agent_logs_in_with_the_key_it_was_given_until_it_is_given_another() {
        let store = TestStore::open().await;
        let (agent, key) = store.agents().add(id("agent-bruno"), profile("Bruno")).await.unwrap();
        let tokens = store.logins().log_in(log_in("agent-bruno", &key)).await.unwrap();
        assert_eq!(tokens.user_id, agent.user_id);
        let other = store.agents().renew_key(&id("agent-bruno")).await.unwrap();
        assert_eq!(store.revoked(), [tokens.login_id]);
        let refused = store.logins().log_in(log_in("agent-bruno", &key)).await;
        assert!(matches!(refused, Err(LogInError::InvalidCredentials)), "{refused:?}");
        assert!(store.logins().log_in(log_in("agent-bruno", &other)).await.is_ok());
        let refused = store.logins().log_in(log_in("agent-nobody", &other)).await;
        assert!(matches!(refused, Err(LogInError::InvalidCredentials)), "{refused:?}");
        assert_eq!(format!("{other:?}"), "AgentKey(..)");
    }

    #[tokio::test]
    async fn a_name_is_one_agents() {
        let store = TestStore::open().await;
        store.agents().add(id("agent-x"), profile("X")).await.unwrap();
        let refused = store.agents().add(id("agent-x"), profile("Y")).await;
        assert!(matches!(refused, Err(AgentError::Exists)), "{refused:?}");
        assert_eq!(store.agents().get(&id("agent-x")).await.unwrap().profile.name, "X");
    }

    #[tokio::test]
    async fn a_change_that_is_asked_for_again_is_the_same_change_and_a_later_one_is_not_undone() {
        let store = TestStore::open().await;
        let (agent, _) = store.agents().add(id("agent-x"), profile("X")).await.unwrap();
        for _ in 0..2 {
            let changed = store.agents().revise(&id("agent-x"), 1, profile("Y")).await.unwrap();
            assert_eq!(changed.revision, 2);
        }
        assert_eq!(store.profiles().card(agent.user_id).await.unwrap().unwrap().name, "Y");
        let refused = store.agents().revise(&id("agent-x"), 1, profile("Z")).await;
        assert!(matches!(refused, Err(AgentError::Stale)), "{refused:?}");
        let refused = store.agents().revise(&id("agent-y"), 1, profile("Z")).await;
        assert!(matches!(refused, Err(AgentError::Unknown)), "{refused:?}");
    }

    #[tokio::test]
    async fn an_agent_that_is_taken_out_cannot_log_in_and_its_name_is_free() {
        let store = TestStore::open().await;
        let (first, key) = store.agents().add(id("agent-x"), profile("X")).await.unwrap();
        let tokens = store.logins().log_in(log_in("agent-x", &key)).await.unwrap();
        store.agents().remove(&id("agent-x")).await.unwrap();
        assert_eq!(store.revoked(), [tokens.login_id]);
        let refused = store.logins().log_in(log_in("agent-x", &key)).await;
        assert!(matches!(refused, Err(LogInError::InvalidCredentials)), "{refused:?}");
        assert!(matches!(store.agents().remove(&id("agent-x")).await, Err(AgentError::Unknown)));
        let (second, _) = store.agents().add(id("agent-x"), profile("X")).await.unwrap();
        assert_ne!(first.user_id, second.user_id);
        // The other side of old conversations still has a name.
        assert_eq!(store.profiles().card(first.user_id).await.unwrap().unwrap().name, "X");
    }
}
