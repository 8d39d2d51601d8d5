use super::*;
use crate::audit::Sealer;
use proptest::prelude::*;
use serde_json::json;

/// A log in memory, as a database would hold it.
#[derive(Debug, Clone)]
struct Log {
    rows: Vec<AuditRow>,
    end: Option<Mark>,
}

const KEY: (u32, [u8; 32]) = (1, [7; 32]);
const NEW_KEY: (u32, [u8; 32]) = (2, [8; 32]);

fn record(seq: i64) -> String {
    let entry = json!({
        "seq": seq,
        "at": 1_000 + seq,
        "author": {"kind": "admin_token", "id": format!("adm_{}", seq % 3), "role": "platform_admin"},
        "action": "project.create",
        "tenant_id": (seq % 2 == 0).then(|| format!("ten_{seq}")),
        "target": {"kind": "project", "id": format!("prj_{seq}")},
        "after": {"name": "a name"},
    });
    entry.to_string()
}

fn row(sealer: &Sealer, seq: i64, before: &str, record: String) -> AuditRow {
    let copied: Copied = serde_json::from_str(&record).unwrap();
    let link = sealer.link(seq, before, &record);
    AuditRow {
        seq,
        at: copied.at,
        tenant_id: copied.tenant_id,
        action: copied.action,
        target_kind: copied.target.kind,
        target_id: copied.target.id,
        author_id: copied.author.id,
        record,
        digest: link.digest,
        seal: link.seal,
    }
}

impl Log {
    fn of(sealer: &Sealer, entries: i64) -> Log {
        let mut rows: Vec<AuditRow> = Vec::new();
        for seq in 1..=entries {
            let before = rows.last().map(|row| row.digest.clone()).unwrap_or_default();
            rows.push(row(sealer, seq, &before, record(seq)));
        }
        let mut log = Log { rows, end: None };
        log.end = Some(log.last());
        log
    }

    fn last(&self) -> Mark {
        let last = self.rows.last();
        last.map_or(Mark { seq: 0, digest: String::new() }, |row| Mark { seq: row.seq, digest: row.digest.clone() })
    }

    /// As a database gives them: in order, no number twice.
    fn verify(&self, sealer: &Sealer, anchor: Option<Mark>) -> Walked {
        let mut rows = self.rows.clone();
        rows.sort_by_key(|row| row.seq);
        let until = self.end.as_ref().map_or(i64::MAX, |end| end.seq);
        let is_stray = |row: &&AuditRow| row.seq > until || row.seq < 1;
        let strays = rows.iter().filter(is_stray).count();
        let mut walk = Walk::sealed(sealer, anchor);
        rows.iter().filter(|row| !is_stray(row)).for_each(|row| walk.row(row));
        walk.end_at(self.end.as_ref(), strays as u64)
    }

    /// Chains all entries anew from index `from` on, as somebody would who knows how but has not the key: with seals of
    /// a key of their own.
    fn rechain(&mut self, from: usize) {
        let theirs = Sealer::with(&[(1, [66; 32])]);
        let mut before = from.checked_sub(1).map(|at| self.rows[at].digest.clone()).unwrap_or_default();
        for row in &mut self.rows[from..] {
            let link = theirs.link(row.seq, &before, &row.record);
            (row.digest, row.seal) = (link.digest.clone(), link.seal);
            before = link.digest;
        }
        self.end = Some(self.last());
    }
}

/// What somebody does to a log.
#[derive(Debug, Clone)]
enum Tampering {
    /// One column of one row, 0 to 9.
    Column {
        at: usize,
        column: usize,
    },
    Delete {
        at: usize,
    },
    /// Exchanges all but the numbers.
    Swap {
        at: usize,
        with: usize,
    },
    /// Moves an entry to a number that is free.
    Renumber {
        at: usize,
        by: i64,
    },
    /// A forged entry, all later ones pushed on by one.
    Insert {
        at: usize,
    },
    /// An old entry once more, at the end.
    Replay {
        at: usize,
    },
    /// From here on, the end left as it is.
    Truncate {
        at: usize,
    },
    /// From here on, the end set back.
    TruncateWithEnd {
        at: usize,
    },
    /// A record changed and all digests from there computed anew.
    Rechain {
        at: usize,
    },
    /// The end set back, the entries left.
    SetEndBack {
        at: usize,
    },
    ForgeEnd,
    RemoveEnd,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let at = any::<usize>;
    prop_oneof![
        4 => (at(), 0usize..10).prop_map(|(at, column)| Tampering::Column { at, column }),
        1 => at().prop_map(|at| Tampering::Delete { at }),
        1 => (at(), at()).prop_map(|(at, with)| Tampering::Swap { at, with }),
        1 => (at(), 1i64..50).prop_map(|(at, by)| Tampering::Renumber { at, by }),
        1 => at().prop_map(|at| Tampering::Insert { at }),
        1 => at().prop_map(|at| Tampering::Replay { at }),
        1 => at().prop_map(|at| Tampering::Truncate { at }),
        1 => at().prop_map(|at| Tampering::TruncateWithEnd { at }),
        1 => at().prop_map(|at| Tampering::Rechain { at }),
        1 => at().prop_map(|at| Tampering::SetEndBack { at }),
        1 => Just(Tampering::ForgeEnd),
        1 => Just(Tampering::RemoveEnd),
    ]
}

/// Does it, and says which number must be named and, where it can be only one, which fault.
fn apply(log: &mut Log, done: &Tampering) -> (i64, Option<Fault>) {
    let count = log.rows.len();
    let sequence = |at: usize| (at % count, i64::try_from(at % count).unwrap() + 1);
    let last = i64::try_from(count).unwrap();
    match *done {
        Tampering::Column { at, column } => {
            let (at, seq) = sequence(at);
            let row = &mut log.rows[at];
            let fault = match column {
                0 => {
                    row.seq = last + 9;
                    Fault::Missing
                }
                1 => {
                    row.at += 1;
                    Fault::Column("at")
                }
                2 => {
                    row.tenant_id = if row.tenant_id.is_some() { None } else { Some("ten_other".into()) };
                    Fault::Column("tenant_id")
                }
                3 => {
                    row.action.push('x');
                    Fault::Column("action")
                }
                4 => {
                    row.target_kind.push('x');
                    Fault::Column("target_kind")
                }
                5 => {
                    row.target_id.push('x');
                    Fault::Column("target_id")
                }
                6 => {
                    row.author_id.push('x');
                    Fault::Column("author_id")
                }
                7 => {
                    row.record = row.record.replace("a name", "a n4me");
                    Fault::Digest
                }
                8 => {
                    row.digest = row.digest.to_uppercase();
                    Fault::Digest
                }
                _ => {
                    row.seal.push('0');
                    Fault::Seal
                }
            };
            (seq, Some(fault))
        }
        Tampering::Delete { at } => {
            let (at, seq) = sequence(at);
            log.rows.remove(at);
            (seq, Some(if seq == last { Fault::CutOff } else { Fault::Missing }))
        }
        Tampering::Swap { at, with } => {
            let ((at, seq), (with, other)) = (sequence(at), sequence(with));
            if at == with {
                // Nothing to swap with itself: remove it instead.
                return apply(log, &Tampering::Delete { at });
            }
            log.rows.swap(at, with);
            (log.rows[at].seq, log.rows[with].seq) = (seq, other);
            (seq.min(other), Some(Fault::Digest))
        }
        Tampering::Renumber { at, by } => {
            let (at, seq) = sequence(at);
            log.rows[at].seq = last + by;
            (seq, Some(if seq == last { Fault::CutOff } else { Fault::Missing }))
        }
        Tampering::Insert { at } => {
            let (at, seq) = sequence(at);
            log.rows[at..].iter_mut().for_each(|row| row.seq += 1);
            let before = at.checked_sub(1).map(|at| log.rows[at].digest.clone()).unwrap_or_default();
            let forger = Sealer::with(&[(1, [66; 32])]);
            log.rows.insert(at, row(&forger, seq, &before, record(seq)));
            log.end = Some(log.last());
            (seq, Some(Fault::Seal))
        }
        Tampering::Replay { at } => {
            let (at, _) = sequence(at);
            let old = AuditRow { seq: last + 1, ..log.rows[at].clone() };
            log.rows.push(old);
            log.end = Some(log.last());
            (last + 1, Some(Fault::Digest))
        }
        Tampering::Truncate { at } => {
            let (at, seq) = sequence(at);
            log.rows.truncate(at);
            (seq, Some(Fault::CutOff))
        }
        Tampering::TruncateWithEnd { at } => {
            let (at, seq) = sequence(at);
            log.rows.truncate(at);
            log.end = Some(log.last());
            (seq, Some(Fault::CutOff))
        }
        Tampering::Rechain { at } => {
            let (at, seq) = sequence(at);
            log.rows[at].record = log.rows[at].record.replace("a name", "a n4me");
            log.rechain(at);
            (seq, Some(Fault::Seal))
        }
        Tampering::SetEndBack { at } => {
            let (at, seq) = sequence(at);
            log.end = Some(Mark {
                seq: seq - 1,
                digest: at.checked_sub(1).map(|at| log.rows[at].digest.clone()).unwrap_or_default(),
            });
            (seq, None)
        }
        Tampering::ForgeEnd => {
            log.end = Some(Mark { seq: last, digest: "0".repeat(64) });
            (last, Some(Fault::End))
        }
        Tampering::RemoveEnd => {
            log.end = None;
            (last, Some(Fault::End))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_a_log_the_first_entry_that_it_concerns_is_named(
        entries in 1i64..30, done in tampering(),
    ) {
        let sealer = Sealer::with(&[KEY]);
        let mut log = Log::of(&sealer, entries);
        let anchor = Some(log.last());
        let whole = log.verify(&sealer, anchor.clone());
        prop_assert_eq!(&whole, &Walked { entries: entries as u64, last: log.last(), first_bad: None });

        let (seq, fault) = apply(&mut log, &done);
        let found = log.verify(&sealer, anchor).first_bad;
        prop_assert_eq!(found.map(|finding| finding.seq), Some(seq), "{:?}", found);
        if let (Some(fault), Some(found)) = (fault, found) {
            // A number that was the last one's is also missed by the anchor.
            let is_missed = matches!((fault, found.fault), (Fault::Missing, Fault::CutOff));
            prop_assert!(found.fault == fault || is_missed, "{:?}", found);
        }
    }

    #[test]
    fn without_a_key_the_digests_still_tell_what_was_not_chained_anew(entries in 2i64..20, at in any::<usize>()) {
        let mut log = Log::of(&Sealer::with(&[KEY]), entries);
        let at = at % log.rows.len();
        let digests = |log: &Log| {
            let mut walk = Walk::of_digests(true);
            for row in &log.rows {
                let (record, digest, seal) = (row.record.clone(), row.digest.clone(), row.seal.clone());
                walk.line(&Line { seq: row.seq, record, digest, seal });
            }
            walk.end().first_bad
        };
        prop_assert_eq!(digests(&log), None);
        log.rows[at].record.push(' ');
        let seq = log.rows[at].seq;
        prop_assert_eq!(digests(&log), Some(Finding { seq, fault: Fault::Digest }));
        log.rechain(at);
        prop_assert_eq!(digests(&log), None, "that is what seals are for");
    }
}

#[test]
fn an_end_cut_off_together_with_its_row_shows_only_against_the_anchor() {
    let sealer = Sealer::with(&[KEY]);
    let mut log = Log::of(&sealer, 5);
    let anchor = log.last();
    log.rows.truncate(3);
    log.end = Some(log.last());
    assert_eq!(log.verify(&sealer, None).first_bad, None);
    assert_eq!(log.verify(&sealer, Some(anchor)).first_bad, Some(Finding { seq: 4, fault: Fault::CutOff }));
    let earlier = Mark { seq: 2, digest: log.rows[1].digest.clone() };
    assert_eq!(log.verify(&sealer, Some(earlier)).first_bad, None, "a log that has grown is no other one");
}

#[test]
fn a_log_that_was_written_anew_with_the_right_key_differs_from_the_anchor() {
    let sealer = Sealer::with(&[KEY]);
    let mut log = Log::of(&sealer, 4);
    let anchor = Mark { seq: 3, digest: log.rows[2].digest.clone() };
    let before = log.rows[1].digest.clone();
    log.rows[2] = row(&sealer, 3, &before, record(3).replace("a name", "another"));
    let before = log.rows[2].digest.clone();
    log.rows[3] = row(&sealer, 4, &before, record(4));
    log.end = Some(log.last());
    assert_eq!(log.verify(&sealer, Some(anchor)).first_bad, Some(Finding { seq: 3, fault: Fault::Replaced }));
}

#[test]
fn an_entry_sealed_with_a_key_that_is_not_loaded_is_a_finding_of_its_own_and_hides_no_other() {
    let old = Sealer::with(&[KEY]);
    let mut log = Log::of(&old, 4);
    let (both, new) = (Sealer::with(&[KEY, NEW_KEY]), Sealer::with(&[NEW_KEY]));
    let before = log.last().digest;
    log.rows.push(row(&both, 5, &before, record(5)));
    log.end = Some(log.last());
    assert_eq!(log.verify(&both, None).first_bad, None);
    let unknown = log.verify(&new, None);
    assert_eq!(unknown.first_bad, Some(Finding { seq: 1, fault: Fault::UnknownKey(1) }));
    assert!(unknown.first_bad.unwrap().fault.to_string().contains("master key that is not loaded"));
    log.rows[4].seal = log.rows[3].seal.replacen("v1", "v2", 1);
    assert_eq!(log.verify(&new, None).first_bad, Some(Finding { seq: 5, fault: Fault::Seal }));
}

#[test]
fn an_empty_log_is_whole_and_a_log_of_which_nothing_is_left_is_not() {
    let sealer = Sealer::with(&[KEY]);
    let log = Log::of(&sealer, 0);
    assert_eq!(log.verify(&sealer, None).first_bad, None);
    let anchor = Log::of(&sealer, 2).last();
    assert_eq!(log.verify(&sealer, Some(anchor)).first_bad, Some(Finding { seq: 1, fault: Fault::CutOff }));
}

#[test]
fn a_part_of_a_log_is_checked_from_its_second_entry_on() {
    let log = Log::of(&Sealer::with(&[KEY]), 6);
    let part = |from_start, change: fn(&mut Line)| {
        let mut walk = Walk::of_digests(from_start);
        for row in &log.rows[2..] {
            let (record, digest, seal) = (row.record.clone(), row.digest.clone(), row.seal.clone());
            let mut line = Line { seq: row.seq, record, digest, seal };
            if line.seq == 5 {
                change(&mut line);
            }
            walk.line(&line);
        }
        walk.end()
    };
    let whole = part(false, |_| {});
    assert_eq!((whole.entries, whole.last.seq, whole.first_bad), (4, 6, None));
    assert_eq!(part(true, |_| {}).first_bad, Some(Finding { seq: 1, fault: Fault::Missing }));
    let found = part(false, |line| line.record = line.record.replace("name", "nama")).first_bad;
    assert_eq!(found, Some(Finding { seq: 5, fault: Fault::Digest }));
    assert_eq!(part(false, |line| line.seq = 4).first_bad, Some(Finding { seq: 4, fault: Fault::Order }));
}
