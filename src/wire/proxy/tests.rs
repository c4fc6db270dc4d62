//! Named after Envoy's `proxy_protocol_test.cc`, so that a case missing here is easy to see; what Envoy tests of its
//! sockets and settings is left out. After them, what HAProxy or nginx let pass and the protocol forbids.

mod properties;

use super::v2::{FIXED, SIGNATURE, crc32c};
use super::*;

/// A header of version 2: command, family, and what follows the length.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &len, rest].concat()
}

const V4: [u8; 12] = [1, 2, 3, 4, 0, 1, 1, 2, 3, 5, 0, 2];
const TLV: [u8; 4] = [0, 0, 1, 0xff];

fn claim(source: &str, destination: &str) -> ProxyClaim {
    ProxyClaim::Tcp { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// `header` with bytes behind it is accepted, at its last byte and not before, and nothing behind it counts.
#[track_caller]
fn accepted(header: &[u8], expected: ProxyClaim) {
    for end in 0..header.len() {
        assert_eq!(parse(&header[..end]), Ok(None), "after {end} bytes");
        let needed = need(&header[..end]);
        assert!(needed > end && needed <= header.len(), "{needed} bytes needed, with {end} of {}", header.len());
    }
    let whole = Ok(Some(Header { claim: expected, len: header.len() }));
    assert_eq!(parse(header), whole);
    assert_eq!(parse(&[header, b"more data"].concat()), whole);
    assert_eq!(need(header), header.len());
}

/// `bytes` are refused for that reason, at the byte `at` (the first one is 1) and ever after, and not before.
#[track_caller]
fn refused_at(at: usize, bytes: &[u8], expected: Malformed) {
    assert_eq!(parse(&bytes[..at - 1]), Ok(None), "before byte {at}");
    for end in at..=bytes.len() {
        assert_eq!(parse(&bytes[..end]), Err(expected), "after {end} bytes");
    }
}

fn refused_line(line: &str, part: &str, expected: Malformed) {
    assert!(line.starts_with(part), "{part} begins {line}");
    refused_at(part.len(), line.as_bytes(), expected);
}

#[test]
fn v1_basic() {
    accepted(b"PROXY TCP4 1.2.3.4 253.253.253.253 65535 1234\r\n", claim("1.2.3.4:65535", "253.253.253.253:1234"));
}

#[test]
fn v1_minimal() {
    accepted(b"PROXY UNKNOWN\r\n", ProxyClaim::Peer);
    let long = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", "ffff:".repeat(7) + "ffff");
    assert_eq!(long.len(), 107);
    accepted(long.as_bytes(), ProxyClaim::Peer);
    accepted(b"PROXY UNKNOWN \x00\xff anything\r\n", ProxyClaim::Peer);
}

#[test]
fn v2_basic() {
    accepted(&v2(0x21, 0x11, &V4), claim("1.2.3.4:773", "0.1.1.2:2"));
}

#[test]
fn basic_v6() {
    accepted(b"PROXY TCP6 1:2:3::4 5:6::7:8 65535 1234\r\n", claim("[1:2:3::4]:65535", "[5:6::7:8]:1234"));
    accepted(b"PROXY TCP6 ABCD::1 2001:db8::1 0 1\r\n", claim("[abcd::1]:0", "[2001:db8::1]:1"));
}

#[test]
fn v2_basic_v6() {
    let mut addresses = [0; 36];
    addresses[..2].copy_from_slice(&[0x20, 0x01]);
    addresses[15] = 1;
    addresses[16..18].copy_from_slice(&[0x20, 0x02]);
    addresses[32..].copy_from_slice(&[0, 80, 1, 0]);
    accepted(&v2(0x21, 0x21, &addresses), claim("[2001::1]:80", "[2002::]:256"));
}

#[test]
fn v2_unsupported_af() {
    refused_at(14, &v2(0x21, 0x41, &V4), Malformed::Family);
    refused_at(14, &v2(0x21, 0x13, &V4), Malformed::Family);
    refused_at(14, &v2(0x21, 0x10, &V4), Malformed::Family);
    // The family is known before the length: what is announced does not count.
    refused_at(14, &v2(0x21, 0xff, &[0; 5000]), Malformed::Family);
}

#[test]
fn v2_not_local_or_on_behalf() {
    refused_at(13, &v2(0x23, 0x1f, &V4), Malformed::Command);
}

#[test]
fn v2_local_connection() {
    accepted(&v2(0x20, 0x00, &[]), ProxyClaim::Peer);
    accepted(&v2(0x20, 0xff, &V4), ProxyClaim::Peer);
}

#[test]
fn v2_local_connection_extension() {
    accepted(&v2(0x20, 0x00, &TLV), ProxyClaim::Peer);
    // A health check of an AWS NLB.
    accepted(&v2(0x20, 0x00, &[0, 0, 4, 10, 11, 12, 13]), ProxyClaim::Peer);
    // "Discard the protocol block": whatever it is.
    accepted(&v2(0x20, 0x11, &[0xff; 4096]), ProxyClaim::Peer);
}

#[test]
fn v2_unspecified() {
    accepted(&v2(0x21, 0x00, &[]), ProxyClaim::Peer);
    accepted(&v2(0x21, 0x00, &[1, 2, 3]), ProxyClaim::Peer);
    accepted(&v2(0x21, 0x01, &TLV), ProxyClaim::Peer);
}

#[test]
fn v2_short_v4() {
    refused_at(16, &v2(0x21, 0x21, &V4[..4]), Malformed::TooShort);
}

#[test]
fn v2_short_addr_v4() {
    refused_at(16, &v2(0x21, 0x11, &V4[..11]), Malformed::TooShort);
}

#[test]
fn v2_short_v6() {
    refused_at(14, &v2(0x21, 0x22, &[0; 20]), Malformed::Datagram);
    refused_at(16, &v2(0x21, 0x21, &[0; 20]), Malformed::TooShort);
}

#[test]
fn v2_short_addr_v6() {
    refused_at(16, &v2(0x21, 0x21, &[0; 35]), Malformed::TooShort);
}

#[test]
fn v2_af_unix() {
    refused_at(14, &v2(0x21, 0x32, &[0; 20]), Malformed::Datagram);
    refused_at(16, &v2(0x21, 0x31, &[0; 215]), Malformed::TooShort);
    accepted(&v2(0x21, 0x31, &[0; 216]), ProxyClaim::Unix);
    accepted(&v2(0x21, 0x31, &[&[0; 216][..], &TLV].concat()), ProxyClaim::Unix);
}

#[test]
fn v2_bad_command() {
    refused_at(13, &v2(0x29, 0x32, &[0; 20]), Malformed::Command);
    // nginx takes that for PROXY.
    refused_at(13, &v2(0x22, 0x11, &V4), Malformed::Command);
}

#[test]
fn v2_wrong_version() {
    refused_at(14, &v2(0x21, 0x93, &[0; 20]), Malformed::Family);
    refused_at(13, &v2(0x11, 0x11, &V4), Malformed::Version);
    refused_at(13, &v2(0x31, 0x11, &V4), Malformed::Version);
}

#[test]
fn v1_too_long() {
    let begin = "PROXY TCP4 1.2.3.4 2.3.4.5 100 100";
    refused_line(&format!("{begin}{}", " ".repeat(256)), &format!("{begin} "), Malformed::Port);
    let unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(unknown.len(), 108);
    refused_at(107, unknown.as_bytes(), Malformed::LineTooLong);
    refused_at(107, format!("PROXY UNKNOWN {}", "x".repeat(300)).as_bytes(), Malformed::LineTooLong);
    // std's parser allows this form of an address, with which a line can become too long.
    let long = format!("PROXY TCP6 {0}1.2.3.4 {0}255.255.255.255 65535 65535\r\n", "ffff:".repeat(6));
    assert_eq!(long.len(), 108);
    refused_at(107, long.as_bytes(), Malformed::LineTooLong);
}

#[test]
fn v2_parse_extensions() {
    let expected = claim("1.2.3.4:773", "0.1.1.2:2");
    accepted(&v2(0x21, 0x11, &[&V4[..], &TLV, &TLV].concat()), expected);
    accepted(&v2(0x21, 0x11, &[&V4[..], &[0x04, 0, 0]].concat()), expected);
    let authority = [&V4[..], &TLV, b"\x02\x00\x07foo.com"].concat();
    accepted(&v2(0x21, 0x11, &authority), expected);
    // As long as it may be: one TLV for all that is left of 4096.
    let long = [&V4[..], &[0x04, 0x0f, 0xf1], &[0; 4081]].concat();
    assert_eq!(FIXED + long.len(), HEADER_MAX);
    accepted(&v2(0x21, 0x11, &long), expected);
}

#[test]
fn v2_longer_than_any_we_read() {
    refused_at(16, &v2(0x21, 0x11, &[0; 4097]), Malformed::TooLong);
    refused_at(16, &v2(0x20, 0x00, &[0; 65535]), Malformed::TooLong);
}

#[test]
fn v2_wrong_tlv_length() {
    let bytes = v2(0x21, 0x11, &[&V4[..], &[0, 0, 2, 0xff]].concat());
    refused_at(bytes.len(), &bytes, Malformed::Tlv);
    let bytes = v2(0x21, 0x11, &[&V4[..], &[0, 0xff, 0xff, 0]].concat());
    refused_at(bytes.len(), &bytes, Malformed::Tlv);
}

#[test]
fn v2_incomplete_tlv() {
    for part in [&[1][..], &[1, 0]] {
        let bytes = v2(0x21, 0x11, &[&V4[..], &TLV, part].concat());
        refused_at(bytes.len(), &bytes, Malformed::Tlv);
    }
}

#[test]
fn malformed_proxy_line() {
    refused_at(1, b"BOGUS\r\n", Malformed::Signature);
    refused_at(6, b"PROXYX\r\n", Malformed::Signature);
    refused_at(6, b"PROXY\r\n", Malformed::Signature);
    refused_at(1, b"proxy TCP4", Malformed::Signature);
    refused_at(1, b"GET / HTTP/1.1\r\n", Malformed::Signature);
    refused_at(1, b"\x16\x03\x01", Malformed::Signature);
    refused_at(3, b"\r\nGET", Malformed::Signature);
    refused_at(12, b"\r\n\r\n\0\r\nQUIT\r", Malformed::Signature);
}

#[test]
fn proxy_line_too_large() {
    refused_at(1, "0123456789".repeat(12).as_bytes(), Malformed::Signature);
}

#[test]
fn not_enough_fields() {
    let begin = "PROXY TCP6 1:2:3::4 5:6::7:8 1234\r";
    refused_line(&format!("{begin}\nmore data"), begin, Malformed::Port);
    refused_line("PROXY TCP4\r\n", "PROXY TCP4\r", Malformed::Protocol);
    refused_line("PROXY TCP4 \r\n", "PROXY TCP4 \r", Malformed::Address);
    refused_line("PROXY TCP4 1.2.3.4\r\n", "PROXY TCP4 1.2.3.4\r", Malformed::Address);
    refused_line("PROXY \r\n", "PROXY \r", Malformed::Protocol);
}

#[test]
fn too_many_fields() {
    refused_line("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ", Malformed::Port);
}

#[test]
fn unsupported_proto() {
    refused_line("PROXY UDP6 1:2:3::4 5:6::7:8 1234 5678\r\n", "PROXY UD", Malformed::Protocol);
    refused_line("PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY TCP5", Malformed::Protocol);
    refused_line("PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY t", Malformed::Protocol);
    refused_line("PROXY unknown\r\n", "PROXY u", Malformed::Protocol);
    refused_line("PROXY UNKNOWNS\r\n", "PROXY UNKNOWNS", Malformed::Protocol);
}

#[test]
fn invalid_src_address() {
    let line = "PROXY TCP4 230.0.0.1 10.1.1.3 1234 5678\r\n";
    refused_line(line, line, Malformed::NotUnicast);
    let bytes = v2(0x21, 0x21, &[0xff; 36]);
    refused_at(bytes.len(), &bytes, Malformed::NotUnicast);
}

#[test]
fn invalid_dst_address() {
    for line in ["PROXY TCP4 10.1.1.2 0.0.0.0 1 2\r\n", "PROXY TCP4 10.1.1.2 255.255.255.255 1 2\r\n"] {
        refused_line(line, line, Malformed::NotUnicast);
    }
    for line in ["PROXY TCP6 ::1 :: 1 2\r\n", "PROXY TCP6 ::1 ::ffff:0.0.0.0 1 2\r\n"] {
        refused_line(line, line, Malformed::NotUnicast);
    }
}

#[test]
fn bad_port() {
    let begin = "PROXY TCP6 1:2:3::4 5:6::7:8 1234 ";
    refused_line(&format!("{begin}abc\r\n"), &format!("{begin}a"), Malformed::Port);
    refused_line(&format!("{begin}\r\n"), &format!("{begin}\r"), Malformed::Port);
    refused_line(&format!("{begin}+1\r\n"), &format!("{begin}+"), Malformed::Port);
    refused_line(&format!("{begin}01\r\n"), &format!("{begin}01\r"), Malformed::Port);
    refused_line(&format!("{begin}00000\r\n"), &format!("{begin}00000\r"), Malformed::Port);
    refused_line(&format!("{begin}000000\r\n"), &format!("{begin}000000"), Malformed::Port);
}

#[test]
fn negative_port() {
    refused_line("PROXY TCP6 1:2:3::4 5:6::7:8 -1 1234\r\n", "PROXY TCP6 1:2:3::4 5:6::7:8 -", Malformed::Port);
}

#[test]
fn port_out_of_range() {
    let begin = "PROXY TCP6 1:2:3::4 5:6::7:8 66776 ";
    refused_line(&format!("{begin}1234\r\n"), begin, Malformed::Port);
    // HAProxy takes that.
    refused_line("PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r", Malformed::Port);
}

#[test]
fn bad_address() {
    refused_line("PROXY TCP6 1::2:3::4 5:6::7:8 1 2\r\n", "PROXY TCP6 1::2:3::4 ", Malformed::Address);
    refused_line("PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", "PROXY TCP4 1.2.3 ", Malformed::Address);
    refused_line("PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n", "PROXY TCP4 1.2.3.256 ", Malformed::Address);
    refused_line("PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "PROXY TCP6 fe80::1%", Malformed::Address);
    refused_line("PROXY TCP6 [::1] ::1 1 2\r\n", "PROXY TCP6 [", Malformed::Address);
    refused_line("PROXY TCP4 localhost ::1 1 2\r\n", "PROXY TCP4 l", Malformed::Address);
    let endless = format!("PROXY TCP6 {}", "1".repeat(200));
    refused_line(&endless, &endless[..11 + 46], Malformed::Address);
}

#[test]
fn address_versions_not_match() {
    refused_line("PROXY TCP4 [1:2:3::4] 1.2.3.4 1234 5678\r\n", "PROXY TCP4 [", Malformed::Address);
    // nginx takes that.
    refused_line("PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP4 ::1 ", Malformed::Address);
    refused_line("PROXY TCP4 ::ffff:1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 ::ffff:1.2.3.4 ", Malformed::Address);
    refused_line("PROXY TCP6 1.2.3.4 ::1 1 2\r\n", "PROXY TCP6 1.2.3.4 ", Malformed::Address);
}

#[test]
fn address_versions_not_match_2() {
    refused_line("PROXY TCP4 1.2.3.4 [1:2:3: 1234 4]:5678\r\n", "PROXY TCP4 1.2.3.4 [", Malformed::Address);
}

#[test]
fn leading_zeros_are_refused() {
    // HAProxy and nginx take that; others read octal.
    refused_line("PROXY TCP4 001.2.3.4 5.6.7.8 1 2\r\n", "PROXY TCP4 001.2.3.4 ", Malformed::Address);
}

#[test]
fn spaces_are_single_and_nothing_else() {
    refused_line("PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY  ", Malformed::Protocol);
    refused_line("PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", "PROXY TCP4  ", Malformed::Address);
    refused_line("PROXY TCP4 1.2.3.4\t5.6.7.8 1 2\r\n", "PROXY TCP4 1.2.3.4\t", Malformed::Address);
    refused_line("PROXY TCP4 1.2.3.4 5.6.7.8 1  2\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1  ", Malformed::Port);
    refused_line("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ", Malformed::Port);
}

#[test]
fn a_line_ends_in_both_characters() {
    refused_line("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", Malformed::Port);
    refused_line("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rx", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rx", Malformed::LineEnd);
    refused_line("PROXY UNKNOWN\n", "PROXY UNKNOWN\n", Malformed::Protocol);
    refused_line("PROXY UNKNOWN x\ny\r\n", "PROXY UNKNOWN x\n", Malformed::LineEnd);
    refused_line("PROXY UNKNOWN\rx\r\n", "PROXY UNKNOWN\rx", Malformed::LineEnd);
}

#[test]
fn ipv4_in_ipv6_is_ipv4() {
    accepted(b"PROXY TCP6 ::ffff:10.0.0.1 2001:db8::1 1 2\r\n", claim("10.0.0.1:1", "[2001:db8::1]:2"));
    let ip = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
    accepted(&v2(0x21, 0x21, &[&ip[..], &ip, &[0, 1, 0, 2]].concat()), claim("10.0.0.1:1", "10.0.0.1:2"));
}

/// A header with a checksum, made as the protocol says.
fn with_checksum(before: &[u8], after: &[u8]) -> (Vec<u8>, usize) {
    let mut header = v2(0x21, 0x11, &[&V4[..], before, &[0x03, 0, 4, 0, 0, 0, 0], after].concat());
    let value = FIXED + V4.len() + before.len() + 3;
    let checksum = crc32c(&header, value).to_be_bytes();
    header[value..value + 4].copy_from_slice(&checksum);
    (header, value)
}

#[test]
fn a_checksum_is_verified() {
    for (before, after) in [(&[][..], &[][..]), (&TLV, &[]), (&[], &TLV)] {
        let (header, value) = with_checksum(before, after);
        accepted(&header, claim("1.2.3.4:773", "0.1.1.2:2"));
        for at in [FIXED, FIXED + 11, value, value + 3] {
            let mut wrong = header.clone();
            wrong[at] ^= 1;
            assert_eq!(parse(&wrong), Err(Malformed::Checksum), "byte {at}");
        }
    }
}

/// What HAProxy 2.6 sends with `send-proxy-v2 proxy-v2-options crc32c`, so that both sides cannot be wrong alike.
#[test]
fn the_checksum_is_that_of_others() {
    assert_eq!(crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(b"123456789"), 0xe306_9283);
    let header = include_bytes!("../../../tests/data/proxy-v2-crc32c.bin");
    accepted(header, claim("127.0.0.1:52110", "127.0.0.1:7402"));
}

#[test]
fn a_second_checksum_and_one_of_another_length_are_refused() {
    let (header, value) = with_checksum(&[], &[0x03, 0, 4, 0, 0, 0, 0]);
    assert_eq!(parse(&header), Err(Malformed::Checksum), "{value}");
    let bytes = v2(0x21, 0x11, &[&V4[..], &[0x03, 0, 3, 0, 0, 0]].concat());
    refused_at(bytes.len(), &bytes, Malformed::Checksum);
    // The right one, with one byte more behind it.
    let mut long = v2(0x21, 0x11, &[&V4[..], &[0x03, 0, 5, 0, 0, 0, 0, 0]].concat());
    let value = FIXED + V4.len() + 3;
    let checksum = crc32c(&long, value).to_be_bytes();
    long[value..value + 4].copy_from_slice(&checksum);
    refused_at(long.len(), &long, Malformed::Checksum);
}

#[test]
fn what_we_send_is_what_the_protocol_shows() {
    let of = |source: &str, destination: &str| Some((source.parse().unwrap(), destination.parse().unwrap()));
    let (v4, v6) = (of("192.168.0.1:56324", "192.168.0.11:443"), of("[2001:db8::1]:1", "[::1]:65535"));
    assert_eq!(&*encode(Version::V1, v4), b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
    assert_eq!(&*encode(Version::V1, v6), b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n");
    let mixed = of("192.168.0.1:1", "[::1]:2");
    assert_eq!(&*encode(Version::V1, mixed), b"PROXY TCP6 ::ffff:192.168.0.1 ::1 1 2\r\n");
    assert_eq!(&*encode(Version::V1, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(&*encode_unknown(Version::V1), b"PROXY UNKNOWN\r\n");
    let binary = [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb];
    assert_eq!(&*encode(Version::V2, v4), v2(0x21, 0x11, &binary));
    assert_eq!(encode(Version::V2, mixed)[..16], v2(0x21, 0x21, &[0; 36])[..16]);
    assert_eq!(&*encode(Version::V2, None), v2(0x20, 0x00, &[]));
    assert_eq!(&*encode_unknown(Version::V2), v2(0x21, 0x00, &[]));
}
