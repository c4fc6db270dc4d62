//! The baseline: a relay on tokio-uring's own sockets. It shows what driving the ring directly is worth.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};

/// Relays each connection to `listen` to `backend`, with one buffer of `buffer_size` bytes per direction.
pub fn serve(listen: SocketAddr, backend: SocketAddr, buffer_size: usize) -> io::Result<()> {
    tokio_uring::builder().entries(4096).start(async move {
        let listener = TcpListener::bind(listen)?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio_uring::spawn(session(client, backend, buffer_size));
        }
    })
}

async fn session(client: TcpStream, backend: SocketAddr, buffer_size: usize) {
    let Ok(server) = TcpStream::connect(backend).await else { return };
    let (client, server) = (Rc::new(client), Rc::new(server));
    let up = tokio_uring::spawn(half(Rc::clone(&client), Rc::clone(&server), buffer_size));
    let _ = half(server, client, buffer_size).await;
    let _ = up.await;
}

/// Moves bytes one way until the stream ends, then passes the end on.
async fn half(from: Rc<TcpStream>, to: Rc<TcpStream>, buffer_size: usize) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(buffer_size);
    loop {
        buffer.clear();
        let (read, filled) = from.read(buffer).await;
        let count = read?;
        if count == 0 {
            return to.shutdown(std::net::Shutdown::Write);
        }
        let (written, slice) = to.write_all(filled.slice(..count)).await;
        written?;
        buffer = slice.into_inner();
    }
}
