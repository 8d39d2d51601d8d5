//! All that a gateway's database holds, row by row as text: what changed is found by comparing, whatever the table.

use crate::books::Books;
use sqlx::{AssertSqlSafe, Row};
use std::collections::BTreeMap;

/// Tables of rows, each row as text. Two that are equal hold the same.
pub type Rows = BTreeMap<String, Vec<String>>;

const SQLITE_COLUMNS: &str = "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c \
    WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> '_sqlx_migrations' ORDER BY t.name, c.cid";
const POSTGRES_COLUMNS: &str = "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) \
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations' ORDER BY table_name, ordinal_position";

impl Books {
    /// Tables and their columns, as the database itself lists them, but for the list of migrations.
    pub async fn columns(&mut self) -> BTreeMap<String, Vec<String>> {
        let pairs: Vec<(String, String)> = match self {
            Books::Sqlite(connection) => sqlx::query_as(SQLITE_COLUMNS).fetch_all(connection).await.unwrap(),
            Books::Postgres(connection) => sqlx::query_as(POSTGRES_COLUMNS).fetch_all(connection).await.unwrap(),
        };
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (table, column) in pairs {
            tables.entry(table).or_default().push(column);
        }
        tables
    }

    /// All rows of all tables but those named.
    pub async fn all_rows(&mut self, but: &[&str]) -> Rows {
        let mut rows = Rows::new();
        for (table, columns) in self.columns().await {
            if !but.contains(&table.as_str()) {
                let found = self.rows_of(&table, &columns, None).await;
                rows.insert(table, found);
            }
        }
        rows
    }

    /// The rows of one table, those in which `column` is `value` if that is asked for, in an order of their own.
    pub async fn rows_of(&mut self, table: &str, columns: &[String], only: Option<(&str, &str)>) -> Vec<String> {
        let parts: Vec<String> =
            columns.iter().map(|column| format!("'{column}=' || COALESCE(CAST(\"{column}\" AS TEXT), '-')")).collect();
        let condition = only.map_or(String::new(), |(column, _)| format!(" WHERE \"{column}\" = $1"));
        // Names come from the database's own list, and values are bound.
        let sql = format!("SELECT {} FROM \"{table}\"{condition} ORDER BY 1", parts.join(" || ' ' || "));
        macro_rules! read {
            ($connection:expr) => {{
                let mut query = sqlx::query(AssertSqlSafe(sql));
                if let Some((_, value)) = only {
                    query = query.bind(value.to_owned());
                }
                let rows = query.fetch_all($connection).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }};
        }
        match self {
            Books::Sqlite(connection) => read!(connection),
            Books::Postgres(connection) => read!(connection),
        }
    }
}

/// What differs, a line for each row that came, went or changed.
pub fn differences(before: &Rows, after: &Rows) -> Vec<String> {
    let none = Vec::new();
    let tables: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut found = Vec::new();
    for table in tables {
        let (old, new) = (before.get(table).unwrap_or(&none), after.get(table).unwrap_or(&none));
        found.extend(old.iter().filter(|row| !new.contains(row)).map(|row| format!("{table} lost {row}")));
        found.extend(new.iter().filter(|row| !old.contains(row)).map(|row| format!("{table} gained {row}")));
    }
    found
}
