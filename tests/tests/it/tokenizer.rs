//! The gateway's ids are the engine's ids, on a corpus with emoji, CJK, code and runs of white space.

use caprock::id::RequestId;
use caprock::inference::{
    AnswerForm, Content, Dialect, Json, Message, Request, Role as Turn, Sampling, Tool, ToolChoice, Tools,
};
use caprock::prompt::ModelText;
use caprock_tests::pair::Secret;
use caprock_tests::worker::{Engine, WorkerSpec};
use cluster_constraint::Vocabulary;
use cluster_protocol::{ModelCard, Role, TextPart, TokenKind};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/tokenizer.txt");

#[tokio::test]
async fn ids_of_the_gateway_equal_those_of_the_real_models_engine() {
    compare(Engine::Llama).await;
}

#[tokio::test]
async fn ids_of_the_gateway_equal_those_of_the_simulated_engine() {
    compare(Engine::sim(&[])).await;
}

async fn compare(engine: Engine) {
    let secret = Secret::new();
    let mut worker = secret.worker(WorkerSpec::new(Role::Decode, "decode-1", engine));
    worker.ready().await;
    let mut wire = worker.connect().await;
    let card = wire.describe_model().await;
    assert_eq!(card.digest(), wire.info.card_digest);
    let gateway = ModelText::from_card(&card).unwrap();

    // Lines by themselves, pairs of them with their line ends, and all at once: white space joins at the seams.
    let corpus = std::fs::read_to_string(CORPUS).unwrap();
    let lines: Vec<&str> = corpus.split_inclusive('\n').collect();
    let pairs = lines.windows(2).map(|pair| pair.concat());
    let texts = lines.iter().map(|line| line.trim_end_matches('\n').to_owned()).chain(pairs).chain([corpus.clone()]);
    let mut compared = 0;
    for text in texts.filter(|text| !text.is_empty()) {
        let parts = vec![TextPart { text: text.clone(), special: false }];
        let ours = gateway.encode(&parts).expect("this vocabulary is on the tested list");
        let theirs = wire.tokenize(parts).await;
        assert_eq!(ours, theirs, "{text:?}");
        compared += theirs.len();
    }
    assert!(compared > 1000, "only {compared} tokens were compared");

    // What a caller writes is never a special token, and what a template writes is.
    for special in [false, true] {
        let text = card.tokenizer.tokens[card.tokenizer.eos.unwrap() as usize].clone();
        let parts = vec![TextPart { text, special }];
        let ours = gateway.encode(&parts).unwrap();
        assert_eq!(ours == [card.tokenizer.eos.unwrap()], special);
        assert_eq!(ours, wire.tokenize(parts).await);
    }
}

#[tokio::test]
async fn a_callers_text_with_special_tokens_adds_none_to_the_real_models_prompt_and_comes_through() {
    callers_text(Engine::Llama).await;
}

#[tokio::test]
async fn a_callers_text_with_special_tokens_adds_none_to_the_simulated_models_prompt_and_comes_through() {
    callers_text(Engine::sim(&[])).await;
}

/// Stands where a caller's text goes; no other text has it.
const HOLE: &str = "QZQZQ";

async fn callers_text(engine: Engine) {
    let secret = Secret::new();
    let mut worker = secret.worker(WorkerSpec::new(Role::Decode, "decode-1", engine));
    worker.ready().await;
    let mut wire = worker.connect().await;
    let card = wire.describe_model().await;
    let (gateway, vocabulary) = (ModelText::from_card(&card).unwrap(), Vocabulary::new(&card).unwrap());
    let tokens = card.tokenizer.tokens.iter().zip(&card.tokenizer.kinds);
    let special = tokens.filter(|(_, kind)| matches!(kind, TokenKind::Control | TokenKind::UserDefined));
    let special: Vec<String> = special.map(|(text, _)| text.clone()).filter(|text| !text.trim().is_empty()).collect();
    assert!(special.len() >= 3, "{special:?}");
    let texts = special.iter().map(|token| format!("What does {token} mean?{token}")).chain([
        special.concat(),
        special.join(" "),
        special.iter().flat_map(|token| [&token[..1], token, &token[1..]]).collect(),
    ]);
    for text in texts {
        for request in [said, described, answered] {
            let expected = gateway.render(&request(HOLE)).unwrap();
            let rendered = gateway.render(&request(&text)).unwrap();
            let ids = gateway.encode(&rendered.parts).unwrap();
            assert_eq!(ids, wire.tokenize(rendered.parts.clone()).await, "{text:?}");
            let (before, _) = read(&card, &vocabulary, &gateway.encode(&expected.parts).unwrap());
            let (control, _) = read(&card, &vocabulary, &ids);
            assert_eq!(control, before, "{text:?} adds special tokens");
            let whole = |parts: &[TextPart]| parts.iter().map(|part| part.text.as_str()).collect::<String>();
            let (_, bytes) = read(&card, &vocabulary, &ids);
            assert_eq!(String::from_utf8(bytes).unwrap(), whole(&expected.parts).replace(HOLE, &text));
        }
    }
}

/// The control tokens in order, and the bytes that all ids stand for.
fn read(card: &ModelCard, vocabulary: &Vocabulary, ids: &[u32]) -> (Vec<u32>, Vec<u8>) {
    let is_control = |id: &&u32| card.tokenizer.kinds[**id as usize] == TokenKind::Control;
    let bytes = |id: &u32| match is_control(&id) {
        true => card.tokenizer.tokens[*id as usize].clone().into_bytes(),
        false => vocabulary.bytes(*id).to_vec(),
    };
    (ids.iter().filter(is_control).copied().collect(), ids.iter().flat_map(bytes).collect())
}

fn turn(role: Turn, text: &str) -> Message {
    Message { role, content: vec![Content::Text(text.into())] }
}

fn request(messages: Vec<Message>, tools: Tools) -> Request {
    Request {
        id: RequestId::new(),
        dialect: Dialect::OpenaiChat,
        model: "m".into(),
        messages,
        tools,
        answer: AnswerForm::Text,
        sampling: Sampling::default(),
        logprobs: None,
        choices: 1,
        stop: vec![],
        max_tokens: None,
        stream: false,
    }
}

/// In a user's turn.
fn said(text: &str) -> Request {
    request(vec![turn(Turn::System, "Be short."), turn(Turn::User, text)], Tools::default())
}

/// In the description of a tool.
fn described(text: &str) -> Request {
    let tool =
        Tool { name: "look".into(), description: Some(text.into()), parameters: Json::any_object(), strict: false };
    let tools = Tools { list: vec![tool], choice: ToolChoice::Auto, one_call: false };
    request(vec![turn(Turn::User, "Look.")], tools)
}

/// In what the assistant is said to have said, and in the system's words.
fn answered(text: &str) -> Request {
    let turns =
        vec![turn(Turn::System, text), turn(Turn::User, "Hi."), turn(Turn::Assistant, "Ho."), turn(Turn::User, "?")];
    request(turns, Tools::default())
}
