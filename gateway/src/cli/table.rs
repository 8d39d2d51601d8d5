//! What people read: JSON of the admin API as a table of many things or as the fields of one.

use super::units;
use serde_json::Value;

/// How a value is written.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Time,
    Usd,
    Price,
}

/// One column, or one field: its name, and where its value is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    pointer: &'static str,
    kind: Kind,
}

impl Column {
    /// As it is; lists with commas. `pointer` as in RFC 6901.
    pub(super) const fn text(name: &'static str, pointer: &'static str) -> Column {
        Column { name, pointer, kind: Kind::Text }
    }

    /// A time, to the second.
    pub(super) const fn time(name: &'static str, pointer: &'static str) -> Column {
        Column { name, pointer, kind: Kind::Time }
    }

    /// An amount in nano-USD.
    pub(super) const fn usd(name: &'static str, pointer: &'static str) -> Column {
        Column { name, pointer, kind: Kind::Usd }
    }

    /// A price in pico-USD per token, shown as dollars for a million.
    pub(super) const fn price(name: &'static str, pointer: &'static str) -> Column {
        Column { name, pointer, kind: Kind::Price }
    }

    /// Where its values are.
    pub(super) const fn pointer(&self) -> &'static str {
        self.pointer
    }

    /// The value's text; `None` where there is none.
    fn of(&self, thing: &Value) -> Option<String> {
        let value = thing.pointer(self.pointer)?;
        match (self.kind, value) {
            (_, Value::Null) => None,
            (_, Value::Array(entries)) if entries.is_empty() => Some("none".into()),
            (Kind::Time, Value::String(time)) => Some(units::to_the_second(time)),
            (Kind::Usd, Value::Number(amount)) => amount.as_i64().map(units::usd),
            (Kind::Price, Value::Number(price)) => price.as_i64().map(units::usd_per_million),
            (_, value) => Some(plain(value)),
        }
    }
}

/// A value without JSON's marks: lists with commas, nothing as nothing.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(entries) => entries.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// Things as a table; `-` where one lacks something.
pub(super) fn of_many(columns: &[Column], things: &[Value]) -> String {
    let head: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let cells = |thing| columns.iter().map(|column| column.of(thing).unwrap_or_else(|| "-".into())).collect();
    table(&head, &things.iter().map(cells).collect::<Vec<Vec<String>>>())
}

/// One thing's fields, those that it has.
pub(super) fn of_one(columns: &[Column], thing: &Value) -> String {
    let rows: Vec<(&str, String)> =
        columns.iter().filter_map(|column| Some((column.name, column.of(thing)?))).collect();
    fields(&rows)
}

/// Names and values, one a line.
pub(super) fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len() + 2).max().unwrap_or(0).max(14);
    rows.iter().map(|(name, value)| format!("{name:<width$}{}\n", visible(value))).collect()
}

/// A table with a head, columns as wide as they need to be.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
    let cell = |row: &[String], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths = head.iter().enumerate();
    let widths: Vec<usize> = widths
        .map(|(column, name)| rows.iter().map(|row| cell(row, column)).chain([name.len()]).max().unwrap_or(0))
        .collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    std::iter::once(&head).chain(&rows).map(|row| line(row)).collect()
}

/// Names are callers' text: what would move the terminal's cursor or change its colours is shown as its escape.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: &[Column] = &[
        Column::text("id", "/id"),
        Column::text("operations", "/scope/operations"),
        Column::time("created", "/created_at"),
        Column::usd("amount", "/amount_nanousd"),
    ];

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [vec!["1".to_owned(), "é".to_owned()], vec!["1000".to_owned(), String::new()]];
        assert_eq!(table(&["seq", "who"], &rows), "seq   who\n1     é\n1000\n");
        assert_eq!(table(&["seq"], &[]), "seq\n");
    }

    #[test]
    fn a_table_shows_lists_times_and_money_and_a_dash_for_nothing() {
        let things = [
            json!({"id": "a", "scope": {"operations": ["inference", "read_usage"]},
                   "created_at": "2026-11-23T18:26:54.123456Z", "amount_nanousd": 1_500_000_000}),
            json!({"id": "bcd", "scope": {}, "created_at": null}),
        ];
        assert_eq!(
            of_many(COLUMNS, &things),
            "id   operations            created               amount\n\
             a    inference,read_usage  2026-11-23T18:26:54Z  $1.500000000\n\
             bcd  -                     -                     -\n"
        );
    }

    #[test]
    fn one_things_fields_are_those_that_it_has() {
        let thing = json!({"id": "a", "scope": {"operations": []}, "created_at": null});
        assert_eq!(of_one(COLUMNS, &thing), "id            a\noperations    none\n");
    }

    #[test]
    fn a_name_can_not_write_to_the_terminal() {
        let things = [json!({"id": "a\u{1b}[2Jb\nc"})];
        let text = of_many(&COLUMNS[..1], &things);
        assert_eq!(text, "id\na\\u{1b}[2Jb\\nc\n");
    }
}
