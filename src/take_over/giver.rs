//! The old ringway's side: it hands its sockets over, and then drains.
//!
//! Until the new one says that it accepts, everything can still be undone: the old one serves on, and what it handed
//! over are only duplicates. If the new one leaves without a word, that is logged and nothing else happens.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{ACCEPTING, DRAINING, LISTENING, PATH, PROTOCOL, sticky};
use crate::api::command::{Loan, Successor};
use crate::api::{ApiContext, Refusal};
use crate::sys::pass;

/// How long the new one can take until it accepts; it looks its names up and checks its backends first.
const START_MAX: Duration = Duration::from_secs(60);

/// The route that this module adds to the API.
pub fn routes() -> Router<ApiContext> {
    Router::new().route(PATH, post(take_over))
}

/// `POST /v1/take-over`. It can only come through `admin.socket`, because `admin.listen` takes no POST.
async fn take_over(State(admin): State<ApiContext>, request: Request) -> Result<Response, Refusal> {
    if request.headers().get(header::UPGRADE).and_then(|name| name.to_str().ok()) != Some(PROTOCOL) {
        return Ok(other_protocol());
    }
    let loan = admin.asker.lend().await?.map_err(Refusal::unavailable)?;
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(hand_over(upgrade, loan, admin));
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// The answer to another protocol: 426 with the one that would do (RFC 9110, section 15.5.22).
fn other_protocol() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let message = format!(
        "ringway {version} hands its sockets over by {PROTOCOL}, and was asked for another protocol: the two versions \
         do not fit; stop it, and start the new one without --take-over"
    );
    let mut response = Refusal::new(StatusCode::UPGRADE_REQUIRED, message).into_response();
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

/// Hands the sockets over, and logs if that fails.
async fn hand_over(upgrade: OnUpgrade, loan: Loan, admin: ApiContext) {
    let Err(error) = try_to(upgrade, loan, admin).await else { return };
    warn!(%error, "the ringway that was to take over has gone; this one goes on as before");
}

/// The old one's side of the conversation; see the module above for its steps.
async fn try_to(upgrade: OnUpgrade, loan: Loan, admin: ApiContext) -> io::Result<()> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded.downcast::<TokioIo<UnixStream>>().map_err(|_| io::Error::other("not over admin.socket"))?;
    let (mut stream, ahead) = (parts.io.into_inner(), parts.read_buf);
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
    let Loan { sockets, lock } = loan;
    info!(pid, sockets = sockets.len(), "another ringway is taking over");
    // The HTTP server may have read a part of it already.
    timeout(START_MAX, expect(LISTENING, (&ahead[..]).chain(&mut stream))).await??;
    timeout(START_MAX, send(&stream, sockets)).await??;
    timeout(START_MAX, expect(ACCEPTING, &mut stream)).await??;
    admin.asker.relieved(Successor { pid }).await.map_err(io::Error::other)?;
    drop(lock);
    // It serves from now on, whether it hears this or not.
    let _ = stream.write_all(DRAINING).await;
    let sticky = sticky::tell(&admin.cell.reader().pin(), &admin.counts, admin.clock.now());
    let _ = timeout(START_MAX, stream.write_all(sticky.as_bytes())).await;
    Ok(())
}

/// Waits for one of the words of the protocol.
async fn expect(word: &[u8], mut from: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut found = [0; 16];
    let found = &mut found[..word.len()];
    from.read_exact(found).await?;
    if found == word { Ok(()) } else { Err(io::Error::other("it does not keep to the protocol")) }
}

/// Sends the number of sockets, then the sockets in batches.
async fn send(stream: &UnixStream, sockets: Vec<Arc<OwnedFd>>) -> io::Result<()> {
    let count = u32::try_from(sockets.len()).unwrap_or(u32::MAX).to_be_bytes();
    send_part(stream, &count, &[]).await?;
    for batch in sockets.chunks(pass::DESCRIPTORS_MAX) {
        send_part(stream, b".", batch).await?;
    }
    Ok(())
}

/// Sends at most four bytes with some descriptors; the kernel takes all of it or nothing.
async fn send_part(stream: &UnixStream, bytes: &[u8], sockets: &[Arc<OwnedFd>]) -> io::Result<()> {
    let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    loop {
        stream.writable().await?;
        match stream.try_io(Interest::WRITABLE, || pass::send(stream.as_fd(), bytes, &descriptors)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
