//! Reads what an `http` check asks for.

use super::Reader;
use crate::config::model::HttpAsk;
use crate::config::value::quoted;

/// Headers that ringway writes itself, or that would change what the request is (RFC 9112, sections 3.2 and 6).
const OWN_HEADERS: [&str; 6] = ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te"];

impl Reader<'_> {
    /// The request, and what its answers mean.
    pub(super) fn http(&mut self) -> HttpAsk {
        let ask = HttpAsk {
            method: self.method(),
            path: self.path(),
            host: self.host(),
            headers: self.headers(),
            status: self.status(),
            drain_status: self.table.statuses("drain_status").to_vec(),
            expect: self.expect(self.table.text("expect"), self.table.span_of("expect")),
        };
        if ask.method == "HEAD" && ask.expect.is_some() {
            let hint = "the answer to HEAD has none; write `method = \"GET\"`, or leave `expect` out";
            self.needs("expect", "a body".to_string(), hint.to_string());
        }
        ask
    }

    /// The method: a token in capitals, as all methods in use are (RFC 9110, section 9.1).
    fn method(&mut self) -> String {
        let method = self.table.text("method");
        if method == "CONNECT" {
            self.bad("method", quoted(method), "it asks for a tunnel and not for a page".to_string());
        } else if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            self.bad("method", quoted(method), "write a method in capitals, as in \"GET\" or \"HEAD\"".to_string());
        }
        method.to_string()
    }

    /// The Host header: a name or an address, with or without a port (RFC 9112, section 3.2).
    fn host(&mut self) -> String {
        let host = self.table.text("host");
        let is_authority = |host: &str| {
            !host.contains('@') && host.parse::<hyper::http::uri::Authority>().is_ok_and(|it| !it.host().is_empty())
        };
        if !host.is_empty() && !is_authority(host) {
            let hint = "write a host as browsers send it, as in \"www.example.com\" or \"[2001:db8::1]:8080\"";
            self.bad("host", quoted(host), hint.to_string());
        }
        host.to_string()
    }

    /// More headers. Their values may hold secrets, so they are never shown.
    fn headers(&mut self) -> Vec<(String, String)> {
        use hyper::header::{HeaderName, HeaderValue};
        let headers = self.table.headers("headers").to_vec();
        for (span, name, value) in &headers {
            let lower = name.to_ascii_lowercase();
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                let hint = "it is no name of a header; write one as in \"X-Token\"".to_string();
                self.bad_at(span.clone(), "headers", quoted(name), hint);
            } else if lower == "host" {
                self.bad_at(span.clone(), "headers", quoted(name), "it is `host` here".to_string());
            } else if OWN_HEADERS.contains(&lower.as_str()) {
                self.bad_at(span.clone(), "headers", quoted(name), "ringway sends that one itself".to_string());
            } else if HeaderValue::from_str(value).is_err() {
                let hint = "its value must be one line of visible characters".to_string();
                self.bad_at(span.clone(), "headers", quoted(name), hint);
            }
        }
        headers.into_iter().map(|(_, name, value)| (name, value)).collect()
    }

    /// The path of an `http` check, which goes into the request as it is (RFC 9112, section 3.2).
    fn path(&mut self) -> String {
        let path = self.table.text("path");
        let may_stand = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
        if !path.starts_with('/') {
            self.bad("path", quoted(path), "it begins with `/`, as in \"/health\"".to_string());
        } else if !path.bytes().all(may_stand) {
            let hint = "write blanks and other special characters as %HH, as in \"/a%20b\"";
            self.bad("path", quoted(path), hint.to_string());
        }
        path.to_string()
    }

    /// The status codes of a healthy backend. A code cannot also mean that the backend drains.
    fn status(&mut self) -> Vec<(u16, u16)> {
        let ranges = self.table.statuses("status");
        if ranges.is_empty() {
            self.bad("status", "[]".to_string(), "write at least one code, as in [200]".to_string());
        }
        let drains = self.table.statuses("drain_status");
        // A range can be named twice; only a code that means both things is refused.
        let is_in_both = |(first, last): &&(u16, u16)| ranges.iter().any(|(low, high)| first <= high && low <= last);
        if let Some((first, last)) = drains.iter().find(is_in_both) {
            let found = if first == last { first.to_string() } else { format!("\"{first}-{last}\"") };
            self.bad("drain_status", found, "`status` has it too, and it can mean one thing only".to_string());
        }
        ranges.to_vec()
    }
}
