//! Secrets that the API shows once: how they are shown, and how long a former one goes on.

use super::table::{self, Column, plain};
use super::units;
use clap::Args;
use serde_json::{Value, json};

/// Where a reply has its secret: an API key's or token's, and an access key's.
const SECRETS: [(&str, &str); 2] = [("secret", "/secret"), ("secret access key", "/secret_access_key")];

/// What a rotation shows besides the secret.
pub(super) const ROTATED: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("access key id", "/access_key_id"),
    Column::time("former until", "/previous_secret_expires_at"),
];

/// How a secret is replaced.
#[derive(Debug, Args)]
pub(super) struct Overlap {
    /// For so long the former secret is accepted too: 24h, 30m; 0s for not at all. At most 30 days.
    #[arg(long, value_name = "LENGTH", default_value = "24h", value_parser = units::seconds)]
    overlap: u64,
}

impl Overlap {
    /// As the API takes it.
    pub(super) fn body(&self) -> Value {
        json!({ "overlap_seconds": self.overlap })
    }
}

/// One thing's fields, and its secret with a word of warning.
pub(super) fn shown_once(columns: &[Column], thing: &Value) -> String {
    let mut text = table::of_one(columns, thing);
    for (name, pointer) in SECRETS {
        if let Some(secret) = thing.pointer(pointer) {
            text += &format!("\n{name}: {}\nThis is the only time that it is shown: keep it now.\n", plain(secret));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_last_with_a_warning() {
        let thing = json!({"id": "key_1", "access_key_id": "CKIA1", "secret_access_key": "s3cr3t",
                           "previous_secret_expires_at": "2027-01-31T12:00:00.5Z"});
        assert_eq!(
            shown_once(ROTATED, &thing),
            "id             key_1\naccess key id  CKIA1\nformer until   2027-01-31T12:00:00Z\n\n\
             secret access key: s3cr3t\nThis is the only time that it is shown: keep it now.\n"
        );
    }
}
