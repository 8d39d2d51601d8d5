//! Slots and cells. A request holds both before any of its work begins, so a running answer never lacks room.

use crate::engine::{EngineLimits, SequenceId};

#[derive(Debug)]
pub(super) struct Capacity {
    free_slots: Vec<SequenceId>,
    free_cells: u32,
    total_cells: u32,
    total_slots: u32,
}

impl Capacity {
    pub(super) fn new(limits: &EngineLimits) -> Capacity {
        Capacity {
            free_slots: (0..limits.slots).rev().map(SequenceId).collect(),
            free_cells: limits.cells,
            total_cells: limits.cells,
            total_slots: limits.slots,
        }
    }

    /// So many slots and cells, or neither.
    pub(super) fn reserve(&mut self, slots: u32, cells: u32) -> Option<Vec<SequenceId>> {
        let left = self.free_cells.checked_sub(cells)?;
        let kept = self.free_slots.len().checked_sub(slots as usize)?;
        self.free_cells = left;
        let mut slots = self.free_slots.split_off(kept);
        slots.reverse();
        Some(slots)
    }

    pub(super) fn give_back(&mut self, slots: &[SequenceId], cells: u32) {
        debug_assert!(slots.iter().all(|slot| !self.free_slots.contains(slot)));
        self.free_slots.extend(slots);
        self.free_cells += cells;
    }

    pub(super) fn slots_used(&self) -> u32 {
        self.total_slots - self.free_slots.len() as u32
    }

    pub(super) fn cells_reserved(&self) -> u32 {
        self.total_cells - self.free_cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_held_or_neither() {
        let limits = EngineLimits { slots: 2, cells: 100, context_tokens: 100, chunk_tokens: 16, threads: 1 };
        let mut capacity = Capacity::new(&limits);
        let first = capacity.reserve(1, 60).unwrap();
        assert_eq!(capacity.reserve(1, 41), None, "too few cells");
        assert_eq!(capacity.reserve(2, 10), None, "too few slots");
        assert_eq!((capacity.slots_used(), capacity.cells_reserved()), (1, 60));
        let second = capacity.reserve(1, 40).unwrap();
        assert_eq!(capacity.reserve(1, 0), None, "no slot");
        capacity.give_back(&first, 60);
        capacity.give_back(&second, 40);
        assert_eq!((capacity.slots_used(), capacity.cells_reserved()), (0, 0));
        assert_eq!(capacity.reserve(2, 100).unwrap().len(), 2);
    }
}
