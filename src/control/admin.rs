//! The admin server on `admin.listen`: reads only, so it needs no protection beyond where it listens.
//!
//! A request reads cells that workers write and never makes a worker do anything.

mod metrics;

use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::balance::Counts;
use crate::snapshot::cell::Cell;
use crate::snapshot::table::Phase;
use crate::stats::Stats;

/// Content type of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the server answers from.
#[derive(Clone)]
pub struct Admin {
    /// The tables.
    pub cell: Arc<Cell>,
    /// What workers count.
    pub stats: Arc<Stats>,
    /// What workers share.
    pub counts: Arc<Counts>,
    /// Limit on open client connections; 0 is none.
    pub connections_max: u64,
}

impl Admin {
    /// Whether clients are accepted: the phase says so and every worker runs; else why not.
    fn ready(&self) -> Result<(), &'static str> {
        match self.cell.reader().pin().phase {
            Phase::Draining { .. } => Err("draining\n"),
            Phase::Stopping => Err("stopping\n"),
            Phase::Serving if self.stats.workers.iter().all(|worker| worker.worker.running.get() != 0) => Ok(()),
            Phase::Serving => Err("starting\n"),
        }
    }
}

/// Serves on `listener` for as long as the runtime lives. Fails only if the socket cannot be used.
pub(super) async fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let server = axum::serve(listener, router(admin));
    tokio::spawn(async move { server.await });
    Ok(())
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .fallback(async || (StatusCode::NOT_FOUND, "there is /metrics, /live and /ready\n"))
        .layer(middleware::from_fn(only_reads))
        .with_state(admin)
}

/// Writes are refused before anything looks at the path.
async fn only_reads(request: Request, next: Next) -> Response {
    match *request.method() {
        Method::GET | Method::HEAD => next.run(request).await,
        _ => (StatusCode::FORBIDDEN, "admin.listen is read-only\n").into_response(),
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, PROMETHEUS)], metrics::render(&admin))
}

#[cfg(test)]
mod tests;
