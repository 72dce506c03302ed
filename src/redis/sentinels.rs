//! Sentinels know which server is the master. They are asked before each connection, and whom they name is asked too.

use redis::{ErrorKind, RedisError, RedisResult, Value};

use super::link::Link;
use super::place::Place;
use super::target::Target;

impl Target {
    /// Where the master is, as the first sentinel says that can be asked.
    pub(super) async fn ask_sentinels(
        &self,
        sentinels: &[Place],
        master: &str,
    ) -> RedisResult<Place> {
        let mut failed = unknown("no sentinel");
        for sentinel in sentinels {
            match self.ask_sentinel(sentinel, master).await {
                Ok(place) => return Ok(place),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn ask_sentinel(&self, sentinel: &Place, master: &str) -> RedisResult<Place> {
        let (mut link, _) = Link::open(&self.dial, sentinel, &self.sentinel_login, 0).await?;
        let mut cmd = redis::cmd("SENTINEL");
        cmd.arg("get-master-addr-by-name").arg(master);
        let answer = link.exchange_in_time(&cmd).await?.extract_error()?;
        let found: Option<(String, u16)> = redis::from_redis_value(answer)?;
        let (host, port) =
            found.ok_or_else(|| unknown("the sentinel knows no master of this name"))?;
        Ok(Place::Tcp(host, port))
    }
}

/// A sentinel may not know yet that the master is another one.
pub(super) async fn check_role(link: &mut Link) -> RedisResult<()> {
    let role = link
        .exchange_in_time(&redis::cmd("ROLE"))
        .await?
        .extract_error()?;
    let says_master = match role {
        Value::Array(items) => {
            matches!(&items[..], [Value::BulkString(role), ..] if role == b"master")
        }
        _ => false,
    };
    if says_master {
        return Ok(());
    }
    Err(unknown(
        "the server that sentinels name says that it is no master",
    ))
}

fn unknown(what: &'static str) -> RedisError {
    (ErrorKind::Client, what).into()
}
