//! The gateway's ids are the engine's ids, on a corpus with emoji, CJK, code and runs of white space.

use caprock::prompt::ModelText;
use caprock_tests::pair::Secret;
use caprock_tests::worker::{Engine, WorkerSpec};
use cluster_protocol::{Role, TextPart};

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
