//! Every metric that is exported: the one list that the exporter, the documentation and the tests go by.
//!
//! A row is: the constant, the kind, the name, the labels, and the help, which is one sentence. `api::metrics` writes a
//! value for each row, `docs/metrics.md` is made from the list, and tests compare both with it.

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Cumulative buckets by `le`, `_sum` and `_count`.
    Histogram,
}

/// One exported metric.
#[derive(Debug, Eq, PartialEq)]
pub struct Metric {
    /// Its name; counters end in `_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Names of its labels, in the order of their values.
    pub labels: &'static [&'static str],
}

macro_rules! metrics {
    ($($constant:ident $kind:ident $name:literal $labels:tt $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: $name,
                help: $help,
                kind: MetricKind::$kind,
                labels: &$labels,
            };
        )*
        /// All of them, in the order of `docs/metrics.md`.
        pub const ALL: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    BUILD_INFO Gauge "ringway_build_info" ["version", "io"]
        "Always 1; which version runs, and on what: io_uring or epoll.";
    CONFIG_GENERATION Gauge "ringway_config_generation" [] "Configurations applied since the start.";
    CONFIG_RELOADS Counter "ringway_config_reloads_total" ["result"] "Configurations read again, applied or refused.";
    CONNECTIONS Gauge "ringway_connections" [] "Open client connections.";
    CONNECTIONS_MAX Gauge "ringway_connections_max" []
        "Open client connections beyond which clients wait; 0 is no limit.";
    LISTENER_CONNECTIONS Gauge "ringway_listener_connections" ["listener"] "Open client connections of a listener.";
    LISTENER_CONNECTIONS_TOTAL Counter "ringway_listener_connections_total" ["listener"]
        "Client connections a listener accepted.";
    LISTENER_REFUSED Counter "ringway_listener_refused_total" ["listener", "reason"]
        "Client connections that a rule or a limit of the listener refused.";
    TLS_HANDSHAKES Counter "ringway_tls_handshakes_total" ["listener", "result", "version", "resumed"]
        "TLS handshakes with clients that are over.";
    TLS_HANDSHAKE_SECONDS Histogram "ringway_tls_handshake_seconds" ["listener"]
        "Time from accept to the end of the TLS handshake, successful ones.";
    TLS_CERTIFICATE_NOT_AFTER Gauge "ringway_tls_certificate_not_after_seconds" ["listener", "name"]
        "When the certificate that clients are shown expires, in seconds since 1970.";
    TLS_CERTIFICATE_ERRORS Counter "ringway_tls_certificate_errors_total" ["listener"]
        "Replacements of certificate files that could not be used; the log names the file.";
    TLS_TRUNCATED Counter "ringway_tls_truncated_total" ["listener"]
        "Streams of clients that ended without close_notify.";
    TLS_BACKEND_HANDSHAKES Counter "ringway_tls_backend_handshakes_total" ["pool", "result"]
        "TLS handshakes with backends that are over: resumed, success (a new session) or failure.";
    TLS_BACKEND_TRUNCATED Counter "ringway_tls_backend_truncated_total" ["pool"]
        "Streams of backends that ended without close_notify.";
    LISTENER_ACCEPT_ERRORS Counter "ringway_listener_accept_errors_total" ["listener"]
        "Accepts that failed, mostly for want of descriptors.";
    POOL_QUEUE_LENGTH Gauge "ringway_pool_queue_length" ["pool"] "Clients that wait for a backend.";
    POOL_QUEUE_TIMEOUTS Counter "ringway_pool_queue_timeouts_total" ["pool"]
        "Sessions reset because they waited too long.";
    POOL_RETRIES Counter "ringway_pool_retries_total" ["pool"] "Attempts to connect after the first one of a session.";
    POOL_REFUSED Counter "ringway_pool_refused_total" ["pool"] "Sessions reset because no backend could take them.";
    POOL_FALLS_BACK Gauge "ringway_pool_falls_back" ["pool"]
        "1 while another pool, its fallback, serves its new sessions.";
    POOL_FALLBACKS Counter "ringway_pool_fallbacks_total" ["pool"]
        "Sessions of the pool that its fallback served; they count there.";
    POOL_STICKY_EVICTIONS Counter "ringway_pool_sticky_evictions_total" ["pool"]
        "Clients that lost their backend (sticky) before its time, because too many others came.";
    DISCOVERY_UP Gauge "ringway_discovery_up" ["pool"]
        "1 while the source of the pool's backends can be asked and all that it says can be read.";
    DISCOVERY_BACKENDS Gauge "ringway_discovery_backends" ["pool"] "Backends that the source of the pool has found.";
    DISCOVERY_CONFIRMED Gauge "ringway_discovery_confirmed_timestamp_seconds" ["pool"]
        "When the source of the pool was heard last, in seconds since 1970; 0 if it never was.";
    BACKEND_ORIGIN Gauge "ringway_backend_origin" ["pool", "backend", "origin"]
        "Always 1; where the backend comes from: config, api, or the type of the source that has found it.";
    POOL_SERVES_STALE Gauge "ringway_pool_serves_stale" ["pool"]
        "1 while no replica is within lag_max and the least stale ones serve.";
    POOL_BACKENDS_USABLE Gauge "ringway_pool_backends_usable" ["pool"]
        "Backends that new sessions can go to: those that are up, or with use_all any while none is.";
    BACKEND_UP Gauge "ringway_backend_up" ["pool", "backend"] "1 if the backend takes new sessions.";
    BACKEND_STATE Gauge "ringway_backend_state" ["pool", "backend", "state"]
        "1 for the state the backend is in, 0 for the others.";
    BACKEND_WEIGHT Gauge "ringway_backend_weight" ["pool", "backend"] "Weight of the backend.";
    BACKEND_CONNECTIONS Gauge "ringway_backend_connections" ["pool", "backend"] "Sessions that hold the backend.";
    BACKEND_CONNECTIONS_TOTAL Counter "ringway_backend_connections_total" ["pool", "backend"]
        "Connections established to the backend.";
    BACKEND_CONNECT_ERRORS Counter "ringway_backend_connect_errors_total" ["pool", "backend", "reason"]
        "Attempts to connect to the backend that failed.";
    BACKEND_HANGUPS Counter "ringway_backend_hangups_total" ["pool", "backend"]
        "Sessions that the backend ended within a second without having sent a byte.";
    BACKEND_BYTES Counter "ringway_backend_bytes_total" ["pool", "backend", "direction"] "Bytes relayed.";
    BACKEND_CHECKS Counter "ringway_backend_checks_total" ["pool", "backend", "result"] "Health checks made.";
    BACKEND_TRANSITIONS Counter "ringway_backend_transitions_total" ["pool", "backend", "to"]
        "Changes of state.";
    SESSIONS Counter "ringway_sessions_total" ["listener", "pool", "termination"]
        "Sessions that ended, by termination code (two letters, as in the access log).";
    CONNECT_SECONDS Histogram "ringway_connect_seconds" ["pool"] "Time to connect to a backend, successful attempts.";
    QUEUE_SECONDS Histogram "ringway_queue_seconds" ["pool"] "Time in the queue, of clients that had to wait.";
    SESSION_SECONDS Histogram "ringway_session_seconds" ["pool"] "Time from accept to close.";
    CHECK_SECONDS Histogram "ringway_check_seconds" ["pool", "backend"] "Time a health check took.";
    WORKER_CONNECTIONS Gauge "ringway_worker_connections" ["worker"] "Open client connections of a worker.";
    WORKER_BUSY Counter "ringway_worker_busy_seconds_total" ["worker"] "Time a worker worked rather than waited.";
    WORKER_SPLICED Counter "ringway_worker_spliced_bytes_total" ["worker"] "Bytes moved through kernel pipes.";
    WORKER_COPIED Counter "ringway_worker_copied_bytes_total" ["worker"] "Bytes moved through buffers.";
    ACCESS_LOG_DROPPED Counter "ringway_access_log_dropped_total" [] "Sessions whose line in the access log was lost.";
    WORKER_ACCEPTED Counter "ringway_worker_accepted_total" ["worker"] "Client connections a worker accepted.";
    WORKER_HANDED_OVER Counter "ringway_worker_handed_over_total" ["worker"]
        "Accepted client connections given to a less loaded worker.";
    WORKER_STARVED Counter "ringway_worker_buffers_starved_total" ["worker"] "Times a receive found no free buffer.";
    WORKER_CLOSING_STUCK Gauge "ringway_worker_closing_stuck" ["worker"]
        "Sessions that have been closing for more than 10 seconds; 0 unless the kernel has lost something.";
    WORKER_KERNEL_THREADS Gauge "ringway_worker_kernel_threads" ["worker"]
        "Kernel threads (iou-wrk) of the process, the same for each worker, not to be added up; 0 in normal traffic.";
    PROCESS_CPU Counter "process_cpu_seconds_total" [] "CPU time of the process, its threads and the kernel for them.";
    PROCESS_RESIDENT Gauge "process_resident_memory_bytes" [] "Memory that the process has in RAM.";
    PROCESS_VIRTUAL Gauge "process_virtual_memory_bytes" [] "Address space of the process, most of it never used.";
    PROCESS_OPEN_FDS Gauge "process_open_fds" [] "Open descriptors.";
    PROCESS_MAX_FDS Gauge "process_max_fds" [] "Descriptors that can be open.";
    PROCESS_THREADS Gauge "process_threads" [] "Threads of the process, the kernel's for it among them.";
    PROCESS_START Gauge "process_start_time_seconds" [] "When the process was started, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_what_they_are() {
        for (index, metric) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != metric.name), "{} twice", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter, "{}", metric.name);
            // These are moments. The first has the name that all programs use for it.
            let is_moment = [&PROCESS_START, &TLS_CERTIFICATE_NOT_AFTER, &DISCOVERY_CONFIRMED].contains(metric);
            let is_span = metric.name.ends_with("_seconds") && !is_moment;
            assert_eq!(is_span, metric.kind == MetricKind::Histogram, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
