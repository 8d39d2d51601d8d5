//! A gateway process with its state folder.

use crate::books::Books;
use crate::client::Client;
use crate::environment;
use crate::process::{Process, free_port};
use crate::wait::until;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The model that workers are said to run.
pub const MODEL: &str = "huggingface.smollm2-135m-instruct";
/// An id that it stands in for.
pub const STAND_IN: &str = "amazon.nova-lite-v1:0";

/// Which database a gateway keeps its books in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A file in the state folder.
    Sqlite,
    /// A fresh database on the server of `CAPROCK_TEST_POSTGRES_URL`.
    Postgres,
}

/// A gateway: prepared by `caprock bootstrap`, then run by `caprock serve`.
#[derive(Debug)]
pub struct Gateway {
    id: String,
    /// More tables of the configuration.
    settings: String,
    process: Option<Process>,
    dir: PathBuf,
    config: PathBuf,
    store_url: String,
    ports: Ports,
    credentials: HashMap<String, String>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    data: u16,
    tls: u16,
    admin: u16,
}

/// A worker as the gateway's configuration names it: id and address.
pub type Named = (String, String);

impl Gateway {
    /// Writes the configuration and bootstraps; secrets exist afterwards, nothing runs yet.
    pub async fn prepare(dir: &Path, database: Database) -> Gateway {
        let store_url = match database {
            Database::Sqlite => format!("sqlite:{}", dir.join("caprock.db").display()),
            Database::Postgres => crate::books::fresh_postgres().await,
        };
        let ports = Ports { data: free_port(), tls: free_port(), admin: free_port() };
        let config = dir.join("gateway.toml");
        let mut gateway = Gateway {
            id: "gateway-1".into(),
            settings: String::new(),
            process: None,
            dir: dir.into(),
            config,
            store_url,
            ports,
            credentials: HashMap::new(),
        };
        gateway.write_config(&[], &[], "");
        let file = dir.join("credentials.env");
        gateway.run_to_end("bootstrap", &["--credentials-file", &file.display().to_string()]).await;
        gateway.credentials = std::fs::read_to_string(&file)
            .unwrap()
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect();
        gateway
    }

    /// Its configuration.
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// Another replica of the same installation, with the same secrets and a state folder, an id and ports of its own, that
    /// finds the database at `store_url`. Nothing runs yet, and its configuration names no workers.
    pub fn replica(&self, dir: &Path, id: &str, store_url: &str) -> Gateway {
        let secrets = dir.join("secrets");
        std::fs::create_dir_all(&secrets).unwrap();
        for file in std::fs::read_dir(self.dir.join("secrets")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), secrets.join(file.file_name())).unwrap();
        }
        Gateway {
            id: id.into(),
            settings: String::new(),
            process: None,
            dir: dir.into(),
            config: dir.join("gateway.toml"),
            store_url: store_url.into(),
            ports: Ports { data: free_port(), tls: free_port(), admin: free_port() },
            credentials: self.credentials.clone(),
        }
    }

    /// Adds tables to the configuration, as it is written from now on.
    pub fn set(&mut self, settings: &str) {
        self.settings = settings.into();
    }

    /// The database's address.
    pub fn store_url(&self) -> &str {
        &self.store_url
    }

    /// The state folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where `bootstrap` keeps the secret that workers share.
    pub fn cluster_secret_file(&self) -> PathBuf {
        self.dir.join("secrets/cluster")
    }

    /// Writes the configuration with workers; `more` is TOML that goes in front.
    pub fn write_config(&self, decode: &[Named], prefill: &[Named], more: &str) {
        let Ports { data, tls, admin } = self.ports;
        let mut text = format!(
            "[gateway]\nid = '{}'\nstate_dir = '{}'\n{more}\n[listen]\ndata = '127.0.0.1:{data}'\n\
             tls = '127.0.0.1:{tls}'\nadmin = '127.0.0.1:{admin}'\n[store]\nurl = '{}'\n",
            self.id,
            self.dir.display(),
            self.store_url
        );
        text += &self.settings;
        if !decode.is_empty() {
            text += &format!(
                "[[cluster]]\nname = 'bundled'\nmodel = '{MODEL}'\nstands_in_for = ['{STAND_IN}']\ndecode = {}\nprefill = {}\n",
                toml_workers(decode),
                toml_workers(prefill)
            );
        }
        std::fs::write(&self.config, text).unwrap();
    }

    /// Runs a subcommand that ends; panics with its output when it fails, and returns its output.
    pub async fn run_to_end(&self, command: &str, arguments: &[&str]) -> String {
        let output = tokio::process::Command::new(environment::gateway_bin())
            .args([command, "--config"])
            .arg(&self.config)
            .args(arguments)
            .env("CAPROCK_ADMIN_URL", self.admin_url())
            .envs(self.credentials.get_key_value("CAPROCK_ADMIN_TOKEN"))
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = crate::wait::within(command, Duration::from_secs(60), output).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "caprock {command} failed:\n{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Starts serving and waits until `/readyz` is 200.
    pub async fn serve(&mut self) {
        let arguments = ["serve".to_owned(), "--config".to_owned(), self.config.display().to_string()];
        let log = self.dir.join("gateway.log");
        let process = Process::start("gateway", &environment::gateway_bin(), &arguments, &[], &log);
        let process = self.process.insert(process);
        let url = format!("http://127.0.0.1:{}/readyz", self.ports.data);
        until("the gateway is ready", Duration::from_secs(60), async || {
            assert!(process.ended().is_none(), "the gateway ended while starting");
            reqwest::get(&url).await.is_ok_and(|reply| reply.status() == 200).then_some(())
        })
        .await;
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the gateway was started")
    }

    /// Its books, read past it.
    pub async fn books(&self) -> Books {
        Books::open(&self.store_url).await
    }

    /// A client with the demo tenant's API key.
    pub fn client(&self) -> Client {
        Client::new(&self.url(), &self.admin_url(), self.credential("CAPROCK_API_KEY"), self.admin_token())
    }

    /// The data plane.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.data)
    }

    /// The data plane's socket address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.data)
    }

    /// The data plane over TLS.
    pub fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.ports.tls)
    }

    /// The operators' plane.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.admin)
    }

    /// The development CA.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("tls/ca.pem")
    }

    /// Operators' token.
    pub fn admin_token(&self) -> &str {
        self.credential("CAPROCK_ADMIN_TOKEN")
    }

    /// A value of the file that `bootstrap` wrote.
    pub fn credential(&self, name: &str) -> &str {
        self.credentials.get(name).unwrap_or_else(|| panic!("bootstrap wrote no {name}"))
    }

    /// The environment that `scripts/up` writes to dev.env.
    pub fn dev_env(&self) -> Vec<(String, String)> {
        let key = self.credential("CAPROCK_API_KEY");
        let ca = self.ca_file().display().to_string();
        [
            ("CAPROCK_URL", self.url()),
            ("CAPROCK_TLS_URL", self.tls_url()),
            ("CAPROCK_ADMIN_URL", self.admin_url()),
            ("CAPROCK_API_KEY", key.into()),
            ("CAPROCK_ADMIN_TOKEN", self.admin_token().into()),
            ("CAPROCK_MODEL", MODEL.into()),
            ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", self.url()),
            ("AWS_ENDPOINT_URL_BEDROCK", self.url()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_DEFAULT_REGION", "us-east-1".into()), // boto3 reads only this one
            ("AWS_ACCESS_KEY_ID", self.credential("AWS_ACCESS_KEY_ID").into()),
            ("AWS_SECRET_ACCESS_KEY", self.credential("AWS_SECRET_ACCESS_KEY").into()),
            ("AWS_CA_BUNDLE", ca),
            ("OPENAI_BASE_URL", format!("{}/v1", self.url())),
            ("OPENAI_API_KEY", key.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

fn toml_workers(workers: &[Named]) -> String {
    let entries: Vec<String> =
        workers.iter().map(|(id, address)| format!("{{ id = '{id}', address = '{address}' }}")).collect();
    format!("[{}]", entries.join(", "))
}
