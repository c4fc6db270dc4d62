//! Every word of nginx's `main`, `events` and `stream`, and what becomes of it. A word that is not here is refused.
//!
//! Settings that only tune nginx are notes. What limits, refuses, or decides about a client is either carried over or
//! refused; so a word that is missing here is refused, as it may do any of these.

use crate::import::note::Fate::{self, Carried, Idle, Refused};

/// For words of logs.
const LOG: &str = "the fields of the access log are fixed";
/// For words of TLS towards clients and servers.
const TLS: &str = "the importer does not write TLS that ringway ends or begins yet, and plain TCP would be weaker";
/// For limits of bytes.
const RATE: &str = "ringway limits no bytes per second";
/// For what the kernel or ringway does anyway.
const NOTHING: &str = "ringway needs no such setting";

/// In `stream`, and in a `server` of it.
const STREAM: &[(&str, Fate)] = &[
    (
        "server upstream map geo set split_clients listen server_name proxy_pass proxy_connect_timeout \
         proxy_timeout proxy_protocol proxy_protocol_timeout proxy_bind proxy_next_upstream \
         proxy_next_upstream_tries proxy_half_close proxy_upload_rate proxy_download_rate proxy_ssl \
         ssl_preread preread_timeout allow deny limit_conn limit_conn_zone set_real_ip_from access_log \
         return resolver resolver_timeout health_check match health_check_timeout limit_conn_dry_run",
        Carried,
    ),
    ("status_zone", Idle("each listener has its metrics")),
    ("log_format open_log_file_cache", Idle(LOG)),
    ("error_log", Idle("ringway has one log: [log] output and level")),
    ("proxy_next_upstream_timeout", Idle("connect_timeout holds for each attempt, connect_attempts for all")),
    ("proxy_buffer_size", Idle("memory of a session is bounded by itself")),
    ("proxy_socket_keepalive", Idle("TCP keepalive is on for both sides")),
    ("preread_buffer_size", Idle("ringway looks at up to 16 KiB of a ClientHello")),
    ("tcp_nodelay", Idle("it is always on")),
    (
        "zone_sync variables_hash_max_size variables_hash_bucket_size map_hash_max_size \
         map_hash_bucket_size server_names_hash_max_size server_names_hash_bucket_size",
        Idle(NOTHING),
    ),
    ("limit_conn_log_level", Idle("refused clients are counted, and are in the access log")),
    ("proxy_requests proxy_responses", Idle("it is for UDP")),
    ("js_import js_access js_preread js_filter js_set", Refused("ringway has no programs in its configuration")),
    ("pass", Refused("ringway hands no connection to another program's listener")),
    ("geoip_country", Refused("ringway knows no countries")),
    ("geoip_city", Refused("ringway knows no places")),
    ("mqtt mqtt_preread", Refused("ringway does not look into the stream")),
];

/// What becomes of a directive of `stream` or a server.
pub fn in_stream(name: &str) -> Fate {
    match STREAM.iter().find(|(all, _)| all.split_whitespace().any(|word| word == name)) {
        Some((_, fate)) => *fate,
        // Settings of TLS that is not switched on change nothing; what switches it on is refused elsewhere.
        None if name.starts_with("ssl_") || name.starts_with("proxy_ssl_") => {
            Idle("it belongs to TLS that is ended here")
        }
        None => Refused("it is no word of `stream` that this importer knows"),
    }
}

/// Why a server that has this switched on is refused.
pub fn switched_on(name: &str) -> Option<&'static str> {
    match name {
        "proxy_ssl" => Some(TLS),
        "proxy_upload_rate" | "proxy_download_rate" => Some(RATE),
        _ => None,
    }
}

/// Why a directive of `main` or `events` needs nothing.
pub fn in_main(name: &str) -> &'static str {
    match name {
        "worker_cpu_affinity" => "one thread per CPU, pinned: pin_workers in [process]",
        "worker_rlimit_nofile" => "ringway raises its own limit of descriptors",
        "pid" | "daemon" | "master_process" => "systemd keeps ringway running, in the foreground",
        "load_module" => "everything is in the program",
        "env" => "variables come from where ringway starts",
        "multi_accept" | "use" | "accept_mutex" | "epoll_events" | "worker_aio_requests" => NOTHING,
        _ => NOTHING,
    }
}
