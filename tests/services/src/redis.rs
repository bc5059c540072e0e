//! Redis: the machine's own `redis-server`, without persistence.

use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, free_port, on_path};

/// A Redis that runs, or was killed and can be started again on the same port. It keeps nothing.
pub struct RedisProcess {
    /// `redis://127.0.0.1:port`.
    pub url: String,
    port: u16,
    directory: TempDir,
    process: Option<Process>,
}

/// Starts a Redis.
///
/// # Panics
/// If there is no `redis-server` on PATH, or it does not start.
#[must_use]
pub fn start_redis() -> RedisProcess {
    let port = free_port();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut redis = RedisProcess { url: format!("redis://127.0.0.1:{port}"), port, directory, process: None };
    redis.restart();
    redis
}

impl RedisProcess {
    /// Ends it at once (SIGKILL). Whoever is connected notices.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, empty; ends it first if it runs.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.process = None;
        let program = on_path("redis-server").expect("redis-server is on PATH: run tests/install-services");
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--port").arg(self.port.to_string()).arg("--dir").arg(self.directory.path());
        let (process, mut output) = Process::start(command);
        output.wait_for(|line| line.contains("Ready to accept connections").then_some(()));
        output.drain();
        self.process = Some(process);
    }

    /// Stops it where it stands: its sockets stay open and nobody answers.
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").freeze();
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw(&self) {
        self.process.as_ref().expect("it runs").thaw();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_redis_comes_back_on_its_port() {
        let mut redis = start_redis();
        let answers = |redis: &RedisProcess| TcpStream::connect(("127.0.0.1", redis.port)).is_ok();
        assert!(answers(&redis));
        redis.kill();
        assert!(!answers(&redis));
        redis.restart();
        assert!(answers(&redis));
    }
}
