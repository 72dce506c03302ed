//! Redis with more servers than one: a cluster, and a primary with replicas that sentinels watch.
//!
//! All are processes of their own on 127.0.0.1, with or without passwords and TLS. Clients, and replicas, reach each through a
//! little network of its own (`network`), which can be cut; what the fixtures themselves ask goes past it.

mod cluster;
mod network;
mod node;
mod sentinel;
mod tls;

pub(crate) use cluster::Cluster;
pub(crate) use node::Node;
pub(crate) use sentinel::Sentinels;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use parking_lot::Mutex;

use crate::common::process::Scratch;
use tls::Tls;

/// The user that the fixtures are, and the servers to each other. It is no business of a test's.
const OURS: &str = "fixture";

/// Who is let in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// The default one if none.
    user: Option<String>,
    /// Each is as good as the other. With none anyone is let in.
    passwords: Vec<String>,
}

impl Access {
    pub(crate) fn password(password: &str) -> Self {
        let passwords = vec![password.to_owned()];
        Self {
            user: None,
            passwords,
        }
    }

    /// This user only.
    pub(crate) fn user(user: &str, password: &str) -> Self {
        Self {
            user: Some(user.to_owned()),
            ..Self::password(password)
        }
    }

    fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("default")
    }

    /// The newest password.
    fn newest(&self) -> Option<&str> {
        self.passwords.last().map(String::as_str)
    }

    /// What is before the hosts in a URL.
    fn in_url(&self) -> String {
        let user = self.user.as_deref().unwrap_or_default();
        let with = |password| format!("{user}:{password}@");
        self.newest().map(with).unwrap_or_default()
    }

    /// The lines of a configuration. They cannot tell apart what a user had, so that `ACL SETUSER` says what changes.
    fn lines(&self) -> String {
        let passwords: String = self.passwords.iter().map(|it| format!(" >{it}")).collect();
        let mut lines = format!("user {OURS} on >{OURS} ~* &* +@all\n");
        lines += &match (&self.user, passwords.as_str()) {
            (None, "") => "user default on nopass ~* &* +@all\n".into(),
            (None, passwords) => format!("user default on{passwords} ~* &* +@all\n"),
            (Some(user), passwords) => {
                format!("user default off\nuser {user} on{passwords} ~* &* +@all\n")
            }
        };
        lines
    }
}

/// How servers are to be.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Who is let in to the nodes.
    pub(crate) access: Access,
    /// Who is let in to the sentinels.
    pub(crate) sentinel_access: Access,
    /// TLS everywhere, and nothing beside it.
    pub(crate) tls: bool,
    /// And certificates of those who ask. Of sentinels too.
    pub(crate) client_certificates: bool,
    /// More lines of each node's configuration.
    pub(crate) lines: &'static str,
}

impl Settings {
    /// A cluster in which nobody is taken for failed, however busy the machine.
    pub(crate) fn steady() -> Self {
        Self {
            lines: "cluster-node-timeout 60000\ncluster-replica-no-failover yes",
            ..Self::default()
        }
    }
}

/// What servers have in common.
struct House {
    scratch: Scratch,
    tls: Option<Arc<Tls>>,
    access: Mutex<Access>,
}

impl House {
    fn new(scratch: &str, settings: &Settings) -> Self {
        let scratch = Scratch::new(&format!("redis-{scratch}"));
        let tls = settings.tls || settings.client_certificates;
        let tls = tls.then(|| Arc::new(Tls::new(&scratch, settings.client_certificates)));
        Self {
            scratch,
            tls,
            access: Mutex::new(settings.access.clone()),
        }
    }

    fn tls(&self) -> &Tls {
        self.tls.as_deref().expect("TLS")
    }

    /// Options of the example `server` for these, about TLS.
    fn server_options(&self) -> Vec<String> {
        let Some(tls) = &self.tls else {
            return Vec::new();
        };
        let shown = |path: &Path| path.display().to_string();
        let mut options = vec!["--redis-ca".into(), shown(&tls.ca)];
        if tls.asks_clients {
            let (cert, key) = (shown(&tls.client.cert), shown(&tls.client.key));
            options.extend(["--redis-client-certificate".into(), format!("{cert},{key}")]);
        }
        options
    }

    /// Gives all nodes another certificate, one that ended yesterday or will end in a month. Connections that are there
    /// stay.
    fn change_certificate(&self, nodes: &[Node], expired: bool) {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let now = SystemTime::now();
        let until = if expired { now - DAY } else { now + 30 * DAY };
        let until = until.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let until = Asn1Time::from_unix(until.try_into().unwrap()).unwrap();
        let tls = self.tls();
        tls.mint(&tls.server, &until);
        let (cert, key) = (tls.server.cert.display(), tls.server.key.display());
        for node in nodes.iter().filter(|node| node.runs()) {
            // It reads them again, though their names are the same.
            let () = node.ask(&format!(
                "CONFIG SET tls-cert-file {cert} tls-key-file {key}"
            ));
        }
    }

    /// A URL of these.
    fn url<'a>(&self, scheme: &str, nodes: impl IntoIterator<Item = &'a Node>) -> String {
        let scheme = match self.tls {
            Some(_) => scheme.replacen("redis", "rediss", 1),
            None => scheme.to_owned(),
        };
        let hosts: Vec<_> = nodes.into_iter().map(Node::address).collect();
        let access = self.access.lock().in_url();
        format!("{scheme}://{access}{}", hosts.join(","))
    }

    /// Lets clients in with this password too.
    fn add_password(&self, nodes: &[Node], new: &str) {
        let mut access = self.access.lock();
        assert!(!access.passwords.is_empty(), "anyone is let in");
        access.passwords.push(new.to_owned());
        let user = access.name();
        for node in nodes.iter().filter(|node| node.runs()) {
            let () = node.ask(&format!("ACL SETUSER {user} >{new}"));
        }
    }

    /// Lets clients in with the newest password only. Those that are in stay in, as Redis has it, if they are not put out.
    fn only_newest_password(&self, nodes: &[Node]) {
        let mut access = self.access.lock();
        let new = access.passwords.pop().expect("a password");
        access.passwords = vec![new.clone()];
        let user = access.name();
        for node in nodes.iter().filter(|node| node.runs()) {
            let () = node.ask(&format!("ACL SETUSER {user} resetpass >{new}"));
        }
    }

    /// Closes the connections of all clients, not those of servers.
    fn put_out(&self, nodes: &[Node]) {
        let user = self.access.lock().name().to_owned();
        for node in nodes.iter().filter(|node| node.runs()) {
            let _: u32 = node.ask(&format!("CLIENT KILL USER {user}"));
        }
    }
}

/// One line of `INFO`, or of what looks like it.
fn info<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim_end);
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
