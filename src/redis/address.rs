//! Where Redis is, read from the text that an operator writes.

use redis::{ConnectionInfo, IntoConnectionInfo};

use super::place::{Insecure, Login, Place};

/// What an address says.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) servers: Servers,
    /// Of Redis itself; sentinels have users of their own.
    pub(super) login: Login,
    pub(super) database: i64,
    /// Whether connections are by TLS, and then whether certificates are not to be verified.
    pub(super) tls: Option<Insecure>,
}

#[derive(Clone)]
pub(super) enum Servers {
    One(Place),
    /// Some nodes of it, which know the others.
    Cluster(Vec<Place>),
    /// Some that know which server is the master of this name.
    Sentinels {
        sentinels: Vec<Place>,
        master: String,
    },
}

const SENTINEL_PORT: &str = ":26379";

impl Address {
    /// The address, or what is wrong with it, in which nothing is quoted: it may be the password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        Self::read(url).map_err(|wrong| {
            format!(
                "not an address like redis://user:password@host:port/database, rediss://host, \
                 unix:///path, redis-cluster://host,host or redis-sentinel://host,host/master: {wrong}"
            )
        })
    }

    fn read(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme")?;
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (rest, None),
        };
        let (scheme, tls) = match scheme {
            "redis" | "valkey" => ("one", false),
            "rediss" | "valkeys" => ("one", true),
            "unix" | "redis+unix" | "valkey+unix" => ("unix", false),
            "redis-cluster" | "valkey-cluster" => ("cluster", false),
            "rediss-cluster" | "valkeys-cluster" => ("cluster", true),
            "redis-sentinel" | "valkey-sentinel" => ("sentinel", false),
            "rediss-sentinel" | "valkeys-sentinel" => ("sentinel", true),
            _ => return Err("the scheme is none of Redis'".into()),
        };
        let tls = match (tls, fragment) {
            (true, Some("insecure")) => Some(Insecure(true)),
            (true, None) => Some(Insecure(false)),
            (false, None) => None,
            (true, Some(_)) => return Err("after # only \"insecure\" is known".into()),
            (false, Some(_)) => return Err("after # nothing is known without TLS".into()),
        };
        if scheme == "unix" {
            let info = info(&format!("unix://{rest}"))?;
            return Self::of(&info, Servers::One(Place::of(&info)?), tls);
        }
        let path = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path);
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), authority),
        };
        let (master, path) = match scheme {
            "sentinel" => master(path)?,
            _ => (String::new(), path),
        };
        let mut infos = Vec::new();
        for host in hosts.split(',') {
            let port = match scheme {
                "sentinel" if !has_port(host) => SENTINEL_PORT,
                _ => "",
            };
            infos.push(info(&format!("redis://{login}{host}{port}{path}"))?);
        }
        let places = infos.iter().map(Place::of).collect::<Result<Vec<_>, _>>()?;
        let servers = match scheme {
            "cluster" => Servers::Cluster(places),
            "sentinel" => Servers::Sentinels {
                sentinels: places,
                master,
            },
            _ => match <[Place; 1]>::try_from(places) {
                Ok([place]) => Servers::One(place),
                Err(_) => {
                    return Err("several hosts are a redis-cluster: or redis-sentinel:".into());
                }
            },
        };
        if matches!(servers, Servers::Cluster(_)) && infos[0].redis_settings().db() != 0 {
            return Err("a cluster has database 0 only".into());
        }
        Self::of(&infos[0], servers, tls)
    }

    fn of(info: &ConnectionInfo, servers: Servers, tls: Option<Insecure>) -> Result<Self, String> {
        let settings = info.redis_settings();
        if settings.username().is_some() && settings.password().is_none() {
            return Err("a user needs a password".into());
        }
        Ok(Self {
            servers,
            login: Login {
                user: settings.username().map(str::to_owned),
                password: settings.password().map(str::to_owned),
            },
            database: settings.db(),
            tls,
        })
    }
}

/// One address with one host, as the `redis` crate reads it, whose errors quote nothing.
fn info(url: &str) -> Result<ConnectionInfo, String> {
    url.into_connection_info()
        .map_err(|error| error.to_string())
}

fn has_port(host: &str) -> bool {
    // An IPv6 address has colons of its own, in brackets.
    host.rsplit(']').next().is_some_and(|end| end.contains(':'))
}

/// The name in `/NAME` or `/NAME/database`, and the rest.
fn master(path: &str) -> Result<(String, &str), String> {
    let path = path.strip_prefix('/').unwrap_or_default();
    let end = path.find(['/', '?']).unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    match name {
        "" => Err("the name of the master is missing: redis-sentinel://host,host/master".into()),
        name => Ok((name.to_owned(), rest)),
    }
}

impl Address {
    /// Without user and password.
    pub(super) fn shown(&self) -> String {
        let all = |places: &[Place]| {
            let places: Vec<_> = places.iter().map(Place::shown).collect();
            places.join(",")
        };
        match &self.servers {
            Servers::One(place) => place.shown(),
            Servers::Cluster(nodes) => format!("cluster {}", all(nodes)),
            Servers::Sentinels { sentinels, master } => {
                format!("{master} of sentinels {}", all(sentinels))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp(host.into(), port)
    }

    #[test]
    fn one_server() {
        let address = Address::parse("rediss://app:p%40ss@redis.example/3#insecure").unwrap();
        assert!(
            matches!(&address.servers, Servers::One(one) if *one == tcp("redis.example", 6379))
        );
        assert_eq!(address.login.user.as_deref(), Some("app"));
        assert_eq!(address.login.password.as_deref(), Some("p@ss"));
        assert_eq!(address.database, 3);
        assert!(address.tls == Some(Insecure(true)));

        let address = Address::parse("unix:///run/redis?db=2").unwrap();
        assert_eq!(
            (address.shown(), address.database),
            ("/run/redis".into(), 2)
        );
    }

    #[test]
    fn a_cluster() {
        let address = Address::parse("redis-cluster://u:p@a,b:7001,[::1]:7002").unwrap();
        let Servers::Cluster(nodes) = &address.servers else {
            panic!("no cluster");
        };
        assert_eq!(
            nodes[..],
            [tcp("a", 6379), tcp("b", 7001), tcp("::1", 7002)]
        );
        assert_eq!(address.login.password.as_deref(), Some("p"));
        assert!(address.tls.is_none());
    }

    #[test]
    fn sentinels() {
        let address = Address::parse("rediss-sentinel://:p@a,[::1],b:1/shop/4").unwrap();
        let Servers::Sentinels { sentinels, master } = &address.servers else {
            panic!("no sentinels");
        };
        assert_eq!(
            sentinels[..],
            [tcp("a", 26379), tcp("::1", 26379), tcp("b", 1)]
        );
        assert_eq!((master.as_str(), address.database), ("shop", 4));
        assert!(address.tls == Some(Insecure(false)));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (wrong, because) in [
            ("app:hunter2@host", "no scheme"),
            ("http://app:hunter2@host", "scheme"),
            ("redis://app:hunter2@a,b", "several hosts"),
            ("redis://app:hunter2@host/data", "database"),
            ("redis://app:hunter2@host:99999", "URL"),
            ("redis://app:hunter2@host#insecure", "without TLS"),
            ("rediss://app:hunter2@host#secure", "insecure"),
            ("redis-cluster://app:hunter2@a,b/1", "database 0"),
            ("redis-sentinel://app:hunter2@a,b", "name of the master"),
            ("redis-cluster://app:hunter2@", ""),
            ("redis://hunter2@host", "needs a password"),
        ] {
            let said = Address::parse(wrong)
                .err()
                .unwrap_or_else(|| panic!("{wrong}"));
            assert!(said.contains(because), "{wrong}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
