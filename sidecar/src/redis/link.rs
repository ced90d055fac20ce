//! A connection, to one server or to a cluster.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, RedisResult, Value};

use crate::config::redis::RedisSettings;
use crate::secret::Secret;

/// A connection that many calls share; cloning it is cheap. All of the `redis` crate's commands,
/// pipelines and scripts run on it. In a cluster the keys of one script or pipeline must share a
/// hash tag.
#[derive(Clone)]
pub enum Link {
    /// To one server.
    Single(MultiplexedConnection),
    /// To a cluster; follows its slots as they move.
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Link(single)",
            Self::Cluster(_) => "Link(cluster)",
        })
    }
}

impl Link {
    /// Connects within the configured time.
    pub(super) async fn open(settings: &RedisSettings) -> RedisResult<Self> {
        let (connect, respond) = (settings.connect_timeout, settings.timeout);
        if settings.is_cluster {
            let client = ClusterClient::new(settings.nodes.iter().map(Secret::expose))?;
            let config = ClusterConfig::new().set_connection_timeout(connect).set_response_timeout(respond);
            return client.get_async_connection_with_config(config).await.map(Self::Cluster);
        }
        let client = Client::open(settings.nodes.first().map_or("", Secret::expose))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(respond));
        client.get_multiplexed_async_connection_with_config(&config).await.map(Self::Single)
    }

    /// Asks whether there is somebody; in a cluster any node will do.
    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        let ping = redis::cmd("PING");
        match self {
            Self::Single(link) => link.req_packed_command(&ping).await?,
            Self::Cluster(link) => {
                let anyone = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
                link.route_command(ping, anyone).await?
            }
        };
        Ok(())
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(link) => link.req_packed_command(cmd),
            Self::Cluster(link) => link.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(link) => link.req_packed_commands(pipeline, offset, count),
            Self::Cluster(link) => link.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
        }
    }
}
