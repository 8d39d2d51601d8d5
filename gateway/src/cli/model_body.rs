//! What is said of a model when it is added or changed: by a file, and by options over it.

use super::api::{Common, value};
use super::units;
use clap::Args;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest description of a model that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct Change {
    /// Its id.
    pub(super) model: String,
    /// What else there is to say of it, as the API's JSON; `-` for standard input. Options go over it.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// For people; 1 to 20 characters.
    #[arg(long)]
    name: Option<String>,
    /// Who made it; 1 to 20 characters.
    #[arg(long)]
    provider: Option<String>,
    /// Most tokens of prompt and answer.
    #[arg(long, value_name = "NUMBER")]
    context_tokens: Option<u32>,
    /// Most tokens of an answer.
    #[arg(long, value_name = "NUMBER")]
    max_output_tokens: Option<u32>,
    /// Used when the caller sets no maximum.
    #[arg(long, value_name = "NUMBER")]
    default_output_tokens: Option<u32>,
    /// Price of a million prompt tokens in dollars, such as 0.06.
    #[arg(long, value_name = "USD", value_parser = units::picousd_per_token)]
    input_price: Option<i64>,
    /// Price of a million generated tokens in dollars.
    #[arg(long, value_name = "USD", value_parser = units::picousd_per_token)]
    output_price: Option<i64>,
    /// Price of a million prompt tokens out of a cache in dollars.
    #[arg(long, value_name = "USD", value_parser = units::picousd_per_token)]
    cache_read_price: Option<i64>,
    /// Price of a million prompt tokens into a cache in dollars.
    #[arg(long, value_name = "USD", value_parser = units::picousd_per_token)]
    cache_write_price: Option<i64>,
    /// Where the prices come from.
    #[arg(long, value_name = "TEXT")]
    price_source: Option<String>,
    /// Id of the model that answers in its place; `none`: as the configuration has it.
    #[arg(long, value_name = "MODEL")]
    stand_in: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Change {
    /// The file, and the options over it.
    pub(super) fn body(&self) -> Result<Map<String, Value>, String> {
        let mut body = match &self.file {
            Some(file) => read(file)?,
            None => Map::new(),
        };
        let number = |number: Option<u32>| number.map(Value::from);
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let parts = [
            ("name", text(&self.name)),
            ("provider", text(&self.provider)),
            ("context_tokens", number(self.context_tokens)),
            ("max_output_tokens", number(self.max_output_tokens)),
            ("default_output_tokens", number(self.default_output_tokens)),
            ("stand_in", text(&self.stand_in).map(|model| if model == "none" { Value::Null } else { model })),
        ];
        body.extend(parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part?))));
        let prices = [
            ("input", self.input_price.map(Value::from)),
            ("output", self.output_price.map(Value::from)),
            ("cache_read", self.cache_read_price.map(Value::from)),
            ("cache_write", self.cache_write_price.map(Value::from)),
            ("source", text(&self.price_source)),
        ];
        for (name, price) in prices {
            let Some(price) = price else { continue };
            let all = body.entry("price_picousd_per_token").or_insert_with(|| json!({}));
            let all = all.as_object_mut().ok_or("the file's price_picousd_per_token is no object")?;
            all.insert(name.to_owned(), price);
        }
        Ok(body)
    }
}

fn read(file: &Path) -> Result<Map<String, Value>, String> {
    let explain = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let mut text = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_FILE_BYTES).read_to_end(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text))
    };
    read.map_err(|error| explain(&error))?;
    match value(&text) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) | Err(_) => Err(explain(&"it is no JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        change: Change,
    }

    fn body(arguments: &[&str]) -> Result<Value, String> {
        let parsed =
            Cli::try_parse_from(["x", "example.m"].iter().chain(arguments)).map_err(|error| error.to_string())?;
        parsed.change.body().map(Value::Object)
    }

    #[test]
    fn options_become_the_apis_fields_with_prices_as_integers() {
        let made = body(&["--name", "M", "--context-tokens", "8192", "--input-price", "0.02", "--price-source", "us"]);
        assert_eq!(
            made.unwrap(),
            json!({"name": "M", "context_tokens": 8192, "price_picousd_per_token": {"input": 20_000, "source": "us"}})
        );
        assert_eq!(body(&["--stand-in", "none"]).unwrap(), json!({"stand_in": null}));
        assert!(body(&["--input-price", "1e-9"]).unwrap_err().contains("no price"));
    }

    #[test]
    fn options_go_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.json");
        let text = r#"{"name": "A", "streaming": false, "price_picousd_per_token": {"input": 1, "output": 2}}"#;
        std::fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();
        assert_eq!(
            body(&["--file", path, "--name", "B", "--output-price", "0.00001"]).unwrap(),
            json!({"name": "B", "streaming": false, "price_picousd_per_token": {"input": 1, "output": 10}})
        );
        std::fs::write(&file, "[]").unwrap();
        assert!(body(&["--file", path]).unwrap_err().contains("no JSON object"));
    }
}
