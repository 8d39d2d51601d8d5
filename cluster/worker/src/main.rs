//! `caprock-worker prefill|decode`.

fn main() -> std::process::ExitCode {
    cluster_worker::supervise::main()
}
