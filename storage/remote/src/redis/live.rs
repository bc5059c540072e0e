//! The port.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::UserId;
use colloquy_storage::model::live::{Connection, Member, PodId, Presence};
use colloquy_storage::ports::live::{Channel, LiveDirectory};
use colloquy_storage::ports::{StoreError, StoreResult};
use redis::{Cmd, FromRedisValue, Script, Value, cmd, from_redis_value};

use super::bus::Bus;
use super::entry::{field, member, ordered, pod_of};
use super::error::RedisFailure;
use super::interest::Change;
use super::line::PIPELINE_MAX_COMMANDS;
use super::link::Link;
use super::names::Names;
use super::scripts::{ANNOUNCE, ENTER, LEAVE, READ, WITHDRAW, call};

struct RedisDirectory {
    names: Names,
    keys: Link,
    bus: Bus,
}

pub(super) fn redis_live(names: Names, keys: Link, bus: Bus) -> Arc<dyn LiveDirectory> {
    Arc::new(RedisDirectory { names, keys, bus })
}

impl RedisDirectory {
    /// A call of a script for each item, in pipelines of at most [`PIPELINE_MAX_COMMANDS`].
    async fn call_for_each<T>(
        &self,
        script: &Script,
        items: &[T],
        call: impl Fn(&T) -> Cmd,
    ) -> StoreResult<Vec<Value>> {
        let mut answers = Vec::with_capacity(items.len());
        for items in items.chunks(PIPELINE_MAX_COMMANDS) {
            let calls: Vec<Cmd> = items.iter().map(&call).collect();
            answers.extend(self.keys.line()?.run_script(script, &calls).await?);
        }
        Ok(answers)
    }

    /// The hashes under these keys, in pipelines of at most [`PIPELINE_MAX_COMMANDS`].
    async fn read_each(&self, keys: &[String]) -> Result<Vec<Hash>, RedisFailure> {
        let mut hashes = Vec::with_capacity(keys.len());
        for keys in keys.chunks(PIPELINE_MAX_COMMANDS) {
            let calls: Vec<Cmd> = keys.iter().map(|key| call(&READ, key.clone(), &[])).collect();
            for answer in self.keys.line()?.run_script(&READ, &calls).await? {
                hashes.push(hash(answer)?);
            }
        }
        Ok(hashes)
    }
}

/// A hash, and what the clock of its server shows.
struct Hash {
    now: UnixMillis,
    fields: BTreeMap<String, String>,
}

fn hash(answer: Value) -> Result<Hash, RedisFailure> {
    let ((seconds, micros), fields): ((u64, u64), _) = read(answer)?;
    Ok(Hash { now: seconds * 1000 + micros / 1000, fields })
}

fn read<T: FromRedisValue>(answer: Value) -> Result<T, RedisFailure> {
    from_redis_value(answer).map_err(|_| RedisFailure::Nonsense)
}

/// A time to live as Redis takes it: whole milliseconds, and not none.
fn milliseconds(ttl: Duration) -> String {
    ttl.as_millis().max(1).to_string()
}

#[async_trait]
impl LiveDirectory for RedisDirectory {
    async fn announce(&self, member: &Member, ttl: Duration) -> StoreResult<()> {
        let json = serde_json::to_string(member).map_err(StoreError::corrupt)?;
        let (incarnation, ttl) = (ordered(member.incarnation), milliseconds(ttl));
        let arguments = [member.pod_id.as_str(), &incarnation, &ttl, &json];
        self.call_for_each(&ANNOUNCE, &[arguments], |it| call(&ANNOUNCE, self.names.members(), it)).await?;
        Ok(())
    }

    async fn withdraw(&self, pod_id: &PodId, incarnation: u64) -> StoreResult<()> {
        let incarnation = ordered(incarnation);
        let arguments = [pod_id.as_str(), &incarnation];
        self.call_for_each(&WITHDRAW, &[arguments], |it| call(&WITHDRAW, self.names.members(), it)).await?;
        Ok(())
    }

    async fn members(&self) -> StoreResult<Vec<Member>> {
        let hashes = self.read_each(&[self.names.members()]).await?;
        let members =
            |Hash { now, fields }: Hash| fields.into_values().filter_map(move |value| member(&value, now));
        Ok(hashes.into_iter().flat_map(members).collect())
    }

    async fn enter(&self, connections: &[Connection], ttl: Duration) -> StoreResult<Vec<bool>> {
        let ttl = milliseconds(ttl);
        let entering = |it: &Connection| {
            let key = self.names.connections(it.user_id);
            call(&ENTER, key, &[&field(it), &ordered(it.generation), &ttl])
        };
        let answers = self.call_for_each(&ENTER, connections, entering).await?;
        Ok(answers.into_iter().map(|answer| answer == Value::Int(1)).collect())
    }

    async fn leave(&self, connections: &[Connection]) -> StoreResult<()> {
        let leaving = |it: &Connection| {
            let key = self.names.connections(it.user_id);
            call(&LEAVE, key, &[&field(it), &ordered(it.generation)])
        };
        self.call_for_each(&LEAVE, connections, leaving).await?;
        Ok(())
    }

    async fn pods_of(&self, users: &[UserId]) -> StoreResult<Vec<Vec<PodId>>> {
        let keys: Vec<String> = users.iter().map(|user_id| self.names.connections(*user_id)).collect();
        let pods = |Hash { now, fields }: Hash| {
            let pods = fields.iter().filter_map(|(field, value)| pod_of(field, value, now));
            pods.collect::<BTreeSet<PodId>>().into_iter().collect()
        };
        Ok(self.read_each(&keys).await?.into_iter().map(pods).collect())
    }

    async fn set_presence(&self, presences: &[(UserId, Presence)], ttl: Duration) -> StoreResult<()> {
        let ttl = milliseconds(ttl);
        for presences in presences.chunks(PIPELINE_MAX_COMMANDS) {
            let mut commands = Vec::with_capacity(presences.len());
            for (user_id, presence) in presences {
                let json = serde_json::to_string(presence).map_err(StoreError::corrupt)?;
                let mut setting = cmd("SET");
                setting.arg(self.names.presence(*user_id)).arg(json).arg("PX").arg(&ttl);
                commands.push(setting);
            }
            self.keys.line()?.run(&commands).await?;
        }
        Ok(())
    }

    async fn presence_of(&self, users: &[UserId]) -> StoreResult<Vec<Option<Presence>>> {
        let mut found = Vec::with_capacity(users.len());
        let question = |user_id: &UserId| {
            let mut question = cmd("GET");
            question.arg(self.names.presence(*user_id));
            question
        };
        for users in users.chunks(PIPELINE_MAX_COMMANDS) {
            let questions: Vec<Cmd> = users.iter().map(question).collect();
            for answer in self.keys.line()?.run(&questions).await? {
                let json: Option<String> = read(answer)?;
                found.push(json.and_then(|json| serde_json::from_str(&json).ok()));
            }
        }
        Ok(found)
    }

    async fn publish(&self, signals: Vec<(Channel, Bytes)>) -> StoreResult<Vec<u64>> {
        Ok(self.bus.publish(&signals).await?)
    }

    async fn subscribe(&self, channels: Vec<Channel>) -> StoreResult<()> {
        Ok(self.bus.change(Change::Subscribe, &channels).await?)
    }

    async fn unsubscribe(&self, channels: Vec<Channel>) -> StoreResult<()> {
        Ok(self.bus.change(Change::Unsubscribe, &channels).await?)
    }
}
