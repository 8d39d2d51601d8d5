//! What the other ports and the edges of HTTP say.

use caprock_tests::stack::StackSpec;
use caprock_tests::wait::within;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn tls_speaks_http2_to_clients_that_trust_the_development_ca() {
    let stack = StackSpec::sim(&[]).start().await;
    let url = format!("{}/healthz", stack.gateway.tls_url());
    let curl = async |arguments: &[&str]| {
        tokio::process::Command::new("curl")
            .args(["-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"])
            .args(arguments)
            .arg(&url)
            .output()
            .await
            .unwrap()
    };
    let ca = stack.gateway.ca_file().display().to_string();
    let over_h2 = curl(&["--http2", "--cacert", &ca]).await;
    assert_eq!(String::from_utf8_lossy(&over_h2.stdout), "2 200", "{}", String::from_utf8_lossy(&over_h2.stderr));
    let over_h1 = curl(&["--http1.1", "--cacert", &ca]).await;
    assert_eq!(String::from_utf8_lossy(&over_h1.stdout), "1.1 200");
    assert!(!curl(&[]).await.status.success(), "nobody else trusts that CA");
}

#[tokio::test]
async fn metrics_are_on_the_admin_port_only() {
    let stack = StackSpec::sim(&[]).start().await;
    let admin = stack.client().admin("/metrics").await;
    assert_eq!(admin.status(), 200);
    assert!(admin.text().await.unwrap().contains("caprock"));
    assert_eq!(stack.client().get("/metrics").await.status(), 404);
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_let_go() {
    let mut spec = StackSpec::sim(&[]);
    spec.gateway = "[http]\nfirst_byte_ms = 300\nheader_ms = 300".into();
    let stack = spec.start().await;
    for first in ["", "POST /v1/chat/completions HTTP/1.1\r\nHost: "] {
        let mut socket = tokio::net::TcpStream::connect(stack.gateway.address()).await.unwrap();
        socket.write_all(first.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = within("the gateway closes", Duration::from_secs(10), socket.read_to_end(&mut rest)).await;
        assert!(closed.is_ok() || rest.is_empty());
    }
}
