//! `caprock request show`: one request, from the admin API, as a table or JSON.

use super::Show;
use crate::admin::problem::Problem;
use crate::admin::view::{PrefillView, RequestView};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::io::Write;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_REPLY_BYTES: usize = 1 << 20;

/// Fetches and prints.
pub(super) async fn show(command: Show) -> Result<(), String> {
    let fetched = tokio::time::timeout(PATIENCE, fetch(&command)).await;
    let (status, body) = fetched.map_err(|_| format!("{} does not answer", command.admin_url))??;
    if status != StatusCode::OK {
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        return Err(problem.map_or_else(|| format!("the admin API answered {status}"), |problem| problem.detail));
    }
    let mut out = std::io::stdout().lock();
    let written = if command.json {
        out.write_all(&body).and_then(|()| out.write_all(b"\n"))
    } else {
        let view = serde_json::from_slice(&body).map_err(|error| format!("the admin API's reply: {error}"))?;
        out.write_all(table(&view).as_bytes())
    };
    written.map_err(|error| error.to_string())
}

async fn fetch(command: &Show) -> Result<(StatusCode, Bytes), String> {
    let url: Uri = command.admin_url.parse().map_err(|_| format!("`{}` is no URL", command.admin_url))?;
    let (Some("http"), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(format!("`{}`: only http://host:port is supported", command.admin_url));
    };
    if !command.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(format!("`{}` is no request id", command.id));
    }
    let unreachable = |error: &dyn std::fmt::Display| format!("can't reach {}: {error}", command.admin_url);

    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
    let request = Request::get(format!("/admin/v1/requests/{}", command.id))
        .header(HOST, authority.as_str())
        .header(AUTHORIZATION, format!("Bearer {}", command.admin_token))
        .body(Empty::<Bytes>::new())
        .map_err(|_| "the admin token can't be sent in a header".to_owned())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_REPLY_BYTES).collect().await;
        Ok((status, body.map_err(|error| unreachable(&error))?.to_bytes()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        // The connection may end first, its reply already read.
        _ = connection => exchange.await,
    }
}

fn table(view: &RequestView) -> String {
    let mut rows = vec![
        ("request", view.request_id.clone()),
        ("state", view.outcome.as_ref().map_or(view.state.clone(), |outcome| format!("{}, {outcome}", view.state))),
        ("model", model(view)),
        ("dialect", view.dialect.clone()),
        ("tokens", format!("{} in, {} out", view.input_tokens, view.output_tokens)),
    ];
    rows.extend(view.finish.clone().map(|finish| ("finish", finish)));
    rows.extend(view.error.clone().map(|error| ("error", error)));
    if let (Some(ttft), Some(latency)) = (view.ttft_ms, view.latency_ms) {
        rows.push(("time", format!("{ttft} ms to the first token, {latency} ms to the last")));
    }
    if let Some(path) = &view.path {
        rows.push(("engine", path.engine.clone()));
        rows.push(("prefill", prefill(&path.prefill, &path.decode)));
        rows.push(("decode", path.decode.clone()));
    }
    if let Some(timings) = &view.timings {
        let ms = |us: u64| format!("{}.{:03} ms", us / 1000, us % 1000);
        let stages = [
            ("queue", timings.queue_us),
            ("prefill", timings.prefill_us),
            ("hand-off", timings.handoff_us),
            ("decode", timings.decode_us),
        ];
        let stages: Vec<String> = stages.iter().map(|(name, us)| format!("{name} {}", ms(*us))).collect();
        rows.push(("stages", stages.join(", ")));
    }
    if view.attempt > 1 {
        rows.push(("attempt", view.attempt.to_string()));
    }
    match &view.ledger_entry {
        Some(entry) => {
            rows.push(("cost", format!("{} ({} nano-USD)", usd(entry.amount_nanousd), entry.amount_nanousd)));
            let (input, output) = (entry.input_picousd_per_token, entry.output_picousd_per_token);
            rows.push(("price", format!("{input} in, {output} out, in pico-USD per token; {}", entry.price_source)));
            rows.push(("ledger entry", entry.entry_id.clone()));
        }
        None => rows.push(("ledger entry", "none yet".into())),
    }
    rows.push(("tenant", format!("{}, {}, {}", view.tenant_id, view.project_id, view.key_id)));
    rows.push(("accepted", date(view.accepted_at_us)));
    rows.extend(view.settled_at_us.map(|at| ("settled", date(at))));
    rows.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect()
}

fn model(view: &RequestView) -> String {
    if view.model == view.model_asked {
        return view.model.clone();
    }
    format!("{} answered for {}", view.model, view.model_asked)
}

fn prefill(path: &PrefillView, decode: &str) -> String {
    match path {
        PrefillView::Remote { prefill_id, kv_bytes, chunks } => {
            format!("{prefill_id}, {kv_bytes} bytes of KV cache handed over in {chunks} chunks")
        }
        PrefillView::Local { reason } => format!("{decode} itself: {reason}"),
    }
}

fn usd(nanousd: i64) -> String {
    let sign = if nanousd < 0 { "-" } else { "" };
    let amount = nanousd.unsigned_abs();
    format!("{sign}${}.{:09}", amount / 1_000_000_000, amount % 1_000_000_000)
}

fn date(us: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000);
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| us.to_string())
}
