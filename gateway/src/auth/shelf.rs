//! A bounded map of what was read, the oldest going first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is remembered of one kind of credential, by its id.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    most: usize,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    by_id: HashMap<String, (u64, Arc<T>)>,
    /// Ids by the order in which they were put in.
    by_age: BTreeMap<u64, String>,
    next: u64,
}

impl<T> Shelf<T> {
    pub(super) fn new(most: usize) -> Shelf<T> {
        let state = State { by_id: HashMap::new(), by_age: BTreeMap::new(), next: 0 };
        Shelf { most, state: Mutex::new(state) }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<T>> {
        self.state().by_id.get(id).map(|(_, value)| Arc::clone(value))
    }

    /// Puts it in, if `allowed` says so while nothing else can be taken out or put in.
    pub(super) fn put(&self, id: &str, value: Arc<T>, allowed: impl FnOnce() -> bool) {
        let mut state = self.state();
        if !allowed() {
            return;
        }
        state.remove(id);
        while state.by_id.len() >= self.most {
            let Some((_, oldest)) = state.by_age.pop_first() else { return };
            state.by_id.remove(&oldest);
        }
        let age = state.next;
        state.next += 1;
        state.by_age.insert(age, id.to_owned());
        state.by_id.insert(id.to_owned(), (age, value));
    }

    pub(super) fn remove(&self, id: &str) {
        self.state().remove(id);
    }

    pub(super) fn retain(&self, keep: impl Fn(&T) -> bool) {
        let mut state = self.state();
        let State { by_id, by_age, .. } = &mut *state;
        by_id.retain(|_, (age, value)| {
            let kept = keep(value);
            if !kept {
                by_age.remove(age);
            }
            kept
        });
    }

    pub(super) fn clear(&self) {
        self.retain(|_| false);
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn remove(&mut self, id: &str) {
        if let Some((age, _)) = self.by_id.remove(id) {
            self.by_age.remove(&age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(most: usize, ids: &[&str]) -> Shelf<u32> {
        let shelf = Shelf::new(most);
        for (at, id) in (0..).zip(ids) {
            shelf.put(id, Arc::new(at), || true);
        }
        shelf
    }

    fn there(shelf: &Shelf<u32>) -> Vec<u32> {
        let state = shelf.state();
        assert_eq!(state.by_id.len(), state.by_age.len());
        state.by_age.values().map(|id| *state.by_id[id].1).collect()
    }

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        assert_eq!(there(&shelf(3, &["a", "b", "c", "d", "e"])), [2, 3, 4]);
        assert_eq!(there(&shelf(3, &["a", "b", "a", "c", "d"])), [2, 3, 4], "put in again it is young again");
        assert_eq!(there(&shelf(0, &["a"])), [0u32; 0]);
    }

    #[test]
    fn what_is_removed_leaves_no_trace() {
        let shelf = shelf(9, &["a", "b", "c", "d"]);
        shelf.remove("b");
        shelf.remove("b");
        shelf.retain(|value| *value != 2);
        assert_eq!(there(&shelf), [0, 3]);
        assert!(shelf.get("a").is_some() && shelf.get("b").is_none() && shelf.get("c").is_none());
        shelf.clear();
        assert_eq!(there(&shelf), [0u32; 0]);
    }

    #[test]
    fn what_is_not_allowed_is_not_put_in() {
        let shelf = shelf(2, &["a"]);
        shelf.put("b", Arc::new(9), || false);
        assert_eq!(there(&shelf), [0]);
    }
}
