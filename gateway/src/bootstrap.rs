//! The first operator's token, the first tenant and its credentials, made through the same functions as any other's.

use crate::audit::{Author, Change};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ProjectId, TenantId};
use crate::quota::Limits;
use crate::secrets::{SecretText, Secrets};
use crate::store::Store;
use crate::tenants::{
    self, CreateAdminToken, CreateCredential, CreatedAccessKey, CreatedAdminToken, CreatedApiKey, Issuer, Name,
    Project, Status, Tenant,
};
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const TENANT: &str = "demo";
const PROJECT: &str = "default";
const CREDENTIAL: &str = "bootstrap";

const API_KEY: &str = "CAPROCK_API_KEY";
const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const ADMIN_TOKEN: &str = "CAPROCK_ADMIN_TOKEN";

/// What bootstrap found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrapped {
    /// The demo tenant.
    pub tenant: TenantId,
    /// Its project.
    pub project: ProjectId,
    /// Variables whose values are new; empty when the file was good as it was.
    pub renewed: Vec<&'static str>,
}

/// Makes an installation usable: secrets, schema, tenant `demo` with project `default`, and in `credentials_file`, which
/// only its owner may read, an API key, an access key and an admin token as lines `NAME=value`. An admin token set as
/// CAPROCK_ADMIN_TOKEN is used instead of a new one.
///
/// It can be repeated: credentials in the file that still work stay, the others are replaced by fresh ones of the same
/// tenant. An admin token that can't do all that an operator can is replaced, too. A key that works for another tenant is revoked when it is replaced. Lines of the file that are not credentials are kept.
///
/// # Errors
/// `Invalid` and `Conflict`, with texts for the operator; `Internal`; those of the store.
pub async fn bootstrap(config: &Config, credentials_file: &Path) -> Result<Bootstrapped> {
    bootstrap_with(config, credentials_file, |name| std::env::var(name).ok()).await
}

/// Makes an installation that operators can enter: secrets, schema, and a platform administrator's token unless one can be
/// used already. It is returned to be shown, which is the only time that it is seen. An admin token set as
/// CAPROCK_ADMIN_TOKEN is registered instead; then nothing is returned, and no other token is made.
///
/// # Errors
/// `Invalid` and `Conflict`, with texts for the operator; `Internal`; those of the store.
pub async fn bootstrap_operator(config: &Config) -> Result<Option<SecretText>> {
    bootstrap_operator_with(config, |name| std::env::var(name).ok()).await
}

async fn bootstrap_with(
    config: &Config,
    credentials_file: &Path,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Bootstrapped> {
    let (secrets, store) = open(config, &env).await?;
    let given = env(ADMIN_TOKEN).map(SecretText::new);
    let done = Work::new(&store, &secrets).run(credentials_file, given).await;
    store.close().await;
    done
}

async fn bootstrap_operator_with(config: &Config, env: impl Fn(&str) -> Option<String>) -> Result<Option<SecretText>> {
    let (secrets, store) = open(config, &env).await?;
    let given = env(ADMIN_TOKEN).map(SecretText::new);
    let made = Work::new(&store, &secrets).first_admin_token(given).await;
    store.close().await;
    made
}

async fn open(config: &Config, env: &impl Fn(&str) -> Option<String>) -> Result<(Secrets, Store)> {
    let secrets = Secrets::load_or_create_from(&config.gateway.state_dir, &config.secrets, env)?;
    let store = Store::connect(config).await?;
    store.migrate().await?;
    Ok((secrets, store))
}

struct Work<'a> {
    store: &'a Store,
    secrets: &'a Secrets,
    clock: Clock,
    author: Author,
}

impl<'a> Work<'a> {
    fn new(store: &'a Store, secrets: &'a Secrets) -> Work<'a> {
        Work { store, secrets, clock: Clock::System, author: Author::command("bootstrap") }
    }

    async fn run(&self, file: &Path, given_token: Option<SecretText>) -> Result<Bootstrapped> {
        let (tenant, project) = self.demo().await?;
        let mut lines = Lines::read(file)?;
        let mut renewed = Vec::new();

        if !self.api_key_works(&lines, &tenant).await? {
            let (change, input) = (self.change(), credential(&project)?);
            let made = CreatedApiKey::generate(self.secrets, &tenant, input, &self.author, change.now)?;
            tenants::create_api_key(change, &Issuer::command(), &made).await?;
            lines.set(API_KEY, made.text.expose());
            renewed.push(API_KEY);
        }
        if !self.access_key_works(&lines, &tenant).await? {
            let (change, input) = (self.change(), credential(&project)?);
            let made = CreatedAccessKey::generate(self.secrets, &tenant, input, &self.author, change.now)?;
            tenants::create_access_key(change, &Issuer::command(), &made).await?;
            lines.set(ACCESS_KEY_ID, &made.access_key_id);
            lines.set(SECRET_ACCESS_KEY, made.secret.expose());
            renewed.extend([ACCESS_KEY_ID, SECRET_ACCESS_KEY]);
        }
        if let Some(token) = self.new_admin_token(&lines, given_token).await? {
            lines.set(ADMIN_TOKEN, token.expose());
            renewed.push(ADMIN_TOKEN);
        }
        if !renewed.is_empty() {
            lines.write(file)?;
        }
        Ok(Bootstrapped { tenant, project, renewed })
    }

    fn change(&self) -> Change<'_> {
        let now = self.clock.now();
        Change { store: self.store, secrets: self.secrets, now, author: &self.author, once: None }
    }

    /// The demo tenant and its project, made when missing.
    async fn demo(&self) -> Result<(TenantId, ProjectId)> {
        let tenant = match self.store.tenant_by_name(TENANT).await? {
            Some(tenant) if tenant.status == Status::Active.as_str() => tenant.id,
            Some(_) => {
                let text = format!("The tenant `{TENANT}` is suspended; no credential of it would work.");
                return Err(Error::new(ErrorKind::Conflict, text));
            }
            None => {
                let tenant = Tenant::new(Name::parse(TENANT)?, Limits::default(), self.clock.now());
                tenants::create_tenant(self.change(), &tenant).await?;
                tenant.id
            }
        };
        let project = match self.store.project_by_name(&tenant, PROJECT).await? {
            Some(project) => project.id,
            None => {
                let project = Project::new(tenant.clone(), Name::parse(PROJECT)?, self.clock.now());
                tenants::create_project(self.change(), &project).await?;
                project.id
            }
        };
        Ok((tenant, project))
    }

    async fn api_key_works(&self, lines: &Lines, tenant: &TenantId) -> Result<bool> {
        let Some(key) = lines.get(API_KEY) else { return Ok(false) };
        let found = tenants::authenticate_api_key(self.store, self.secrets, &self.clock, key).await;
        match works(found)? {
            Some(principal) if principal.tenant == *tenant => Ok(true),
            Some(other) => {
                // Nothing else knows it once the file is written: it must not stay behind, valid and forgotten.
                let owner = (&other.tenant, &other.key);
                tenants::revoke_api_key(self.change(), &Issuer::command(), owner, None).await?;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    async fn access_key_works(&self, lines: &Lines, tenant: &TenantId) -> Result<bool> {
        let (Some(id), Some(secret)) = (lines.get(ACCESS_KEY_ID), lines.get(SECRET_ACCESS_KEY)) else {
            return Ok(false);
        };
        let found = tenants::access_key(self.store, self.secrets, &self.clock, id).await;
        match works(found)?.filter(|key| key.secret.expose() == secret) {
            Some(key) if key.principal.tenant == *tenant => Ok(true),
            Some(other) => {
                let owner = (&other.principal.tenant, &other.principal.key);
                tenants::revoke_access_key(self.change(), &Issuer::command(), owner, None).await?;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// What the file's admin token must become; `None` when it is right already.
    async fn new_admin_token(&self, lines: &Lines, given: Option<SecretText>) -> Result<Option<SecretText>> {
        if let Some(given) = given {
            let name = Name::parse(CREDENTIAL)?;
            tenants::register_admin_token(self.change(), name, given.expose()).await?;
            return Ok((lines.get(ADMIN_TOKEN) != Some(given.expose())).then_some(given));
        }
        if let Some(token) = lines.get(ADMIN_TOKEN) {
            let found = tenants::authenticate_admin_token(self.store, self.secrets, &self.clock, token).await;
            if works(found)?.is_some_and(|operator| operator.may_do_all()) {
                return Ok(None);
            }
        }
        let made = self.admin_token()?;
        tenants::create_admin_token(self.change(), &Issuer::command(), &made).await?;
        Ok(Some(made.text))
    }

    /// The first platform administrator's token, unless there is a usable one, or one was given.
    async fn first_admin_token(&self, given: Option<SecretText>) -> Result<Option<SecretText>> {
        if let Some(given) = given {
            tenants::register_admin_token(self.change(), Name::parse(CREDENTIAL)?, given.expose()).await?;
            return Ok(None);
        }
        let made = self.admin_token()?;
        let first = tenants::create_first_admin_token(self.change(), &made).await?;
        Ok(first.then_some(made.text))
    }

    fn admin_token(&self) -> Result<CreatedAdminToken> {
        let input = CreateAdminToken::platform_admin(Name::parse(CREDENTIAL)?);
        CreatedAdminToken::generate(self.secrets, input, &self.author, self.clock.now())
    }
}

fn credential(project: &ProjectId) -> Result<CreateCredential> {
    Ok(CreateCredential::developer(Name::parse(CREDENTIAL)?, project.clone()))
}

/// `None` for a credential that is refused. A failing database is an error, and so is a master key that can't open what it
/// should: making new credentials would only hide that.
fn works<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind, ErrorKind::Unauthenticated(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The credentials file, line by line.
struct Lines {
    text: Vec<String>,
    values: HashMap<String, String>,
}

impl Lines {
    /// Empty when there is no file.
    fn read(file: &Path) -> Result<Lines> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unusable(file, error)),
        };
        let text: Vec<String> = text.lines().map(str::to_owned).collect();
        let values = text.iter().filter_map(|line| line.split_once('='));
        let values = values.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        Ok(Lines { text, values })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.text.retain(|line| line.split_once('=').is_none_or(|(other, _)| other.trim() != name));
        self.text.push(format!("{name}={value}"));
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// Whole or not at all, and never readable by others, not even for a moment.
    fn write(&self, file: &Path) -> Result<()> {
        let dir = match file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            Some(_) | None => Path::new("."),
        };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(dir)?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let temporary = dir.join(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
            let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            let written = self.text.iter().try_for_each(|line| writeln!(out, "{line}"));
            let moved = written.and_then(|()| out.sync_all()).and_then(|()| std::fs::rename(&temporary, file));
            if moved.is_err() {
                let _ = std::fs::remove_file(&temporary); // the first error is the one to tell
            }
            moved
        };
        write().map_err(|error| unusable(file, error))
    }
}

fn unusable(file: &Path, error: std::io::Error) -> Error {
    let text = format!("The credentials file {} can't be used: {error}.", file.display());
    Error::new(ErrorKind::Internal, text).caused_by(error)
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
