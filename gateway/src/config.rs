//! Configuration: a commented defaults file compiled in, then a file, then environment variables
//! (`CAPROCK__SECTION__KEY`). Read once, checked as a whole, all complaints at once.

mod jwt;

pub(crate) use jwt::jwks_uri;
pub use jwt::{JwtAlgorithm, JwtIssuer, PlatformRole, PlatformSubject};

use ipnet::IpNet;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The defaults, which double as the reference.
pub const DEFAULTS: &str = include_str!("config.default.toml");

/// Leaves a tenth of the second for everything else.
const MAX_LEASE_MS: u64 = 900;

/// Everything static. Tenants, keys, limits and prices are data, in the database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This replica.
    pub gateway: Gateway,
    /// Where it listens.
    pub listen: Listen,
    /// Bounds of the HTTP edge.
    pub http: Http,
    /// The database.
    pub store: Store,
    /// TLS files.
    pub tls: Tls,
    /// The admin API.
    pub admin: Admin,
    /// How this replica learns of administrators' changes.
    pub changes: Changes,
    /// What wakes replicas early.
    pub redis: Redis,
    /// Models and prices.
    pub catalog: Catalog,
    /// Which versions of secrets make what is new.
    #[serde(default)]
    pub secrets: SecretVersions,
    /// Trusted issuers of machines' JWTs.
    #[serde(default)]
    pub jwt_issuer: Vec<JwtIssuer>,
    /// Bundled clusters, by name.
    #[serde(default)]
    pub cluster: Vec<Cluster>,
    /// Models beside those that are compiled in, or in place of them.
    #[serde(default)]
    pub model: Vec<ModelEntry>,
}

/// This replica.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Names this replica in records; one per running gateway, stable over restarts.
    pub id: String,
    /// Holds secrets, development certificates and the default database.
    pub state_dir: PathBuf,
    /// How long running streams may go on after SIGTERM, in ms.
    pub shutdown_grace_ms: u64,
    /// Most requests in work at once; beyond it callers get 503.
    pub max_requests: usize,
    /// A reader that takes nothing for this long counts as gone, in ms.
    pub reader_stall_ms: u64,
}

/// Where it listens; an absent TLS address turns TLS off.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Data plane, HTTP/1.1 and h2c.
    pub data: SocketAddr,
    /// Data plane over TLS.
    pub tls: Option<SocketAddr>,
    /// Operators.
    pub admin: SocketAddr,
}

/// Bounds of the HTTP edge.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Largest body in bytes.
    pub body_bytes: usize,
    /// Largest request head in bytes.
    pub header_bytes: usize,
    /// Most header fields.
    pub header_count: usize,
    /// From accept to the first byte, in ms.
    pub first_byte_ms: u64,
    /// From the first byte of a request to the end of its head, in ms.
    pub header_ms: u64,
    /// Between requests on a kept connection, in ms.
    pub idle_ms: u64,
    /// Between two pieces of a body, in ms.
    pub body_idle_ms: u64,
    /// For a whole body, in ms.
    pub body_total_ms: u64,
    /// Most connections per listener.
    pub connections: usize,
    /// Proxies whose word on a caller's address is taken.
    pub trusted_proxies: Vec<IpNet>,
}

/// The admin API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Whether the operations on a tenant's own things also answer on the data port, for that tenant's credentials.
    pub on_data_port: bool,
    /// Most operations in work at once on each port; beyond it callers get 503.
    pub max_requests: usize,
    /// Whether `/metrics` answers callers on other machines without a credential.
    pub public_metrics: bool,
    /// How much one tenant can make.
    pub per_tenant: PerTenant,
}

/// How much one tenant can make.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerTenant {
    /// Most projects that are not deleted.
    pub projects: u32,
    /// Most service accounts that are not deleted.
    pub service_accounts: u32,
    /// Most API keys and access keys together that are neither revoked nor expired.
    pub credentials: u32,
    /// Changes within a minute, whoever made them, beyond which the tenant's own callers can make none.
    pub changes_per_minute: u32,
}

/// How this replica learns of administrators' changes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// Between two looks, in ms.
    pub poll_ms: u64,
    /// How long what is remembered of credentials may be used after a look, in ms.
    pub lease_ms: u64,
}

/// What wakes replicas early; without it they look by themselves, which is all that any bound rests on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `redis://…`
    pub url: Option<String>,
}

/// The database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `sqlite:PATH` or `postgres://…`; absent: `caprock.db` in the state folder.
    pub url: Option<String>,
    /// Most connections to PostgreSQL.
    pub max_connections: u32,
}

/// TLS files; absent: a development CA and certificate, made on first start in the state folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM chain.
    pub certificate: Option<PathBuf>,
    /// PEM key.
    pub key: Option<PathBuf>,
}

/// Models and prices. Which entry of a model counts is written in [`crate::catalog`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// Whether this file decides alone: changes through the admin API are refused, and those made earlier ignored.
    pub locked: bool,
}

/// Which version of a secret makes new digests or seals, 1 to 99; absent: the highest that there is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretVersions {
    /// Of the pepper, which digests API keys.
    pub pepper_version: Option<u8>,
    /// Of the master key, which seals SigV4 secrets.
    pub master_key_version: Option<u8>,
}

/// A bundled cluster: workers that run one model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Names it in the catalog.
    pub name: String,
    /// Catalog id of the model that its workers run.
    pub model: String,
    /// Catalog ids that this model stands in for; a development convenience, named in every answer.
    #[serde(default)]
    pub stands_in_for: Vec<String>,
    /// Decode workers.
    pub decode: Vec<Worker>,
    /// Prefill workers; may be empty.
    #[serde(default)]
    pub prefill: Vec<Worker>,
    /// Prompts shorter than this are computed where they are decoded.
    #[serde(default)]
    pub min_remote_prefill_tokens: u32,
}

/// A worker as the gateway finds it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// The id it was started with.
    pub id: String,
    /// `host:port`.
    pub address: String,
}

/// A text model of the operator's own, or another price for one that is compiled in. The catalog checks it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// As callers name it.
    pub id: String,
    /// For people; at most 20 characters.
    pub name: String,
    /// Who made it; at most 20 characters.
    pub provider: String,
    /// Most tokens of prompt and answer.
    pub context_tokens: u32,
    /// Most tokens of an answer; absent: as many as the context.
    pub max_output_tokens: Option<u32>,
    /// Used when the caller sets no maximum; absent: 4096 or the maximum, whichever is less.
    pub default_output_tokens: Option<u32>,
    /// Price of a prompt token in pico-USD.
    pub input_picousd_per_token: i64,
    /// Price of a generated token in pico-USD.
    pub output_picousd_per_token: i64,
}

impl Config {
    /// Defaults, then `file`, then the environment.
    ///
    /// # Errors
    /// One text with every complaint.
    pub fn load(file: Option<&Path>) -> Result<Config, String> {
        let mut builder =
            config::Config::builder().add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml));
        if let Some(file) = file {
            builder = builder.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        let environment = config::Environment::with_prefix("CAPROCK").prefix_separator("__").separator("__");
        let config: Config = builder
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| error.to_string())?;
        let complaints = config.complaints();
        if complaints.is_empty() { Ok(config) } else { Err(complaints.join("\n")) }
    }

    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut names = std::collections::HashSet::new();
        for cluster in &self.cluster {
            if !names.insert(&cluster.name) {
                complaints.push(format!("cluster `{}` is configured twice", cluster.name));
            }
            if cluster.decode.is_empty() {
                complaints.push(format!("cluster `{}` has no decode worker", cluster.name));
            }
            let mut workers = std::collections::HashSet::new();
            for worker in cluster.decode.iter().chain(&cluster.prefill) {
                if !workers.insert(&worker.id) {
                    complaints.push(format!("cluster `{}` has two workers `{}`", cluster.name, worker.id));
                }
            }
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            complaints.push("tls.certificate and tls.key must be given together".into());
        }
        let Changes { poll_ms, lease_ms } = self.changes;
        if lease_ms > MAX_LEASE_MS {
            complaints
                .push(format!("changes.lease_ms is over {MAX_LEASE_MS}: what was revoked must end within a second"));
        }
        if poll_ms == 0 || poll_ms.saturating_mul(2) > lease_ms {
            complaints
                .push("changes.poll_ms must be 1 to half of changes.lease_ms, so that one lost look is no loss".into());
        }
        if self.redis.url.as_ref().is_some_and(|url| !url.starts_with("redis://")) {
            complaints.push("redis.url must begin with redis://".into());
        }
        if self.admin.per_tenant.changes_per_minute == 0 {
            complaints.push("admin.per_tenant.changes_per_minute must be 1 or more".into());
        }
        if self.gateway.id.is_empty() {
            complaints.push("gateway.id is empty".into());
        }
        let SecretVersions { pepper_version, master_key_version } = self.secrets;
        for (name, version) in [("pepper_version", pepper_version), ("master_key_version", master_key_version)] {
            if version.is_some_and(|version| !(1..=crate::secrets::MAX_VERSION).contains(&version)) {
                complaints.push(format!("secrets.{name} must be 1 to {}", crate::secrets::MAX_VERSION));
            }
        }
        complaints.extend(jwt::complaints(&self.jwt_issuer));
        complaints
    }

    /// The database's address.
    pub fn store_url(&self) -> String {
        match &self.store.url {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", self.gateway.state_dir.join("caprock.db").display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete() {
        let config = Config::load(None).unwrap();
        assert_eq!(config.listen.data.port(), 8080);
        assert!(config.cluster.is_empty());
    }

    #[test]
    fn complaints_come_together() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("caprock.toml");
        let text = "[admin.per_tenant]\nchanges_per_minute = 0\n[tls]\nkey = 'k.pem'\n[secrets]\npepper_version = 0\nmaster_key_version = 100\n\
                    [[cluster]]\nname = 'a'\nmodel = 'm'\ndecode = []\n";
        std::fs::write(&file, text).unwrap();
        let complaints = Config::load(Some(&file)).unwrap_err();
        for name in ["secrets.pepper_version must", "secrets.master_key_version must", "changes_per_minute must"] {
            assert!(complaints.contains(name), "{complaints}");
        }
        assert!(complaints.contains("no decode worker") && complaints.contains("tls.certificate"), "{complaints}");
    }

    #[test]
    fn a_lease_that_would_break_the_bound_is_refused() {
        let complaint = |changes: &str| {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("caprock.toml");
            std::fs::write(&file, changes).unwrap();
            Config::load(Some(&file)).err().unwrap_or_default()
        };
        assert_eq!(complaint("[changes]\npoll_ms = 450\nlease_ms = 900\n"), "");
        assert!(complaint("[changes]\nlease_ms = 901\n").contains("changes.lease_ms"));
        for poll in ["0", "401", "9223372036854775807"] {
            assert!(complaint(&format!("[changes]\npoll_ms = {poll}\n")).contains("changes.poll_ms"), "{poll}");
        }
        assert!(complaint("[redis]\nurl = 'rediss://localhost'\n").contains("redis.url"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("caprock.toml");
        std::fs::write(&file, "[gateway]\nidd = 'x'\n").unwrap();
        assert!(Config::load(Some(&file)).unwrap_err().contains("idd"));
    }
}
