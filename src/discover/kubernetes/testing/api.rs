//! An API server that has EndpointSlices and nothing else, and behaves as the API conventions of Kubernetes say: lists
//! in pages, watches with bookmarks, versions that expire, statuses as JSON. A test holds it against the Python client.
//!
//! It names nothing of ringway, so that tests of the whole program use the same file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::stub::{Stub, StubRequest, Wire, begin_chunks, chunk, reply};

/// How often a watch that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_millis(200);
/// How often a watch looks for changes.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApiFault {
    /// The next request is answered with this status.
    Status(u16),
    /// The next request is told to come back after a second.
    Busy,
    /// The next watch says in an event that its version is gone.
    GoneEvent,
    /// The next change of a watch is cut in the middle of its line.
    CutLine,
    /// The next watch sends what is no JSON.
    Garbage,
}

/// What the server has.
#[derive(Clone, Debug, Default)]
struct ApiState {
    /// Of the last change.
    version: u64,
    /// By name.
    slices: BTreeMap<String, Value>,
    /// Every change: its version, its kind and the slice.
    changes: Vec<(u64, &'static str, Value)>,
    /// Changes up to here are forgotten.
    compacted: u64,
    /// The only token that is taken; `None` takes everything.
    token: Option<String>,
    /// What goes wrong next.
    fault: Option<ApiFault>,
    /// Slices per page, whatever is asked for.
    page_max: usize,
}

/// The server. It ends when it is dropped.
pub struct ApiServer {
    stub: Stub,
    state: watch::Sender<ApiState>,
    /// Each request: its path, and its `Authorization`.
    pub asked: mpsc::Receiver<(String, Option<String>)>,
}

impl ApiServer {
    /// It has nothing yet.
    pub fn start() -> ApiServer {
        let (state, _) = watch::channel(ApiState { version: 100, page_max: usize::MAX, ..ApiState::default() });
        ApiServer::at("127.0.0.1:0".parse().unwrap(), state)
    }

    /// Listens there, with that state.
    fn at(address: SocketAddr, state: watch::Sender<ApiState>) -> ApiServer {
        let (told, asked) = mpsc::channel();
        let served = state.clone();
        let stub = Stub::listen(address, None, move |request, to| {
            let _ = told.send((request.path.clone(), request.header("authorization").map(str::to_string)));
            serve(request, to, &served);
        });
        ApiServer { stub, state, asked }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.stub.address()
    }

    /// Stops; what it has is kept for [`Down::start`].
    pub fn stop(self) -> Down {
        Down { address: self.stub.address(), state: self.state }
    }

    /// A kubeconfig that names it, with these keys of the user.
    pub fn kubeconfig(&self, user: &str) -> String {
        let address = self.address();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: test, namespace: shop}}\n\
             clusters:\n- name: test\n  cluster: {{server: 'http://{address}'}}\n\
             users:\n- name: test\n  user: {{{user}}}\n"
        )
    }

    /// Adds or changes a slice of IPv4 of the service `db`, with these endpoints, at port 5432, which is called `pg`.
    pub fn put(&self, name: &str, endpoints: &[(&str, Value)]) {
        let endpoint =
            |(address, conditions): &(&str, Value)| json!({"addresses": [address], "conditions": conditions});
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        let ports = json!([{"name": "pg", "protocol": "TCP", "port": 5432}]);
        self.put_object(name, &json!({"addressType": "IPv4", "endpoints": endpoints, "ports": ports}));
    }

    /// The same of any slice of that service.
    pub fn put_object(&self, name: &str, slice: &Value) {
        self.state.send_modify(|state| {
            state.version += 1;
            let kind = if state.slices.contains_key(name) { "MODIFIED" } else { "ADDED" };
            let mut slice = slice.clone();
            slice["apiVersion"] = json!("discovery.k8s.io/v1");
            slice["kind"] = json!("EndpointSlice");
            slice["metadata"] = json!({"name": name, "namespace": "shop", "uid": name, "generation": 1,
                "labels": {"kubernetes.io/service-name": "db"}, "resourceVersion": state.version.to_string()});
            state.slices.insert(name.to_string(), slice.clone());
            state.changes.push((state.version, kind, slice));
        });
    }

    /// Takes a slice away.
    pub fn delete(&self, name: &str) {
        self.state.send_modify(|state| {
            state.version += 1;
            let mut slice = state.slices.remove(name).unwrap();
            slice["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.changes.push((state.version, "DELETED", slice));
        });
    }

    /// Something else changes in the cluster, and all that was before is forgotten.
    pub fn compact(&self) {
        self.state.send_modify(|state| {
            state.version += 10;
            state.compacted = state.version;
            state.changes.clear();
        });
    }

    /// Takes only that token from now on.
    pub fn take_token(&self, token: &str) {
        self.state.send_modify(|state| state.token = Some(token.to_string()));
    }

    /// Has no more than so many slices per page.
    pub fn page(&self, slices: usize) {
        self.state.send_modify(|state| state.page_max = slices);
    }

    /// Goes wrong, once.
    pub fn fault(&self, fault: ApiFault) {
        self.state.send_modify(|state| state.fault = Some(fault));
    }

    /// Whether what was to go wrong has.
    pub fn has_failed(&self) -> bool {
        self.state.borrow().fault.is_none()
    }
}

/// A server that is stopped.
pub struct Down {
    address: SocketAddr,
    state: watch::Sender<ApiState>,
}

impl Down {
    /// Serves again, at the same address.
    pub fn start(self) -> ApiServer {
        ApiServer::at(self.address, self.state)
    }
}

/// Writes a Status, as every error is.
fn refuse(to: &mut dyn Wire, code: u16, reason: &str, headers: &[&str]) {
    let status = status(code, reason);
    reply(to, &format!("{code} {reason}"), headers, &status.to_string());
}

/// A Status.
fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": format!("{reason}!"),
        "reason": reason, "code": code})
}

/// Takes the fault that is next, if it is one of these.
fn take_fault(state: &watch::Sender<ApiState>, is_one: impl Fn(ApiFault) -> bool) -> Option<ApiFault> {
    let mut taken = None;
    state.send_if_modified(|state| {
        taken = state.fault.take_if(|fault| is_one(*fault));
        taken.is_some()
    });
    taken
}

/// Answers a request.
fn serve(request: &StubRequest, to: &mut dyn Wire, state: &watch::Sender<ApiState>) {
    let token = state.borrow().token.clone();
    if token.is_some_and(|token| request.header("authorization") != Some(&format!("Bearer {token}"))) {
        return refuse(to, 401, "Unauthorized", &[]);
    }
    match take_fault(state, |fault| matches!(fault, ApiFault::Status(_) | ApiFault::Busy)) {
        Some(ApiFault::Status(code)) => return refuse(to, code, if code == 410 { "Expired" } else { "Broken" }, &[]),
        Some(_) => return refuse(to, 429, "TooManyRequests", &["Retry-After: 1"]),
        None => {}
    }
    let path = request.path.split('?').next().unwrap_or_default();
    let selector = request.query("labelSelector").map(|text| text.replace("%2F", "/").replace("%3D", "="));
    let is_ours = path == "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices" && request.method == "GET";
    if !is_ours {
        return refuse(to, 404, "NotFound", &[]);
    }
    assert_eq!(selector.as_deref(), Some("kubernetes.io/service-name=db"), "{}", request.path);
    let is_true = |name: &str| request.query(name).is_some_and(|value| matches!(value, "1" | "true" | "True"));
    match is_true("watch") {
        true => watch_on(request, to, state, is_true("allowWatchBookmarks")),
        false => list(request, to, &state.borrow().clone()),
    }
}

/// Answers with a page of the list.
fn list(request: &StubRequest, to: &mut dyn Wire, state: &ApiState) {
    let (version, after) = match request.query("continue").filter(|text| !text.is_empty()) {
        Some(text) => {
            let (version, after) = text.split_once("..").unwrap();
            (version.parse().unwrap(), after)
        }
        None => (state.version, ""),
    };
    if version < state.compacted {
        return refuse(to, 410, "Expired", &[]);
    }
    let asked: usize = request.query("limit").map_or(usize::MAX, |text| text.parse().unwrap());
    let limit = asked.min(state.page_max);
    let mut items: Vec<&Value> =
        state.slices.iter().filter(|(name, _)| name.as_str() > after).map(|(_, slice)| slice).take(limit + 1).collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if items.len() > limit {
        items.truncate(limit);
        let last = items[limit - 1]["metadata"]["name"].as_str().unwrap();
        metadata["continue"] = json!(format!("{version}..{last}"));
    }
    let list = json!({"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata,
        "items": items});
    reply(to, "200 OK", &["Content-Type: application/json"], &list.to_string());
}

/// Sends changes as they come, until the time is over or the client leaves.
fn watch_on(request: &StubRequest, to: &mut dyn Wire, state: &watch::Sender<ApiState>, has_bookmarks: bool) {
    let mut seen: u64 = request.query("resourceVersion").map_or(0, |text| text.parse().unwrap());
    let lasts_s: u64 = request.query("timeoutSeconds").map_or(60, |text| text.parse().unwrap());
    let looks = Duration::from_secs(lasts_s).as_millis() / LOOK_EVERY.as_millis();
    let bookmark_looks = BOOKMARK_EVERY.as_millis() / LOOK_EVERY.as_millis();
    begin_chunks(to);
    let line = |kind: &str, object: &Value| format!("{}\n", json!({"type": kind, "object": object}));
    if take_fault(state, |fault| fault == ApiFault::Garbage).is_some() {
        let _ = chunk(to, "garbage\n").and_then(|()| chunk(to, ""));
        return;
    }
    let is_gone = take_fault(state, |fault| fault == ApiFault::GoneEvent).is_some();
    if is_gone || seen < state.borrow().compacted {
        let _ = chunk(to, &line("ERROR", &status(410, "Expired"))).and_then(|()| chunk(to, ""));
        return;
    }
    for look in 1..=looks {
        if request.is_over() {
            return;
        }
        let now = state.borrow().clone();
        let from = seen;
        for (version, kind, slice) in now.changes.iter().filter(|(version, ..)| *version > from) {
            let text = line(kind, slice);
            if take_fault(state, |fault| fault == ApiFault::CutLine).is_some() {
                let _ = chunk(to, &text[..text.len() / 2]);
                return;
            }
            if chunk(to, &text).is_err() {
                return;
            }
            seen = *version;
        }
        let is_due = has_bookmarks && look % bookmark_looks == 0;
        if is_due && now.version == state.borrow().version {
            seen = now.version;
            let object = json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "endpoints": [],
                "addressType": "", "metadata": {"resourceVersion": seen.to_string(), "creationTimestamp": null}});
            if chunk(to, &line("BOOKMARK", &object)).is_err() {
                return;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let _ = chunk(to, "");
}
