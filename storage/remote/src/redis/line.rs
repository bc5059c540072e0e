//! A connection, and how long an answer may take.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Script, Value, cmd, from_redis_value};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::error::{RedisFailure, is_lost, is_no_script};

/// How long the answer to a command, or to a pipeline of them, may take.
pub(super) const COMMAND_DEADLINE: Duration = Duration::from_secs(1);
/// Commands in one pipeline.
pub(super) const PIPELINE_MAX_COMMANDS: usize = 1024;
/// Commands under way at once in a Cluster, where a pipeline cannot go to several nodes.
const CLUSTER_MAX_UNDER_WAY: usize = 256;

/// What is at the other end.
#[derive(Clone)]
pub(super) enum Wire {
    /// The primary.
    Primary(MultiplexedConnection),
    /// One node of a Cluster.
    Node(MultiplexedConnection),
    /// All of a Cluster.
    Cluster(ClusterConnection),
}

/// A connection that works until `lost` is notified.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) wire: Wire,
    pub(super) lost: Arc<Notify>,
}

impl Wire {
    async fn run(&self, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
        let answers = match self {
            Self::Primary(connection) | Self::Node(connection) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                connection.clone().req_packed_commands(&pipeline, 0, commands.len()).await?
            }
            Self::Cluster(connection) => {
                let one = |command: Cmd| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_command(&command).await }
                };
                stream::iter(commands.to_vec()).map(one).buffered(CLUSTER_MAX_UNDER_WAY).try_collect().await?
            }
        };
        answers.into_iter().map(Value::extract_error).collect()
    }

    /// Does the other end answer, as one that others are connected to as well? In a Cluster, every primary.
    pub(super) async fn ping(&self) -> RedisResult<()> {
        match self {
            Self::Primary(connection) => {
                let role: Value = cmd("ROLE").query_async(&mut connection.clone()).await?;
                let role = role.as_sequence().and_then(|role| role.first().cloned());
                let is_primary = role.is_some_and(|role| is_text(role, "master"));
                require(is_primary, "the server is no primary")
            }
            Self::Node(connection) => {
                let info: String = cmd("CLUSTER").arg("INFO").query_async(&mut connection.clone()).await?;
                require(is_among_majority(&info), "the node is cut off from most others")
            }
            Self::Cluster(_) => self.run(&[cmd("PING")]).await.map(drop),
        }
    }

    /// The connection, if it is to one server.
    pub(super) fn to_one(&self) -> Option<MultiplexedConnection> {
        match self {
            Self::Primary(connection) | Self::Node(connection) => Some(connection.clone()),
            Self::Cluster(_) => None,
        }
    }
}

fn is_text(value: Value, text: &str) -> bool {
    from_redis_value::<String>(value).is_ok_and(|value| value == text)
}

fn require(is_met: bool, otherwise: &'static str) -> RedisResult<()> {
    if is_met { Ok(()) } else { Err(RedisError::from((ErrorKind::Client, otherwise))) }
}

/// Is a node of a Cluster, which has said how it sees it, connected to most of the primaries? What is published at one that
/// is not is heard by few. In a Cluster that has lost a part for good, or for a while, the others have agreed on what
/// failed, and signals still reach everybody; whoever is cut off from most can only suspect them.
fn is_among_majority(info: &str) -> bool {
    let said = |line: &str| info.lines().any(|it| it.trim_end() == line);
    said("cluster_state:ok") || said("cluster_slots_pfail:0")
}

impl Line {
    /// Runs commands in one pipeline, at most [`PIPELINE_MAX_COMMANDS`] of them. An answer for each, or the first error
    /// among them.
    pub(super) async fn run(&self, commands: &[Cmd]) -> Result<Vec<Value>, RedisFailure> {
        self.attempt(self.wire.run(commands)).await
    }

    /// As [`run`](Self::run), for calls of a script that the server may not know yet.
    pub(super) async fn run_script(
        &self,
        script: &Script,
        calls: &[Cmd],
    ) -> Result<Vec<Value>, RedisFailure> {
        let running = async {
            match self.wire.run(calls).await {
                Err(error) if is_no_script(&error) => {
                    self.load(script).await?;
                    self.wire.run(calls).await
                }
                answers => answers,
            }
        };
        self.attempt(running).await
    }

    async fn load(&self, script: &Script) -> RedisResult<()> {
        match &self.wire {
            Wire::Primary(connection) | Wire::Node(connection) => {
                script.load_async(&mut connection.clone()).await?
            }
            Wire::Cluster(connection) => script.load_async(&mut connection.clone()).await?,
        };
        Ok(())
    }

    pub(super) async fn attempt<T>(
        &self,
        running: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, RedisFailure> {
        match timeout(COMMAND_DEADLINE, running).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                if is_lost(&error) {
                    self.lost.notify_one();
                }
                Err(RedisFailure::from(&error))
            }
            // Whether the line is dead is found out by its own pings.
            Err(_) => Err(RedisFailure::NoAnswer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_most_others_are_silent_for_is_not_among_the_majority() {
        let info = |state: &str, pfail: u32| {
            format!("cluster_state:{state}\r\ncluster_slots_pfail:{pfail}\r\ncluster_slots_fail:0\r\n")
        };
        assert!(is_among_majority(&info("ok", 0)));
        assert!(is_among_majority(&info("ok", 5461)), "one is suspected");
        assert!(is_among_majority(&info("fail", 0)), "it is agreed on, and its slots are nobody's");
        assert!(!is_among_majority(&info("fail", 10922)), "two of three are silent");
        assert!(!is_among_majority(""));
    }
}
