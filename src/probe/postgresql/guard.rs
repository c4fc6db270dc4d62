//! What a server may say before tokio-postgres hears it: whole messages of a bearable size, no question for the
//! password itself where others could listen, no proof that costs more than the check is worth.
//!
//! The client library makes room for whatever length a server announces, and answers whatever it is asked for.
//!
//! It stands between the socket and the client library as a stream: it looks at each message that the server sends
//! during the login, and passes it on or ends the check with its own reason.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{CheckTrouble, Stream};

/// Of one message.
const MESSAGE_MAX: usize = 64 * 1024;
/// Rounds of SHA-256 that SCRAM may cost: some 50 ms of control. PostgreSQL's own default is 4096.
const ITERATIONS_MAX: u64 = 65_536;
/// Kind and length.
const HEADER: usize = 5;

/// Kind of the message by which a server asks for a proof (PostgreSQL manual, "Message Formats").
const AUTHENTICATION: u8 = b'R';
/// AuthenticationCleartextPassword: it wants the password itself.
const CLEARTEXT_PASSWORD: u32 = 3;
/// AuthenticationSASLContinue: its part of SCRAM, with the number of rounds.
const SASL_CONTINUE: u32 = 11;

/// Why the conversation was ended, if it was.
pub(super) type GuardVerdict = Rc<RefCell<Option<CheckTrouble>>>;

/// A connection whose messages are looked at before the client library reads them.
pub(super) struct Guarded {
    /// The connection itself.
    inner: Stream,
    /// No third party reads along, and no other server can answer ([`Stream::is_proved`]). Or there is no password to
    /// show.
    may_show_password: bool,
    /// What has come and was not passed on to the client library yet.
    held: Vec<u8>,
    /// Bytes of `held` that were passed on.
    passed: usize,
    /// Bytes of `held` that may be: whole messages.
    allowed: usize,
    /// Shared with the check, which gives this reason rather than the library's.
    verdict: GuardVerdict,
}

impl Guarded {
    /// Guards a connection. `has_password` is whether there is anything to keep from the server.
    pub(super) fn new(inner: Stream, has_password: bool) -> (Guarded, GuardVerdict) {
        // An account without a password can be asked for it: the answer is that there is none.
        let may_show_password = !has_password || inner.is_proved();
        let verdict = GuardVerdict::default();
        let held = Vec::new();
        let guarded = Guarded { inner, may_show_password, held, passed: 0, allowed: 0, verdict: Rc::clone(&verdict) };
        (guarded, verdict)
    }

    /// Looks at what has come and was not looked at yet.
    fn look(&mut self) -> Result<(), CheckTrouble> {
        while let Some([kind, length @ ..]) = self.held[self.allowed..].first_chunk::<HEADER>() {
            // The length counts itself, and the kind not.
            let whole = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).saturating_add(1);
            if !(HEADER..=MESSAGE_MAX).contains(&whole) {
                let what = "it does not speak the PostgreSQL protocol: a message of";
                return Err(CheckTrouble::answer(format!("{what} {} bytes", whole - 1)));
            }
            let Some(message) = self.held.get(self.allowed..self.allowed + whole) else { return Ok(()) };
            if *kind == AUTHENTICATION {
                self.authentication(&message[HEADER..])?;
            }
            self.allowed += whole;
        }
        Ok(())
    }

    /// Looks at a request for a proof.
    ///
    /// # Errors
    /// It is one that a check does not answer.
    fn authentication(&self, body: &[u8]) -> Result<(), CheckTrouble> {
        let Some((code, data)) = body.split_first_chunk() else { return Ok(()) };
        match u32::from_be_bytes(*code) {
            CLEARTEXT_PASSWORD if !self.may_show_password => Err(CheckTrouble::no_agreement(
                "the server wants the password in clear text, and checks send it only over a unix \
                 socket; let its pg_hba.conf ask the account for scram-sha-256",
            )),
            SASL_CONTINUE => {
                let text = String::from_utf8_lossy(data);
                let rounds = text.split(',').find_map(|part| part.strip_prefix("i=")?.parse::<u64>().ok());
                match rounds {
                    Some(rounds) if rounds > ITERATIONS_MAX => Err(CheckTrouble::no_agreement(format!(
                        "the password of the account takes {rounds} rounds of SCRAM, and checks do {ITERATIONS_MAX}; \
                         set it anew with a lower scram_iterations"
                    ))),
                    Some(_) => Ok(()),
                    None => Err(CheckTrouble::answer("its part of SCRAM does not say how many rounds".to_string())),
                }
            }
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Guarded {
    /// Passes on what was looked at, and reads more when there is nothing of it.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passed < this.allowed {
                let end = this.allowed.min(this.passed + buf.remaining());
                buf.put_slice(&this.held[this.passed..end]);
                this.passed = end;
                if this.passed == this.allowed {
                    this.held.drain(..this.passed);
                    (this.passed, this.allowed) = (0, 0);
                }
                return Poll::Ready(Ok(()));
            }
            let mut scratch = [0; 4096];
            let mut more = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut more))?;
            if more.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.held.extend(more.filled());
            if let Err(trouble) = this.look() {
                *this.verdict.borrow_mut() = Some(trouble);
                return Poll::Ready(Err(io::Error::other("the check has ended the conversation")));
            }
        }
    }
}

impl AsyncWrite for Guarded {
    /// What the client library says is not looked at.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
