//! All SQL. Knows ids, money and time; knows no HTTP and decides nothing.

/// The database: SQLite for a single gateway, PostgreSQL for several.
#[derive(Debug, Clone)]
pub struct Store;
