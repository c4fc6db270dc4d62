//! `GET /v1/certificates`: what listeners show to their clients and pools to their backends, and which files cannot be
//! used.
//!
//! What is shown stands in the published table, so the answer is what the next handshake goes by. Why a file cannot be
//! used is known to control, which follows the files (`control::certificates`).
//!
//! ```text
//! table ── ShownCertificate ──┐
//!                             ├─> CertificateStatus: a row for what is shown, with its fault beside it,
//! control ── CertificateFault ┘   and a row for each fault of a file that shows nothing
//! ```

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;

use super::ApiContext;
use super::answer::ApiResult;
use super::words::{CertificateStatus, Certificates};
use crate::base::time::unix_s;
use crate::config::{CertificateFault, CertificateOwner};
use crate::tls::server::ShownCertificate;

/// The handler. What expires first comes first, and files that show nothing come before that: a list that is read from
/// its top begins with what needs attention.
pub(super) async fn certificates(State(admin): State<ApiContext>) -> ApiResult<Certificates> {
    let faults = admin.asker.certificate_faults().await?;
    let now_s = unix_s(admin.clock.wall(admin.clock.now()));
    let (reader, mut all) = (admin.cell.reader(), Vec::new());
    let table = reader.pin();
    for listener in table.listeners.iter().flatten().filter(|listener| !listener.retired) {
        let Some(tls) = listener.admission.as_ref().and_then(|admission| admission.tls.as_ref()) else { continue };
        all.extend(of_one(&CertificateOwner::Listener(listener.name.clone()), tls.shown(), &faults, now_s));
    }
    for pool in table.pools.iter().flatten() {
        let Some(tls) = &pool.tls else { continue };
        let shown = tls.shown().map_or(&[][..], std::slice::from_ref);
        all.extend(of_one(&CertificateOwner::Pool(pool.name.clone()), shown, &faults, now_s));
    }
    // Without an end in front.
    all.sort_by_key(|(not_after_s, _)| *not_after_s);
    Ok(Json(Certificates { certificates: all.into_iter().map(|(_, certificate)| certificate).collect() }))
}

/// The certificates of one listener or pool, each with the time of its end; and files that cannot be used and show
/// nothing.
///
/// A fault belongs to a certificate if it is of the file that it came from, or of the file of its key. What else is
/// wrong (a file that is new in a folder, an authority, the folder itself) shows nothing and gets a row of its own.
fn of_one(
    owner: &CertificateOwner,
    shown: &[ShownCertificate],
    faults: &[CertificateFault],
    now_s: u64,
) -> Vec<(Option<u64>, CertificateStatus)> {
    let faults: Vec<&CertificateFault> = faults.iter().filter(|fault| fault.owner == *owner).collect();
    let is_of = |fault: &CertificateFault, of: &ShownCertificate| fault.is_of(&of.file) || fault.is_of(&of.key_file);
    let mut all: Vec<(Option<u64>, CertificateStatus)> = Vec::new();
    for one in shown {
        let error = faults.iter().find(|fault| is_of(fault, one)).map(|fault| fault.text.clone());
        let status = match &one.facts {
            None => CertificateStatus { error, ..unread(owner, &one.file) },
            Some(facts) => CertificateStatus {
                names: facts.names.clone(),
                subject: Some(facts.subject.clone()),
                issuer: Some(facts.issuer.clone()),
                key_kind: Some(facts.key_kind.clone()),
                not_before: Some(rfc3339(facts.not_before_s)),
                not_after: Some(rfc3339(facts.not_after_s)),
                days_left: Some(facts.days_left(now_s)),
                warning: facts.standing(now_s).warning(),
                error,
                ..unread(owner, &one.file)
            },
        };
        all.push((one.facts.as_ref().map(|facts| facts.not_after_s), status));
    }
    let others = faults.iter().filter(|fault| !shown.iter().any(|one| is_of(fault, one)));
    let of_file = |fault: &&CertificateFault| CertificateStatus {
        error: Some(fault.text.clone()),
        ..unread(owner, fault.file())
    };
    all.extend(others.map(|fault| (None, of_file(fault))));
    all
}

/// What is said of a file of which nothing else is known.
fn unread(owner: &CertificateOwner, file: &str) -> CertificateStatus {
    let (listener, pool) = match owner {
        CertificateOwner::Listener(name) => (Some(name.clone()), None),
        CertificateOwner::Pool(name) => (None, Some(name.clone())),
    };
    CertificateStatus { listener, pool, file: file.to_string(), ..CertificateStatus::default() }
}

/// A time as UTC, such as `2026-11-28T17:55:35.000Z`; of the year 9999 at the most, as RFC 3339 can write no later one.
fn rfc3339(unix_s: u64) -> String {
    /// The last second that it can write.
    const LAST_S: u64 = 253_402_300_799;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(unix_s.min(LAST_S));
    humantime::format_rfc3339_millis(at).to_string()
}
