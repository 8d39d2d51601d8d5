//! A proxy between two programs that can change the bytes on their way: by position in one direction of a connection. It
//! can also go silent, as a network does that loses everything: connections stay open and nothing passes.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What to do to the bytes from server to client, counted from the start of each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Flip bits of one byte.
    Flip {
        /// Which byte.
        offset: usize,
        /// Which bits.
        mask: u8,
    },
    /// Close both directions before this byte.
    Cut {
        /// Which byte.
        offset: usize,
    },
    /// From this byte on, send these instead of what the server sends.
    Replace {
        /// Which byte.
        offset: usize,
        /// What is sent.
        bytes: Vec<u8>,
    },
}

/// A running proxy. Dropping it closes its listener and every connection through it.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    state: Arc<Mutex<State>>,
    silent: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    /// Bytes from server to client of each connection, as the server sent them.
    recordings: Vec<Vec<u8>>,
    /// Ends open connections when it is dropped.
    running: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port and passes on to `server`.
    pub async fn start(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { fault: Fault::None, recordings: Vec::new(), running: Vec::new() }));
        let silent = watch::Sender::new(false);
        let accepting = tokio::spawn(accept(listener, server.to_owned(), Arc::clone(&state), silent.subscribe()));
        Proxy { address, state, silent, accepting }
    }

    /// From now on nothing passes, on open connections and on new ones, and nobody is told.
    pub fn silence(&self) {
        self.silent.send_replace(true);
    }

    /// Bytes pass again, those that were held back first.
    pub fn restore(&self) {
        self.silent.send_replace(false);
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sets what happens on connections from now on, and closes those that are open.
    pub fn set(&self, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        state.running.drain(..).for_each(|task| task.abort());
        state.recordings.clear();
        state.fault = fault;
    }

    /// What the server sent on each connection since the last [`Proxy::set`].
    pub fn recordings(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().recordings.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Ok(mut state) = self.state.lock() {
            state.running.drain(..).for_each(|task| task.abort());
        }
    }
}

async fn accept(listener: TcpListener, server: String, state: Arc<Mutex<State>>, silent: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        let server = server.clone();
        let (shared, silent) = (Arc::clone(&state), silent.clone());
        let mut locked = state.lock().unwrap();
        let (fault, index) = (locked.fault.clone(), locked.recordings.len());
        locked.recordings.push(Vec::new());
        locked.running.push(tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            // The first direction that ends closes both.
            tokio::select! {
                () = upwards(from_client, to_server, silent.clone()) => {}
                () = downwards((from_server, to_client), fault, shared, index, silent) => {}
            }
        }));
    }
}

/// Either end may leave at any time; while nothing passes nobody learns of that either.
async fn upwards(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut silent: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        let _ = silent.wait_for(|silent| !silent).await;
        let Ok(length @ 1..) = read else { return };
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn downwards(
    (mut from, mut to): (OwnedReadHalf, OwnedWriteHalf),
    fault: Fault,
    state: Arc<Mutex<State>>,
    index: usize,
    mut silent: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut sent = 0;
    loop {
        let read = from.read(&mut buffer).await;
        let _ = silent.wait_for(|silent| !silent).await;
        let Ok(length @ 1..) = read else { return };
        let piece = &mut buffer[..length];
        if let Some(recording) = state.lock().unwrap().recordings.get_mut(index) {
            recording.extend_from_slice(piece);
        }
        let within = |offset: usize| (sent..sent + length).contains(&offset);
        match &fault {
            Fault::Flip { offset, mask } if within(*offset) => piece[offset - sent] ^= mask,
            Fault::Cut { offset } if within(*offset) => {
                let _ = to.write_all(&piece[..offset - sent]).await;
                return;
            }
            Fault::Replace { offset, bytes } if within(*offset) => {
                let _ = to.write_all(&piece[..offset - sent]).await;
                let _ = to.write_all(bytes).await;
                // Hold the connection: a replay is not a truncation.
                while let Ok(1..) = from.read(&mut buffer).await {}
                return;
            }
            Fault::None | Fault::Flip { .. } | Fault::Cut { .. } | Fault::Replace { .. } => {}
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
        sent += length;
    }
}
