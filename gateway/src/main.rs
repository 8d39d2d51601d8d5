//! The program `caprock`.

use std::process::ExitCode;

fn main() -> ExitCode {
    caprock::cli::main()
}
