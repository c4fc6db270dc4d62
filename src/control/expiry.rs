//! Warns of certificates that are about to expire, or have expired: once a day each. Pure.
//!
//! The log is the one place that every ringway has, also where nothing scrapes metrics. A warning that came once would
//! be lost in it, and one at each look would bury the rest; so it comes once a day, and immediately after a start.

use std::collections::HashMap;

use crate::config::CertificateOwner;
use crate::tls::facts::DAY_S;
use crate::tls::server::ShownCertificate;

/// Remembers what was warned of.
#[derive(Debug, Default)]
pub(super) struct Reminders {
    /// When each certificate was warned of last, in seconds since 1970. Only those that are to be warned of now.
    said: HashMap<Reminded, u64>,
}

/// A certificate: whose it is, its file, and when it expires. One that takes its place has another end.
type Reminded = (CertificateOwner, String, u64);

impl Reminders {
    /// What is to be said now, one line for each certificate. `now_s` is the time of day in seconds since 1970; it can
    /// go back, where a host sets its clock right.
    ///
    /// It remembers only what it was told of this time, so its memory does not grow with certificates that are gone.
    pub(super) fn due<'a>(
        &mut self,
        all: impl Iterator<Item = (CertificateOwner, &'a ShownCertificate)>,
        now_s: u64,
    ) -> Vec<String> {
        let (mut lines, mut said) = (Vec::new(), HashMap::new());
        for (owner, shown) in all {
            let Some(facts) = &shown.facts else { continue };
            let Some(warning) = facts.standing(now_s).warning() else { continue };
            let line = format!("{owner}: certificate {} in {}: {warning}", shown.name(), shown.file);
            let key = (owner, shown.file.clone(), facts.not_after_s);
            let at = self.said.get(&key).copied().filter(|at| now_s.abs_diff(*at) < DAY_S);
            if at.is_none() {
                lines.push(line);
            }
            said.insert(key, at.unwrap_or(now_s));
        }
        self.said = said;
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::facts::CertificateFacts;

    fn shown(file: &str, not_after_s: u64) -> ShownCertificate {
        let facts = CertificateFacts {
            names: vec!["db.example".to_string()],
            subject: String::new(),
            issuer: String::new(),
            not_before_s: 0,
            not_after_s,
            key_kind: String::new(),
        };
        ShownCertificate { file: file.to_string(), key_file: String::new(), facts: Some(facts) }
    }

    #[test]
    fn each_certificate_is_warned_of_once_a_day_and_one_in_its_place_anew() {
        let mut reminders = Reminders::default();
        let mut due = |all: &[ShownCertificate], now_s: u64| {
            let owner = || CertificateOwner::Listener("db".into());
            reminders.due(all.iter().map(|one| (owner(), one)), now_s)
        };
        let (a, b) = (shown("/a", 100 * DAY_S), shown("/b", 200 * DAY_S));
        let both = [a, b];
        assert!(due(&both, 80 * DAY_S).is_empty());
        let line = "listener db: certificate db.example in /a: it expires in 10 days";
        assert_eq!(due(&both, 90 * DAY_S), [line]);
        assert!(due(&both, 90 * DAY_S + 2).is_empty() && due(&both, 91 * DAY_S - 1).is_empty());
        assert_eq!(due(&both, 91 * DAY_S).len(), 1);
        assert_eq!(due(&both, 102 * DAY_S), ["listener db: certificate db.example in /a: it expired 2 days ago"]);
        assert_eq!(due(&[shown("/a", 103 * DAY_S)], 102 * DAY_S).len(), 1);
        assert!(due(&[], 102 * DAY_S).is_empty());
    }

    /// A clock that was wrong at the start of the host is set right.
    #[test]
    fn a_clock_that_jumps_back_does_not_silence_a_warning() {
        let mut reminders = Reminders::default();
        let one = shown("/a", 100 * DAY_S);
        let mut due =
            |now_s| reminders.due(std::iter::once((CertificateOwner::Listener("db".into()), &one)), now_s).len();
        assert_eq!([due(500 * DAY_S), due(95 * DAY_S), due(95 * DAY_S + 1)], [1, 1, 0]);
    }
}
