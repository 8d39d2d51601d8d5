//! Waking each other over Redis: publish and subscribe, and the only thing ever said is "look".
//!
//! Nothing rests on it. Messages may be lost, doubled or forged: a gateway that hears one looks at the database a little
//! earlier than it would have. So every failure here is met by waiting a little and trying again.

use crate::app::App;
use crate::error::{Error, Result};
use crate::secrets::Secrets;
use futures::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

/// For a connection, or for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so much silence the listening connection is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Where to say it.
#[derive(Debug, Clone)]
struct Channel {
    client: Client,
    name: String,
}

/// Asks the server once whether it lives: where it is, and why it does not answer. Neither holds a password.
pub(super) async fn look_once(url: &str) -> (String, Option<String>) {
    let client = match Client::open(url) {
        Ok(client) => client,
        Err(error) => return ("redis.url".into(), Some(error.to_string())),
    };
    let place = client.get_connection_info().addr().to_string();
    let asked = async {
        let settings =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let mut connection = answered(client.get_multiplexed_async_connection_with_config(&settings)).await?;
        answered(redis::cmd("PING").exec_async(&mut connection)).await
    };
    let wrong = asked.await.err();
    (place, wrong.map(|error| error.cause().map_or_else(|| error.message.clone(), ToString::to_string)))
}

/// Listens and tells until the gateway stops; without `redis.url` there is nobody to listen to.
pub(super) fn spawn(app: &Arc<App>, tasks: &TaskTracker) {
    let Some(url) = &app.config.redis.url else { return };
    let client = match Client::open(url.as_str()) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "redis.url can't be used; changes are polled for"),
    };
    let channel = Channel { client, name: name(&app.secrets) };
    let until_stopped = |task: futures::future::BoxFuture<'static, ()>| {
        let app = Arc::clone(app);
        async move {
            app.stopping.run_until_cancelled(task).await;
        }
    };
    tasks.spawn(until_stopped(Box::pin(listen(Arc::clone(app), channel.clone()))));
    tasks.spawn(until_stopped(Box::pin(tell(Arc::clone(app), channel))));
}

/// One channel per installation, so that several can share a server: named after its oldest master key, of which the name
/// tells nothing. Gateways of which some have dropped that key don't hear each other, and poll.
fn name(secrets: &Secrets) -> String {
    let oldest = secrets.audit_keys().into_iter().min_by_key(|(version, _)| *version);
    let key = oldest.map(|(_, key)| key).unwrap_or_default();
    let installation = blake3::derive_key("caprock name of an installation v1", &key);
    format!("caprock:changes:{}", hex::encode(&installation[..8]))
}

async fn listen(app: Arc<App>, channel: Channel) {
    let mut pause = FIRST_PAUSE;
    let mut link = Link::new("listening for changes on Redis", "not listening on Redis; changes are polled for");
    loop {
        let ended = listen_once(&app, &channel, || {
            link.is_up();
            pause = FIRST_PAUSE;
        });
        if let Err(error) = ended.await {
            link.is_down(&error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Listens until the connection breaks, or does not answer any more.
async fn listen_once(app: &App, channel: &Channel, subscribed: impl FnOnce()) -> Result<()> {
    let mut connection = answered(channel.client.get_async_pubsub()).await?;
    answered(connection.subscribe(&channel.name)).await?;
    subscribed();
    // Whatever was said before now was not heard.
    app.changes.look();
    let (mut sink, mut messages) = connection.split();
    loop {
        match timeout(SILENCE, messages.next()).await {
            Ok(Some(_)) => {
                app.changes.metrics.nudges.inc();
                app.changes.look();
            }
            Ok(None) => return Err(Error::internal(Silent)),
            Err(_) => answered(sink.ping::<redis::Value>()).await.map(drop)?,
        }
    }
}

async fn tell(app: Arc<App>, channel: Channel) {
    let mut link = Link::new("telling changes on Redis", "not telling on Redis; other gateways poll");
    let mut connection = None;
    loop {
        app.changes.tell.notified().await;
        match tell_once(&channel, connection.take()).await {
            Ok(used) => {
                link.is_up();
                connection = Some(used);
            }
            Err(error) => link.is_down(&error),
        }
    }
}

async fn tell_once(channel: &Channel, kept: Option<MultiplexedConnection>) -> Result<MultiplexedConnection> {
    if let Some(mut connection) = kept
        && publish(&mut connection, channel).await.is_ok()
    {
        return Ok(connection);
    }
    let settings =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let mut connection = answered(channel.client.get_multiplexed_async_connection_with_config(&settings)).await?;
    publish(&mut connection, channel).await?;
    Ok(connection)
}

async fn publish(connection: &mut MultiplexedConnection, channel: &Channel) -> Result<()> {
    let mut command = redis::cmd("PUBLISH");
    command.arg(&channel.name).arg("look");
    answered(command.exec_async(connection)).await
}

async fn answered<T>(asked: impl Future<Output = redis::RedisResult<T>>) -> Result<T> {
    match timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(Error::internal),
        Err(elapsed) => Err(Error::internal(elapsed)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection ended")]
struct Silent;

/// Says once that something works, and once that it does not.
struct Link {
    up: Option<bool>,
    when_up: &'static str,
    when_down: &'static str,
}

impl Link {
    fn new(when_up: &'static str, when_down: &'static str) -> Link {
        Link { up: None, when_up, when_down }
    }

    fn is_up(&mut self) {
        if self.up.replace(true) != Some(true) {
            tracing::info!("{}", self.when_up);
        }
    }

    fn is_down(&mut self, error: &Error) {
        if self.up.replace(false) != Some(false) {
            tracing::warn!(cause = error.cause().map(tracing::field::display), "{}", self.when_down);
        }
    }
}
