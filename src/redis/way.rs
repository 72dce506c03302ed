//! The ways to Redis: one server, or what takes the place of one.

use std::sync::Arc;

use redis::{Cmd, RedisResult, Value};
use tokio::task::JoinHandle;

use super::address::Servers;
use super::cluster::Cluster;
use super::link::Link;
use super::sentinels::check_role;
use super::target::Target;

/// A connection that is there.
#[derive(Clone)]
pub(super) enum Way {
    /// To a server, which sentinels may have named.
    Link(Link),
    Cluster(Cluster),
}

impl Way {
    /// A new one, and what ends with it.
    pub(super) async fn open(target: &Arc<Target>) -> RedisResult<(Self, JoinHandle<()>)> {
        let (link, ended) = match &target.address.servers {
            Servers::One(place) => target.link(place).await?,
            Servers::Sentinels { sentinels, master } => {
                let place = target.ask_sentinels(sentinels, master).await?;
                let (mut link, ended) = target.link(&place).await?;
                check_role(&mut link).await?;
                (link, ended)
            }
            Servers::Cluster(nodes) => {
                let (cluster, ended) = Cluster::open(target, nodes).await?;
                return Ok((Self::Cluster(cluster), ended));
            }
        };
        Ok((Self::Link(link), ended))
    }

    pub(super) async fn ask(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Link(link) => link.exchange(cmd).await?,
            Self::Cluster(cluster) => cluster.exchange(cmd).await?,
        };
        answer.extract_error()
    }

    /// After a question without an answer in time: what comes later is for nobody.
    pub(super) fn cut(&self) {
        match self {
            Self::Link(link) => link.cut(),
            Self::Cluster(cluster) => cluster.missed(),
        }
    }

    /// How many questions were answered.
    pub(super) fn answered(&self) -> u64 {
        match self {
            Self::Link(link) => link.answered(),
            Self::Cluster(cluster) => cluster.answered(),
        }
    }
}
