//! One scope's last minute, in slots of a second.

use crate::clock::Micros;

pub(super) const SLOT_US: Micros = 1_000_000;
/// 60 seconds that begin within a slot end within the 61st. Counting all 61 is what makes the promise hold for every
/// such span, at the price of giving a second's worth back up to a second late.
const SLOTS: usize = 61;

/// What was admitted in one second.
#[derive(Debug, Clone, Copy)]
struct Slot {
    second: i64,
    used: Used,
}

/// A ring of slots. Time never goes back in it.
#[derive(Debug)]
pub(super) struct Window {
    /// Boxed: a table of windows grows by moving them, under everybody's lock.
    ring: Box<[Slot; SLOTS]>,
    newest: i64,
    /// The newest second that something was counted in.
    counted: i64,
}

/// Sums over the window, or over a part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) requests: u64,
    /// Used or held.
    pub(super) tokens: u64,
    /// The part of `tokens` whose requests have not ended.
    pub(super) held: u64,
}

impl Window {
    pub(super) fn new(now: Micros) -> Window {
        let empty = Slot { second: i64::MIN, used: Used::default() };
        Window { ring: Box::new([empty; SLOTS]), newest: now.div_euclid(SLOT_US), counted: i64::MIN }
    }

    /// The second that `now` falls in; the newest seen so far if the clock lags behind it.
    pub(super) fn advance(&mut self, now: Micros) -> i64 {
        self.newest = self.newest.max(now.div_euclid(SLOT_US));
        self.newest
    }

    pub(super) fn used(&self) -> Used {
        self.live().fold(Used::default(), |sum, slot| sum.plus(slot.used))
    }

    /// Counts in a second that is not over for longer than the window; nothing in an older one.
    pub(super) fn add_at(&mut self, second: i64, more: Used) {
        if second <= self.newest - SLOTS as i64 {
            return;
        }
        let slot = &mut self.ring[index(second)];
        if slot.second != second {
            *slot = Slot { second, used: Used::default() };
        }
        slot.used = slot.used.plus(more);
        self.counted = self.counted.max(second);
    }

    /// Takes one request out of `second`, as if it had not been; nothing if that has left the ring.
    pub(super) fn forget_request(&mut self, second: i64) {
        let slot = &mut self.ring[index(second)];
        if slot.second == second {
            slot.used.requests = slot.used.requests.saturating_sub(1);
        }
    }

    /// Puts `actual` in the place of the tokens `held` in `second`; nothing if that has left the ring.
    pub(super) fn settle(&mut self, second: i64, held: u64, actual: u64) {
        let slot = &mut self.ring[index(second)];
        if slot.second == second {
            slot.used.tokens = slot.used.tokens.saturating_sub(held).saturating_add(actual);
            slot.used.held = slot.used.held.saturating_sub(held);
        }
    }

    /// When, at the earliest, all but `keep` of what is counted has left: µs. The past if it has already.
    pub(super) fn room_at(&self, keep: u64, of: impl Fn(Used) -> u64) -> Micros {
        let mut left = of(self.used());
        let mut last = None;
        for slot in self.live() {
            if left <= keep {
                break;
            }
            let gone = of(slot.used);
            if gone > 0 {
                left = left.saturating_sub(gone);
                last = Some(slot.second);
            }
        }
        last.map_or(Micros::MIN, |second| (second + SLOTS as i64) * SLOT_US)
    }

    /// Whether nothing is counted at `now`.
    pub(super) fn is_idle(&self, now: Micros) -> bool {
        self.counted <= now.div_euclid(SLOT_US).max(self.newest) - SLOTS as i64
    }

    /// Oldest first.
    fn live(&self) -> impl Iterator<Item = &Slot> {
        let oldest = self.newest - SLOTS as i64;
        let (new, old) = self.ring.split_at(index(self.newest) + 1);
        old.iter().chain(new).filter(move |slot| slot.second > oldest)
    }
}

impl Used {
    fn plus(self, more: Used) -> Used {
        Used {
            requests: self.requests.saturating_add(more.requests),
            tokens: self.tokens.saturating_add(more.tokens),
            held: self.held.saturating_add(more.held),
        }
    }
}

fn index(second: i64) -> usize {
    second.rem_euclid(SLOTS as i64) as usize
}
