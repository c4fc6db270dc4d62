//! Clients that speak TLS, by rustls, and what both ends of such a connection can do.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::DerefMut;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, SideData, SupportedProtocolVersion};

use super::PATIENCE;
use super::authority::{Authority, Certificate};

/// What clients believe and show.
#[derive(Clone)]
pub struct Trust {
    config: ClientConfig,
}

impl Trust {
    /// This authority, with versions 1.2 and 1.3.
    pub fn of(authority: &Authority) -> Trust {
        Trust::with(authority, rustls::ALL_VERSIONS, None)
    }

    pub fn with(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Certificate>,
    ) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let config = config.with_root_certificates(roots);
        let mut config = match shown {
            None => config.with_no_client_auth(),
            Some(Certificate { certificate, key }) => config
                .with_client_auth_cert(vec![read(certificate)], PrivateKeyDer::from_pem_file(key).unwrap())
                .unwrap(),
        };
        // Its sessions are its own.
        config.resumption = Resumption::in_memory_sessions(32);
        Trust { config }
    }

    /// Its clients ask for these protocols.
    pub fn alpn(mut self, protocols: &[&str]) -> Trust {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Its clients resume no session.
    pub fn without_tickets(mut self) -> Trust {
        self.config.resumption = Resumption::disabled();
        self
    }

    /// What a client knows of its connection; its keys can be taken out.
    pub fn connection(&self, name: &str) -> ClientConnection {
        let mut config = self.config.clone();
        config.enable_secret_extraction = true;
        ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_string()).unwrap()).unwrap()
    }

    /// A client that has not said anything.
    pub fn begin(&self, address: &str, name: &str) -> Secure {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Secure { tls: self.connection(name), tcp, step: usize::MAX }
    }

    /// A client that has shaken hands.
    #[track_caller]
    pub fn connect(&self, address: &str, name: &str) -> Secure {
        self.try_connect(address, name).unwrap()
    }

    /// The same, or why not.
    pub fn try_connect(&self, address: &str, name: &str) -> io::Result<Secure> {
        let mut client = self.begin(address, name);
        client.shake_hands()?;
        Ok(client)
    }
}

fn read(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// One end of a connection that speaks TLS.
pub struct SecureEnd<T, S> {
    pub tls: T,
    pub tcp: S,
    /// It sends at most so many bytes at a time.
    pub step: usize,
}

/// A client.
pub type Secure = SecureEnd<ClientConnection, TcpStream>;

impl<T, S, D> SecureEnd<T, S>
where
    T: DerefMut<Target = ConnectionCommon<D>>,
    S: Read + Write,
    D: SideData,
{
    pub fn shake_hands(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            self.flush()?;
            if self.tls.is_handshaking() && self.take_in()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.flush()
    }

    /// Reads what has come: how many bytes of it.
    fn take_in(&mut self) -> io::Result<usize> {
        let count = self.tls.read_tls(&mut self.tcp)?;
        let fault = self.tls.process_new_packets().err();
        match fault {
            None => Ok(count),
            Some(error) => {
                let _ = self.flush();
                Err(io::Error::other(error))
            }
        }
    }

    /// Sends all records that are ready.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes)?;
        }
        bytes.chunks(self.step).try_for_each(|part| self.tcp.write_all(part))
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(16_000) {
            self.tls.writer().write_all(part).unwrap();
            self.flush().unwrap();
        }
    }

    /// Reads some bytes; none after close_notify.
    ///
    /// # Errors
    /// The connection's, and UnexpectedEof after a FIN without close_notify.
    pub fn read_some(&mut self) -> io::Result<Vec<u8>> {
        let mut part = vec![0; 1 << 16];
        loop {
            match self.tls.reader().read(&mut part) {
                Ok(count) => return Ok(part[..count].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => _ = self.take_in()?,
                Err(error) => return Err(error),
            }
        }
    }

    #[track_caller]
    pub fn expect(&mut self, bytes: &[u8]) {
        let mut all = Vec::new();
        while all.len() < bytes.len() {
            let some = self.read_some().unwrap();
            assert!(!some.is_empty(), "it ended after {} bytes", all.len());
            all.extend(some);
        }
        assert!(all == bytes, "other bytes: {} of {}", all.len(), bytes.len());
    }

    /// Says close_notify and nothing else.
    pub fn say_last(&mut self) {
        self.tls.send_close_notify();
        self.flush().unwrap();
    }

    /// How it ends when nothing more comes: `Ok` after close_notify.
    pub fn end(&mut self) -> Result<(), io::ErrorKind> {
        match self.read_some() {
            Ok(bytes) if bytes.is_empty() => Ok(()),
            Ok(bytes) => panic!("{} more bytes", bytes.len()),
            Err(error) => Err(error.kind()),
        }
    }
}

impl Secure {
    /// Sends the first half of a record, and leaves it at that.
    pub fn send_half_a_record(&mut self) {
        self.tls.writer().write_all(b"a half").unwrap();
        let mut record = Vec::new();
        self.tls.write_tls(&mut record).unwrap();
        self.tcp.write_all(&record[..record.len() / 2]).unwrap();
    }

    /// Sends a FIN and nothing else.
    pub fn finish(&self) {
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }
}
