//! The ways to Redis: one server, or what takes the place of one.

use std::sync::Arc;

use futures_util::future::join;
use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::task::JoinHandle;

use super::address::Servers;
use super::cluster::Cluster;
use super::link::Link;
use super::sentinels::check_role;
use super::target::Target;

/// Two questions at once, of which the first counts. If only the first is refused, `undo` follows.
pub(crate) struct Both {
    pub(crate) first: Cmd,
    pub(crate) second: Cmd,
    pub(crate) undo: Cmd,
}

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

    /// Returns why the second was refused, if it was.
    pub(super) async fn ask_both(&mut self, both: &Both) -> RedisResult<Option<RedisError>> {
        let (first, second) = match self {
            Self::Link(link) => {
                let [first, second] = link.exchange_both(&both.first, &both.second).await?;
                (Ok(first), Ok(second))
            }
            // Each goes to the node that has its key.
            Self::Cluster(cluster) => {
                let mut other = cluster.clone();
                join(cluster.exchange(&both.first), other.exchange(&both.second)).await
            }
        };
        let refused = |answer: RedisResult<Value>| answer.and_then(Value::extract_error);
        match (refused(first), refused(second)) {
            (Ok(_), second) => Ok(second.err()),
            (Err(error), Err(_)) => Err(error),
            (Err(error), Ok(_)) => {
                self.ask(&both.undo).await?;
                Err(error)
            }
        }
    }

    /// After a question without an answer in time: what comes later is for nobody.
    pub(super) fn cut(&self) {
        match self {
            Self::Link(link) => link.cut(),
            Self::Cluster(cluster) => cluster.missed(),
        }
    }

    /// Nobody gets an answer from it any more.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Link(link) => link.has_ended(),
            Self::Cluster(cluster) => cluster.has_ended(),
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
