//! Compiles the gateway again when a migration is added: `sqlx::migrate!` alone only notices changes to those it knows.

#[allow(clippy::print_stdout)] // this is how a build script speaks
fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
