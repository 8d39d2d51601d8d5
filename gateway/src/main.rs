//! The program `caprock`.

fn main() {}
