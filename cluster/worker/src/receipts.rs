//! What requests came to, for a gateway that lost its connection. Bounded: the oldest ended ones are forgotten.

use cluster_protocol::{Counts, FinishReason, Receipt};
use std::collections::{HashMap, VecDeque};

/// Request id and attempt.
pub(crate) type Key = (String, u32);

/// Receipts of running and of the last ended requests.
#[derive(Debug)]
pub(crate) struct Receipts {
    known: HashMap<Key, Receipt>,
    ended: VecDeque<Key>,
    most_ended: usize,
}

impl Receipts {
    pub(crate) fn new(most_ended: usize) -> Receipts {
        Receipts { known: HashMap::new(), ended: VecDeque::new(), most_ended }
    }

    /// `false` when this attempt was seen before: an attempt runs once.
    pub(crate) fn begin(&mut self, key: &Key) -> bool {
        if self.known.contains_key(key) {
            return false;
        }
        self.known.insert(key.clone(), Receipt::Running { counts: Counts::default() });
        true
    }

    pub(crate) fn count(&mut self, key: &Key, now: Counts) {
        if let Some(Receipt::Running { counts }) = self.known.get_mut(key) {
            *counts = now;
        }
    }

    pub(crate) fn end(&mut self, key: &Key, counts: Counts, finish: Option<FinishReason>) {
        let before = self.known.insert(key.clone(), Receipt::Ended { counts, finish });
        if matches!(before, Some(Receipt::Ended { .. })) {
            return;
        }
        self.ended.push_back(key.clone());
        if self.ended.len() > self.most_ended
            && let Some(oldest) = self.ended.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Receipt {
        self.known.get(key).cloned().unwrap_or(Receipt::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        (id.into(), 1)
    }

    #[test]
    fn a_request_runs_once_and_keeps_its_last_counts() {
        let mut receipts = Receipts::new(2);
        let counts = Counts { input_tokens: 3, output_tokens: 1 };
        assert!(receipts.begin(&key("a")));
        assert!(!receipts.begin(&key("a")), "while it runs");
        receipts.count(&key("a"), counts);
        assert_eq!(receipts.get(&key("a")), Receipt::Running { counts });
        receipts.end(&key("a"), counts, Some(FinishReason::EndOfTurn));
        assert!(!receipts.begin(&key("a")), "after it ended");
        assert!(receipts.begin(&("a".into(), 2)), "another attempt");
        assert_eq!(receipts.get(&key("a")), Receipt::Ended { counts, finish: Some(FinishReason::EndOfTurn) });
    }

    #[test]
    fn only_the_last_ended_are_kept_and_running_ones_always() {
        let mut receipts = Receipts::new(2);
        receipts.begin(&key("running"));
        for id in ["a", "b", "c"] {
            receipts.begin(&key(id));
            receipts.end(&key(id), Counts::default(), None);
        }
        assert_eq!(receipts.get(&key("a")), Receipt::Unknown);
        assert!(matches!(receipts.get(&key("b")), Receipt::Ended { .. }));
        assert!(matches!(receipts.get(&key("running")), Receipt::Running { .. }));
        assert_eq!(receipts.known.len(), 3);
    }
}
