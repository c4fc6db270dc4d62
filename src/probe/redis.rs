//! `redis`: PING, after AUTH where there is a password; ROLE and INFO where they count.
//!
//! The protocol is RESP (redis.io, "RESP protocol specification"). A replica whose link to its primary is down is cut
//! off; its lag is the time since it heard its primary, which speaks every ten seconds.

use std::time::Duration;

use ::redis::{ErrorKind, FromRedisValue, Value, cmd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::{Stream, part};
use super::{CheckTrouble, Credentials, Transcript, Wanted};
use crate::base::time::ns;
use crate::config::model::Role;
use crate::health::Facts;
use crate::health::transcript::printable;

/// Of one answer.
const ANSWER_MAX: u64 = 64 * 1024;

/// Logs in if there is an account, then PING, and what is wanted beyond that.
pub(super) async fn check(
    stream: Stream,
    account: Option<&Credentials>,
    wanted: Wanted,
    transcript: &mut Transcript,
) -> Result<Facts, CheckTrouble> {
    let mut session = RedisSession { stream, transcript };
    if let Some(account) = account {
        session.log_in(account).await?;
    }
    match session.ask("PING", &[]).await? {
        Value::SimpleString(text) if text == "PONG" => session.transcript.note("PONG"),
        other => return Err(unexpected("PING", &other)),
    }
    let mut facts = Facts::default();
    if wanted.role || wanted.lag {
        let (role, is_cut_off) = session.role().await?;
        facts = Facts { role: Some(role), is_cut_off, ..facts };
    }
    if wanted.lag && facts.role == Some(Role::Replica) {
        facts.lag_ns = session.lag_ns().await?;
    }
    part(session.stream);
    Ok(facts)
}

/// A conversation with a Redis.
struct RedisSession<'a> {
    /// The connection.
    stream: Stream,
    /// Where each step is written down.
    transcript: &'a mut Transcript,
}

impl RedisSession<'_> {
    /// AUTH, with the user where one is configured (Redis 6), else with the password alone.
    async fn log_in(&mut self, account: &Credentials) -> Result<(), CheckTrouble> {
        let user = Some(account.user.as_str()).filter(|user| !user.is_empty());
        let password = account.password.as_deref().unwrap_or_default();
        let words: Vec<&str> = user.into_iter().chain([password]).collect();
        match self.ask("AUTH", &words).await? {
            Value::Okay => {
                self.transcript.note("logged in");
                Ok(())
            }
            other => Err(unexpected("AUTH", &other)),
        }
    }

    /// The role, and whether a replica does not hear its primary.
    async fn role(&mut self) -> Result<(Role, bool), CheckTrouble> {
        let answer = self.ask("ROLE", &[]).await?;
        let Value::Array(items) = &answer else { return Err(unexpected("ROLE", &answer)) };
        let text = |at: usize| items.get(at).and_then(|item| String::from_redis_value_ref(item).ok());
        let role = text(0).unwrap_or_default();
        match (role.as_str(), text(3).as_deref()) {
            ("master", _) => {
                self.transcript.note("it is the primary");
                Ok((Role::Primary, false))
            }
            ("slave", Some("connected")) => {
                self.transcript.note("it is a replica, connected to its primary");
                Ok((Role::Replica, false))
            }
            ("slave", link) => {
                let link = printable(link.unwrap_or("unknown").as_bytes());
                self.transcript.note(format!("it is a replica, and its link to its primary is not up (\"{link}\")"));
                Ok((Role::Replica, true))
            }
            _ => Err(CheckTrouble::answer(format!(
                "it is neither primary nor replica but \"{}\"",
                printable(role.as_bytes())
            ))),
        }
    }

    /// `None` if it does not know.
    async fn lag_ns(&mut self) -> Result<Option<u64>, CheckTrouble> {
        let answer = self.ask("INFO", &["replication"]).await?;
        let text = String::from_redis_value_ref(&answer).map_err(|_| unexpected("INFO", &answer))?;
        let value = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        let seconds = value("master_last_io_seconds_ago").and_then(|text| text.parse::<u64>().ok());
        let seconds = seconds.filter(|_| value("master_link_status") == Some("up"));
        self.transcript.note(match seconds {
            Some(seconds) => format!("it heard its primary {seconds} s ago"),
            None => "it does not know how long ago it heard its primary".to_string(),
        });
        Ok(seconds.map(|seconds| ns(Duration::from_secs(seconds))))
    }

    /// Sends one command and reads one answer, of at most [`ANSWER_MAX`] bytes.
    ///
    /// # Errors
    /// The connection broke, the answer is no RESP, or it is an error of Redis.
    async fn ask(&mut self, command: &'static str, words: &[&str]) -> Result<Value, CheckTrouble> {
        let doing = self.transcript.doing_now(match command {
            "AUTH" => "waiting for the answer to AUTH",
            "ROLE" => "waiting for the answer to ROLE",
            "INFO" => "waiting for the answer to INFO",
            _ => "waiting for the answer to PING",
        });
        let request = cmd(command).arg(words).get_packed_command();
        self.stream.write_all(&request).await.map_err(|error| CheckTrouble::broken(doing, error))?;
        let mut limited = (&mut self.stream).take(ANSWER_MAX);
        let answer = ::redis::parse_redis_value_async(&mut Default::default(), &mut limited).await;
        match answer {
            Ok(Value::ServerError(error)) => {
                let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
                Err(refused(command, error.code(), &printable(text.trim_end().as_bytes())))
            }
            Ok(answer) => Ok(answer),
            Err(error) if error.kind() == ErrorKind::Io => Err(CheckTrouble::answer(format!(
                "the connection broke while {doing}: {}",
                printable(error.to_string().as_bytes())
            ))),
            Err(error) => {
                let error = printable(error.to_string().as_bytes());
                Err(CheckTrouble::answer(format!("it does not speak the Redis protocol: {error}")))
            }
        }
    }
}

/// An error that the server answered with, and what to do. One that concerns the account of the check, or a question
/// that the server does not know, comes from a server that lives.
fn refused(command: &str, code: &str, text: &str) -> CheckTrouble {
    let is_of_login = ["auth", "password"].iter().any(|word| text.to_lowercase().contains(word));
    let hint = match code {
        "NOAUTH" => "; it wants a password: set `password_file` (and `user`)",
        "WRONGPASS" => "; check `user` and `password_file`",
        "NOPERM" => "; allow the account of the check PING, ROLE and INFO",
        "ERR" if command == "AUTH" && is_of_login => "; check `user` and `password_file`",
        "ERR" if text.contains("unknown command") => "; leave out `role` and `lag_max` where it is not asked for them",
        _ => return CheckTrouble::answer(format!("{command} was answered {text}")),
    };
    CheckTrouble::Refused(format!("{command} was answered {text}{hint}"))
}

/// An answer of a type that this command never has.
fn unexpected(command: &str, answer: &Value) -> CheckTrouble {
    CheckTrouble::answer(format!("{command} was answered {}", printable(format!("{answer:?}").as_bytes())))
}

#[cfg(test)]
mod tests;
