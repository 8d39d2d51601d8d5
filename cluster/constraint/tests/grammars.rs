//! What grammars are taken, and what they allow token by token, with a vocabulary of bytes and a few words.

#![allow(clippy::unwrap_used)] // a test that can't go on fails here

use cluster_constraint::{Compiled, Session, Step, Vocabulary, check};
use cluster_protocol::{Constraint, Grammar, ModelCard, TokenKind, TokenizerCard, Trigger};
use std::sync::Arc;

const WORDS: [&str; 4] = ["\": ", "true", "<call>{", "call>["];
const FIRST_WORD: u32 = 256;
const CONTROL: u32 = 260;
const END: u32 = 261;

fn vocabulary() -> Arc<Vocabulary> {
    let symbol = |byte: u8| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        0..=32 => char::from_u32(0x100 + u32::from(byte)).unwrap(),
        127..=160 => char::from_u32(0x121 + u32::from(byte) - 127).unwrap(),
        0xAD => '\u{143}',
    };
    let bytes = (0..=255u8).map(|byte| symbol(byte).to_string());
    let words = WORDS.iter().map(|word| word.bytes().map(symbol).collect());
    let tokens: Vec<String> = bytes.chain(words).chain(["<|tool|>".into(), "<|end|>".into()]).collect();
    let kinds = (0..tokens.len() as u32).map(|id| if id < CONTROL { TokenKind::Normal } else { TokenKind::Control });
    let tokenizer = TokenizerCard {
        kind: "gpt2".into(),
        pre: "gpt-2".into(),
        kinds: kinds.collect(),
        tokens,
        merges: Vec::new(),
        bos: None,
        eos: Some(END),
        end_of_generation: vec![END],
        add_bos: false,
    };
    let card = ModelCard {
        name: "bytes".into(),
        architecture: "test".into(),
        trained_context_tokens: 100,
        tokenizer,
        chat_template: None,
    };
    Arc::new(Vocabulary::new(&card).unwrap())
}

fn schema(text: &str) -> Grammar {
    Grammar::JsonSchema { schema: text.into() }
}

fn session(grammar: Grammar, trigger: Option<Trigger>) -> Session {
    Session::new(&Compiled::new(&vocabulary(), &Constraint { grammar, trigger }).unwrap())
}

/// Takes a text byte by byte; `None` where a byte is refused, else what the last one did.
fn say(session: &mut Session, text: &str) -> Option<Step> {
    let mut last = Step::On;
    for byte in text.bytes() {
        if !session.allows(byte.into()).unwrap() {
            return None;
        }
        last = session.accept(byte.into()).unwrap();
    }
    Some(last)
}

fn allowed(session: &mut Session) -> Vec<u32> {
    let mut logits = vec![0.0; END as usize + 1];
    session.mask().unwrap().apply(&mut logits);
    (0..).zip(&logits).filter(|(_, logit)| logit.is_finite()).map(|(id, _)| id).collect()
}

const PERSON: &str = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":9},"ok":{"type":"boolean"}},
    "required":["name","ok"],"additionalProperties":false}"#;

#[test]
fn a_schema_allows_its_values_only_and_the_answer_is_complete_where_they_end() {
    let mut good = session(schema(PERSON), None);
    assert_eq!(say(&mut good, r#"{"name": "Zoë", "ok": true"#), Some(Step::On));
    assert!(!good.allows(END).unwrap(), "it is not complete");
    assert_eq!(say(&mut good, "}"), Some(Step::Complete));
    for wrong in [r#"{"nam_"#, r#"{"name": 1"#, r#"{"name": "x", "ok": 1"#, r#"{"name": "x"}"#, "[", "\n"] {
        assert_eq!(say(&mut session(schema(PERSON), None), wrong), None, "{wrong}");
    }
}

#[test]
fn mask_and_single_look_agree_on_every_token_at_every_place() {
    let mut session = session(schema(PERSON), None);
    for byte in r#"{"name": "a", "ok": true}"#.bytes() {
        let mask = allowed(&mut session);
        let looked: Vec<u32> = (0..=END).filter(|token| session.allows(*token).unwrap()).collect();
        assert_eq!(mask, looked);
        assert!(mask.contains(&byte.into()));
        session.accept(byte.into()).unwrap();
    }
}

#[test]
fn tokens_of_several_bytes_go_across_the_borders_of_the_grammar() {
    let mut session = session(schema(PERSON), None);
    say(&mut session, r#"{"name"#).unwrap();
    assert!(session.allows(FIRST_WORD).unwrap(), "\": closes the key");
    session.accept(FIRST_WORD).unwrap();
    say(&mut session, r#""x", "ok": "#).unwrap();
    assert_eq!(allowed(&mut session), [u32::from(b'f'), u32::from(b't'), FIRST_WORD + 1]);
}

#[test]
fn an_expression_is_matched_as_a_whole() {
    let date = || Grammar::Regex { pattern: r"[0-9]{4}-(0[1-9]|1[0-2])".into() };
    assert_eq!(say(&mut session(date(), None), "2026-11"), Some(Step::Complete));
    assert_eq!(say(&mut session(date(), None), "2026-13"), None);
    let open = || Grammar::Regex { pattern: "a+".into() };
    let mut some = session(open(), None);
    assert!(!some.allows(END).unwrap());
    assert_eq!(say(&mut some, "aa"), Some(Step::On));
    assert!(some.allows(END).unwrap(), "it may end, and may go on");
    assert_eq!(some.accept(END), Ok(Step::Complete));
    assert!(!some.allows(u32::from(b'a')).unwrap(), "nothing follows an end");
}

fn on_call(once: bool) -> Option<Trigger> {
    Some(Trigger { texts: vec!["<call>".into()], tokens: vec![CONTROL], once })
}

fn call() -> Grammar {
    Grammar::Lark { grammar: "start: %json {\"type\": \"object\"} \"</call>\"".into() }
}

#[test]
fn an_answer_is_free_until_its_trigger_and_again_behind_the_grammar() {
    let mut session = session(call(), on_call(false));
    assert!(session.is_free());
    assert_eq!(say(&mut session, "I <cal <call"), Some(Step::On));
    assert!(session.is_free());
    assert_eq!(say(&mut session, ">"), Some(Step::On));
    assert!(!session.is_free() && !session.allows(u32::from(b'x')).unwrap());
    assert_eq!(say(&mut session, "{}</call>"), Some(Step::On));
    assert!(session.is_free(), "another call may follow");
    assert_eq!(say(&mut session, " and <call>{\"a\": 1}</call>"), Some(Step::On));
    assert_eq!(session.accept(END), Ok(Step::Complete));
}

#[test]
fn a_trigger_that_is_for_once_ends_the_answer_with_its_grammar() {
    let mut session = session(call(), on_call(true));
    assert_eq!(say(&mut session, "so <call>{}</call>"), Some(Step::Complete));
}

#[test]
fn a_token_that_goes_on_behind_the_trigger_must_go_on_as_the_grammar_does() {
    let begun = |before: &str, token: u32| {
        let mut session = session(call(), on_call(false));
        say(&mut session, before).unwrap();
        session.allows(token).unwrap().then(|| {
            session.accept(token).unwrap();
            session
        })
    };
    let mut inside = begun("ok ", FIRST_WORD + 2).expect("`<call>{` begins an object");
    assert_eq!(say(&mut inside, "}</call>"), Some(Step::On));
    assert!(begun("ok <", FIRST_WORD + 3).is_none(), "`call>[` begins no object");
    assert!(begun("ok ", FIRST_WORD + 3).is_some(), "without the trigger it is only text");
    let by_token = begun("ok ", CONTROL).unwrap();
    assert!(!by_token.is_free());
}

#[test]
fn what_is_not_supported_is_refused_with_its_place() {
    let deep = |levels: usize| format!("{}true{}", r#"{"items":"#.repeat(levels), "}".repeat(levels));
    let cases = [
        (r#"{"type":"object","properties":{"a/b":{"not":{"type":"string"}}}}"#, "/properties/a~1b/not", "`not`"),
        (r#"{"anyOf":[{"type":"null"},{"if":true}]}"#, "/anyOf/1/if", "`if`"),
        (r#"{"properties":{"x":{"$ref":"https://example.com/s.json"}}}"#, "/properties/x/$ref", "within the schema"),
        (r#"{"x-guidance":{"whitespace_flexible":true}}"#, "/x-guidance", "not supported"),
        (r#"{"type":"object""#, "", "no JSON"),
        ("false", "", "false"),
        ("[1]", "", "object"),
        (r#"{"type":"strin"}"#, "", "compiled"),
        (r#"{"type":"string","pattern":"(?=a)b"}"#, "", "compiled"),
        (r##"{"$ref":"#/$defs/none"}"##, "", "compiled"),
        (&deep(65), "", "64 levels"),
    ];
    for (text, path, reason) in cases {
        let refused = check(&schema(text)).expect_err(text);
        assert_eq!(refused.path, path, "{text}");
        assert!(refused.reason.contains(reason) && refused.reason.len() < 500, "{text}: {}", refused.reason);
        assert!(!refused.reason.contains('\n'));
    }
    assert_eq!(check(&schema(&deep(20))), Ok(()));
    assert_eq!(check(&schema(PERSON)), Ok(()));
    assert_eq!(check(&schema("true")), Ok(()));
    for pattern in ["(", "a(?!b)", &"(".repeat(65)] {
        assert!(check(&Grammar::Regex { pattern: pattern.into() }).is_err(), "{pattern}");
    }
    assert_eq!(check(&Grammar::Regex { pattern: "[a-z]+".into() }), Ok(()));
}

/// However they are meant, they are judged soon, and nothing ends the process.
#[test]
fn grammars_made_to_take_for_ever_are_judged_within_their_bounds() {
    let wide = |count: usize| {
        let fields: Vec<String> = (0..count).map(|at| format!(r#""f{at}":{{"type":"string"}}"#)).collect();
        format!(r#"{{"type":"object","properties":{{{}}}}}"#, fields.join(","))
    };
    let any_of = |count: usize| {
        let branch = format!("{{\"anyOf\":[{}]}}", ["{\"minLength\":1}", "{\"maxLength\":9}", "{}"].join(","));
        format!(r#"{{"type":"string","allOf":[{}]}}"#, vec![branch; count].join(","))
    };
    let recursive = r##"{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]}}}"##;
    let nasty = [
        schema(&wide(2000)),
        schema(&any_of(12)),
        schema(recursive),
        schema(r#"{"type":"string","maxLength":100000000}"#),
        schema(r#"{"type":"array","minItems":100000,"maxItems":200000}"#),
        schema(r#"{"type":"integer","minimum":1,"maximum":99999999999999999,"multipleOf":7919}"#),
        schema(r#"{"type":"string","pattern":"^((a{1,100}){1,100}){1,100}$"}"#),
        Grammar::Regex { pattern: "(a|aa)+".repeat(500) },
        Grammar::Regex { pattern: ".{0,30000}x.{0,30000}y".into() },
        Grammar::Regex { pattern: "(.*a){20}".into() },
    ];
    for grammar in nasty {
        let begun = std::time::Instant::now();
        let judged = check(&grammar);
        let took = begun.elapsed();
        println!("{took:?}: {judged:?} {}", format!("{grammar:?}").chars().take(60).collect::<String>());
        assert!(took.as_secs() < 10, "{took:?} for {grammar:?}");
    }
}
