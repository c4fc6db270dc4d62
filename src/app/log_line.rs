//! What a line of the operational log looks like: `logfmt`, or a JSON object. Both have the same names, which are those
//! of the access log where both speak of the same thing.

use std::fmt;
use std::time::SystemTime;

use serde::Serializer;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::base::text;

/// How lines are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLine {
    /// An object rather than `logfmt`.
    pub json: bool,
    /// The journal of systemd takes it: it has a time of its own, and reads the severity from `<N>` at the beginning of
    /// the line (sd-daemon(3)).
    pub journal: bool,
}

/// The message and what else was said, in this order.
#[derive(Default)]
struct Fields(Vec<(String, Value)>);

impl Fields {
    /// Adds a field under the name that the line shows.
    fn put(&mut self, field: &Field, value: Value) {
        // `for` cannot be the name of a field in Rust.
        self.0.push((field.name().trim_end_matches('_').to_owned(), value));
    }
}

impl Visit for Fields {
    /// A value in its `Debug` or `Display` form, made printable: what comes from the network cannot forge a line.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(text::printable(&format!("{value:?}")).into_owned()));
    }

    /// A text, made printable as well.
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::String(text::printable(value).into_owned()));
    }

    /// A number stays one in JSON.
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    /// A signed number stays one in JSON.
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    /// A truth value stays one in JSON.
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    /// Writes one line. Its time is in UTC; the `logfmt` of the journal has none, because the journal adds its own.
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        let mut fields = Fields::default();
        event.record(&mut fields);
        if self.journal {
            write!(writer, "<{}>", severity(level))?;
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        match self.json {
            true => write_json(&mut writer, time, level, fields.0),
            false => write_logfmt(&mut writer, (!self.journal).then_some(time), level, &fields.0),
        }
    }
}

/// One object per line, with `time`, `level`, `message` and then the fields in their order.
fn write_json(writer: &mut Writer<'_>, time: String, level: Level, fields: Vec<(String, Value)>) -> fmt::Result {
    let head = [("time", time), ("level", word(level).to_owned())];
    let head = head.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value)));
    let mut line = Vec::new();
    serde_json::Serializer::new(&mut line).collect_map(head.chain(fields)).map_err(|_| fmt::Error)?;
    writeln!(writer, "{}", String::from_utf8_lossy(&line))
}

/// `time=… level=… message="…" field=…`, coloured if the writer takes colours.
fn write_logfmt(
    writer: &mut Writer<'_>,
    time: Option<String>,
    level: Level,
    fields: &[(String, Value)],
) -> fmt::Result {
    let ansi = writer.has_ansi_escapes();
    let (dim, plain) = if ansi { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    let tone = match level {
        _ if !ansi => "",
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    };
    if let Some(time) = time {
        write!(writer, "{dim}time={time}{plain} ")?;
    }
    write!(writer, "{dim}level={plain}{tone}{}{plain}", word(level))?;
    for (name, value) in fields {
        write!(writer, " {dim}{name}={plain}")?;
        match value {
            Value::String(text) => write_word(writer, text)?,
            other => write!(writer, "{other}")?,
        }
    }
    writeln!(writer)
}

/// Quoted where it would not be one word.
fn write_word(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    let is_word = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\'));
    if is_word {
        return writer.write_str(text);
    }
    writer.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            writer.write_char('\\')?;
        }
        writer.write_char(c)?;
    }
    writer.write_char('"')
}

/// As in `log.level`.
fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// As syslog(3) counts.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::mpsc;
    use tracing_subscriber::layer::SubscriberExt;

    struct Sink(mpsc::Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
            self.0.send(part.to_vec()).unwrap();
            Ok(part.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(line: LogLine, say: impl FnOnce()) -> Vec<String> {
        let (parts, written) = mpsc::channel();
        let layer = tracing_subscriber::fmt::layer().event_format(line).with_writer(move || Sink(parts.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_ansi(false)), say);
        let text = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn say() {
        let hostile = "x\" level=error\nlevel=error \u{1b}[2J\u{202e}";
        tracing::warn!(pool = "db", count = 3, %hostile, for_ = %"2s", path = ?"/a b", "a backend is down");
        tracing::info!("ready");
    }

    #[test]
    fn a_line_is_logfmt_and_nothing_from_outside_leaves_its_quotes() {
        let found = lines(LogLine { json: false, journal: false }, say);
        let (time, rest) = found[0].split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time.strip_prefix("time=").unwrap()).is_ok(), "{time}");
        assert_eq!(
            rest,
            "level=warn message=\"a backend is down\" pool=db count=3 \
             hostile=\"x\\\" level=error\\\\nlevel=error \\\\u{1b}[2J\\\\u{202e}\" for=2s path=\"\\\"/a b\\\"\""
        );
        assert!(found[1].ends_with(" level=info message=ready"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn the_journal_gets_a_severity_and_no_second_time() {
        let found = lines(LogLine { json: false, journal: true }, say);
        assert!(found[0].starts_with("<4>level=warn message="), "{}", found[0]);
        assert_eq!(found[1], "<6>level=info message=ready");
    }

    #[test]
    fn both_formats_have_the_same_names() {
        let found = lines(LogLine { json: true, journal: false }, say);
        let line: Value = serde_json::from_str(&found[0]).unwrap();
        let places = ["time", "level", "message", "pool", "count", "hostile", "for", "path"];
        let places = places.map(|name| found[0].find(&format!("\"{name}\":")).expect(name));
        assert!(places.is_sorted(), "{}", found[0]);
        assert_eq!((line["level"].as_str(), line["count"].as_u64()), (Some("warn"), Some(3)));
        assert!(line["hostile"].as_str().unwrap().contains("\\u{202e}"), "shown, and not done");
    }
}
