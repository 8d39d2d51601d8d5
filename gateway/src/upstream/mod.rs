//! What answers inference: today the bundled clusters, by name.

pub mod cluster;
mod metrics;

pub use cluster::{Attempt, Cluster, Failure, Frame, Job, Placement, Room, Text, TokenStream, Told, WorkerStatus};
pub use metrics::Metrics;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::secrets::Secrets;
use cluster::Peer;
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Every upstream by its name.
#[derive(Debug)]
pub struct Upstreams {
    clusters: Vec<Arc<Cluster>>,
}

impl Upstreams {
    /// One [`Cluster`] per configured cluster. Nothing is connected before [`Upstreams::watch`].
    pub fn new(config: &Config, secrets: &Secrets, metrics: &Metrics) -> Upstreams {
        let peer = Peer {
            gateway_id: config.gateway.id.clone(),
            secret: secrets.cluster.clone(),
            deadlines: cluster::Deadlines::default(),
        };
        let clusters = config.cluster.iter();
        let clusters = clusters.map(|cluster| Arc::new(Cluster::new(cluster, peer.clone(), metrics.clone()))).collect();
        Upstreams { clusters }
    }

    /// Starts the probes, without which no worker is ever healthy; they end when `stopping` is cancelled.
    pub fn watch(&self, tasks: &TaskTracker, stopping: &CancellationToken) {
        for cluster in &self.clusters {
            cluster.watch(tasks, stopping);
        }
    }

    /// Asks every worker once, without [`Upstreams::watch`]: its state, and what is wrong with it.
    pub async fn look_once(&self) -> Vec<(WorkerStatus, Option<String>)> {
        let looks = self.clusters.iter().map(|cluster| cluster.look_once());
        futures::future::join_all(looks).await.into_iter().flatten().collect()
    }

    /// Whether any cluster could answer now: with one of several down, the others' models are still served.
    pub fn ready(&self) -> bool {
        self.clusters.iter().any(|cluster| cluster.is_ready())
    }

    /// A cluster by its name in the configuration.
    ///
    /// # Errors
    /// `ModelNotServed`
    pub fn cluster(&self, name: &str) -> Result<&Arc<Cluster>> {
        self.clusters
            .iter()
            .find(|cluster| cluster.name() == name)
            .ok_or_else(|| Error::new(ErrorKind::ModelNotServed, "No upstream serves this model on this installation."))
    }

    /// The cluster whose workers run `model`, a catalog id.
    pub fn cluster_of(&self, model: &str) -> Option<&Arc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.model() == model)
    }

    /// Every worker of every cluster.
    pub fn status(&self) -> Vec<WorkerStatus> {
        self.clusters.iter().flat_map(|cluster| cluster.status()).collect()
    }
}
