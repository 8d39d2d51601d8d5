//! The only shared state. Nothing is global, so two gateways fit in one test.

use crate::admin::places::Places;
use crate::audit::Anchor;
use crate::auth::jwt::Issuers;
use crate::auth::{Credentials, Uses};
use crate::catalog::Live;
use crate::changes::Feed;
use crate::clock::Clock;
use crate::config::Config;
use crate::inference;
use crate::quota::Limiter;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::upstream::Upstreams;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Built once by `run`.
#[derive(Debug)]
pub struct App {
    /// Static settings.
    pub config: Config,
    /// Secrets of the installation.
    pub secrets: Secrets,
    /// The database.
    pub store: Store,
    /// What administrators changed.
    pub changes: Feed,
    /// Credentials in use.
    pub credentials: Credentials,
    /// Trusted issuers of machines' tokens.
    pub issuers: Issuers,
    /// When they were last used.
    pub uses: Uses,
    /// What was seen of the audit log.
    pub anchor: Anchor,
    /// Models and prices, swapped whole.
    pub catalog: Live,
    /// Limits.
    pub limiter: Limiter,
    /// What answers.
    pub upstreams: Upstreams,
    /// Requests in work.
    pub inference: inference::State,
    /// Wall-clock time.
    pub clock: Clock,
    /// Every task that outlives a connection; shutdown waits for them.
    pub tasks: TaskTracker,
    /// Set at SIGTERM: readiness turns red and nothing new is accepted.
    pub draining: CancellationToken,
    /// Set when the grace is over: running requests end properly now.
    pub stopping: CancellationToken,
    /// Tenants' shares of the admin API.
    pub admin_places: Places,
    /// Counters and histograms.
    pub metrics: Metrics,
}
