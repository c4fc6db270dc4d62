//! Logging in, as somebody or as nobody.

use mysql_common::auth::plugins::{AuthProc, ChallengeResponsePlugin, Context, Error};
use mysql_common::constants::CapabilityFlags;
use mysql_common::packets::{AuthPlugin, HandshakeResponse, SslRequest};

use super::wire::{Greeting, ServerError, Wire, no_mysql};
use crate::base::address::Address;
use crate::control::probe::stream::Stream;
use crate::control::probe::transcript::printable;
use crate::control::probe::{Account, Failure, tls};

/// Who is not there. Whoever is called so, without a password, is welcome too.
const NOBODY: &str = "ringway";
/// Packets from the server until it is decided; more is a server that plays with us.
const STEPS_MAX: usize = 8;
/// `utf8mb4_general_ci`
const COLLATION: u8 = 45;
/// Packets longer than this are not sent to us.
const PACKET_MAX: u32 = 1 << 24;
/// The server asks for the password itself; `caching_sha2_password` does when it has not seen it for long.
const WANTS_PASSWORD: &[u8] = &[0x04];

/// Logs in, in secret where the server can.
pub(super) async fn log_in<'a>(mut wire: Wire<'a>, target: &Address, account: &Account) -> Result<Wire<'a>, Failure> {
    let greeting = wire.greeting().await?;
    let is_local = matches!(wire.stream, Stream::Unix(_));
    let mut capabilities = capabilities();
    if greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL) && !is_local {
        capabilities.insert(CapabilityFlags::CLIENT_SSL);
        wire.transcript.doing_now("beginning TLS");
        wire.write_struct(&SslRequest::new(capabilities, PACKET_MAX, COLLATION)).await?;
        let secret = tls::handshake(wire.stream, target).await;
        wire.stream = secret.map_err(|error| Failure::Answer(format!("TLS cannot be begun: {error}")))?;
        wire.transcript.note("TLS begun");
    }
    let is_secret = is_local || matches!(wire.stream, Stream::Tls(_));
    let mut answerer = Answerer { account, is_secret, plugin: Vec::new(), procedure: None };
    // A server may name a plugin that an account need not have; then it switches.
    let first = answerer.begin(&greeting.plugin, &greeting.nonce).unwrap_or_default();
    let plugin = answerer.plugin.clone();
    wire.transcript.doing_now("logging in");
    wire.write_struct(&response(&account.user, first, &plugin, capabilities)).await?;
    for _ in 0..STEPS_MAX {
        let packet = wire.read().await?;
        match packet.split_first() {
            Some((0x00, _)) => {
                wire.transcript.note(format!("logged in as {}", printable(account.user.as_bytes())));
                return Ok(wire);
            }
            Some((0xff, _)) => return Err(ServerError::parse(&packet).refusal("login refused")),
            Some((0xfe, rest)) => {
                let (plugin, nonce) = switch(rest).ok_or_else(|| no_mysql(&packet))?;
                let answer = answerer.begin(plugin, nonce)?;
                wire.write(&answer).await?;
            }
            Some((0x01, challenge)) => {
                if let Some(answer) = answerer.go_on(challenge)? {
                    wire.write(&answer).await?;
                }
            }
            _ => return Err(no_mysql(&packet)),
        }
    }
    Err(Failure::Answer("the login has no end".to_string()))
}

/// Tries to log in as somebody who is not there; being refused is all that is wanted.
pub(super) async fn as_nobody(wire: &mut Wire<'_>) -> Result<(), Failure> {
    let Greeting { .. } = wire.greeting().await?;
    wire.transcript.doing_now("waiting for the login to be refused");
    wire.write_struct(&response(NOBODY, Vec::new(), b"mysql_native_password", capabilities())).await?;
    for _ in 0..STEPS_MAX {
        let packet = wire.read().await?;
        match packet.first() {
            Some(0x00) => {
                wire.transcript.note("logged in without a password");
                wire.restart();
                return wire.write(&[0x01]).await;
            }
            // Access denied, or only with TLS: it is there.
            Some(0xff) => match ServerError::parse(&packet) {
                ServerError { code: 1045 | 1698 | 3159, .. } => {
                    wire.transcript.note("login refused, as it should be without an account");
                    return Ok(());
                }
                error => return Err(error.refusal("it is not ready to let anybody in")),
            },
            Some(0xfe | 0x01) => wire.write(&[]).await?,
            _ => return Err(no_mysql(&packet)),
        }
    }
    Err(Failure::Answer("the login has no end".to_string()))
}

fn capabilities() -> CapabilityFlags {
    CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
}

fn response<'a>(
    user: &'a str,
    answer: Vec<u8>,
    plugin: &'a [u8],
    capabilities: CapabilityFlags,
) -> HandshakeResponse<'a> {
    HandshakeResponse::new(
        Some(answer),
        (5, 7, 0), // so that the collation is utf8mb4
        Some(user.as_bytes()),
        None::<&[u8]>,
        Some(AuthPlugin::from_bytes(plugin)),
        capabilities,
        None,
        PACKET_MAX,
    )
}

/// The plugin and the nonce of a request to switch.
fn switch(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = rest.iter().position(|&byte| byte == 0)?;
    let (plugin, nonce) = (&rest[..end], &rest[end + 1..]);
    // MySQL ends it like a text.
    Some((plugin, nonce.strip_suffix(&[0]).filter(|nonce| nonce.len() == 20).unwrap_or(nonce)))
}

/// Proves to the server that the password is known.
struct Answerer<'a> {
    account: &'a Account,
    /// Nobody listens.
    is_secret: bool,
    plugin: Vec<u8>,
    procedure: Option<AuthProc>,
}

impl Answerer<'_> {
    fn begin(&mut self, name: &[u8], nonce: &[u8]) -> Result<Vec<u8>, Failure> {
        self.plugin = name.to_vec();
        let plugin = AuthPlugin::from_bytes(name);
        let may = match plugin {
            AuthPlugin::MysqlNativePassword | AuthPlugin::CachingSha2Password | AuthPlugin::Ed25519 => true,
            AuthPlugin::MysqlClearPassword | AuthPlugin::Sha256Password => self.is_secret,
            _ => false,
        };
        let procedure = plugin.init().ok().filter(|_| may);
        self.procedure = Some(procedure.ok_or_else(|| {
            let name = printable(name);
            let hint = "give the account of the check mysql_native_password, caching_sha2_password or ed25519";
            Failure::Answer(format!("the server wants a login by {name}; {hint}"))
        })?);
        Ok(self.run(nonce)?.unwrap_or_default())
    }

    fn go_on(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        if challenge == WANTS_PASSWORD && !self.is_secret {
            let hint = "give the server TLS, or the account mysql_native_password";
            return Err(Failure::Answer(format!("the server wants the password in the clear; {hint}")));
        }
        self.run(challenge)
    }

    fn run(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let context = Secret { account: self.account, is_secret: self.is_secret };
        let procedure = self.procedure.as_mut().ok_or_else(|| no_mysql(challenge))?;
        let response = procedure
            .run(context, challenge)
            .map_err(|error: Error| Failure::Answer(format!("the server cannot be answered: {error}")))?;
        Ok(response.data().map(<[u8]>::to_vec))
    }
}

/// What a procedure may know.
struct Secret<'a> {
    account: &'a Account,
    is_secret: bool,
}

impl Context for Secret<'_> {
    fn pass(&self) -> &[u8] {
        self.account.password.as_deref().unwrap_or_default().as_bytes()
    }

    fn is_ipc_transport(&self) -> bool {
        false
    }

    fn is_tls_transport(&self) -> bool {
        self.is_secret
    }

    fn scramble(&self) -> &[u8] {
        &[0] // for a key exchange that is never begun
    }

    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}
