//! Keys and channels.

use std::sync::Arc;

use colloquy_protocol::ids::UserId;
use colloquy_storage::model::live::PodId;
use colloquy_storage::ports::cache::CacheKey;
use colloquy_storage::ports::live::Channel;

/// The names within one installation.
#[derive(Clone)]
pub(super) struct Names {
    prefix: Arc<str>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The pods that run: a hash, so that it can be read whole in a Cluster too.
    pub(super) fn members(&self) -> String {
        format!("{}members", self.prefix)
    }

    /// A user's connections: a hash with a field for each device and pod.
    pub(super) fn connections(&self, user_id: UserId) -> String {
        format!("{}connection:{user_id}", self.prefix)
    }

    /// Whether a user is here. It shares its name with the channel; keys and channels do not meet.
    pub(super) fn presence(&self, user_id: UserId) -> String {
        format!("{}presence:{user_id}", self.prefix)
    }

    /// What is kept for a while.
    pub(super) fn cached(&self, key: &CacheKey) -> String {
        let prefix = &self.prefix;
        match key {
            CacheKey::Agent(agent_id) => format!("{prefix}agent:{agent_id}"),
            CacheKey::Intent(message_hash) => format!("{prefix}intent:{message_hash}"),
            CacheKey::Session(user_id) => format!("{prefix}session:{user_id}"),
        }
    }

    pub(super) fn channel(&self, channel: &Channel) -> String {
        let prefix = &self.prefix;
        match channel {
            Channel::Pod(pod_id) => format!("{prefix}pod:{pod_id}"),
            Channel::Pods => format!("{prefix}pods"),
            Channel::User(user_id) => format!("{prefix}user:{user_id}"),
            Channel::Presence(user_id) => format!("{prefix}presence:{user_id}"),
            Channel::Notification(user_id) => format!("{prefix}notification:{user_id}"),
        }
    }

    /// The channel of that name; `None` if it is not one of ours.
    pub(super) fn channel_named(&self, name: &str) -> Option<Channel> {
        let name = name.strip_prefix(&*self.prefix)?;
        let Some((kind, of)) = name.split_once(':') else {
            return (name == "pods").then_some(Channel::Pods);
        };
        match kind {
            "pod" => PodId::new(of).ok().map(Channel::Pod),
            "user" => of.parse().ok().map(Channel::User),
            "presence" => of.parse().ok().map(Channel::Presence),
            "notification" => of.parse().ok().map(Channel::Notification),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_is_known_by_its_name_and_only_within_its_installation() {
        let user_id: UserId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let channels = [
            (Channel::Pod(PodId::new("gateway-0.example").unwrap()), "pod:gateway-0.example"),
            (Channel::Pods, "pods"),
            (Channel::User(user_id), "user:01890a5d-ac96-774b-bcce-b302099a8057"),
            (Channel::Presence(user_id), "presence:01890a5d-ac96-774b-bcce-b302099a8057"),
            (Channel::Notification(user_id), "notification:01890a5d-ac96-774b-bcce-b302099a8057"),
        ];
        let (plain, prefixed) = (Names::new(""), Names::new("colloquy:"));
        for (channel, name) in channels {
            assert_eq!(plain.channel(&channel), name);
            assert_eq!(plain.channel_named(name), Some(channel.clone()));
            assert_eq!(prefixed.channel(&channel), format!("colloquy:{name}"));
            assert_eq!(prefixed.channel_named(&prefixed.channel(&channel)), Some(channel));
            assert_eq!(prefixed.channel_named(name), None);
        }
        for name in ["", "pod", "pod:", "pod:a b", "user:me", "other:1", "pods:"] {
            assert_eq!(plain.channel_named(name), None, "{name}");
        }
    }
}
