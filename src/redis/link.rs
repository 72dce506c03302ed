//! One connection to one server, on which many ask at a time.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisResult, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use super::alarm::Alarm;
use super::allowance::{Allowance, Heard};
use super::dial::{Dial, late};
use super::driver::Driver;
use super::place::{Login, Place};

/// How many questions wait at most to be written. Who has another waits for one of these.
const AT_ONCE: usize = 1024;

#[derive(Clone)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    allowance: Arc<Allowance>,
    driver: Arc<Driver>,
    /// For an answer, where whoever asks does not say how long.
    patience: Duration,
    /// The next question is for a node that is about to get what is asked for. It has to be told so right before:
    /// whatever others ask in between would be taken for that question.
    pub(super) asking: bool,
    /// One of as many as a cluster may have.
    turn: Option<Arc<OwnedSemaphorePermit>>,
}

impl Link {
    /// Connects and logs in, within the time that `dial` has for that; and what ends with the connection.
    pub(super) async fn open(
        dial: &Dial,
        place: &Place,
        login: &Login,
        database: i64,
    ) -> RedisResult<(Self, JoinHandle<()>)> {
        let (stream, until) = dial.connect(place).await?;
        let (allowance, alarm) = (Arc::<Allowance>::default(), Arc::<Alarm>::default());
        let heard = Heard {
            stream,
            allowance: Arc::clone(&allowance),
            alarm: Arc::clone(&alarm),
        };
        // Who logs in through this would be told more in an error than is good: see `log_in`.
        let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
        // Who asks has a deadline, and a thread that has no timer of tokio's.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let config = config.set_pipeline_buffer_size(AT_ONCE);
        let opened = MultiplexedConnection::new_with_config(&nobody, heard, config);
        let (connection, driver) = timeout_at(until, opened).await.map_err(late)??;
        let (driver, ended) = Driver::start(driver, alarm);
        let mut link = Self {
            connection,
            allowance,
            driver: Arc::new(driver),
            patience: dial.deadline,
            asking: false,
            turn: None,
        };
        let entered = timeout_at(until, link.enter(login, database));
        entered.await.map_err(late)??;
        Ok((link, ended))
    }

    pub(super) fn with_turn(mut self, turn: OwnedSemaphorePermit) -> Self {
        self.turn = Some(Arc::new(turn));
        self
    }

    async fn enter(&mut self, login: &Login, database: i64) -> RedisResult<()> {
        if let Some(password) = &login.password {
            let mut auth = redis::cmd("AUTH");
            auth.arg(&login.user).arg(password);
            self.log_in(&auth).await?;
        } else if let Value::ServerError(error) = self.exchange(&redis::cmd("PING")).await?
            && error.code() != "NOPERM"
        {
            // It wants a password, or has enough clients.
            Value::ServerError(error).extract_error()?;
        }
        if database != 0 {
            let mut select = redis::cmd("SELECT");
            self.exchange(select.arg(database)).await?.extract_error()?;
        }
        Ok(())
    }

    /// Of an error no more is told than its code: the rest may quote the password.
    async fn log_in(&mut self, auth: &Cmd) -> RedisResult<()> {
        let Value::ServerError(error) = self.exchange(auth).await? else {
            return Ok(());
        };
        let known = ["WRONGPASS", "NOPERM", "DENIED", "LOADING", "MASTERDOWN"];
        let code = known.into_iter().find(|code| *code == error.code());
        let refused = format!("AUTH was refused: {}", code.unwrap_or("ERR"));
        Err(io::Error::new(ErrorKind::PermissionDenied, refused).into())
    }

    /// What Redis answers, an error too. What comes after a wrong answer is not to be trusted: then the driver ends.
    pub(super) async fn exchange(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        if mem::take(&mut self.asking) {
            let asking = redis::cmd("ASKING");
            let [_, answer] = self.exchange_both(&asking, cmd).await?;
            return Ok(answer);
        }
        let question = self.connection.send_packed_command(cmd);
        let answer = hear(&self.allowance, &self.driver, question).await?;
        self.leave_after(&answer);
        Ok(answer)
    }

    /// The same for two, which are written at once.
    pub(super) async fn exchange_both(
        &mut self,
        first: &Cmd,
        second: &Cmd,
    ) -> RedisResult<[Value; 2]> {
        let mut both = redis::pipe();
        both.add_command(first.clone()).add_command(second.clone());
        let questions = self.connection.send_packed_commands(&both, 0, 2);
        let answers = hear(&self.allowance, &self.driver, questions).await?;
        let answers: [Value; 2] = answers.try_into().map_err(|_| {
            self.cut();
            io::Error::new(ErrorKind::InvalidData, "not an answer to each of two")
        })?;
        answers.iter().for_each(|answer| self.leave_after(answer));
        Ok(answers)
    }

    /// What will not be any better on this connection, but may be on another.
    fn leave_after(&self, answer: &Value) {
        if let Value::ServerError(error) = answer
            && (["READONLY", "MASTERDOWN", "NOAUTH"].contains(&error.code())
                // Before Redis 7 the code of an error in a script is ERR.
                || error.details().is_some_and(|details| details.contains("READONLY")))
        {
            self.cut();
        }
    }

    /// As `exchange`, of one who waits as long as it may take to connect, and then ends the connection.
    pub(super) async fn exchange_in_time(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        let patience = self.patience;
        timeout(patience, self.exchange(cmd))
            .await
            .unwrap_or_else(|_| {
                self.cut();
                Err(io::Error::new(
                    ErrorKind::ConnectionAborted,
                    "no answer before the deadline",
                )
                .into())
            })
    }

    /// Nobody gets an answer on this connection any more.
    pub(super) fn cut(&self) {
        self.driver.cut();
    }

    /// Nobody does.
    pub(super) fn has_ended(&self) -> bool {
        self.driver.is_over()
    }

    /// How many questions were answered.
    pub(super) fn answered(&self) -> u64 {
        self.allowance.answered()
    }
}

/// What becomes of a question on a connection, which is of no more use if that is nothing.
async fn hear<T>(
    allowance: &Allowance,
    driver: &Driver,
    question: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let answer = if allowance.ask() {
        driver.ask_alone(question).await
    } else {
        question.await
    };
    match &answer {
        Ok(_) => allowance.answer(),
        Err(_) => driver.cut(),
    }
    answer
}
