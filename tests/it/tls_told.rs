//! What a backend and the log hear of a client whose TLS ended here.

use crate::harness::authority::{Authority, Certificate};
use crate::harness::secure::Trust;
use crate::harness::{Listener, Peer};
use crate::tls_listener::plan;

const NAME: &str = "db.example";

/// Reads a PROXY header of version 2 with its values, by type.
fn header(peer: &mut Peer) -> Vec<(u8, Vec<u8>)> {
    let mut read = |len: usize| {
        let mut all = Vec::new();
        while all.len() < len {
            let some = peer.read_some(len - all.len()).unwrap();
            assert!(!some.is_empty());
            all.extend(some);
        }
        all
    };
    let fixed = read(16);
    assert_eq!(fixed[..14], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
    let rest = read(usize::from(u16::from_be_bytes([fixed[14], fixed[15]])));
    values(&rest[12..])
}

fn values(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        all.push((*kind, value.to_vec()));
        bytes = rest;
    }
    all
}

#[test]
fn a_backend_hears_what_the_client_asked_for_and_whose_certificate_it_has_shown() {
    let (authority, clients, listener) = (Authority::new(), Authority::new(), Listener::new());
    let asked = format!("client_auth = \"optional\"\nclient_ca = {:?}\nalpn = [\"b\", \"a\"]", clients.file());
    let plan = plan(listener.address(), &[&authority.sign(&[NAME])], &asked).pool("send_proxy = \"v2\"");
    let ringway = plan.access_log("stderr", "json").start();
    let shown: Certificate = clients.sign_as("alice", &[], &rcgen::KeyPair::generate().unwrap(), |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice, \"the\" first");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example");
    });
    for (certificate, version) in [(Some(&shown), "TLSv1.3"), (Some(&shown), "TLSv1.2"), (None, "TLSv1.3")] {
        let versions =
            if version == "TLSv1.3" { &[&rustls::version::TLS13][..] } else { &[&rustls::version::TLS12][..] };
        let trust = Trust::with(&authority, versions, certificate).alpn(&["a"]);
        // The second one resumes.
        for is_resumed in [false, true] {
            let mut client = trust.connect(ringway.address(), NAME);
            client.send(b"x");
            let mut served = listener.accept();
            let all = header(&mut served);
            served.expect(b"x");
            served.send(b"y");
            client.expect(b"y");
            assert_eq!(all[..2], [(1, b"a".to_vec()), (2, NAME.as_bytes().to_vec())]);
            let (0x20, ssl) = &all[2] else { panic!("{all:?}") };
            let client_bits = match (certificate.is_some(), is_resumed) {
                (true, false) => 7,
                (true, true) => 5,
                (false, _) => 1,
            };
            let verify = u8::from(certificate.is_none());
            assert_eq!(ssl[..5], [client_bits, 0, 0, 0, verify], "{version} {is_resumed}");
            let inner = values(&ssl[5..]);
            assert_eq!(inner[0], (0x21, version.as_bytes().to_vec()));
            assert_eq!(inner[1].0, 0x23);
            let name = certificate.map(|_| (0x22, b"alice, \"the\" first".to_vec()));
            assert_eq!(inner.get(2).cloned(), name);
        }
    }
    ringway.wait_said("\"client_certificate\":\"O=Example,CN=alice\\\\, \\\\\\\"the\\\\\\\" first\"");
}
