//! What `/metrics` says.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// One scrape.
#[derive(Debug)]
pub struct Metrics {
    series: Vec<Series>,
}

/// A name, labels with their values, and the number.
type Series = (String, Vec<(String, String)>, f64);

impl Metrics {
    pub fn scrape(admin: &str) -> Metrics {
        let (status, text) = get(admin, "/metrics");
        assert_eq!(status, 200, "{text}");
        Metrics { series: text.lines().filter(|line| !line.starts_with('#')).filter_map(series).collect() }
    }

    /// Sum of the series of that name (without `ringway_`) that have all these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|(_, _, value)| value).sum()
    }

    /// The sum of a metric that counts, as a whole number.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels) as u64
    }

    /// The values of all series of that name, by the value of a label.
    pub fn by(&self, name: &str, label: &str) -> Vec<(String, u64)> {
        let value_of = |labels: &[(String, String)]| {
            labels.iter().find(|(found, _)| found == label).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        self.matching(name, &[]).map(|(_, labels, value)| (value_of(labels), *value as u64)).collect()
    }

    /// Sessions that ended with that code.
    pub fn ended(&self, code: &str) -> u64 {
        self.count("sessions_total", &[("termination", code)])
    }

    /// All codes that sessions ended with.
    pub fn codes(&self) -> Vec<(String, u64)> {
        self.by("sessions_total", "termination").into_iter().filter(|(_, count)| *count > 0).collect()
    }

    fn matching<'a>(&'a self, name: &'a str, wanted: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Series> {
        self.series.iter().filter(move |(found, labels, _)| {
            let has = |(name, value): &(&str, &str)| labels.iter().any(|(n, v)| n == name && v == value);
            found.strip_prefix("ringway_") == Some(name) && wanted.iter().all(has)
        })
    }
}

fn series(line: &str) -> Option<Series> {
    let (name, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = name.split_once('{') else { return Some((name.to_string(), Vec::new(), value)) };
    let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| {
        let (name, value) = label.split_once("=\"")?;
        Some((name.to_string(), value.trim_end_matches('"').to_string()))
    });
    Some((name.to_string(), labels.collect(), value))
}

/// A request to the admin server: the status and the body.
pub fn get(admin: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default())
}
