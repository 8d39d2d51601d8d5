//! Hostile tokens, good tokens, and keys that come and go.

mod attacks;
mod good;
mod kit;
mod rotation;
mod sets;
