//! How a connection is made, in each mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult, cmd,
};
use tokio::sync::Notify;

use super::OpenError;
use super::line::{COMMAND_DEADLINE, Wire};
use super::options::RedisMode;

/// How long one server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one Sentinel may take, so that another one can be asked within the same attempt.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(500);
/// Requests that may wait to be written to a connection; more callers wait, until their deadline (BOUND).
const REQUESTS_MAX_WAITING: usize = 256;

/// Where connections are made to.
pub(super) enum Dialer {
    Standalone(Client),
    Sentinel(Sentinels),
    Cluster(Cluster),
}

pub(super) struct Sentinels {
    clients: Vec<Client>,
    master: String,
    /// How to connect to a server at whatever address the Sentinels name.
    server: ConnectionInfo,
}

pub(super) struct Cluster {
    whole: ClusterClient,
    nodes: Vec<Client>,
    /// The node that signals go over; the next one is tried when it cannot be reached.
    signals_over: AtomicUsize,
}

/// What is done with what a server says unasked.
pub(super) type Listener = Box<dyn Fn(PushInfo) + Send + Sync>;

impl Dialer {
    pub(super) fn new(mode: &RedisMode) -> Result<Self, OpenError> {
        match mode {
            RedisMode::Standalone { url } => Ok(Self::Standalone(client(info(url)?)?)),
            RedisMode::Sentinel { urls, master, username, password } => {
                let infos = infos(urls)?;
                let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
                if let Some(username) = username {
                    settings = settings.set_username(username);
                }
                if let Some(password) = password {
                    settings = settings.set_password(password);
                }
                let server = infos[0].clone().set_redis_settings(settings);
                let clients = infos.into_iter().map(client).collect::<Result<_, _>>()?;
                Ok(Self::Sentinel(Sentinels { clients, master: master.clone(), server }))
            }
            RedisMode::Cluster { urls } => {
                let infos = infos(urls)?;
                let whole = ClusterClient::builder(infos.clone())
                    .use_protocol(ProtocolVersion::RESP3)
                    .tcp_settings(tcp_settings())
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(COMMAND_DEADLINE)
                    .build()
                    .map_err(|_| OpenError::Refused)?;
                let nodes = infos.into_iter().map(client).collect::<Result<_, _>>()?;
                Ok(Self::Cluster(Cluster { whole, nodes, signals_over: AtomicUsize::new(0) }))
            }
        }
    }

    /// A connection for commands on keys.
    pub(super) async fn dial_keys(&self, lost: &Arc<Notify>) -> RedisResult<Wire> {
        if let Self::Cluster(cluster) = self {
            // Its own connections break and come back behind it; pings tell whether all primaries answer.
            return cluster.whole.get_async_connection().await.map(Wire::Cluster);
        }
        self.dial_server(lost, Box::new(drop)).await
    }

    /// A connection to one server, for signals. `listener` hears them. Whoever makes it asks what the server is: a
    /// Sentinel may not have heard yet that its primary is none any more.
    pub(super) async fn dial_server(&self, lost: &Arc<Notify>, listener: Listener) -> RedisResult<Wire> {
        match self {
            Self::Standalone(client) => connect(client, lost, listener).await.map(Wire::Primary),
            Self::Sentinel(sentinels) => {
                let primary = sentinels.primary().await?;
                connect(&primary, lost, listener).await.map(Wire::Primary)
            }
            Self::Cluster(cluster) => {
                let index = cluster.signals_over.load(Ordering::Relaxed);
                let node = &cluster.nodes[index % cluster.nodes.len()];
                // The next attempt is made with another one, unless this one is found good.
                cluster.signals_over.store(index.wrapping_add(1), Ordering::Relaxed);
                let wire = Wire::Node(connect(node, lost, listener).await?);
                wire.ping().await?;
                cluster.signals_over.store(index, Ordering::Relaxed);
                Ok(wire)
            }
        }
    }
}

impl Sentinels {
    /// The primary that the first Sentinel who knows it names.
    async fn primary(&self) -> RedisResult<Client> {
        let mut last_error = RedisError::from((ErrorKind::Client, "no sentinel knows the primary"));
        for sentinel in &self.clients {
            match tokio::time::timeout(SENTINEL_TIMEOUT, self.ask(sentinel)).await {
                Ok(Ok(Some((host, port)))) => {
                    let server = self.server.clone().set_addr(self.address(host, port));
                    return Client::open(server);
                }
                Ok(Err(error)) => last_error = error,
                Ok(Ok(None)) | Err(_) => {}
            }
        }
        Err(last_error)
    }

    async fn ask(&self, sentinel: &Client) -> RedisResult<Option<(String, u16)>> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(SENTINEL_TIMEOUT));
        let mut connection = sentinel.get_multiplexed_async_connection_with_config(&config).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        question.query_async(&mut connection).await
    }

    /// With TLS if the Sentinels are reached with TLS.
    fn address(&self, host: String, port: u16) -> ConnectionAddr {
        match self.server.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        }
    }
}

async fn connect(
    client: &Client,
    lost: &Arc<Notify>,
    listener: Listener,
) -> RedisResult<MultiplexedConnection> {
    let lost = Arc::clone(lost);
    let hear = move |said: PushInfo| {
        match said.kind {
            PushKind::Disconnection => lost.notify_one(),
            _ => listener(said),
        }
        Ok::<(), redis::aio::SendError>(())
    };
    // Each use of the connection has a deadline of its own.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(REQUESTS_MAX_WAITING)
        .set_push_sender(hear);
    client.get_multiplexed_async_connection_with_config(&config).await
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn info(url: &str) -> Result<ConnectionInfo, OpenError> {
    let info = url.into_connection_info().map_err(|_| OpenError::Address)?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
}

fn infos(urls: &[String]) -> Result<Vec<ConnectionInfo>, OpenError> {
    if urls.is_empty() {
        return Err(OpenError::NoAddress);
    }
    urls.iter().map(|url| info(url)).collect()
}

fn client(info: ConnectionInfo) -> Result<Client, OpenError> {
    Client::open(info).map_err(|_| OpenError::Refused)
}
