//! How long credentials may live, and former secrets beside new ones.

use crate::clock::Micros;
use crate::error::{Error, Result};

/// Longest life that can be asked for, in µs: ten years, three of them leap years.
const MAX_LIFE: Micros = 3_653 * 24 * 3600 * 1_000_000;
/// Longest that a former secret stays accepted, in seconds: 30 days.
pub const MAX_OVERLAP_SECONDS: u32 = 30 * 24 * 3600;

/// An expiry lies ahead, and not so far that nobody will think of it.
pub(super) fn check_expiry(expires_at: Option<Micros>, now: Micros) -> Result<()> {
    match expires_at {
        Some(at) if at <= now => Err(Error::invalid("expires_at", "The expiry lies in the past.")),
        Some(at) if at > now.saturating_add(MAX_LIFE) => {
            Err(Error::invalid("expires_at", "The expiry lies more than ten years ahead; leave it out for none."))
        }
        Some(_) | None => Ok(()),
    }
}

/// When a former secret ends that is accepted for `overlap_seconds` more; `None`: at once.
pub(super) fn former_until(overlap_seconds: u32, now: Micros) -> Result<Option<Micros>> {
    match overlap_seconds {
        0 => Ok(None),
        1..=MAX_OVERLAP_SECONDS => Ok(Some(now + Micros::from(overlap_seconds) * 1_000_000)),
        _ => {
            let text = format!("Secrets overlap for 0 to {MAX_OVERLAP_SECONDS} seconds.");
            Err(Error::invalid("overlap_seconds", text))
        }
    }
}
