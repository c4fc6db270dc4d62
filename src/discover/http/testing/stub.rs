//! A server of HTTP for tests: each connection is one request, which a function of the test answers.
//!
//! It names nothing of ringway, so that tests of the whole program use the same file.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server that hangs for longer fails its test.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client has asked.
#[derive(Clone, Debug)]
pub(crate) struct StubRequest {
    /// `GET`
    pub method: String,
    /// Path and query.
    pub path: String,
    /// As it came, a line each.
    pub headers: Vec<(String, String)>,
    /// What followed.
    pub body: Vec<u8>,
    /// The server is to stop.
    is_over: Arc<AtomicBool>,
}

impl StubRequest {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// Whether the server is to stop: one that holds its answer back must look at this.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// A value of the query, as it was written.
    pub fn query(&self, name: &str) -> Option<&str> {
        let query = self.path.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// A connection, in the clear or not.
pub(crate) trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

/// A server that is stopped, with all of its connections, when it is dropped.
pub(crate) struct Stub {
    address: SocketAddr,
    is_tls: bool,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    /// Listens on 127.0.0.1. `serve` gets each request, in a thread of its own, and writes the reply; the connection
    /// closes when it returns.
    pub fn start(serve: impl Fn(&StubRequest, &mut dyn Wire) + Send + Sync + 'static) -> Stub {
        Stub::listen("127.0.0.1:0".parse().unwrap(), None, serve)
    }

    /// The same with TLS.
    pub fn start_tls(
        config: ServerConfig,
        serve: impl Fn(&StubRequest, &mut dyn Wire) + Send + Sync + 'static,
    ) -> Stub {
        Stub::listen("127.0.0.1:0".parse().unwrap(), Some(Arc::new(config)), serve)
    }

    /// The same at an address that is known, which one stopped before has left.
    pub fn listen(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        serve: impl Fn(&StubRequest, &mut dyn Wire) + Send + Sync + 'static,
    ) -> Stub {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (is_over, is_tls) = (Arc::new(AtomicBool::new(false)), tls.is_some());
        let (over, serve) = (is_over.clone(), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            let mut all: Vec<(TcpStream, JoinHandle<()>)> = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                let (serve, tls, copy) = (serve.clone(), tls.clone(), stream.try_clone().unwrap());
                let (closing, is_over) = (stream.try_clone().unwrap(), over.clone());
                let served = std::thread::spawn(move || {
                    // A client that leaves early is no fault.
                    let _ = converse(stream, tls, is_over, &*serve);
                    let _ = closing.shutdown(Shutdown::Both);
                });
                all.retain(|(_, thread)| !thread.is_finished());
                all.push((copy, served));
            }
            for (stream, thread) in all {
                let _ = stream.shutdown(Shutdown::Both);
                let _ = thread.join();
            }
        });
        Stub { address, is_tls, is_over, thread: Some(thread) }
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads one request and has it answered.
fn converse(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    is_over: Arc<AtomicBool>,
    serve: &(impl Fn(&StubRequest, &mut dyn Wire) + ?Sized),
) -> io::Result<()> {
    match tls {
        None => {
            let mut stream = stream;
            let request = request(&mut BufReader::new(&mut stream), is_over)?;
            serve(&request, &mut stream);
        }
        Some(config) => {
            let tls = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(tls, stream);
            let request = request(&mut BufReader::new(&mut stream), is_over)?;
            serve(&request, &mut stream);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }
    Ok(())
}

/// Reads a request.
fn request(stream: &mut impl BufRead, is_over: Arc<AtomicBool>) -> io::Result<StubRequest> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_string);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::Error::other("no request"));
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_string()));
    }
    let mut request = StubRequest { method, path, headers, body: Vec::new(), is_over };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    stream.take(length).read_to_end(&mut request.body)?;
    Ok(request)
}

/// Writes a whole reply. `headers` are lines without their ends.
pub(crate) fn reply(to: &mut dyn Wire, status: &str, headers: &[&str], body: &str) {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let text = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
    // A client that leaves early is no fault.
    let _ = to.write_all(text.as_bytes());
    let _ = to.flush();
}

/// Begins a reply whose body comes in chunks.
pub(crate) fn begin_chunks(to: &mut dyn Wire) {
    let _ = to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
    let _ = to.flush();
}

/// Sends one more chunk of it; an empty one ends the body.
pub(crate) fn chunk(to: &mut dyn Wire, text: &str) -> io::Result<()> {
    to.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())?;
    to.flush()
}
