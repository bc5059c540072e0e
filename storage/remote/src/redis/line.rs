//! A connection, and how long an answer may take.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisResult, Script, Value, cmd};
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
    /// One server.
    Single(MultiplexedConnection),
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
            Self::Single(connection) => {
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

    /// Does the other end answer? In a Cluster, every primary.
    pub(super) async fn ping(&self) -> RedisResult<()> {
        self.run(&[cmd("PING")]).await.map(drop)
    }
}

impl Line {
    /// Runs commands in one pipeline, at most [`PIPELINE_MAX_COMMANDS`] of them. An answer for each, or the first error
    /// among them.
    pub(super) async fn run(&self, commands: &[Cmd]) -> Result<Vec<Value>, RedisFailure> {
        self.attempt(self.wire.run(commands)).await
    }

    /// As [`run`](Self::run), for calls of a script that the server may not know yet.
    pub(super) async fn run_script(&self, script: &Script, calls: &[Cmd]) -> Result<(), RedisFailure> {
        let running = async {
            match self.wire.run(calls).await {
                Err(error) if is_no_script(&error) => {
                    self.load(script).await?;
                    self.wire.run(calls).await
                }
                answers => answers,
            }
        };
        self.attempt(running).await.map(drop)
    }

    async fn load(&self, script: &Script) -> RedisResult<()> {
        match &self.wire {
            Wire::Single(connection) => script.load_async(&mut connection.clone()).await?,
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
