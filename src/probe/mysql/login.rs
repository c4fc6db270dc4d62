//! Logging in to MySQL or MariaDB: with an account, or with a name that does not exist.
//!
//! The server sends a greeting with a nonce; TLS starts if it offers that; then the account is proved by the plugin
//! that the server asks for (`mysql_native_password`, `caching_sha2_password`, `client_ed25519`). A plugin to which the
//! password itself would have to be sent is refused, except over a unix socket.

use mysql_common::auth::plugins::{AuthProc, ChallengeResponsePlugin, Context, Error};
use mysql_common::constants::CapabilityFlags;
use mysql_common::packets::{AuthPlugin, HandshakeResponse, SslRequest};

use super::wire::{Greeting, ServerError, Wire, no_mysql};
use crate::health::transcript::printable;
use crate::probe::stream::{Stream, Way};
use crate::probe::terms::Terms;
use crate::probe::tls::{self, Handshake};
use crate::probe::{CheckTrouble, Credentials, Transcript};

/// The account that a check without `user` tries: one that does not exist. If it does, and has no password, that is
/// fine too.
const NOBODY: &str = "ringway";
/// Packets from the server until it is decided; more is a server that plays with us.
const STEPS_MAX: usize = 8;
/// `utf8mb4_general_ci`
const COLLATION: u8 = 45;
/// Packets longer than this are not sent to us.
const PACKET_MAX: u32 = 1 << 24;
/// The server asks for the password itself; `caching_sha2_password` does when it has not seen it for long.
const WANTS_PASSWORD: &[u8] = &[0x04];

/// Logs in, in secret where the server can and both speak the same TLS.
pub(super) async fn log_in<'a>(wire: Wire<'a>, way: &Way<'_>, account: &Credentials) -> Result<Wire<'a>, CheckTrouble> {
    let (mut wire, greeting, without_tls) = match begin_tls(wire, way.terms).await? {
        Begun::Ready(wire, greeting) => (wire, greeting, None),
        Begun::NoCommonTls(transcript, why) => {
            transcript.note(format!("no TLS that both speak ({why}); again without it"));
            let stream = way.connect(transcript).await?;
            let mut wire = Wire::new(stream, transcript);
            let greeting = wire.greeting().await?;
            (wire, greeting, Some(why))
        }
    };
    let result = prove(&mut wire, &greeting, account).await;
    match without_tls {
        None => result?,
        Some(why) => tls::found_without(result, &why, wire.transcript)?,
    }
    Ok(wire)
}

/// What came of the beginning.
enum Begun<'a> {
    /// Greeted, and in secret if the server can.
    Ready(Wire<'a>, Greeting),
    /// It has TLS, none that ringway speaks, and the check may go on without.
    NoCommonTls(&'a mut Transcript, String),
}

/// Reads the greeting and begins TLS if it is wanted and the server has it. Over a unix socket there is nothing to
/// hide.
async fn begin_tls<'a>(mut wire: Wire<'a>, terms: Option<&Terms>) -> Result<Begun<'a>, CheckTrouble> {
    let greeting = wire.greeting().await?;
    let is_local = matches!(wire.stream, Stream::Unix(..));
    let Some(terms) = terms.filter(|terms| terms.is_required || !is_local) else {
        return Ok(Begun::Ready(wire, greeting));
    };
    if !greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL) {
        return if terms.is_required { Err(tls::is_missing()) } else { Ok(Begun::Ready(wire, greeting)) };
    }
    let capabilities = capabilities() | CapabilityFlags::CLIENT_SSL;
    wire.write_struct(&SslRequest::new(capabilities, PACKET_MAX, COLLATION)).await?;
    let Wire { stream, transcript, sequence } = wire;
    match tls::handshake(stream, terms, transcript).await {
        Ok(stream) => Ok(Begun::Ready(Wire { stream, transcript, sequence }, greeting)),
        Err(Handshake::NoCommon(why)) => Ok(Begun::NoCommonTls(transcript, why)),
        Err(Handshake::Failed(trouble)) => Err(trouble),
    }
}

/// Proves that the password is known, by the way that the server wants.
async fn prove(wire: &mut Wire<'_>, greeting: &Greeting, account: &Credentials) -> Result<(), CheckTrouble> {
    let is_local = matches!(wire.stream, Stream::Unix(..));
    let is_tls = matches!(wire.stream, Stream::Tls { .. });
    let mut capabilities = capabilities();
    capabilities.set(CapabilityFlags::CLIENT_SSL, is_tls);
    let is_proved = wire.stream.is_proved();
    let mut answerer =
        Answerer { account, is_proved, is_secret: is_local || is_tls, plugin: Vec::new(), procedure: None };
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
                return Ok(());
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
    Err(CheckTrouble::answer(format!("it asks for more than {STEPS_MAX} steps of a login, which none needs")))
}

/// Tries to log in as a user that does not exist; being refused is all that is wanted. TLS is used only where it is
/// required, as there is nothing to hide.
pub(super) async fn as_nobody<'a>(wire: Wire<'a>, way: &Way<'_>) -> Result<Wire<'a>, CheckTrouble> {
    let mut wire = match begin_tls(wire, way.terms.filter(|terms| terms.is_required)).await? {
        Begun::Ready(wire, _) => wire,
        Begun::NoCommonTls(_, why) => return Err(tls::no_agreement(&why)),
    };
    let mut capabilities = capabilities();
    capabilities.set(CapabilityFlags::CLIENT_SSL, matches!(wire.stream, Stream::Tls { .. }));
    wire.transcript.doing_now("waiting for the login to be refused");
    wire.write_struct(&response(NOBODY, Vec::new(), b"mysql_native_password", capabilities)).await?;
    for _ in 0..STEPS_MAX {
        let packet = wire.read().await?;
        match packet.first() {
            Some(0x00) => {
                wire.transcript.note("logged in without a password");
                wire.restart();
                wire.write(&[0x01]).await?;
                return Ok(wire);
            }
            // Access denied, or only with TLS: it is there.
            Some(0xff) => match ServerError::parse(&packet) {
                ServerError { code: 1045 | 1698 | 3159, .. } => {
                    wire.transcript.note("login refused, as it should be without an account");
                    return Ok(wire);
                }
                error => return Err(error.refusal("it takes no login now")),
            },
            Some(0xfe | 0x01) => wire.write(&[]).await?,
            _ => return Err(no_mysql(&packet)),
        }
    }
    Err(CheckTrouble::answer(format!("it asks for more than {STEPS_MAX} steps of a login, which none needs")))
}

/// What a client of the 4.1 protocol says that it can do; without compression, and without LOCAL INFILE.
fn capabilities() -> CapabilityFlags {
    CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
}

/// The packet with user and proof (HandshakeResponse41).
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
    /// User and password of the check.
    account: &'a Credentials,
    /// No other server can answer ([`Stream::is_proved`]).
    is_proved: bool,
    /// No third party reads along: TLS or a unix socket.
    is_secret: bool,
    /// Name of the plugin that is in use: the server may switch.
    plugin: Vec<u8>,
    /// Where the exchange with that plugin stands; `None` before the first.
    procedure: Option<AuthProc>,
}

impl Answerer<'_> {
    /// Starts the exchange by the plugin of that name, and returns the first answer to the server's nonce.
    ///
    /// # Errors
    /// It is none that ringway has, or it would tell the password to a server that may be another one.
    fn begin(&mut self, name: &[u8], nonce: &[u8]) -> Result<Vec<u8>, CheckTrouble> {
        self.plugin = name.to_vec();
        let plugin = AuthPlugin::from_bytes(name);
        let may = match plugin {
            AuthPlugin::MysqlNativePassword | AuthPlugin::CachingSha2Password | AuthPlugin::Ed25519 => true,
            AuthPlugin::Sha256Password => self.is_secret,
            // TLS that verifies no certificate is no reason to tell the password to every server that asks for it.
            AuthPlugin::MysqlClearPassword => self.is_proved,
            _ => false,
        };
        let procedure = plugin.init().ok().filter(|_| may);
        self.procedure = Some(procedure.ok_or_else(|| {
            let name = printable(name);
            let hint = "give the account of the check mysql_native_password, caching_sha2_password or ed25519";
            CheckTrouble::no_agreement(format!("the server wants a login by {name}; {hint}"))
        })?);
        Ok(self.run(nonce)?.unwrap_or_default())
    }

    /// The answer to a further packet of the exchange; `None` if it needs none.
    ///
    /// # Errors
    /// The server asks for the password itself on a connection where others can read it.
    fn go_on(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, CheckTrouble> {
        if challenge == WANTS_PASSWORD && !self.is_secret {
            let hint = "give the server TLS, or the account mysql_native_password";
            return Err(CheckTrouble::no_agreement(format!("the server wants the password in the clear; {hint}")));
        }
        self.run(challenge)
    }

    /// One step of the plugin.
    fn run(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, CheckTrouble> {
        let context = Secret { account: self.account, is_secret: self.is_secret };
        let procedure = self.procedure.as_mut().ok_or_else(|| no_mysql(challenge))?;
        let response = procedure
            .run(context, challenge)
            .map_err(|error: Error| CheckTrouble::answer(format!("the server cannot be answered: {error}")))?;
        Ok(response.data().map(<[u8]>::to_vec))
    }
}

/// What a procedure may know.
struct Secret<'a> {
    account: &'a Credentials,
    /// No third party reads along.
    is_secret: bool,
}

impl Context for Secret<'_> {
    /// The password; empty if there is none.
    fn pass(&self) -> &[u8] {
        self.account.password.as_deref().unwrap_or_default().as_bytes()
    }

    /// Whether it is a unix socket. Always false: `is_tls_transport` covers it, and it decides the same.
    fn is_ipc_transport(&self) -> bool {
        false
    }

    /// Whether the password can be sent as it is.
    fn is_tls_transport(&self) -> bool {
        self.is_secret
    }

    fn scramble(&self) -> &[u8] {
        &[0] // for a key exchange that never starts
    }

    /// The key of the server (`caching_sha2_password` without TLS). ringway has none, so it does not take that way.
    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}
