//! Whom this installation calls, and who can call it: workers, issuers, the running gateway, the admin port.

use super::{Finding, causes};
use crate::auth::jwt::Issuers;
use crate::changes;
use crate::cli::client::root_cause;
use crate::config::Config;
use crate::https;
use crate::secrets::Secrets;
use crate::upstream::{Metrics, Upstreams, WorkerStatus};
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// For the running gateway to say how it is: it may be waiting for its database.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(5);
const MAX_READINESS_BYTES: usize = 64 << 10;

pub(super) fn exposure(config: &Config) -> Vec<Finding> {
    let address = config.listen.admin;
    vec![if address.ip().is_loopback() {
        Finding::ok("admin_listener", format!("{address}, for this machine only"))
    } else {
        Finding::warn(
            "admin_listener",
            format!("{address} is reached from other machines, and without TLS tokens cross the network as they are"),
            "Bind listen.admin to loopback, or let only a proxy with TLS, or a network that you trust, reach it.",
        )
    }]
}

pub(super) async fn workers(config: &Config) -> Vec<Finding> {
    if config.cluster.is_empty() {
        let hint = "Add a [[cluster]] to the configuration, or no model is answered.";
        return vec![Finding::warn("workers", "no cluster is configured", hint)];
    }
    let secrets = match Secrets::load(&config.gateway.state_dir, &config.secrets) {
        Ok(secrets) => secrets,
        Err(_) => return vec![Finding::fail("workers", "not asked", "The secrets come first: workers ask for one.")],
    };
    let upstreams = Upstreams::new(config, &secrets, &Metrics::default());
    upstreams.look_once().await.iter().map(|(status, wrong)| worker(status, wrong.as_deref())).collect()
}

fn worker(status: &WorkerStatus, wrong: Option<&str>) -> Finding {
    let WorkerStatus { cluster, worker, address, role, info, .. } = status;
    let named = format!("{cluster}/{worker} ({}) at {address}", role.as_str());
    match (wrong, info) {
        (Some(wrong), _) => Finding::fail(
            "workers",
            format!("{named}: {wrong}"),
            "See whether it runs, under this id and address, with the same cluster secret and model as the others.",
        ),
        (None, Some(info)) if info.role != *role => Finding::fail(
            "workers",
            format!("{named} says that it is a {} worker", info.role.as_str()),
            "Correct its role where it is started, or its place in [[cluster]].",
        ),
        (None, Some(info)) => Finding::ok(
            "workers",
            format!("{named}: engine {}, {} slots, {} running", info.engine, info.slots, info.load.running),
        ),
        (None, None) => Finding::ok("workers", named),
    }
}

pub(super) async fn issuers(config: &Config) -> Vec<Finding> {
    if config.jwt_issuer.is_empty() {
        return vec![Finding::ok("jwt_issuers", "none are trusted")];
    }
    let issuers = match Issuers::new(&config.jwt_issuer) {
        Ok(issuers) => issuers,
        Err(error) => return vec![Finding::fail("jwt_issuers", causes(error), "Correct [[jwt_issuer]].")],
    };
    let finding = |(issuer, seen): (String, Result<usize, String>)| match seen {
        Ok(0) => Finding::fail(
            "jwt_issuers",
            format!("{issuer} publishes no key that can be used"),
            "See whether jwks_url or jwks_file is the right one.",
        ),
        Ok(keys) => Finding::ok("jwt_issuers", format!("{issuer}: {keys} keys")),
        Err(why) => Finding::fail(
            "jwt_issuers",
            format!("{issuer}: {why}"),
            "Its tokens are refused until its keys can be read. Check jwks_url or jwks_file, ca_file and the network.",
        ),
    };
    issuers.look_once().await.into_iter().map(finding).collect()
}

pub(super) async fn redis(config: &Config) -> Vec<Finding> {
    let Some(url) = &config.redis.url else {
        return vec![Finding::ok("redis", "not configured: gateways look for changes by themselves")];
    };
    let (place, wrong) = changes::look_once(url).await;
    vec![match wrong {
        None => Finding::ok("redis", place),
        Some(wrong) => Finding::warn(
            "redis",
            format!("{place}: {wrong}; changes are polled for, and still take effect within a second"),
            "Check redis.url, and that the server runs and lets us in.",
        ),
    }]
}

pub(super) async fn gateway(config: &Config) -> Vec<Finding> {
    let address = reached_at(config.listen.admin);
    vec![match timeout(GATEWAY_PATIENCE, readiness(address)).await {
        Err(_) => Finding::fail(
            "gateway",
            format!("{address} does not answer within {} s", GATEWAY_PATIENCE.as_secs()),
            "See the gateway's log.",
        ),
        Ok(Err(why)) => Finding::warn(
            "gateway",
            format!("none runs here: {address}: {why}"),
            "Start it with `caprock serve`, or run doctor where it runs.",
        ),
        Ok(Ok(readiness)) => judge(address, &readiness),
    }]
}

fn judge(address: SocketAddr, readiness: &Value) -> Finding {
    let parts = ["accepting", "store", "upstreams"];
    if readiness["ready"] == true {
        return Finding::ok("gateway", format!("{address} is ready"));
    }
    let missing: Vec<&str> = parts.into_iter().filter(|part| readiness[part] == false).collect();
    if missing.is_empty() {
        let text = format!("{address} is not a gateway's admin port");
        return Finding::fail("gateway", text, "Something else has the port: change listen.admin, or stop it.");
    }
    let text = format!("{address} is not ready: {}", missing.join(", "));
    Finding::fail(
        "gateway",
        text,
        "accepting: it is stopping; store: its database; upstreams: its workers. See its log.",
    )
}

/// An address that means all of the machine's is reached at its own.
fn reached_at(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What `/readyz` says, whichever its status; nothing where that is no JSON.
async fn readiness(address: SocketAddr) -> Result<Value, String> {
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(https::connector(false, None)?);
    let uri: Uri = format!("http://{address}/readyz").parse().map_err(|_| "it is no address".to_owned())?;
    let reply = client.get(uri).await.map_err(|error| root_cause(&error))?;
    let body = Limited::new(reply.into_body(), MAX_READINESS_BYTES).collect().await;
    Ok(body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_gateway_is_ready_or_says_what_is_missing() {
        let address = "127.0.0.1:8081".parse().unwrap();
        let judged = |readiness| judge(address, &readiness);
        assert_eq!(
            judged(json!({"ready": true, "accepting": true, "store": true, "upstreams": true})).status,
            Status::Ok
        );
        let down = judged(json!({"ready": false, "accepting": true, "store": false, "upstreams": false}));
        assert_eq!((down.status, down.detail.ends_with("not ready: store, upstreams")), (Status::Fail, true));
        assert!(judged(Value::Null).detail.contains("not a gateway's"));
    }

    #[test]
    fn an_address_of_all_interfaces_is_asked_on_loopback() {
        for (listen, reached) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.7:1", "10.0.0.7:1")] {
            assert_eq!(reached_at(listen.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
