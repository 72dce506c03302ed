//! One connection to Redis on which nothing takes longer than it may: neither a TLS handshake with
//! somebody who does not answer, nor an answer that comes bit by bit, is without end, or is built to
//! be dear to read. Those of the `redis` crate bound each read, and TLS handshakes not at all.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use redis::{Client, Cmd, ConnectionLike, RedisError, RedisResult, Value};

use super::answer::{self, MAX_ANSWER};
use super::stream::Stream;

/// The Redis of an address; or that it is none.
pub(crate) fn client(url: &str) -> Result<Client, String> {
    Client::open(url).map_err(|error| {
        format!(
            "not an address like redis://user:password@host:port/database, rediss://host or \
             unix:///path: {error}"
        )
    })
}

pub(crate) struct Line {
    stream: Stream,
    database: i64,
    /// For each call.
    deadline: Duration,
    broken: bool,
}

impl Line {
    /// Connects and logs in within `connecting`, and the time that it takes to resolve a name.
    pub(crate) fn connect(
        client: &Client,
        connecting: Duration,
        deadline: Duration,
    ) -> RedisResult<Self> {
        let info = client.get_connection_info();
        let login = info.redis_settings();
        let mut line = Self {
            stream: Stream::connect(info.addr(), connecting)?,
            database: login.db(),
            deadline,
            broken: false,
        };
        if let Some(password) = login.password() {
            let mut auth = redis::cmd("AUTH");
            let auth = auth.arg(login.username()).arg(password);
            line.log_in(&auth.get_packed_command())?;
        } else if let Value::ServerError(error) =
            line.exchange(&redis::cmd("PING").get_packed_command())?
            && error.code() != "NOPERM"
        {
            // It wants a password, or has enough clients.
            Value::ServerError(error).extract_error()?;
        }
        if login.db() != 0 {
            let select = redis::cmd("SELECT").arg(login.db()).get_packed_command();
            line.exchange(&select)?.extract_error()?;
        }
        Ok(line)
    }

    /// Of an error no more is told than its code: the rest may quote the password.
    fn log_in(&mut self, auth: &[u8]) -> RedisResult<()> {
        let Value::ServerError(error) = self.exchange(auth)? else {
            return Ok(());
        };
        let known = ["WRONGPASS", "NOPERM", "DENIED", "LOADING", "MASTERDOWN"];
        let code = known.into_iter().find(|code| *code == error.code());
        let refused = format!("AUTH was refused: {}", code.unwrap_or("ERR"));
        Err(io::Error::new(ErrorKind::PermissionDenied, refused).into())
    }

    /// Whether an answer was not read to its end: the next call would read the rest.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether Redis has hung up, or says what it was not asked for.
    pub(crate) fn check_quiet(&mut self) -> RedisResult<()> {
        if !self.stream.is_quiet()? {
            self.broken = true;
            return Err(io::Error::from(ErrorKind::ConnectionAborted).into());
        }
        Ok(())
    }

    /// Two calls in one trip, of which the first counts. Returns why the second was refused, if it was. If only the
    /// first was, `undo` follows; in all no longer than one call may take.
    pub(crate) fn call_both(
        &mut self,
        first: &Cmd,
        second: &Cmd,
        undo: &Cmd,
    ) -> RedisResult<Option<RedisError>> {
        *self.stream.until() = Instant::now() + self.deadline;
        let both = [first.get_packed_command(), second.get_packed_command()].concat();
        let mut answers = self.exchange_all(&both, 2)?.into_iter();
        let mut refusal = || answers.next()?.extract_error().err();
        match (refusal(), refusal()) {
            (None, second) => Ok(second),
            (Some(first), second) => {
                if second.is_none() {
                    self.exchange(&undo.get_packed_command())?;
                }
                Err(first)
            }
        }
    }

    /// In the time that is left.
    fn exchange(&mut self, command: &[u8]) -> RedisResult<Value> {
        let mut answers = self.exchange_all(command, 1)?;
        Ok(answers.pop().unwrap_or(Value::Nil))
    }

    fn exchange_all(&mut self, commands: &[u8], answers: usize) -> RedisResult<Vec<Value>> {
        self.broken = true;
        let answers = self.send_and_read(commands, answers).map_err(|error| {
            // What a socket says whose time is over.
            if error.kind() == ErrorKind::WouldBlock {
                return io::Error::new(ErrorKind::TimedOut, "no answer before the deadline");
            }
            error
        })?;
        // What will not be any better on this connection, but may be on another.
        self.broken = answers.iter().any(|answer| match answer {
            Value::ServerError(error) => {
                ["READONLY", "MASTERDOWN", "NOAUTH"].contains(&error.code())
            }
            _ => false,
        });
        Ok(answers)
    }

    fn send_and_read(&mut self, commands: &[u8], answers: usize) -> io::Result<Vec<Value>> {
        self.stream.write_all(commands)?;
        self.stream.flush()?;
        let mut reader = BufReader::new((&mut self.stream).take(MAX_ANSWER));
        let answer = (0..answers)
            .map(|_| answer::read(&mut reader))
            .collect::<io::Result<_>>();
        if reader.get_ref().limit() == 0 {
            return Err(answer::wrong("an answer of over 1 MiB"));
        }
        if answer.is_ok() && !reader.buffer().is_empty() {
            return Err(answer::wrong("more answers than calls"));
        }
        answer
    }
}

impl ConnectionLike for Line {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        *self.stream.until() = Instant::now() + self.deadline;
        self.exchange(command)
    }

    fn req_packed_commands(&mut self, _: &[u8], _: usize, _: usize) -> RedisResult<Vec<Value>> {
        // Nobody has pipelines.
        Err(io::Error::from(ErrorKind::Unsupported).into())
    }

    fn get_db(&self) -> i64 {
        self.database
    }

    fn supports_pipelining(&self) -> bool {
        false
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").exec(self).is_ok()
    }

    fn is_open(&self) -> bool {
        !self.broken
    }
}
