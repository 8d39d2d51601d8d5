//! One tenant's last minute, in slots of a second.

use crate::clock::Micros;

pub(super) const SLOT_US: Micros = 1_000_000;
/// 60 seconds that begin within a slot end within the 61st. Counting all 61 is what makes the promise hold for every
/// such span, at the price of giving a second's worth back up to a second late.
const SLOTS: usize = 61;

/// What was admitted in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: i64,
    requests: u64,
    tokens: u64,
}

/// A ring of slots. Time never goes back in it.
#[derive(Debug)]
pub(super) struct Window {
    ring: [Slot; SLOTS],
    newest: i64,
}

/// Sums over the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) requests: u64,
    pub(super) tokens: u64,
}

impl Window {
    pub(super) fn new(now: Micros) -> Window {
        Window { ring: [Slot { second: i64::MIN, ..Slot::default() }; SLOTS], newest: now.div_euclid(SLOT_US) }
    }

    /// The second that `now` falls in; the newest seen so far if the clock lags behind it.
    pub(super) fn advance(&mut self, now: Micros) -> i64 {
        self.newest = self.newest.max(now.div_euclid(SLOT_US));
        self.newest
    }

    pub(super) fn used(&self) -> Used {
        let sum = |used: Used, slot: &Slot| Used {
            requests: used.requests.saturating_add(slot.requests),
            tokens: used.tokens.saturating_add(slot.tokens),
        };
        self.live().fold(Used::default(), sum)
    }

    /// Counts in the newest second and returns it, so that it can be given back there.
    pub(super) fn add(&mut self, more: Used) -> i64 {
        self.add_at(self.newest, more);
        self.newest
    }

    /// Counts in a second that is not over for longer than the window; nothing in an older one.
    pub(super) fn add_at(&mut self, second: i64, more: Used) {
        if second <= self.newest - SLOTS as i64 {
            return;
        }
        let slot = &mut self.ring[index(second)];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot.requests = slot.requests.saturating_add(more.requests);
        slot.tokens = slot.tokens.saturating_add(more.tokens);
    }

    /// Takes one request out of `second`, as if it had not been; nothing if that has left the ring.
    pub(super) fn forget_request(&mut self, second: i64) {
        let slot = &mut self.ring[index(second)];
        if slot.second == second {
            slot.requests = slot.requests.saturating_sub(1);
        }
    }

    /// Puts `actual` in the place of the tokens `held` in `second`; nothing if that has left the ring.
    pub(super) fn replace(&mut self, second: i64, held: u64, actual: u64) {
        let slot = &mut self.ring[index(second)];
        if slot.second == second {
            slot.tokens = slot.tokens.saturating_sub(held).saturating_add(actual);
        }
    }

    /// When, at the earliest, all but `keep` of what is counted has left: µs. The past if it has already.
    pub(super) fn room_at(&self, keep: u64, of: impl Fn(Used) -> u64) -> Micros {
        let mut slots: Vec<&Slot> = self.live().collect();
        slots.sort_unstable_by_key(|slot| slot.second);
        let mut left = of(self.used());
        let mut last = None;
        for slot in slots {
            if left <= keep {
                break;
            }
            let gone = of(Used { requests: slot.requests, tokens: slot.tokens });
            if gone > 0 {
                left = left.saturating_sub(gone);
                last = Some(slot.second);
            }
        }
        last.map_or(Micros::MIN, |second| (second + SLOTS as i64) * SLOT_US)
    }

    /// Whether nothing is counted at `now`.
    pub(super) fn is_idle(&self, now: Micros) -> bool {
        let oldest = now.div_euclid(SLOT_US).max(self.newest) - SLOTS as i64;
        self.ring.iter().all(|slot| slot.second <= oldest)
    }

    fn live(&self) -> impl Iterator<Item = &Slot> {
        let oldest = self.newest - SLOTS as i64;
        self.ring.iter().filter(move |slot| slot.second > oldest)
    }
}

fn index(second: i64) -> usize {
    second.rem_euclid(SLOTS as i64) as usize
}
