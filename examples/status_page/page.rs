//! What is served: the page, its script, style and icon, and the numbers that the script asks for.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl_resumption::{Outcome, Reason, Resumption, Source, TicketKeys};
use serde_json::{Value, json};

use crate::args::Args;
use crate::history::{History, SECONDS};
use crate::http::Reply;
use crate::options::Mode;
use crate::report::{self, text};

pub(crate) struct Page {
    mode: Mode,
    policy: Resumption,
    keys: TicketKeys,
    key_epoch: Duration,
    history: Arc<History>,
}

/// A connection, the `number`th.
pub(crate) struct Met {
    pub(crate) number: u64,
    /// None while its handshake is unfinished.
    pub(crate) outcome: Option<Outcome>,
}

impl Page {
    pub(crate) fn new(
        args: &Args,
        policy: Resumption,
        keys: TicketKeys,
        history: Arc<History>,
    ) -> Self {
        Self {
            mode: args.mode,
            policy,
            keys,
            key_epoch: args.key_epoch,
            history,
        }
    }

    /// The answer to a request for `path` over a connection.
    ///
    /// After the page the connection is closed, so that whoever loads it again connects again. The
    /// numbers come over one connection that stays.
    pub(crate) fn reply(&self, path: &str, met: &Met) -> Reply {
        let asset = |content_type, body: &str| Reply {
            headers: "Cache-Control: max-age=3600\r\n".into(),
            ..Reply::last("200 OK", content_type, body.into())
        };
        match path {
            "/" => Reply {
                // Nothing from elsewhere, and nothing that is kept: it speaks of this connection.
                headers: "Content-Security-Policy: default-src 'self'\r\n\
                          Cache-Control: no-store\r\n"
                    .into(),
                ..Reply::last("200 OK", "text/html; charset=utf-8", self.html(met))
            },
            "/script.js" => asset("text/javascript; charset=utf-8", include_str!("script.js")),
            "/style.css" => asset("text/css; charset=utf-8", include_str!("style.css")),
            "/icon.svg" => asset("image/svg+xml", include_str!("icon.svg")),
            "/status.json" => Reply {
                headers: "Cache-Control: no-store\r\n".into(),
                close: false,
                ..Reply::json("200 OK", self.json(met))
            },
            _ => Reply::json(
                "404 Not Found",
                "{\"error\":\"there is no such page\"}\n".into(),
            ),
        }
    }

    fn html(&self, met: &Met) -> String {
        let outcome = met.outcome;
        let handshake = match outcome {
            None => "early",
            Some(outcome) if outcome.is_resumed() => "resumed",
            Some(_) => "full",
        };
        let (cause, why) = match outcome {
            Some(outcome) => match (outcome.reason(), outcome.source()) {
                (Some(reason), _) => (reason.as_str(), why_full(reason)),
                (_, Some(source)) => (source.as_str(), why_resumed(source)),
                (None, None) => ("", ""),
            },
            // Only a connection that resumes is here before its end.
            None => (
                "early data",
                "The request came with the first flight, and is answered before the handshake is finished.",
            ),
        };
        include_str!("page.html")
            .replace("{{mode}}", self.mode.name())
            .replace("{{about}}", about(self.mode))
            .replace("{{number}}", &met.number.to_string())
            .replace(
                "{{version}}",
                outcome.map_or("TLSv1.3", |o| o.version_str()),
            )
            .replace("{{handshake}}", handshake)
            .replace("{{cause}}", cause)
            .replace("{{why}}", why)
    }

    fn json(&self, met: &Met) -> String {
        let stats = self.policy.stats();
        let status = json!({
            "connection": met.number,
            "outcome": text(met.outcome),
            "history": { "seconds": SECONDS, "counts": self.history.counts() },
            "keys": stats.tickets.key_age.map(|age| self.keys(age)),
            "key_error": text(self.keys.last_error()),
            "stats": report::stats(&stats),
        });
        format!("{status}\n")
    }

    /// Derived keys have epochs numbered from the Unix epoch on.
    fn keys(&self, age: Duration) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let (now, length) = (now.unwrap_or_default().as_secs(), self.key_epoch.as_secs());
        json!({
            "epoch": now / length,
            "seconds": length,
            "age": age.as_secs(),
            "next": length - now % length,
        })
    }
}

fn about(mode: Mode) -> &'static str {
    match mode {
        Mode::Stateful => "Sessions live in this server's memory; clients hold an id.",
        Mode::Stateless => {
            "Sessions live with the clients, in tickets sealed under this server's keys."
        }
        Mode::Hybrid => "Tickets, and this server's memory for TLS 1.2 clients that take none.",
        Mode::Off => "No session resumes: every handshake is full.",
    }
}

fn why_resumed(source: Source) -> &'static str {
    match source {
        Source::Store => "The server found the session in its store.",
        Source::Ticket => "The server opened the ticket that the browser kept.",
        _ => "The session is not one of this library.",
    }
}

fn why_full(reason: Reason) -> &'static str {
    match reason {
        Reason::NothingOffered => "The browser had no session to offer, as on a first visit.",
        Reason::NotFound => "The store has no session under the id that the browser offered.",
        Reason::Expired => "The session had reached the end of its lifetime.",
        Reason::UnknownKey => {
            "The ticket was sealed under a key that the server does not have (any more)."
        }
        Reason::Malformed => "The ticket was damaged or forged.",
        Reason::WrongContext => "The session was made with other parameters or in another context.",
        Reason::NoStamp => "Another product made the session.",
        Reason::OtherBinding => "The session was made for another server name.",
        Reason::Unauthenticated => "The session was made without a client certificate.",
        Reason::ClientCertificate => "The session was made with a client certificate.",
        Reason::Forgotten => "The server was told to forget the session.",
        Reason::StoreFailed => "The store failed.",
        Reason::Off => "Resumption is switched off here.",
        _ => "",
    }
}
