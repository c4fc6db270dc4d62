//! Connections of the admin server: few, and none of them for long.
//!
//! Whoever is slow holds nothing up: a request must have come within seconds, a connection ends after a minute, and
//! when there are as many as there may be, the oldest one goes, so that a probe always finds room beside a hundred
//! scrapers that read nothing (R53).

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

/// Connections at once, of each socket.
const CONNECTIONS_MAX: usize = 16;
/// For the head of a request, from the connect or the answer before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection; then it ends with the answer that is under way, which gets a little longer.
const AGE_MAX: Duration = Duration::from_secs(60);
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Of the head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// Whether another ringway serves now.
pub(super) type Closed = watch::Receiver<bool>;

/// Who asks, for the log and for `why`.
#[derive(Clone, Debug)]
pub(super) struct Asking(pub Arc<str>);

/// Serves until `closed` is true; then it accepts no more, and connections end with the answer that is under way.
/// `who` says who a connection is of.
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

/// Returns when it is so; never, if it cannot become so any more.
async fn is_true(closed: &mut Closed) {
    if closed.wait_for(|closed| *closed).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn connection<T>(io: TokioIo<T>, router: Router, mut closed: Closed)
where
    TokioIo<T>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
    let mut connection = pin!(server.serve_connection(io, TowerToHyperService::new(router)).with_upgrades());
    tokio::select! {
        // How it went wrong concerns its client alone.
        _ = connection.as_mut() => return,
        () = sleep(AGE_MAX) => {}
        () = is_true(&mut closed) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER, connection).await;
}
