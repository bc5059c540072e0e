//! A crowd: many devices with a socket each, which they do little with.

use std::net::SocketAddr;
use std::sync::Arc;

use colloquy_protocol::limits::DEVICES_PER_USER_MAX;
use colloquy_tests::device::Device;
use indicatif::ProgressBar;

use crate::Failure;
use crate::population::{in_order, register};
use crate::process::raise_file_limit;
use crate::socket::Socket;
use crate::target::{Target, TargetOptions};
use crate::traffic::authenticate;

/// Bytes read at once: an idle socket gets little.
const READ_SIZE: usize = 256;
/// Files a process has open besides its sockets.
const OTHER_FILES: u64 = 200;

/// The devices, and the server they belong to.
pub(crate) struct Crowd {
    pub(crate) users: usize,
    /// Of the server.
    pub(crate) pid: u32,
    devices: Vec<Arc<Device>>,
    target: Target,
}

impl Crowd {
    /// Registers so many devices.
    pub(crate) async fn register(connections: u64, options: &TargetOptions) -> Result<Self, Failure> {
        let files = raise_file_limit()?;
        if files < connections + OTHER_FILES {
            return Err(format!("the limit of open files is {files}: raise it with ulimit -n").into());
        }
        let target = Target::reach(options).await;
        let pid = target.pids.first().copied();
        let pid = pid.ok_or("CPU and memory are read from a process: name it with --server-pid")?;
        let connections = usize::try_from(connections)?;
        let users = connections.div_ceil(DEVICES_PER_USER_MAX);
        let mut devices = register(&target.rest, users, DEVICES_PER_USER_MAX).await;
        devices.truncate(connections);
        Ok(Self { users, pid, devices, target })
    }

    /// How to connect each device and authenticate it.
    pub(crate) fn connecting(
        &self,
    ) -> impl Iterator<Item = impl Future<Output = Result<Socket, Failure>> + use<>> {
        let address: SocketAddr = self.target.addresses[0];
        let devices = self.devices.clone().into_iter();
        devices.map(move |device| async move { authenticate(address, &device, READ_SIZE).await })
    }

    /// Connects everybody, some at a time.
    pub(crate) async fn connect(&self) -> Result<Vec<Socket>, Failure> {
        let progress = ProgressBar::new(self.devices.len() as u64).with_message("connections");
        let open = in_order(self.connecting(), &progress).await.into_iter().collect();
        progress.finish_and_clear();
        open
    }
}
