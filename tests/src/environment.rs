//! What `scripts/test` provides.

use std::path::PathBuf;

/// The checkout that this was built from.
pub fn checkout() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The gateway's program.
pub fn gateway_bin() -> PathBuf {
    file("CAPROCK_BIN", "the program `caprock`")
}

/// The worker's program, built with the llama engine.
pub fn worker_bin() -> PathBuf {
    file("CAPROCK_WORKER_BIN", "the program `caprock-worker`, built with --release")
}

/// The bundled model's GGUF file.
pub fn model() -> PathBuf {
    file("CAPROCK_TEST_MODEL", "the bundled model, which scripts/fetch-model fetches")
}

/// A Python that has the official SDKs and Schemathesis, in an environment of its own.
pub fn python() -> PathBuf {
    file(
        "CAPROCK_TEST_PYTHON",
        "the Python of a virtual environment with tests/sdk/requirements.txt and tests/schemathesis/requirements.txt",
    )
}

/// A PostgreSQL that may be filled with databases: `postgres://user@host:port/database`.
pub fn postgres_url() -> String {
    required("CAPROCK_TEST_POSTGRES_URL", "the address of a throw-away PostgreSQL")
}

/// A Redis that may be shared: `redis://host:port`.
pub fn redis_url() -> String {
    required("CAPROCK_TEST_REDIS_URL", "the address of a throw-away Redis")
}

fn file(name: &str, what: &str) -> PathBuf {
    let path = PathBuf::from(required(name, what));
    assert!(path.is_file(), "{name} names {}, which is not there: it should be {what}", path.display());
    // Links stay: a virtual environment is known by the path of its Python.
    std::path::absolute(path).unwrap()
}

fn required(name: &str, what: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: it names {what}. Run scripts/test, which sets it"))
}
