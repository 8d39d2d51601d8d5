//! Signs requests as AWS SDKs do (Signature Version 4), for tests that sign with what should be refused. That real SDKs'
//! signatures are accepted is shown with the SDKs themselves.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

const SCOPE: &str = "us-east-1/bedrock/aws4_request";

/// The headers that a request must be sent with: names and values. `path` has no query, and only characters that need no
/// encoding.
pub fn sign(
    access_key: (&str, &str),
    method: &str,
    host: &str,
    path: &str,
    body: &[u8],
) -> [(&'static str, String); 2] {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let date = time::OffsetDateTime::now_utc().format(&format).unwrap();
    let (id, secret) = access_key;
    assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte)), "{path}");
    let canonical = format!(
        "{method}\n{path}\n\nhost:{host}\nx-amz-date:{date}\n\nhost;x-amz-date\n{}",
        hex(&Sha256::digest(body))
    );
    let day = &date[..8];
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{SCOPE}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in std::iter::once(day).chain(SCOPE.split('/')) {
        key = keyed(&key, part.as_bytes());
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{day}/{SCOPE}, SignedHeaders=host;x-amz-date, Signature={}",
        hex(&keyed(&key, to_sign.as_bytes()))
    );
    [("x-amz-date", date), ("authorization", authorization)]
}

fn keyed(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
