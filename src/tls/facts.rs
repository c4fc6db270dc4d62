//! What a certificate says of itself, for people and for alerts. Pure: DER in, facts out.
//!
//! Nothing is verified here; rustls does that. A certificate that cannot be read has no facts, and is used as rustls
//! uses it. Names are written as RFC 4514 has them: the innermost part first, and what has a meaning there escaped, so
//! that two subjects never have the same text. A client chooses what stands in its certificate, so everything has a
//! limit.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

/// A certificate that has less time left than this is warned of: two weeks.
pub const WARN_BEFORE_S: u64 = 14 * DAY_S;
/// A day in seconds.
pub const DAY_S: u64 = 24 * 3600;

/// The longest certificate that is looked at, in bytes.
const DER_BYTES_MAX: usize = 64 << 10;
/// The longest text of a subject, in bytes. What is cut could be taken for another subject, so a longer one has none.
const SUBJECT_BYTES_MAX: usize = 8 << 10;

/// What a certificate says of itself. Times are those of the certificate alone: an authority that ends before it is not
/// looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFacts {
    /// The names that it is for, in its order: DNS names in lower case, `*.example.com` among them, and addresses.
    pub names: Vec<String>,
    /// The name of its owner (RFC 4514); often empty.
    pub subject: String,
    /// The name of the authority that signed it (RFC 4514).
    pub issuer: String,
    /// When it begins to be valid, in seconds since 1970.
    pub not_before_s: u64,
    /// When it ceases to be valid, in seconds since 1970.
    pub not_after_s: u64,
    /// Which key it has: `RSA`, `ECDSA P-256`, `Ed25519`, or the number (OID) of another kind.
    pub key_kind: String,
}

/// How a certificate stands in time. What is `Ending` is valid still; a client refuses what is `NotYet` or `Expired`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It is valid, for two weeks at least.
    Valid,
    /// It will be valid in so many seconds.
    NotYet(u64),
    /// It ceases to be valid in so many seconds, less than two weeks.
    Ending(u64),
    /// It ceased to be valid so many seconds ago.
    Expired(u64),
}

/// The facts of a certificate; `None` if it cannot be read. Whatever the bytes are, it ends, and takes no more memory
/// than some times their number.
pub fn facts(der: &[u8]) -> Option<CertificateFacts> {
    let read = read(der)?;
    let tbs = read.tbs_certificate();
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    Some(CertificateFacts {
        // A certificate whose names cannot be read is for none.
        names: tbs.get_extension::<SubjectAltName>().ok().flatten().map(|(_, all)| names(&all)).unwrap_or_default(),
        subject: text(tbs.subject())?,
        issuer: text(tbs.issuer())?,
        not_before_s: seconds(tbs.validity().not_before),
        not_after_s: seconds(tbs.validity().not_after),
        key_kind: key_kind(tbs.subject_public_key_info()),
    })
}

/// The facts of the first certificate of a file in PEM form; `None` if there is none that can be read.
pub fn facts_of_pem(pem: &[u8]) -> Option<CertificateFacts> {
    facts(&CertificateDer::pem_slice_iter(pem).next()?.ok()?)
}

/// The subject of a certificate as RFC 4514 writes it, such as `CN=alice,OU=ops,O=Example`; `None` if it cannot be read
/// or is longer than 8 KiB. An empty subject is an empty text.
///
/// Two subjects with the same text have the same attributes with the same values. A value of a kind that has no text
/// (and an attribute without a short name) is written as its DER in hexadecimal: `1.3.6.1.4.1.99999=#0c0141`.
pub fn subject(der: &[u8]) -> Option<String> {
    text(read(der)?.tbs_certificate().subject())
}

/// The common name in the subject of a certificate; `None` if there is none, or it cannot be read. A name that stands
/// there more than once, or is longer than 8 KiB, is none.
pub fn common_name(der: &[u8]) -> Option<String> {
    use x509_cert::ext::pkix::name::DirectoryString;
    let read = read(der)?;
    let name = match read.tbs_certificate().subject().common_name().ok()?? {
        DirectoryString::PrintableString(name) => name.to_string(),
        DirectoryString::TeletexString(name) => name.to_string(),
        DirectoryString::Utf8String(name) => name,
        DirectoryString::BmpString(name) => name.to_string(),
    };
    Some(name).filter(|name| name.len() <= SUBJECT_BYTES_MAX)
}

/// The certificate, if it is one.
fn read(der: &[u8]) -> Option<CertificateInner<Raw>> {
    if der.len() > DER_BYTES_MAX { None } else { CertificateInner::from_der(der).ok() }
}

/// A name as text; `None` if it is too long.
fn text(name: &Name) -> Option<String> {
    Some(name.to_string()).filter(|text| text.len() <= SUBJECT_BYTES_MAX)
}

/// The names and addresses among everything that a certificate can be for.
fn names(all: &SubjectAltName) -> Vec<String> {
    let name = |one: &GeneralName| match one {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        GeneralName::IpAddress(bytes) => Some(address(bytes.as_bytes())?.to_string()),
        _ => None,
    };
    all.0.iter().filter_map(name).collect()
}

/// An address from its bytes.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Which key it is (RFC 3279, RFC 5480, RFC 8410).
fn key_kind(key: &SubjectPublicKeyInfoOwned) -> String {
    let algorithm = key.algorithm.oid.to_string();
    let curve = || key.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok();
    match algorithm.as_str() {
        "1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10" => "RSA".to_string(),
        "1.2.840.10045.2.1" => match curve().map(|curve| curve.to_string()).as_deref() {
            Some("1.2.840.10045.3.1.7") => "ECDSA P-256".to_string(),
            Some("1.3.132.0.34") => "ECDSA P-384".to_string(),
            Some("1.3.132.0.35") => "ECDSA P-521".to_string(),
            _ => "ECDSA".to_string(),
        },
        "1.3.101.112" => "Ed25519".to_string(),
        _ => algorithm,
    }
}

impl CertificateFacts {
    /// What it is called in one word: its first DNS name, else its subject; empty if it has neither.
    pub fn name(&self) -> &str {
        let dns = self.names.iter().find(|name| name.parse::<IpAddr>().is_err());
        dns.unwrap_or(&self.subject)
    }

    /// How it stands at a time, in seconds since 1970.
    pub fn standing(&self, now_s: u64) -> Standing {
        match (self.not_before_s.saturating_sub(now_s), self.not_after_s.saturating_sub(now_s)) {
            // Its last second counts (RFC 5280, section 4.1.2.5).
            (_, 0) if now_s > self.not_after_s => Standing::Expired(now_s - self.not_after_s),
            (wait @ 1.., _) => Standing::NotYet(wait),
            (_, left) if left < WARN_BEFORE_S => Standing::Ending(left),
            _ => Standing::Valid,
        }
    }

    /// Whole days until it ceases to be valid; below 0 after that.
    pub fn days_left(&self, now_s: u64) -> i64 {
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        signed(self.not_after_s).saturating_sub(signed(now_s)).div_euclid(signed(DAY_S))
    }
}

impl Standing {
    /// What is to be warned of; `None` if nothing is.
    pub fn warning(self) -> Option<String> {
        match self {
            Standing::Valid => None,
            Standing::NotYet(wait) => Some(format!("it is not valid yet, and will be in {}", span(wait))),
            Standing::Ending(left) => Some(format!("it expires in {}", span(left))),
            Standing::Expired(ago) => Some(format!("it expired {} ago", span(ago))),
        }
    }
}

/// A time in its greatest unit, not rounded up: `13 days`, `5 hours`, `0 minutes`.
fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        DAY_S.. => (seconds / DAY_S, "day"),
        3600.. => (seconds / 3600, "hour"),
        _ => (seconds / 60, "minute"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    /// A certificate that signed itself, with this subject and these names.
    fn certificate(subject: &[(DnType, DnValue)], names: &[&str], key: &KeyPair) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2026, 3, 4);
        params.self_signed(key).unwrap().der().to_vec()
    }

    static SOME: LazyLock<Vec<u8>> = LazyLock::new(|| {
        certificate(&[(DnType::CommonName, "a".into())], &["db.example"], &KeyPair::generate().unwrap())
    });

    fn subject_of(all: &[(DnType, &str)]) -> String {
        let all: Vec<_> = all.iter().map(|(kind, value)| (kind.clone(), DnValue::from(*value))).collect();
        subject(&certificate(&all, &[], &KeyPair::generate().unwrap())).unwrap()
    }

    #[test]
    fn a_certificate_says_what_it_is_for_and_how_long() {
        let key = KeyPair::generate().unwrap();
        let named = [(DnType::CountryName, "DE".into()), (DnType::CommonName, "db".into())];
        let facts = facts(&certificate(&named, &["DB.example", "*.w.example", "10.0.0.7", "::1"], &key)).unwrap();
        assert_eq!(facts.names, ["db.example", "*.w.example", "10.0.0.7", "::1"]);
        assert_eq!((facts.subject.as_str(), facts.issuer.as_str()), ("CN=db,C=DE", "CN=db,C=DE"));
        // `date -ud 2026-01-02 +%s`
        assert_eq!((facts.not_before_s, facts.not_after_s), (1_767_312_000, 1_772_582_400));
        assert_eq!((facts.key_kind.as_str(), facts.name()), ("ECDSA P-256", "db.example"));
    }

    #[test]
    fn a_certificate_without_a_dns_name_is_called_by_its_subject() {
        let key = KeyPair::generate().unwrap();
        let named = [(DnType::CommonName, "db".into())];
        assert_eq!(facts(&certificate(&named, &["10.0.0.7"], &key)).unwrap().name(), "CN=db");
        assert_eq!(facts(&certificate(&[], &[], &key)).unwrap().name(), "");
    }

    #[test]
    fn each_kind_of_key_has_its_name() {
        for (algorithm, name) in [
            (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA P-384"),
            (&rcgen::PKCS_ECDSA_P521_SHA512, "ECDSA P-521"),
            (&rcgen::PKCS_ED25519, "Ed25519"),
            (&rcgen::PKCS_RSA_SHA256, "RSA"),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(facts(&certificate(&[], &[], &key)).unwrap().key_kind, name);
        }
    }

    /// The examples of RFC 4514, section 4, and what else has a meaning there.
    #[test]
    fn what_has_a_meaning_in_a_subject_is_escaped() {
        let (name, unit) = (DnType::CommonName, DnType::OrganizationalUnitName);
        let all = [(unit, "Sales"), (name.clone(), "J.  Smith")];
        assert_eq!(subject_of(&all), "CN=J.  Smith,OU=Sales");
        for (value, written) in [
            ("James \"Jim\" Smith, III", r#"CN=James \"Jim\" Smith\, III"#),
            ("Before\rAfter\0", r"CN=Before\0dAfter\00"),
            (" #a ", r"CN=\ #a\ "),
            ("#a+b;<c>\\=d", r"CN=\#a\+b\;\<c\>\\=d"),
            ("Lu\u{10d}i\u{107}", "CN=Lu\u{10d}i\u{107}"),
            (" ", r"CN=\ "),
            ("", "CN="),
        ] {
            assert_eq!(subject_of(&[(name.clone(), value)]), written);
        }
        let odd = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 99_999]);
        assert_eq!(subject_of(&[(odd, "A")]), "1.3.6.1.4.1.99999=#0c0141");
    }

    #[test]
    fn a_subject_that_is_too_long_has_no_text_rather_than_a_part_of_it() {
        let key = KeyPair::generate().unwrap();
        let long = |len: usize| certificate(&[(DnType::CommonName, "x".repeat(len).into())], &[], &key);
        assert!(subject(&long(SUBJECT_BYTES_MAX - 3)).is_some());
        assert!(subject(&long(SUBJECT_BYTES_MAX)).is_none() && facts(&long(SUBJECT_BYTES_MAX)).is_none());
        assert!(subject(&long(DER_BYTES_MAX)).is_none());
    }

    #[test]
    fn the_warning_begins_two_weeks_before_the_end_and_goes_on_after_it() {
        let facts = CertificateFacts {
            names: Vec::new(),
            subject: String::new(),
            issuer: String::new(),
            not_before_s: 1_000,
            not_after_s: 100 * DAY_S,
            key_kind: String::new(),
        };
        let at = |now_s: u64| (facts.standing(now_s).warning(), facts.days_left(now_s));
        let said = |text: &str| Some(text.to_string());
        assert_eq!(at(1_000), (None, 99));
        assert_eq!(at(86 * DAY_S), (None, 14));
        assert_eq!(at(86 * DAY_S + 1), (said("it expires in 13 days"), 13));
        assert_eq!(at(100 * DAY_S - 3600), (said("it expires in 1 hour"), 0));
        assert_eq!(at(100 * DAY_S), (said("it expires in 0 minutes"), 0));
        assert_eq!(at(100 * DAY_S + 60), (said("it expired 1 minute ago"), -1));
        assert_eq!(at(0).0, said("it is not valid yet, and will be in 16 minutes"));
        assert!(at(u64::MAX).1 < 0);
    }

    proptest! {
        /// Whatever a client sends.
        #[test]
        fn no_input_is_the_end_of_the_process(at in 0_usize..600, to in any::<u8>(), len in 0_usize..600) {
            let mut der = SOME.clone();
            let place = at % der.len();
            der[place] = to;
            let (_, _) = (facts(&der), subject(&der));
            der.truncate(len);
            let (_, _) = (facts(&der), subject(&der));
        }
    }
}
