//! Requests signed by botocore 1.44.5 on a fixed date with a made-up key, and what must not pass.

use super::*;
use http::Request;

const SECRET: &[u8] = b"not-a-real-secret/for+tests";
/// 2026-11-23T12:00:00Z
const NOW: Micros = 1_795_435_200_000_000;
const HI: &str = r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}"#;

/// A signed request as it came on the wire.
#[derive(Clone)]
struct Wire {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: &'static str,
    secret: &'static [u8],
    now: Micros,
}

fn signed(scope: &str, signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=CKAKEXAMPLE00000001/{scope}/aws4_request, SignedHeaders={signed_headers}, \
         Signature={signature}"
    )
}

fn wire(method: &'static str, target: &str, headers: &[(&'static str, &str)], body: &'static str) -> Wire {
    let mut all = vec![("host", "127.0.0.1:8080".to_owned()), ("x-amz-date", "20261123T120000Z".to_owned())];
    all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Wire { method, target: target.into(), headers: all, body, secret: SECRET, now: NOW }
}

fn converse() -> Wire {
    let authorization = signed(
        "20261123/us-east-1/bedrock",
        "amz-sdk-invocation-id;content-type;host;x-amz-date",
        "0488a6fb1c6605036d1be15efde4934df3949587995470db17f827b98280a4f0",
    );
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "Boto3/1.44.5"),
        ("amz-sdk-invocation-id", "3a1e"),
        ("authorization", &authorization),
    ];
    wire("POST", "/model/us.amazon.nova-lite-v1%3A0/converse", &headers, HI)
}

fn converse_stream_by_arn() -> Wire {
    let authorization = signed(
        "20261123/eu-central-1/bedrock",
        "content-type;host;x-amz-date",
        "a5050c310f052e101152bb3b66d664551310a795a0a203bcaaf09d84a8d2e8e1",
    );
    let target =
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Famazon.nova-lite-v1%3A0/converse-stream";
    wire("POST", target, &[("content-type", "application/json"), ("authorization", &authorization)], HI)
}

fn list_models() -> Wire {
    let authorization = signed(
        "20261123/us-east-1/bedrock",
        "host;x-amz-date",
        "9fe060990ba04b0ebe2d7ba3c714a3043f9eb133aead069def9489c726d14907",
    );
    wire("GET", "/foundation-models?byProvider=Amazon&byOutputModality=TEXT", &[("authorization", &authorization)], "")
}

fn mantle_with_blanks() -> Wire {
    let authorization = signed(
        "20261123/us-east-1/bedrock-mantle",
        "content-type;host;x-amz-custom;x-amz-date",
        "9aaf47c7862722e262e6ac1d2d8e0d4fb463270966fcfcbad54594a77781fa42",
    );
    let headers =
        [("content-type", "application/json"), ("x-amz-custom", "  two   spaces "), ("authorization", &authorization)];
    wire("POST", "/openai/v1/chat/completions", &headers, "{}")
}

/// By the AWS SDK for JavaScript, 3.1163.0, which speaks HTTP/2 and signs `:authority`.
fn converse_over_http2() -> Wire {
    let authorization = signed(
        "20261123/us-east-1/bedrock",
        ":authority;amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;x-amz-content-sha256;x-amz-date;\
         x-amz-user-agent",
        "6ce1be0aaf2be8e69903941fbadd2bbc7e9177705bc8868a099a3f955a4fef4f",
    );
    let headers = [
        ("content-type", "application/json"),
        ("content-length", "56"),
        ("x-amz-user-agent", "aws-sdk-js/3.1163.0"),
        ("amz-sdk-invocation-id", "e73d6192-db82-4bd7-8ac8-ba69765ad72b"),
        ("amz-sdk-request", "attempt=1; max=1"),
        ("x-amz-content-sha256", "45e583fed2564dc00e823303d7609f8587af7f685b993cb0f998afc0d480b01d"),
        ("authorization", &authorization),
    ];
    let target = "http://127.0.0.1:8080/model/us.amazon.nova-lite-v1%3A0/converse";
    wire("POST", target, &headers, HI).without("host")
}

impl Wire {
    fn verify(&self) -> Result<()> {
        self.verify_with(&[self.secret])
    }

    fn verify_with(&self, secrets: &[&[u8]]) -> Result<()> {
        let mut request = Request::builder().method(self.method).uri(&self.target);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = Head::of(&parts);
        let authorization = parts.headers["authorization"].to_str().unwrap();
        let rest = authorization.strip_prefix(ALGORITHM).unwrap().trim();
        let signed = Signed::parse(rest, &head)?;
        signed.check_date(self.now)?;
        signed.verify(&head, secrets.iter().copied(), self.body.as_bytes())
    }

    fn header(mut self, name: &'static str, value: &str) -> Wire {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn also(mut self, name: &'static str, value: &str) -> Wire {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &'static str) -> Wire {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    fn authorization(self, from: &str, to: &str) -> Wire {
        let (_, value) = self.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
        assert!(value.contains(from), "{from} is not in {value}");
        let value = value.replacen(from, to, 1);
        self.header("authorization", &value)
    }
}

fn refusal(wire: &Wire) -> AuthFailure {
    match wire.verify().unwrap_err().kind {
        ErrorKind::Unauthenticated(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_botocore_signed_passes() {
    for (name, wire) in [
        ("converse", converse()),
        ("an ARN in one segment, another region", converse_stream_by_arn()),
        ("a query that is not sorted", list_models()),
        ("mantle, with blanks in a value", mantle_with_blanks()),
    ] {
        wire.verify().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn any_of_the_given_secrets_may_have_signed_and_no_other() {
    let wire = converse();
    wire.verify_with(&[b"new", wire.secret]).unwrap();
    wire.verify_with(&[wire.secret, b"former"]).unwrap();
    for secrets in [&[][..], &[b"new".as_slice()], &[b"new", b"former"]] {
        let error = wire.verify_with(secrets).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated(AuthFailure::BadSignature));
    }
}

#[test]
fn the_commas_may_come_without_blanks_and_the_elements_in_any_order() {
    converse().authorization(", SignedHeaders", ",SignedHeaders").verify().unwrap();
    let signature = "Signature=a5050c310f052e101152bb3b66d664551310a795a0a203bcaaf09d84a8d2e8e1";
    let wire = converse_stream_by_arn()
        .authorization(&format!(", {signature}"), "")
        .authorization("Credential=", &format!("{signature},Credential="));
    wire.verify().unwrap();
}

#[test]
fn http2_signs_its_authority() {
    let mut wire = converse().without("host");
    wire.target = format!("http://127.0.0.1:8080{}", wire.target);
    wire.verify().unwrap();
    wire.target = wire.target.replace("127.0.0.1", "127.0.0.2");
    assert_eq!(refusal(&wire), AuthFailure::BadSignature);
}

#[test]
fn the_authority_may_be_signed_by_its_own_name_but_not_left_out() {
    let wire = converse_over_http2();
    wire.verify().unwrap();
    let mut elsewhere = wire.clone();
    elsewhere.target = elsewhere.target.replace("127.0.0.1", "127.0.0.2");
    assert_eq!(refusal(&elsewhere), AuthFailure::BadSignature);
    assert_eq!(refusal(&wire.clone().authorization(":authority;", "")), AuthFailure::Malformed);
    let mut nowhere = wire;
    nowhere.target = "/model/us.amazon.nova-lite-v1%3A0/converse".into();
    assert_eq!(refusal(&nowhere), AuthFailure::Malformed, "HTTP/1.1 has no authority to sign");
}

#[test]
fn a_payload_hash_must_be_the_bodys() {
    // Signed with it: the hash is a signed header too, so only its own check can tell a wrong one apart.
    let wrong = converse().header("x-amz-content-sha256", &"0".repeat(64));
    assert_eq!(refusal(&wrong), AuthFailure::Malformed);
    let wire = converse()
        .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        .authorization("host;x-amz-date", "host;x-amz-content-sha256;x-amz-date");
    assert_eq!(refusal(&wire), AuthFailure::BadSignature);
}

#[test]
fn any_change_of_what_is_signed_is_refused() {
    let path = |to: &str| Wire { target: to.into(), ..converse() };
    let mutations = [
        ("body", Wire { body: "{}", ..converse() }),
        ("method", Wire { method: "PUT", ..converse() }),
        ("path", path("/model/us.amazon.nova-pro-v1%3A0/converse")),
        ("path decoded", path("/model/us.amazon.nova-lite-v1:0/converse")),
        ("path encoded twice", path("/model/us.amazon.nova-lite-v1%253A0/converse")),
        ("lower-case escape", path("/model/us.amazon.nova-lite-v1%3a0/converse")),
        ("query added", path("/model/us.amazon.nova-lite-v1%3A0/converse?x=1")),
        ("query changed", Wire { target: "/foundation-models?byProvider=Meta".into(), ..list_models() }),
        ("signed header", converse().header("content-type", "text/plain")),
        ("signed header twice", converse().also("content-type", "application/json")),
        ("host", converse().header("host", "localhost:8080")),
        ("date within the window", converse().header("x-amz-date", "20261123T120100Z")),
        ("region", converse().authorization("us-east-1", "us-west-2")),
        ("service", converse().authorization("/bedrock/", "/bedrock-mantle/")),
        ("signature", converse().authorization("0488a6fb", "0488a6fc")),
        ("secret", Wire { secret: b"another", ..converse() }),
        ("empty secret", Wire { secret: b"", ..converse() }),
        ("fewer signed headers", converse().authorization("amz-sdk-invocation-id;", "")),
        ("more signed headers", converse().authorization("host;x-amz-date", "host;user-agent;x-amz-date")),
    ];
    for (name, wire) in mutations {
        assert_eq!(refusal(&wire), AuthFailure::BadSignature, "{name}");
    }
}

#[test]
fn what_can_not_be_a_valid_signature_is_refused_before_the_key_is_looked_up() {
    let mutations = [
        ("host not signed", converse().authorization("host;", "")),
        ("date not signed", converse().authorization(";x-amz-date", "")),
        ("an x-amz header not signed", converse().header("x-amz-custom", "1")),
        ("a signed header is absent", converse().without("amz-sdk-invocation-id")),
        ("no date", converse().without("x-amz-date")),
        ("two dates", converse().also("x-amz-date", "20261123T120000Z")),
        ("a date that is none", converse().header("x-amz-date", "20261323T120000Z")),
        ("scope date", converse().authorization("20261123/", "20261122/")),
        ("empty scope date", converse().authorization("20261123/", "/")),
        ("short scope date", converse().authorization("20261123/", "2026/")),
        ("unknown service", converse().authorization("/bedrock/", "/s3/")),
        ("no terminator", converse().authorization("/aws4_request", "")),
        ("another terminator", converse().authorization("aws4_request", "aws5_request")),
        ("no region", converse().authorization("us-east-1", "")),
        ("no key", converse().authorization("CKAKEXAMPLE00000001", "")),
        ("short signature", converse().authorization("0488a6fb", "")),
        ("upper-case signature", converse().authorization("a4f0", "A4F0")),
        ("no signature", converse().authorization("Signature=", "")),
        ("two signatures", converse().authorization("Signature=", "Signature=00, Signature=")),
        ("an unknown element", converse().authorization("Credential=", "X=1, Credential=")),
        ("upper-case names", converse().authorization("content-type", "Content-Type")),
        ("a name twice", converse().authorization("host;", "host;host;")),
    ];
    for (name, wire) in mutations {
        assert_eq!(refusal(&wire), AuthFailure::Malformed, "{name}");
    }
}

#[test]
fn a_session_token_belongs_to_no_key_of_ours() {
    let wire = converse()
        .header("x-amz-security-token", "t")
        .authorization("host;x-amz-date", "host;x-amz-date;x-amz-security-token");
    assert_eq!(refusal(&wire), AuthFailure::UnknownAccessKey);
}

#[test]
fn a_signature_lives_five_minutes_to_both_sides() {
    const MINUTE: Micros = 60 * 1_000_000;
    for now in [NOW - 5 * MINUTE, NOW + 5 * MINUTE] {
        Wire { now, ..converse() }.verify().unwrap();
    }
    for now in [NOW - 5 * MINUTE - 1, NOW + 5 * MINUTE + 1, NOW + 900 * MINUTE] {
        assert_eq!(refusal(&Wire { now, ..converse() }), AuthFailure::Expired);
    }
    let text = Wire { now: NOW + 6 * MINUTE, ..converse() }.verify().unwrap_err().message;
    assert_eq!(
        text,
        "Signature expired: 20261123T120000Z is now earlier than 20261123T120100Z (20261123T120600Z - 5 min.)"
    );
}
