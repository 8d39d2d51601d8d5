//! The whole program: from a configuration and bound sockets to a drained end.

use crate::accept::{Door, Ending, Limits, accept};
use crate::admin::idempotency;
use crate::admin::places::Places;
use crate::app::App;
use crate::audit::Anchor;
use crate::auth::jwt::Issuers;
use crate::auth::{self, Credentials, Uses};
use crate::catalog::{self, Live, Snapshot};
use crate::changes::{self, Feed};
use crate::clock::Clock;
use crate::config::{Config, Listen};
use crate::error::{Error, ErrorKind, Result};
use crate::quota::Limiter;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::upstream::Upstreams;
use crate::{inference, router, tls};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections that the kernel holds while all slots are taken.
const BACKLOG: u32 = 1024;
/// For running requests to end, settle and be told, after they were asked to.
const SETTLE_GRACE: Duration = Duration::from_secs(5);
/// For the database to close.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Bound sockets. A test binds port 0 and reads the addresses before it runs the program.
#[derive(Debug)]
pub struct Listeners {
    /// HTTP/1.1 and h2c.
    pub data: TcpListener,
    /// The same over TLS; `None` turns it off.
    pub tls: Option<TcpListener>,
    /// Operators.
    pub admin: TcpListener,
}

/// Where the sockets are bound.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// HTTP/1.1 and h2c.
    pub data: SocketAddr,
    /// The same over TLS.
    pub tls: Option<SocketAddr>,
    /// Operators.
    pub admin: SocketAddr,
}

/// How to end the program from outside.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// First: take nothing new, let what runs go on for the configured grace.
    pub drain: CancellationToken,
    /// Then, or at once: no more grace.
    pub hurry: CancellationToken,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// Says which address can't be bound.
    pub fn bind(listen: &Listen) -> io::Result<Listeners> {
        Ok(Listeners { data: bind(listen.data)?, tls: listen.tls.map(bind).transpose()?, admin: bind(listen.admin)? })
    }

    /// With the ports that were chosen for port 0.
    ///
    /// # Errors
    /// When a socket has none.
    pub fn addresses(&self) -> io::Result<Addresses> {
        Ok(Addresses {
            data: self.data.local_addr()?,
            tls: self.tls.as_ref().map(TcpListener::local_addr).transpose()?,
            admin: self.admin.local_addr()?,
        })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}"));
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(named)?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true).map_err(named)?;
    socket.bind(address).map_err(named)?;
    socket.listen(BACKLOG).map_err(named)
}

/// Runs until `shutdown`, then drains: no new connections, running replies go on for `shutdown_grace_ms`, then running
/// requests end properly and settle. Cancelling it drops all connections and settles nothing; the next start does.
///
/// # Errors
/// `Conflict` for a schema that isn't this program's or a database in use; `Invalid` for secrets, catalog or TLS files
/// that can't be used; `Internal`.
pub async fn run(config: Config, listeners: Listeners, shutdown: Shutdown) -> Result<()> {
    let store = Store::connect(&config).await?;
    store.schema_is_current().await?;
    let alone = store.lock_exclusive(&config.gateway.id).await?;
    let app = build(config, store)?;
    inference::recover::restore_limits(&app).await?;
    // Before anything is remembered: what changes from here on is seen.
    let follower = app.changes.begin(app.store.follower()).await?;
    app.catalog.reload(&app.store, &app.config).await?;
    let ending =
        Ending { draining: app.draining.clone(), abort: CancellationToken::new(), connections: TaskTracker::new() };
    let doors = doors(&app, listeners)?;

    let background = TaskTracker::new();
    app.upstreams.watch(&background, &app.stopping);
    catalog::follow(&app, &background);
    changes::spawn(&app, follower, &background);
    app.issuers.watch(&background, &app.stopping);
    background.spawn(auth::uses::write_regularly(Arc::clone(&app)));
    inference::recover::spawn(&app);
    background.spawn(keep_anchor(Arc::clone(&app)));
    background.spawn(idempotency::forget_old(Arc::clone(&app)));
    background.spawn(inference::once::forget_old(Arc::clone(&app)));
    for door in doors {
        background.spawn(accept(door, app.metrics.edge.clone(), ending.clone()));
    }

    tokio::select! {
        () = shutdown.drain.cancelled() => {}
        // Whoever has it now settles what is open under our id: better to end than to share.
        () = alone.lost() => {}
    }
    drain(&app, &ending, &background, &shutdown).await;
    Ok(())
}

async fn keep_anchor(app: Arc<App>) {
    app.anchor.keep(&app.store, &app.stopping).await;
}

pub(crate) fn build(config: Config, store: Store) -> Result<Arc<App>> {
    let secrets = Secrets::load(&config.gateway.state_dir, &config.secrets)?;
    assemble(config, secrets, store)
}

/// All of a gateway's state; nothing runs yet.
pub(crate) fn assemble(config: Config, secrets: Secrets, store: Store) -> Result<Arc<App>> {
    let clock = Clock::System;
    let metrics = Metrics::default();
    Ok(Arc::new(App {
        changes: Feed::new(&config.changes, &metrics.changes),
        credentials: Credentials::new(Duration::from_millis(config.changes.lease_ms), &metrics.credentials),
        issuers: Issuers::new(&config.jwt_issuer)?,
        uses: Uses::new(&metrics.uses),
        anchor: Anchor::load(&config.gateway.state_dir, metrics.audit.clone())?,
        catalog: Live::new(Snapshot::load(&config)?),
        limiter: Limiter::local(clock.clone()),
        upstreams: Upstreams::new(&config, &secrets, &metrics.upstream),
        inference: inference::State::new(&config),
        admin_places: Places::new(config.admin.max_requests),
        tasks: TaskTracker::new(),
        draining: CancellationToken::new(),
        stopping: CancellationToken::new(),
        config,
        secrets,
        store,
        clock,
        metrics,
    }))
}

fn doors(app: &Arc<App>, listeners: Listeners) -> Result<Vec<Door>> {
    let addresses = listeners.addresses().map_err(Error::internal)?;
    let limits = Limits {
        http: app.config.http.clone(),
        write_stall: Duration::from_millis(app.config.gateway.reader_stall_ms),
    };
    let (data, operators) = (router::data(app), router::operators(app));
    let plain = |name, listener, router| Door { name, listener, tls: None, router, limits: limits.clone() };
    let mut doors = Vec::with_capacity(3);
    if let Some(listener) = listeners.tls {
        let tls = tls::acceptor(&app.config).map_err(|text| Error::new(ErrorKind::Invalid, text))?;
        doors.push(Door { tls: Some(tls), ..plain("tls", listener, data.clone()) });
    }
    doors.push(plain("data", listeners.data, data));
    doors.push(plain("admin", listeners.admin, operators));
    let tls = addresses.tls.map(tracing::field::display);
    tracing::info!(data = %addresses.data, tls, admin = %addresses.admin, "listening");
    Ok(doors)
}

/// Three stages, each bounded: replies end by themselves; requests are ended and settle; what is left is dropped.
async fn drain(app: &Arc<App>, ending: &Ending, background: &TaskTracker, shutdown: &Shutdown) {
    tracing::info!("draining");
    app.draining.cancel();
    app.tasks.close();
    ending.connections.close();
    let by_themselves = async {
        ending.connections.wait().await;
        // A caller may be gone while its request still settles.
        app.tasks.wait().await;
    };
    let grace = Duration::from_millis(app.config.gateway.shutdown_grace_ms);
    tokio::select! {
        _ = timeout(grace, by_themselves) => {}
        () = shutdown.hurry.cancelled() => {}
    }

    tracing::info!("stopping");
    app.stopping.cancel();
    background.close();
    let ended = async {
        app.tasks.wait().await;
        ending.connections.wait().await;
        background.wait().await;
    };
    if timeout(SETTLE_GRACE, ended).await.is_err() {
        tracing::warn!(tasks = app.tasks.len(), connections = ending.connections.len(), "stopped before all had ended");
    }
    ending.abort.cancel();
    if timeout(CLOSE_GRACE, app.uses.flush(app)).await.is_err() {
        tracing::warn!("stopped before the last uses were written");
    }
    // Waits for settlements under way even when their tasks were given up.
    if timeout(CLOSE_GRACE, app.store.close()).await.is_err() {
        tracing::warn!("stopped before the database was closed");
    }
    tracing::info!("stopped");
}

#[cfg(test)]
mod tests;
