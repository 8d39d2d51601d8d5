//! Calls under an Idempotency-Key: generated once, charged once, and told alike to the byte, however often the caller's
//! connection breaks. Each suite looks at three places: what callers got, the books, and the engine's own counter.

mod calls;
mod keys;
mod model;
mod resume;
mod storm;
