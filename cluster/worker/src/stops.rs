//! The stop texts of an answer as one automaton: a byte costs the same, however many there are.

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::noncontiguous::NFA;
use std::collections::HashMap;

/// Looks for stop texts in a text that comes in pieces.
#[derive(Debug, Default, Clone)]
pub(crate) struct Stops(Option<Box<Search>>);

#[derive(Debug, Clone)]
struct Search {
    texts: Vec<String>,
    automaton: NFA,
    /// Bytes from the root to each state: as many of the text's last ones begin a stop text.
    depth: HashMap<StateID, usize>,
    state: StateID,
}

impl Stops {
    /// `None` when the library can't search for so much, which is far more than a request may bring.
    pub(crate) fn new(texts: Vec<String>) -> Option<Stops> {
        if texts.is_empty() {
            return Some(Stops(None));
        }
        // Tables for the root only: the states below it have few ways on, and there may be thousands.
        let automaton = NFA::builder().dense_depth(1).prefilter(false).build(&texts).ok()?;
        let state = automaton.start_state(Anchored::No).ok()?;
        let mut depth = HashMap::from([(state, 0)]);
        for text in &texts {
            let mut at = state;
            for (bytes, byte) in (1..).zip(text.bytes()) {
                at = automaton.next_state(Anchored::No, at, byte);
                depth.insert(at, bytes);
            }
        }
        Some(Stops(Some(Box::new(Search { texts, automaton, depth, state }))))
    }

    /// Goes on through `text`. The stop text that is whole first, the longest if several end together, and where it
    /// ends; nothing may follow it.
    pub(crate) fn find(&mut self, text: &str) -> Option<(usize, String)> {
        let search = self.0.as_mut()?;
        for (end, byte) in (1..).zip(text.bytes()) {
            search.state = search.automaton.next_state(Anchored::No, search.state, byte);
            if search.automaton.is_match(search.state) {
                return search.longest().map(|stop| (end, stop));
            }
        }
        None
    }

    /// Whether one is in a whole text; what was seen before does not count, and nothing is noted.
    pub(crate) fn occur_in(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|search| search.texts.iter().any(|stop| text.contains(stop)))
    }

    /// How many bytes at the end of what was seen may be the beginning of a stop text.
    pub(crate) fn begun(&self) -> usize {
        self.0.as_ref().and_then(|search| search.depth.get(&search.state)).copied().unwrap_or(0)
    }
}

impl Search {
    fn longest(&self) -> Option<String> {
        let matches = 0..self.automaton.match_len(self.state);
        let texts = matches.filter_map(|at| self.texts.get(self.automaton.match_pattern(self.state, at).as_usize()));
        texts.max_by_key(|text| text.len()).cloned()
    }
}
