//! `caprock audit`: the log of administrators' changes, listed, exported and checked.

use super::api::{Api, Common, Paging, print};
use super::client::{Client, Connection, segment, with_query};
use super::table::Column;
use super::units;
use crate::admin::audit_log::{AuditMarkView, VerificationView};
use crate::audit::{End, Exported, Mark, Walk};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXPORT: &str = "/admin/v1/audit-log/export";
/// For the server to go through the whole log.
const VERIFY_PATIENCE: Duration = Duration::from_secs(600);
/// Longest line of a file.
const MAX_LINE_BYTES: u64 = 16 << 20;

const LIST: &[Column] = &[
    Column::text("seq", "/seq"),
    Column::text("at", "/at"),
    Column::text("action", "/action"),
    Column::text("target", "/target/id"),
    Column::text("author", "/author/id"),
    Column::text("role", "/author/role"),
    Column::text("from", "/author/address"),
    Column::text("tenant", "/tenant_id"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Lists changes, newest first.
    List(List),
    /// Writes the log to a file, as lines of JSON.
    Export(Export),
    /// Checks that no entry was changed, removed, added or moved. Ends with 1 when one was.
    ///
    /// The gateway checks its whole log, seals included, and this program checks the digests of an export by itself. With
    /// --file only an earlier export is checked, without the gateway.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this tenant's changes, by id or name.
    #[arg(long, env = "CAPROCK_TENANT")]
    tenant: Option<String>,
    /// Only this action, such as project.create.
    #[arg(long)]
    action: Option<String>,
    /// Only changes of things of this kind, such as project.
    #[arg(long, value_name = "KIND")]
    target_kind: Option<String>,
    /// Only changes of the thing with this id.
    #[arg(long, value_name = "ID")]
    target_id: Option<String>,
    /// Only changes made with this credential.
    #[arg(long, value_name = "ID")]
    author_id: Option<String>,
    /// From this time on: 2027-01-31T12:00:00Z, a day, or so long ago: 7d.
    #[arg(long, value_name = "TIME", value_parser = units::at_or_ago)]
    from: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = units::at_or_ago)]
    to: Option<String>,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file; it appears when the export is complete, for its owner to read.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The first entry's number.
    #[arg(long, default_value_t = 1, value_name = "SEQ")]
    from_seq: i64,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// An earlier export, in place of the gateway's log. Only digests are checked: seals need the gateway's key.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The log must have this entry: one that an earlier export or verification ended with, kept where nobody who can
    /// change the log can change it.
    #[arg(long, value_name = "SEQ:DIGEST", value_parser = mark)]
    head: Option<Mark>,
    /// JSON in place of words.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

fn mark(text: &str) -> Result<Mark, String> {
    let odd = || "it is no number and digest with a colon between them".to_owned();
    let (seq, digest) = text.split_once(':').ok_or_else(odd)?;
    let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(odd)?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { Ok(Mark { seq, digest: digest.to_ascii_lowercase() }) } else { Err(odd()) }
}

/// What `audit verify` says of a log or of a file.
#[derive(Debug, Serialize)]
struct Verdict {
    ok: bool,
    /// What the gateway found; absent for a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<VerificationView>,
    /// What this program found by itself in the digests.
    digests: VerificationView,
    /// Number of the first entry that was looked at.
    from_seq: Option<i64>,
    /// Set when the export is not whole, does not have the entry that is known, or contradicts the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    contradiction: Option<String>,
}

pub(super) async fn run(command: Audit) -> Result<(), String> {
    match command {
        Audit::List(list) => self::list(list).await,
        Audit::Export(export) => self::export(export).await,
        Audit::Verify(verify) => self::verify(verify).await,
    }
}

async fn list(command: List) -> Result<(), String> {
    let api = Api::new(command.common)?;
    let path = match &command.tenant {
        Some(tenant) => format!("/admin/v1/tenants/{}/audit-log", segment(&api.tenant(tenant).await?)),
        None => "/admin/v1/audit-log".to_owned(),
    };
    let query = [
        ("action", command.action),
        ("target_kind", command.target_kind),
        ("target_id", command.target_id),
        ("author_id", command.author_id),
        ("from", command.from),
        ("to", command.to),
    ];
    api.list(&path, &query, &command.paging, LIST).await
}

async fn export(command: Export) -> Result<(), String> {
    let client = Client::new(command.connection)?;
    let mut unfinished = command.out.clone().into_os_string();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let cannot = |error: std::io::Error| format!("can't write {}: {error}", unfinished.display());
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let mut out = BufWriter::new(file.map_err(cannot)?);
    let path = with_query(EXPORT, &[("from_seq", Some(command.from_seq.to_string()))]);
    let mut own = Own::new(command.from_seq == 1, None);
    let copied = client.lines(&path, |line| {
        own.take(line)?;
        out.write_all(line).and_then(|()| out.write_all(b"\n")).map_err(cannot)
    });
    let copied = copied.await.and_then(|()| own.end.ok_or("the export broke off: it has no final line".into()));
    let copied =
        copied.and_then(|end| out.into_inner().map(|file| (end, file)).map_err(|error| cannot(error.into_error())));
    let named = copied.and_then(|(end, file)| {
        file.sync_all().map_err(cannot)?;
        std::fs::rename(&unfinished, &command.out).map_err(cannot).map(|()| end)
    });
    if named.is_err() {
        // What is there of it is of no use; that it broke off is what matters.
        let _ = std::fs::remove_file(&unfinished);
    }
    let End { head, entries } = named?;
    print(&format!("{entries} entries in {}, up to {}:{}\n", command.out.display(), head.seq, head.digest))
}

async fn verify(command: Verify) -> Result<(), String> {
    let verdict = match &command.file {
        Some(file) => of_file(file, command.head)?,
        None => of_gateway(&Client::new(command.connection)?, command.head).await?,
    };
    if command.json {
        let text = serde_json::to_string_pretty(&verdict).map_err(|error| error.to_string())?;
        print(&format!("{text}\n"))?;
    } else if verdict.ok {
        print(&words(&verdict))?;
    }
    if verdict.ok { Ok(()) } else { Err(words(&verdict).trim_end().to_owned()) }
}

async fn of_gateway(client: &Client, known: Option<Mark>) -> Result<Verdict, String> {
    let body = client.get("/admin/v1/audit-log/verification", VERIFY_PATIENCE).await?;
    let gateway: VerificationView =
        serde_json::from_slice(&body).map_err(|error| format!("the admin API's reply: {error}"))?;
    let mut own = Own::new(true, known);
    // The last entry that the gateway looked at, as the export has it.
    let mut at_head = None;
    let head = gateway.head.seq;
    client
        .lines(EXPORT, |text| {
            if let Exported::Entry(line) = own.take(text)?
                && line.seq == head
            {
                at_head = Some(line.digest);
            }
            Ok(())
        })
        .await?;
    let same = head == 0 || at_head.as_ref() == Some(&gateway.head.digest);
    // Only where both are whole, or it would say twice what is said already.
    let contradiction = (gateway.ok && !same)
        .then(|| format!("the export does not have the entry {head} that the gateway says is the last"));
    Ok(own.verdict(Some(gateway), contradiction))
}

fn of_file(path: &Path, known: Option<Mark>) -> Result<Verdict, String> {
    let cannot = |error: std::io::Error| format!("can't read {}: {error}", path.display());
    let mut file = BufReader::new(File::open(path).map_err(cannot)?);
    let mut own = Own::new(false, known);
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut text).map_err(cannot)?;
        if read == 0 {
            let empty = own.first.is_none().then(|| "the file has no entry".to_owned());
            return Ok(own.verdict(None, empty));
        }
        own.take(text.strip_suffix(b"\n").unwrap_or(&text))?;
    }
}

/// This program's own look at the digests.
struct Own {
    walk: Walk<'static>,
    from_start: bool,
    first: Option<i64>,
    last: Option<Mark>,
    entries: u64,
    end: Option<End>,
    /// An entry that must be there, until it has come.
    known: Option<Mark>,
}

impl Own {
    fn new(from_start: bool, known: Option<Mark>) -> Own {
        let walk = Walk::of_digests(from_start);
        Own { walk, from_start, first: None, last: None, entries: 0, end: None, known }
    }

    fn take(&mut self, text: &[u8]) -> Result<Exported, String> {
        let read: Exported = serde_json::from_slice(text).map_err(|error| format!("this is no export: {error}"))?;
        if self.end.is_some() {
            return Err("this is no export: it goes on after its final line".into());
        }
        let line = match &read {
            Exported::End(end) => {
                self.end = Some(end.clone());
                return Ok(read);
            }
            Exported::Entry(line) => line,
        };
        self.entries += 1;
        self.last = Some(Mark { seq: line.seq, digest: line.digest.clone() });
        self.known = self.known.take().filter(|known| self.last.as_ref() != Some(known));
        if self.first.is_none() {
            self.first = Some(line.seq);
            // A file that begins with the first entry is held to that.
            if !self.from_start && line.seq == 1 {
                self.walk = Walk::of_digests(true);
            }
        }
        self.walk.line(line);
        Ok(read)
    }

    /// Its final line, once that is there and says what came before it.
    fn whole(&self) -> Result<End, String> {
        let end = self.end.as_ref().ok_or("the export was cut off: it has no final line")?;
        let is_last = self.last.as_ref().is_none_or(|last| *last == end.head);
        if is_last && self.entries == end.entries {
            return Ok(end.clone());
        }
        let End { head, entries } = end;
        Err(format!("the export is not whole: its final line names {entries} entries, the last of them {}", head.seq))
    }

    fn verdict(self, gateway: Option<VerificationView>, contradiction: Option<String>) -> Verdict {
        let not_whole = self.whole().err();
        let unknown =
            self.known.as_ref().map(|known| format!("it does not have the entry {}:{}", known.seq, known.digest));
        let digests = VerificationView::of(self.walk.end(), None);
        // Where an entry is bad, the rest says nothing more.
        let contradiction = contradiction.or(not_whole.filter(|_| digests.ok)).or(unknown);
        let ok = digests.ok && contradiction.is_none() && gateway.as_ref().is_none_or(|gateway| gateway.ok);
        Verdict { ok, gateway, digests, from_seq: self.first, contradiction }
    }
}

fn words(verdict: &Verdict) -> String {
    let mut text = String::new();
    let mut say = |who: &str, view: &VerificationView| {
        text.push_str(&match &view.first_bad {
            Some(bad) => format!("{who}: entry {}: {}\n", bad.seq, bad.why),
            None => format!("{who}: {} entries are as they were written{}\n", view.entries, up_to(&view.head)),
        });
    };
    if let Some(gateway) = &verdict.gateway {
        say("gateway (digests, seals, columns, end)", gateway);
    }
    say("digests, checked here", &verdict.digests);
    if let Some(from) = verdict.from_seq.filter(|from| *from > 1) {
        text.push_str(&format!("the file begins with entry {from}; what was before it was not looked at\n"));
    }
    if let Some(contradiction) = &verdict.contradiction {
        text.push_str(&format!("{contradiction}\n"));
    }
    text
}

fn up_to(head: &AuditMarkView) -> String {
    if head.seq == 0 { String::new() } else { format!(", up to number {} with digest {}", head.seq, head.digest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::desk::Desk;
    use crate::router;
    use crate::store::testing::execute;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        audit: Audit,
    }

    /// A gateway with some entries, five of them about tenants, and its admin port's address.
    async fn desk() -> (Desk, String) {
        let desk = Desk::open().await;
        for n in 0..5 {
            desk.tenant(&format!("tenant {n}")).await;
        }
        desk.app.anchor.check(&desk.app.store).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Ends with the test's runtime.
        tokio::spawn(axum::serve(listener, router::operators(&desk.app)).into_future());
        (desk, url)
    }

    async fn caprock_audit(arguments: &[&str], url: &str, token: &str) -> Result<(), String> {
        let given = ["audit"].into_iter().chain(arguments.iter().copied());
        run(Cli::try_parse_from(given.chain(["--admin-url", url, "--admin-token", token])).unwrap().audit).await
    }

    #[tokio::test]
    async fn an_export_is_whole_or_not_there_and_is_checked_without_the_gateway() {
        let (desk, url) = desk().await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log.ndjson");
        let path = file.to_str().unwrap();
        caprock_audit(&["export", "--out", path], &url, &desk.root).await.unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let entries = desk.app.store.audit_end().await.unwrap().unwrap().seq;
        let changed = text.lines().position(|line| line.contains("tenant 2")).unwrap() + 1;
        assert_eq!(text.lines().count() as i64, entries + 1, "and a final line");
        let whole = of_file(&file, None).unwrap();
        assert_eq!((whole.ok, whole.digests.entries as i64, whole.digests.head.seq), (true, entries, entries));
        caprock_audit(&["verify", "--file", path], &url, "not needed").await.unwrap();

        std::fs::write(&file, text.replace("tenant 2", "tenant 9")).unwrap();
        let error = caprock_audit(&["verify", "--json", "--file", path], &url, "not needed").await.unwrap_err();
        assert!(error.contains(&format!("entry {changed}: its digest is not")), "{error}");
        let without = |skipped: usize| -> String {
            text.split_inclusive('\n').enumerate().filter(|(at, _)| *at != skipped).map(|(_, line)| line).collect()
        };
        std::fs::write(&file, without(1)).unwrap();
        assert_eq!(of_file(&file, None).unwrap().digests.first_bad.unwrap().seq, 2);
        std::fs::write(&file, without(0)).unwrap();
        let part = of_file(&file, None).unwrap();
        assert!(part.digests.ok && words(&part).contains("begins with entry 2"), "{}", words(&part));
        assert!(words(&part).contains("final line names"), "{}", words(&part));
        std::fs::write(&file, "{}").unwrap();
        assert!(of_file(&file, None).unwrap_err().contains("no export"));

        let refused = dir.path().join("refused.ndjson");
        let path = refused.to_str().unwrap();
        caprock_audit(&["export", "--out", path], &url, "ckadm_wrong").await.unwrap_err();
        assert!(!refused.exists(), "a refused export made a file");
        let error = caprock_audit(&["export", "--out", path, "--from-seq", "0"], &url, &desk.root).await.unwrap_err();
        assert_eq!(error, "Entries are numbered from 1. (from_seq)");
    }

    #[tokio::test]
    async fn a_file_that_was_cut_emptied_or_is_of_another_log_is_found_out() {
        let (desk, url) = desk().await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log.ndjson");
        let path = file.to_str().unwrap();
        let verify = async |more: &[&str]| {
            let arguments = [&["verify", "--file", path], more].concat();
            caprock_audit(&arguments, &url, "not needed").await
        };
        caprock_audit(&["export", "--out", path], &url, &desk.root).await.unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let (entries, end) = (lines.len() - 1, lines[lines.len() - 1]);

        for (cut, why) in [
            (String::new(), "no entry"),
            (end.to_owned(), "no entry"),
            (lines[..entries].concat(), "no final line"),
            (lines[..3].concat(), "no final line"),
            (lines[..3].concat() + end, "not whole"),
            (text.trim_end()[..text.len() / 2].to_owned(), "no export"),
            (text.clone() + lines[0], "goes on after"),
        ] {
            std::fs::write(&file, &cut).unwrap();
            let error = verify(&[]).await.unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }

        std::fs::write(&file, &text).unwrap();
        let digest = |at: usize| {
            let line: crate::audit::Line = serde_json::from_str(lines[at]).unwrap();
            format!("{}:{}", line.seq, line.digest)
        };
        for known in [digest(entries - 1), digest(2)] {
            verify(&["--head", &known]).await.unwrap();
            caprock_audit(&["verify", "--head", &known], &url, &desk.root).await.unwrap();
        }
        let other = digest(2).replacen("3:", "4:", 1);
        assert!(verify(&["--head", &other]).await.unwrap_err().contains("does not have the entry 4:"));
        assert!(mark("4").is_err() && mark("0:00").is_err() && mark(&other[..20]).is_err());

        caprock_audit(&["export", "--out", path, "--from-seq", "3"], &url, &desk.root).await.unwrap();
        verify(&[]).await.unwrap();
    }

    #[tokio::test]
    async fn verify_believes_neither_the_database_nor_the_gateway_alone() {
        let (desk, url) = desk().await;
        let connection = || Connection::of(&url, &desk.root);
        let client = Client::new(connection()).unwrap();
        let verdict = of_gateway(&client, None).await.unwrap();
        let gateway = verdict.gateway.as_ref().unwrap();
        assert!(verdict.ok && gateway.ok && gateway.entries > 5 && verdict.digests.head == gateway.head);
        caprock_audit(&["verify"], &url, &desk.root).await.unwrap();
        caprock_audit(&["list", "--limit", "2", "--action", "tenant.create"], &url, &desk.root).await.unwrap();
        let error = caprock_audit(&["list", "--after", "yesterday"], &url, &desk.root).await.unwrap_err();
        assert!(error.ends_with("(after)"), "{error}");

        execute(&desk.app.store, "UPDATE audit_log SET seal = 'v1.00' WHERE seq = 4").await;
        let verdict = of_gateway(&client, None).await.unwrap();
        assert!(!verdict.ok && verdict.digests.ok, "seals are for the gateway to check");
        assert_eq!(verdict.gateway.unwrap().first_bad.unwrap().seq, 4);
        let error = caprock_audit(&["verify"], &url, &desk.root).await.unwrap_err();
        assert!(error.contains("entry 4: its seal"), "{error}");
    }
}
