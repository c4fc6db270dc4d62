//! Lines to a syslog server, as messages of RFC 5424: facility `local0`, severity `info`, APP-NAME `ringway`, PROCID
//! the pid. The crate `syslog` makes them; each is a datagram, to a unix socket or over UDP (RFC 5426).
//!
//! A server that is not there costs lines and no start: it is looked for again with the next lines. One that does not
//! read makes the thread that writes wait, and then lines are dropped where they are counted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;

use ::syslog::{Facility, Formatter5424, LogFormat, Severity};

use crate::config::model::SyslogServer;

/// The way to a syslog server.
#[derive(Debug)]
pub struct Syslog {
    /// Where it is.
    server: SyslogServer,
    /// What makes messages.
    formatter: Formatter5424,
    /// `None` while it is not there.
    socket: Option<SyslogSocket>,
}

/// A socket that leads there.
#[derive(Debug)]
enum SyslogSocket {
    /// A unix socket.
    Unix(UnixDatagram),
    /// Over UDP.
    Udp(UdpSocket),
}

impl Syslog {
    /// Nothing is sent yet, and no server needs to be there.
    pub fn new(server: SyslogServer) -> Syslog {
        let process = "ringway".to_string();
        let formatter = Formatter5424 { facility: Facility::LOG_LOCAL0, process, ..Formatter5424::default() };
        Syslog { server, formatter, socket: None }
    }

    /// Sends each line; how many of them are lost.
    pub(super) fn send(&mut self, lines: &[u8]) -> u64 {
        let mut lost = 0;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let message = self.message(line);
            // The server may have been started anew since the line before.
            let is_sent = self.try_send(&message).or_else(|_| self.try_send(&message)).is_ok();
            lost += u64::from(!is_sent);
        }
        lost
    }

    /// A message of RFC 5424.
    fn message(&self, line: &[u8]) -> Vec<u8> {
        let (mut message, text) = (Vec::new(), String::from_utf8_lossy(line));
        // Writing to a vector cannot fail.
        let _ = self.formatter.format(&mut message, Severity::LOG_INFO, (0, Default::default(), text));
        message
    }

    /// Sends a message, and connects before that if need be.
    fn try_send(&mut self, message: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => SyslogSocket::connect(&self.server)?,
        };
        match &socket {
            SyslogSocket::Unix(socket) => socket.send(message)?,
            SyslogSocket::Udp(socket) => socket.send(message)?,
        };
        // One that has failed is not used again.
        self.socket = Some(socket);
        Ok(())
    }
}

impl SyslogSocket {
    /// # Errors
    /// No server is there, as far as that can be known.
    fn connect(server: &SyslogServer) -> io::Result<SyslogSocket> {
        match server {
            SyslogServer::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(SyslogSocket::Unix(socket))
            }
            SyslogServer::Udp(address) => {
                let any = match address {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                Ok(SyslogSocket::Udp(socket))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(message: &[u8]) -> String {
        let text = String::from_utf8(message.to_vec()).unwrap();
        let pid = std::process::id();
        assert!(text.starts_with("<134>1 20") && text.contains(&format!(" ringway {pid} 0 - ")), "{text}");
        text.split(" 0 - ").nth(1).unwrap().to_string()
    }

    #[test]
    fn each_line_is_a_message_of_its_own_over_udp() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut log = Syslog::new(SyslogServer::Udp(server.local_addr().unwrap()));
        assert_eq!(log.send(b"{\"a\":1}\nsecond\n"), 0);
        let mut buffer = [0; 1024];
        for line in ["{\"a\":1}", "second"] {
            let length = server.recv(&mut buffer).unwrap();
            assert_eq!(received(&buffer[..length]), line);
        }
    }

    #[test]
    fn a_server_that_comes_later_or_anew_gets_the_lines_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Syslog::new(SyslogServer::Unix(path.clone()));
        assert_eq!(log.send(b"a\nb\n"), 2, "both are lost, and counted");
        let mut buffer = [0; 1024];
        for round in 0..2 {
            let server = UnixDatagram::bind(&path).unwrap();
            assert_eq!(log.send(b"c\n"), 0, "{round}");
            let length = server.recv(&mut buffer).unwrap();
            assert_eq!(received(&buffer[..length]), "c");
            drop(server);
            std::fs::remove_file(&path).unwrap();
        }
        assert_eq!(log.send(b"d\n"), 1);
    }
}
