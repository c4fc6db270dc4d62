//! MySQL packets: a length of three bytes, a number, and the content (MySQL documentation, "MySQL Packets").
//!
//! The content is parsed by the crate `mysql_common`; here are the frame, the order of packets and their limits.

use std::rc::Rc;

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::HandshakePacket;
use mysql_common::proto::MySerialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::health::transcript::printable;
use crate::probe::stream::Stream;
use crate::probe::{CheckTrouble, Transcript};

/// Of one packet; none that a check asks for comes near it.
const PACKET_MAX: usize = 64 * 1024;
/// Of one result.
const COLUMNS_MAX: usize = 256;
/// Of one result, too: a replica of many sources has a row for each.
const ROWS_MAX: usize = 64;

/// First byte of a packet: all went well.
const OK: u8 = 0x00;
/// First byte of the last packet of a result.
const END: u8 = 0xfe;
/// First byte of a refusal.
const ERROR: u8 = 0xff;

/// A connection that speaks in packets.
pub(super) struct Wire<'a> {
    /// The connection, with TLS in it or not.
    pub stream: Stream,
    /// Where each step is written down.
    pub transcript: &'a mut Transcript,
    /// Of the next packet.
    pub sequence: u8,
}

/// What the server said no with.
#[derive(Debug)]
pub(super) struct ServerError {
    /// Number of the error, by which the remedy is chosen.
    pub code: u16,
    /// What the server says of it, printable.
    text: String,
}

/// What a greeting says that counts.
pub(super) struct Greeting {
    /// What the server can do; TLS is one of them.
    pub capabilities: CapabilityFlags,
    /// The random bytes that the proof of the password is made with.
    pub nonce: Vec<u8>,
    /// The way to log in that the server prefers.
    pub plugin: Vec<u8>,
}

/// A row by the names of its columns, which all rows share; `None` is NULL.
pub(super) type Row = Vec<(Rc<str>, Option<String>)>;

impl<'a> Wire<'a> {
    /// A conversation that begins: the first packet has the number 0.
    pub(super) fn new(stream: Stream, transcript: &'a mut Transcript) -> Wire<'a> {
        Wire { stream, transcript, sequence: 0 }
    }

    /// Reads a packet: three bytes of length, the least significant first, a sequence number, the payload.
    ///
    /// # Errors
    /// The connection broke, or the packet is longer than any that a check asks for.
    pub(super) async fn read(&mut self) -> Result<Vec<u8>, CheckTrouble> {
        let doing = self.transcript.doing();
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await.map_err(|error| CheckTrouble::broken(doing, error))?;
        let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        if length > PACKET_MAX {
            return Err(no_mysql(&header));
        }
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet).await.map_err(|error| CheckTrouble::broken(doing, error))?;
        self.sequence = header[3].wrapping_add(1);
        Ok(packet)
    }

    /// Writes one packet with the next sequence number.
    pub(super) async fn write(&mut self, payload: &[u8]) -> Result<(), CheckTrouble> {
        let doing = self.transcript.doing();
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut packet = vec![length[0], length[1], length[2], self.sequence];
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await.map_err(|error| CheckTrouble::broken(doing, error))
    }

    /// A command begins a conversation of its own.
    pub(super) fn restart(&mut self) {
        self.sequence = 0;
    }

    /// Writes a packet of the library.
    pub(super) async fn write_struct(&mut self, what: &impl MySerialize) -> Result<(), CheckTrouble> {
        let mut payload = Vec::new();
        what.serialize(&mut payload);
        self.write(&payload).await
    }

    /// The greeting, or the reason why the server greets no client.
    pub(super) async fn greeting(&mut self) -> Result<Greeting, CheckTrouble> {
        self.transcript.doing_now("waiting for the greeting");
        let packet = self.read().await?;
        if packet.first() == Some(&ERROR) {
            return Err(ServerError::parse(&packet).refusal("the server accepts no connection"));
        }
        let version_end = packet.iter().position(|&byte| byte == 0).ok_or_else(|| no_mysql(&packet))?;
        // The length of the nonce; mysql_common takes it for a signed number, and counts down from it.
        let is_long = packet.get(version_end + 21).is_some_and(|&length| length > 0x7f);
        if packet[0] != 10 || is_long {
            return Err(no_mysql(&packet));
        }
        let greeting = ParseBuf(&packet).parse::<HandshakePacket<'_>>(()).map_err(|_| no_mysql(&packet))?;
        let version = printable(greeting.server_version_ref());
        self.transcript.note(format!("greeted by version {version}"));
        Ok(Greeting {
            capabilities: greeting.capabilities(),
            nonce: greeting.nonce(),
            plugin: greeting.auth_plugin_name_ref().unwrap_or(b"mysql_native_password").to_vec(),
        })
    }

    /// The rows that a statement gives, or what the server says against it.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Result<Vec<Row>, ServerError>, CheckTrouble> {
        self.transcript.doing_now("waiting for the answer to a query");
        self.restart();
        self.write(&[&[0x03], sql.as_bytes()].concat()).await?;
        let head = self.read().await?;
        match head.first() {
            Some(&ERROR) => return Ok(Err(ServerError::parse(&head))),
            Some(&OK) | None => return Err(no_mysql(&head)),
            _ => {}
        }
        let count = ParseBuf(&head).checked_eat_lenenc_int().unwrap_or(u64::MAX);
        let count = usize::try_from(count).ok().filter(|count| *count <= COLUMNS_MAX).ok_or_else(|| no_mysql(&head))?;
        let mut names = Vec::new();
        for _ in 0..count {
            let column = self.read().await?;
            names.push(column_name(&column).ok_or_else(|| no_mysql(&column))?);
        }
        let end = self.read().await?;
        if end.first() != Some(&END) {
            return Err(no_mysql(&end));
        }
        let mut rows = Vec::new();
        while rows.len() < ROWS_MAX {
            let packet = self.read().await?;
            match packet.first() {
                Some(&ERROR) => return Ok(Err(ServerError::parse(&packet))),
                Some(&END) if packet.len() < 9 => return Ok(Ok(rows)),
                _ => rows.push(row(&names, &packet).ok_or_else(|| no_mysql(&packet))?),
            }
        }
        Err(CheckTrouble::answer(format!("a query gave more than {ROWS_MAX} rows")))
    }
}

/// Catalog, schema, table, its own name, and then the name that counts.
fn column_name(packet: &[u8]) -> Option<Rc<str>> {
    let mut buf = ParseBuf(packet);
    for _ in 0..4 {
        buf.checked_eat_lenenc_str()?;
    }
    Some(String::from_utf8_lossy(buf.checked_eat_lenenc_str()?).into())
}

/// The values of a row in their order, as text; `None` if they do not fit the packet.
fn row(names: &[Rc<str>], packet: &[u8]) -> Option<Row> {
    let mut buf = ParseBuf(packet);
    let mut row = Vec::new();
    for name in names {
        let value = match buf.0.first()? {
            0xfb => {
                buf.0 = &buf.0[1..];
                None
            }
            _ => Some(String::from_utf8_lossy(buf.checked_eat_lenenc_str()?).into_owned()),
        };
        row.push((Rc::clone(name), value));
    }
    Some(row)
}

impl ServerError {
    /// Of a packet that begins with 0xff: a code, a state after `#` (in a greeting without one), a text.
    pub(super) fn parse(packet: &[u8]) -> ServerError {
        let code = packet.get(1..3).map_or(0, |code| u16::from_le_bytes([code[0], code[1]]));
        let rest = packet.get(3..).unwrap_or_default();
        let text = rest.strip_prefix(b"#").map_or(rest, |rest| rest.get(5..).unwrap_or_default());
        ServerError { code, text: printable(text) }
    }

    /// As what it means for the check, with what to do where that is known. What the server has against the account or
    /// the question of the check comes from a server that lives; all else is what each client may meet.
    pub(super) fn refusal(&self, what: &str) -> CheckTrouble {
        let (hint, is_of_account) = match self.code {
            1040 => ("; raise its limit of connections, or keep some for the check", false),
            1203 | 1226 => ("; raise the limit of connections of the account", true),
            1045 | 1698 => ("; check `user` and `password_file`", true),
            1129 => (
                "; it counts connections that broke off (max_connect_errors): FLUSH HOSTS lets ringway in again",
                false,
            ),
            1130 => ("; allow the account from the address of this machine", false),
            1227 => ("; GRANT REPLICATION CLIENT (MariaDB: REPLICA MONITOR) to the account of the check", true),
            3159 => ("; it wants TLS and offers none", true),
            // Expired, locked, without rights, or by a way of logging in that the server does not have.
            1044 | 1142 | 1143 | 1251 | 1275 | 1370 | 1524 | 1820 | 1862 | 3118 | 4151 => {
                ("; look at the account of the check", true)
            }
            _ => ("", false),
        };
        let text = format!("{what}: {} (error {}){hint}", self.text, self.code);
        if is_of_account { CheckTrouble::Refused(text) } else { CheckTrouble::answer(text) }
    }
}

/// An answer that is no packet of MySQL, with its beginning.
pub(super) fn no_mysql(packet: &[u8]) -> CheckTrouble {
    CheckTrouble::answer(format!("it does not speak the MySQL protocol: {}", printable(packet)))
}
