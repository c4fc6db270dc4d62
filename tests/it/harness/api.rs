//! The admin API, over its unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::PATIENCE;

/// The API of a ringway.
pub struct Api<'a> {
    socket: &'a Path,
}

/// What it said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl<'a> Api<'a> {
    pub fn at(socket: &'a Path) -> Api<'a> {
        Api { socket }
    }

    /// What is there, which must be.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, "").expect(200)
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, "")
    }

    pub fn patch(&self, path: &str, body: &str) -> Answer {
        self.ask("PATCH", path, body)
    }

    pub fn post(&self, path: &str) -> Answer {
        self.ask("POST", path, "")
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let stream = UnixStream::connect(self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(stream, method, path, body)
    }

    /// The status of the answer; `None` if there was none, because the process has ended.
    pub fn try_ask(&self, method: &str, path: &str, body: &str) -> Option<u16> {
        let mut stream = UnixStream::connect(self.socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(request(method, path, body).as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    /// The sessions that it lists, with that query.
    #[track_caller]
    pub fn sessions(&self, query: &str) -> Vec<Value> {
        self.get(&format!("/v1/sessions{query}"))["sessions"].as_array().unwrap().clone()
    }

    /// How many sessions there are.
    #[track_caller]
    pub fn count(&self) -> u64 {
        self.get("/v1/sessions?limit=0")["matching"].as_u64().unwrap()
    }
}

impl Answer {
    /// The body, if the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The message of the one error, if the status is this one.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        let body = self.expect(status);
        let errors = body["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{body}");
        errors[0]["message"].as_str().unwrap().to_string()
    }
}

/// One request.
fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    head + body
}

/// One request, and the answer to it.
pub fn exchange(mut stream: impl Read + Write, method: &str, path: &str, body: &str) -> Answer {
    stream.write_all(request(method, path, body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Answer { status, body: serde_json::from_str(body).unwrap_or(Value::String(body.to_string())) }
}
