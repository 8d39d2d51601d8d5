//! Three replicas over one PostgreSQL and, if there is one, one Redis. The last of them reaches both only through proxies,
//! so that it can be cut off.

use crate::gateway::{Database, Gateway};
use crate::proxy::{Fault, Proxy};
use crate::wait::{SOON, until};
use crate::worker::{Engine, Worker, WorkerSpec};
use cluster_protocol::Role;
use tempfile::TempDir;

/// How a replica is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing passes and nobody is told, as when a network loses everything.
    Silence,
    /// Connections are closed, and new ones as soon as they are made.
    Close,
}

/// Running replicas. Fields drop in order: first who calls, then who is called, last the files.
#[derive(Debug)]
pub struct Replicas {
    /// Three; the last one is behind the proxies.
    pub gateways: Vec<Gateway>,
    /// The decode worker, `decode-1`.
    pub decode: Worker,
    /// The prefill worker, `prefill-1`.
    pub prefill: Worker,
    database: Proxy,
    redis: Option<Proxy>,
    /// State and logs.
    pub dir: TempDir,
}

impl Replicas {
    /// Starts all on `sim`, and waits until all is ready.
    pub async fn start(redis_url: Option<&str>, sim: &[&str]) -> Replicas {
        let dir = tempfile::Builder::new().prefix("caprock-test-").tempdir().unwrap();
        let first = Gateway::prepare(&folder(&dir, 1), Database::Postgres).await;
        let database = Proxy::start(server_of(first.store_url())).await;
        let redis = match redis_url {
            Some(url) => Some(Proxy::start(server_of(url)).await),
            None => None,
        };
        let behind = first.store_url().replace(server_of(first.store_url()), database.address());
        let second = first.replica(&folder(&dir, 2), "gateway-2", first.store_url());
        let third = first.replica(&folder(&dir, 3), "gateway-3", &behind);

        let (secret, engine) = (first.cluster_secret_file(), Engine::sim(sim));
        let mut prefill =
            Worker::start(WorkerSpec::new(Role::Prefill, "prefill-1", engine.clone()), &secret, dir.path());
        let decode = WorkerSpec::new(Role::Decode, "decode-1", engine).knows("prefill-1", prefill.address());
        let mut decode = Worker::start(decode, &secret, dir.path());
        prefill.ready().await;
        decode.ready().await;

        let mut gateways = vec![first, second, third];
        for (at, gateway) in gateways.iter_mut().enumerate() {
            let direct = redis_url.map(str::to_owned);
            let address =
                if at == 2 { redis.as_ref().map(|proxy| format!("redis://{}", proxy.address())) } else { direct };
            if let Some(url) = address {
                gateway.set(&format!("[redis]\nurl = '{url}'\n"));
            }
            let named = |worker: &Worker| (worker.id().to_owned(), worker.address().to_owned());
            gateway.write_config(&[named(&decode)], &[named(&prefill)], "");
            gateway.serve().await;
        }
        Replicas { gateways, decode, prefill, database, redis, dir }
    }

    /// Cuts the last replica off from the database and from Redis.
    pub fn cut(&self, how: Cut) {
        for proxy in [Some(&self.database), self.redis.as_ref()].into_iter().flatten() {
            match how {
                Cut::Silence => proxy.silence(),
                Cut::Close => proxy.set(Fault::Cut { offset: 0 }),
            }
        }
    }

    /// Undoes it, and waits until the replica is ready again.
    pub async fn heal(&self) {
        for proxy in [Some(&self.database), self.redis.as_ref()].into_iter().flatten() {
            proxy.restore();
            proxy.set(Fault::None);
        }
        let url = format!("{}/readyz", self.gateways[2].url());
        until("the replica that was cut off is ready again", SOON, async || {
            reqwest::get(&url).await.is_ok_and(|reply| reply.status() == 200).then_some(())
        })
        .await;
    }
}

fn folder(dir: &TempDir, number: u32) -> std::path::PathBuf {
    let folder = dir.path().join(format!("gateway-{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// `host:port` of an address.
fn server_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").expect("an address has a scheme");
    let rest = rest.split('/').next().unwrap_or(rest);
    rest.rsplit('@').next().unwrap_or(rest)
}
