//! Drives the built `ringway` over loopback with real sockets. One binary, so that it is linked once.
//!
//! Each test protects a promise of ringway and is named after it; `Rn` in its comment is the row of the reliability
//! scorecard. Where a test says how long something may take, the bound leaves room for a busy machine with two cores.
#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests wait for real time and share results")]

mod harness;
#[path = "../program/mod.rs"]
mod program;

/// Which clients can connect, how often and how many times.
mod access;
/// One line per session.
mod access_log;
/// IPv6, port ranges, unix sockets.
mod addresses;
/// The admin socket: which users can speak, and what it takes.
mod admin;
/// What the API says and does of pools and backends.
mod api;
/// Sessions listed and killed over the admin socket.
mod api_sessions;
/// A slow reader stops its own sender and no other.
mod backpressure;
/// Which backend a client gets.
mod balance;
/// Agents beside servers.
mod check_agent;
/// What checks cost.
mod check_cost;
/// Servers that mean no good to checks.
mod check_hostile;
/// Checks of HTTP servers, and of whatever answers something.
mod check_http;
/// Checks of a real MariaDB.
mod check_mysql;
/// Checks of a real PostgreSQL.
mod check_postgresql;
/// Checks of a real Redis.
mod check_redis;
/// Checks over TLS, and of Galera.
mod check_tls;
/// What checks cannot find out.
mod check_unknown;
/// Backends at the port that the client connected to.
mod client_port;
/// The way to a backend, and to another one.
mod connect;
/// What metrics and access log say is what peers saw, under load.
mod consistency;
/// What `/metrics` says is what peers saw.
mod counters;
/// `ringway ctl`, `RINGWAY_SOCKET` and exit codes.
mod ctl;
/// Backends from Consul and Nomad.
mod discover_consul;
/// Keys of a real etcd, as a source reads them.
mod discover_etcd;
/// Backends in files.
mod discover_file;
/// Backends from Kubernetes.
mod discover_kubernetes;
/// A real Patroni, and what it means by its leader.
mod discover_patroni;
/// Backends in SRV records.
mod discover_srv;
/// Backends behind a name.
mod dns;
/// Backends that are gone keep their sessions for a while.
mod drain;
/// What failed connects do to a backend.
mod eject;
/// A real PostgreSQL primary dies or is replaced.
mod failover;
/// A pool that another one serves for.
mod fallback;
/// Backends that are chosen when the client has said something.
mod first_byte;
/// Several ringways with one configuration.
mod fleets;
/// Clients that mean no good.
mod flood;
/// The end of one direction, and the other one going on.
mod half_close;
/// Checks, and what follows from them.
mod health;
/// Backends that come and go, hang, or are all gone.
mod health_flap;
mod history;
/// What the host gives: CPUs and descriptors.
mod host;
/// An imported configuration serves as HAProxy or nginx does.
mod import;
mod io;
/// Everything that was taken is given back.
mod leaks;
/// Too many connections, too few descriptors.
mod limits;
/// The files that say how names are looked up.
mod names;
/// Networks that lose, refuse and run out.
mod network;
/// Backends and configurations that come by the API.
mod objects;
/// The status page in a real browser.
mod page;
/// Fail-over, backups, what happens when no backend is up.
mod policies;
/// A real PostgreSQL.
mod postgresql;
/// What the process may do once it serves.
mod privileges;
/// A real Prometheus, the dashboard and the alerts.
mod prometheus;
/// PROXY headers that come in.
mod proxy_in;
/// PROXY headers that go out.
mod proxy_out;
/// PROXY headers between ringway and nginx, HAProxy and gunicorn.
mod proxy_peers;
/// Clients that wait.
mod queue;
/// What the recipes tell people to do.
mod recipes;
/// A real Redis.
mod redis;
/// Bytes arrive in order, once, unchanged.
mod relay;
/// Another configuration while it runs.
mod reload;
/// What reloads leave behind, and what they refuse.
mod reload_refused;
/// Streams that were cut short end in a reset.
mod reset;
/// Which backend of a database is the primary, and which is not.
mod roles;
/// What a client speaks decides about its pool.
mod routes;
/// Signals, and how a ringway ends.
mod signals;
/// Clients led by what their TLS says.
mod sni;
/// Where connections to backends come from.
mod source_address;
/// Clients that are divided among pools.
mod split;
/// Starts that are refused.
mod stalled;
mod startup;
/// Clients that keep their backend.
mod sticky;
/// What systemd is told, and what it hands over.
mod systemd;
/// One ringway after another.
mod take_over;
/// Sessions that end by themselves.
mod timeout;
/// TLS to backends.
mod tls_backend;
/// Bulk that comes by TLS.
mod tls_bulk;
/// Certificates that expire, and files that cannot be used.
mod tls_certificates;
/// Connections that are cut at a random byte of their handshake.
mod tls_cuts;
/// TLS that ends at a listener.
mod tls_listener;
/// The same behind PostgreSQL's own request for it.
mod tls_postgresql;
/// The same where a side is slow, memory is short, or a stream is cut.
mod tls_pressure;
/// The same with the programs that people use.
mod tls_programs;
/// Clients and backends that break the rules of TLS.
mod tls_rebels;
/// Signatures that are made beside the worker.
mod tls_signer;
/// What backends and the log hear of it.
mod tls_told;
/// Sessions on several workers.
mod workers;
