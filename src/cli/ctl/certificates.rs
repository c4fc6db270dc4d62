//! `ringway ctl certificates`, and what `ringway ctl status` says of certificates. Pure, as `show`.
//!
//! The table is for an operator at 3 a.m.: what ends first is on top, how long is left stands first in its row, and
//! what needs attention is said in words at the end of the row, as colours do not go through pipes and pagers. What is
//! wrong with a file is a whole sentence with a path, so it stands below the table, where it does not make it wide.

use super::table::{number, table, text};
use crate::api::words::CertificateStatus;
use crate::cli::paint::{Paint, Tone};

/// How many names of a certificate are shown; more are counted.
const NAMES_SHOWN: usize = 3;
/// How many lines `status` has about certificates; more are counted.
const WARNINGS_SHOWN: usize = 5;

/// `ctl certificates`: one row per certificate, the first one to expire on top, and a line for each file that cannot be
/// used.
pub(super) fn certificates(all: &[CertificateStatus], paint: Paint) -> String {
    if all.is_empty() {
        return "no listener has [listeners.NAME.tls] and no pool has `cert`, so no certificate is shown\n".to_string();
    }
    let row = |one: &CertificateStatus| {
        let attention = match (&one.error, &one.warning) {
            (Some(_), Some(warning)) => format!("{}; its file cannot be used: see below", warning.to_uppercase()),
            (Some(_), None) => "its file cannot be used: see below".to_string(),
            (None, warning) => warning.as_ref().map(|warning| warning.to_uppercase()).unwrap_or_default(),
        };
        let tone = tone_of(one).unwrap_or(Tone::Good);
        vec![
            number(left(one)).tone(tone),
            text(end(one)),
            text(one.listener.as_ref().map_or_else(|| one.owner(), ToString::to_string)),
            text(names(one)),
            text(one.key_kind.as_deref().unwrap_or("-")),
            text(&*one.file),
            text(attention).tone(tone),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let mut out = table(&["LEFT", "EXPIRES (UTC)", "SHOWN BY", "NAMES", "KEY", "FILE", ""], &rows, paint);
    let errors: Vec<String> = all.iter().filter_map(|one| error(one, paint)).collect();
    if !errors.is_empty() {
        out += "\n";
        out += &errors.concat();
    }
    out
}

/// What `ctl status` says: a line for each certificate that needs attention, nothing if none does.
pub(super) fn warnings(all: &[CertificateStatus], paint: Paint) -> String {
    let line = |one: &CertificateStatus| {
        let warning = one.warning.as_ref().map(|warning| {
            let line = format!("{}: certificate {}: {warning} ({})", one.owner(), one.name(), one.file);
            paint.tone(tone_of(one).unwrap_or(Tone::Warn), &text(line).into_text()) + "\n"
        });
        warning.into_iter().chain(error(one, paint))
    };
    let lines: Vec<String> = all.iter().flat_map(line).collect();
    if lines.is_empty() {
        return String::new();
    }
    let more = match lines.len().saturating_sub(WARNINGS_SHOWN) {
        0 => String::new(),
        more => format!("and {more} more: `ringway ctl certificates`\n"),
    };
    format!("\n{}{more}", lines[..lines.len().min(WARNINGS_SHOWN)].concat())
}

/// The line about a file that cannot be used.
fn error(one: &CertificateStatus, paint: Paint) -> Option<String> {
    let line = format!("{}: {}; what was shown before is shown on", one.owner(), one.error.as_ref()?);
    Some(paint.tone(Tone::Bad, &text(line).into_text()) + "\n")
}

/// How much it is to be looked at; `None` if it is as it should be. A file that cannot be used counts as much as a
/// certificate that has expired: it will expire, and then there is no other.
fn tone_of(one: &CertificateStatus) -> Option<Tone> {
    match (&one.error, &one.warning, one.days_left) {
        (Some(_), _, _) | (None, Some(_), Some(..=-1)) => Some(Tone::Bad),
        (None, Some(_), _) => Some(Tone::Warn),
        (None, None, _) => None,
    }
}

/// How long it has left.
fn left(one: &CertificateStatus) -> String {
    match one.days_left {
        None => "-".to_string(),
        Some(..=-1) => "expired".to_string(),
        Some(1) => "1 day".to_string(),
        Some(days) => format!("{days} days"),
    }
}

/// When it expires, without its seconds: `2026-12-09 00:00`.
fn end(one: &CertificateStatus) -> String {
    let Some(end) = &one.not_after else { return "-".to_string() };
    end.get(..16).unwrap_or(end).replace('T', " ")
}

/// What it is for: some of its names; of one that has none its subject.
fn names(one: &CertificateStatus) -> String {
    if one.names.is_empty() {
        return one.subject.as_deref().filter(|subject| !subject.is_empty()).unwrap_or("-").to_string();
    }
    let mut shown = one.names[..one.names.len().min(NAMES_SHOWN)].join(", ");
    if let more @ 1.. = one.names.len().saturating_sub(NAMES_SHOWN) {
        shown += &format!(" and {more} more");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, days_left: i64, warning: &str) -> CertificateStatus {
        CertificateStatus {
            listener: Some("db".into()),
            pool: None,
            file: format!("/tls/{name}.crt"),
            names: vec![name.to_string()],
            subject: Some(String::new()),
            issuer: Some("CN=ca".to_string()),
            key_kind: Some("RSA".to_string()),
            not_before: Some("2026-01-01T00:00:00.000Z".to_string()),
            not_after: Some("2026-12-01T10:30:00.000Z".to_string()),
            days_left: Some(days_left),
            warning: Some(warning.to_string()).filter(|warning| !warning.is_empty()),
            error: None,
        }
    }

    #[test]
    fn what_needs_attention_stands_out_also_without_colours() {
        let broken = CertificateStatus { error: Some("/tls/c.key: it is wrong".to_string()), ..one("c", 80, "") };
        let all = [one("a", -2, "it expired 1 day ago"), one("b", 3, "it expires in 3 days"), broken, one("d", 90, "")];
        assert_eq!(
            certificates(&all, Paint::Plain),
            "   LEFT  EXPIRES (UTC)     SHOWN BY  NAMES  KEY  FILE\n\
             expired  2026-12-01 10:30  db        a      RSA  /tls/a.crt  IT EXPIRED 1 DAY AGO\n \
             3 days  2026-12-01 10:30  db        b      RSA  /tls/b.crt  IT EXPIRES IN 3 DAYS\n\
             80 days  2026-12-01 10:30  db        c      RSA  /tls/c.crt  its file cannot be used: see below\n\
             90 days  2026-12-01 10:30  db        d      RSA  /tls/d.crt\n\
             \nlistener db: /tls/c.key: it is wrong; what was shown before is shown on\n"
        );
        let painted = certificates(&all, Paint::Ansi);
        for part in ["\x1b[31mexpired", "\x1b[33m3 days", "\x1b[31m80 days", "\x1b[32m90 days"] {
            assert!(painted.contains(part), "{part:?}: {painted:?}");
        }
    }

    #[test]
    fn the_status_tells_of_nothing_but_what_needs_attention() {
        assert_eq!(warnings(&[one("d", 90, "")], Paint::Plain), "");
        let all = [one("a", -2, "it expired 1 day ago"), one("d", 90, "")];
        let line = "\nlistener db: certificate a: it expired 1 day ago (/tls/a.crt)\n";
        assert_eq!(warnings(&all, Paint::Plain), line);
        let many = vec![one("a", 3, "it expires in 3 days"); 7];
        let said = warnings(&many, Paint::Plain);
        assert_eq!(said.lines().count(), 1 + WARNINGS_SHOWN + 1, "{said}");
        assert!(said.ends_with("and 2 more: `ringway ctl certificates`\n"), "{said}");
    }

    #[test]
    fn a_certificate_for_many_names_takes_one_line() {
        let names = (0..50).map(|number| format!("n{number}.example")).collect();
        let shown = certificates(&[CertificateStatus { names, ..one("a", 90, "") }], Paint::Plain);
        assert!(shown.contains("n0.example, n1.example, n2.example and 47 more"), "{shown}");
        let bare = CertificateStatus { names: Vec::new(), subject: Some("CN=x".to_string()), ..one("a", 90, "") };
        assert!(certificates(&[bare], Paint::Plain).contains("  CN=x  "));
    }
}
