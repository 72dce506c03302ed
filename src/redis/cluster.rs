//! A cluster: the `redis` crate knows which node has which keys, follows them when they move, and connects to the nodes
//! by our links.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::cluster::ClusterClient;
use redis::cluster_async::{ClusterConnection, Connect};
use redis::{
    Arg, AsyncConnectionConfig, Cmd, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult, Value,
};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep, timeout};

use super::dial::late;
use super::link::Link;
use super::place::Place;
use super::target::Target;

/// Questions without an answer end all connections, if there are so many in a row over so long: the nodes that are known may
/// be gone. One node that does not answer is not all, and its link ends by itself.
const MISSED: u32 = 3;
const SILENT: Duration = Duration::from_secs(1);

/// The crate tries again at once where a node cannot be connected to.
const REST: Duration = Duration::from_millis(10);

#[derive(Clone)]
pub(super) struct Cluster {
    nodes: ClusterConnection<Link>,
    answered: Arc<AtomicU64>,
    silence: Arc<Mutex<Option<Silence>>>,
    end: AbortHandle,
}

/// The time in which no node has answered.
struct Silence {
    since: Instant,
    missed: u32,
}

thread_local! {
    /// What links to nodes are begun with. The crate begins them by a function without an object, on the thread of the
    /// runtime, which has one target.
    static TARGET: RefCell<Weak<Target>> = const { RefCell::new(Weak::new()) };
}

impl Cluster {
    /// Connects to a node of these and those that it knows; and what ends with the connections.
    pub(super) async fn open(
        target: &Arc<Target>,
        nodes: &[Place],
    ) -> RedisResult<(Self, JoinHandle<()>)> {
        TARGET.set(Arc::downgrade(target));
        let named = nodes.iter().filter_map(|node| match node {
            Place::Tcp(host, port) if host.contains(':') => {
                Some(format!("redis://[{host}]:{port}"))
            }
            Place::Tcp(host, port) => Some(format!("redis://{host}:{port}")),
            Place::Unix(_) => None,
        });
        // Who asks does not wait for long, and asks again with the next handshake.
        let client = ClusterClient::builder(named)
            .retries(8)
            .min_retry_wait(5)
            .max_retry_wait(50)
            // Who asks has a deadline, and a thread that has no timer of tokio's.
            .overall_response_timeout(None)
            .build()?;
        // One after another, and then all others, before which the files of TLS are read.
        let each = target.dial.deadline;
        let longest = SILENT + each * u32::try_from(nodes.len() + 2).unwrap_or(u32::MAX);
        let nodes = timeout(longest, client.get_async_generic_connection::<Link>());
        let nodes = nodes.await.map_err(late)??;
        let ended = tokio::spawn(std::future::pending());
        let cluster = Self {
            nodes,
            answered: Arc::default(),
            silence: Arc::default(),
            end: ended.abort_handle(),
        };
        Ok((cluster, ended))
    }

    pub(super) async fn exchange(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        let answer = self.nodes.req_packed_command(cmd).await;
        let is_told = match &answer {
            Ok(_) => true,
            Err(error) => matches!(
                error.kind(),
                redis::ErrorKind::Server(_) | redis::ErrorKind::Extension
            ),
        };
        if is_told {
            self.answered.fetch_add(1, Relaxed);
            *self.silence.lock() = None;
        } else {
            self.missed();
        }
        answer
    }

    pub(super) fn missed(&self) {
        let mut silence = self.silence.lock();
        let silence = silence.get_or_insert_with(|| Silence {
            since: Instant::now(),
            missed: 0,
        });
        silence.missed += 1;
        if silence.missed >= MISSED && silence.since.elapsed() >= SILENT {
            self.end.abort();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_finished()
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }
}

impl Connect for Link {
    fn connect_with_config<'a, T>(info: T, _: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        let target = TARGET.with_borrow(Weak::upgrade);
        Box::pin(async move {
            let target = target.ok_or_else(|| io::Error::from(ErrorKind::NotConnected))?;
            let info = info.into_connection_info()?;
            let redis::ConnectionAddr::Tcp(host, port) = info.addr() else {
                return Err(io::Error::from(ErrorKind::Unsupported).into());
            };
            let place = Place::Tcp(host.clone(), *port);
            let Some(turn) = target.links.take() else {
                return Err(io::Error::other("a cluster of too many nodes").into());
            };
            let error = match target.failed.why(&place) {
                Some(why) => io::Error::new(ErrorKind::NotConnected, why).into(),
                None => match target.link(&place).await {
                    Ok((link, _)) => return Ok(link.with_turn(turn)),
                    Err(error) => {
                        target.failed.note(place, error.to_string());
                        error
                    }
                },
            };
            sleep(REST).await;
            Err(error)
        })
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        // It goes with the question that follows on this clone.
        if cmd.args_iter().next() == Some(Arg::Simple(b"ASKING")) {
            self.asking = true;
            return Box::pin(async { Ok(Value::Okay) });
        }
        Box::pin(self.exchange_in_time(cmd))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        _: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        // Nobody has pipelines.
        Box::pin(async { Err(io::Error::from(ErrorKind::Unsupported).into()) })
    }

    fn get_db(&self) -> i64 {
        0
    }
}
