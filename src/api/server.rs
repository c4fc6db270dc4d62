//! The connections of the admin server: few, and none of them for long.
//!
//! A slow client holds nothing up. The head of a request must come within seconds, and a connection ends after a
//! minute. When all places are taken, a new connection ends the oldest one. So a probe always finds room, even beside a
//! hundred scrapers that read nothing.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// How many connections each of the two sockets serves.
const CONNECTIONS_MAX: usize = 16;
/// How long a client has for the head of a request, from the connect or from the answer before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection can last. After that it ends with the answer that is under way, which gets `LAST_ANSWER` more.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How much longer an answer can take that is under way at that time.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// Becomes true when another ringway serves instead of this one.
pub(super) type Closed = watch::Receiver<bool>;

/// The user that asks, for the log and for `ringway ctl why`; such as `uid 0`.
#[derive(Clone, Debug)]
pub(super) struct Asking(pub Arc<str>);

/// Accepts and serves connections until `closed` is true. Then it accepts no more, and each connection ends with the
/// answer that is under way. `who` names the user of each connection.
pub(super) async fn serve<L: Listener>(mut listener: L, router: Router, who: fn(&L::Io) -> Asking, closed: Closed) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut is_over = closed.clone();
    loop {
        let (io, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = is_true(&mut is_over) => return,
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() == CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let router = router.clone().layer(Extension(who(&io)));
        open.push_back(tokio::spawn(connection(TokioIo::new(io), router, closed.clone())).abort_handle());
    }
}

/// Returns when the value is true. If it cannot become true any more, because its sender is gone, it waits for ever.
async fn is_true(closed: &mut Closed) {
    if closed.wait_for(|closed| *closed).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Serves one connection, with the limits of time above. Upgrades (take-over) leave it.
async fn connection<T>(io: TokioIo<T>, router: Router, mut closed: Closed)
where
    TokioIo<T>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
    let mut connection = pin!(server.serve_connection(io, TowerToHyperService::new(router)).with_upgrades());
    tokio::select! {
        // An error concerns only the client of this connection.
        _ = connection.as_mut() => return,
        () = sleep(AGE_MAX) => {}
        () = is_true(&mut closed) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER, connection).await;
}
