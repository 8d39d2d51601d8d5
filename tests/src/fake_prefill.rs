//! A prefill worker that holds the cluster's secret and says whatever a test wants.

use cluster_protocol::{ClusterSecret, Codec, Hello, Message, Prefill, Welcome, WorkerInfo};
use futures::{SinkExt, StreamExt};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::codec::Framed;

/// From a request to everything that is sent for it.
pub type Script = Arc<dyn Fn(&Prefill) -> Vec<Message> + Send + Sync>;

/// A running fake. Dropping it closes its listener.
pub struct FakePrefill {
    address: String,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<u32>>,
    accepting: JoinHandle<()>,
}

impl FakePrefill {
    /// Listens on a free port; introduces itself as `info`.
    pub async fn start(secret: ClusterSecret, info: WorkerInfo) -> FakePrefill {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        FakePrefill::on(listener, secret, info)
    }

    /// On a listener whose address is known already to a decode worker.
    pub fn on(listener: TcpListener, secret: ClusterSecret, info: WorkerInfo) -> FakePrefill {
        let address = listener.local_addr().unwrap().to_string();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Arc::new(|_| Vec::new())));
        let asked = Arc::new(Mutex::new(0));
        let (shared_script, shared_asked) = (Arc::clone(&script), Arc::clone(&asked));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (secret, info) = (secret.clone(), info.clone());
                let (script, asked) = (Arc::clone(&shared_script), Arc::clone(&shared_asked));
                tokio::spawn(async move {
                    let _ = serve(stream, &secret, info, &script, &asked).await; // a decode that hangs up is expected
                });
            }
        });
        FakePrefill { address, script, asked, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it says from now on.
    pub fn says(&self, script: impl Fn(&Prefill) -> Vec<Message> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// How many requests it got.
    pub fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

impl Drop for FakePrefill {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    stream: TcpStream,
    secret: &ClusterSecret,
    info: WorkerInfo,
    script: &Mutex<Script>,
    asked: &Mutex<u32>,
) -> Option<()> {
    let mut framed = Framed::new(stream, Codec::default());
    let Message::Hello(hello) = framed.next().await?.ok()? else { return None };
    let (welcome, session) = Welcome::new(secret, &Hello { ..hello }, info);
    framed.send(Message::Welcome(Box::new(welcome))).await.ok()?;
    let Message::Proof(proof) = framed.next().await?.ok()? else { return None };
    if !session.accepts_client(&proof.proof) {
        return None;
    }
    framed.codec_mut().secure_server(&session);
    while let Message::Prefill(prefill) = framed.next().await?.ok()? {
        *asked.lock().unwrap() += 1;
        let current = Arc::clone(&script.lock().unwrap());
        for message in current(&prefill) {
            framed.send(message).await.ok()?;
        }
    }
    None
}
