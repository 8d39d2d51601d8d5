//! A request's events so far: appended by its task, read at a cursor by whoever serves the caller.

use super::Event;

/// The writing side.
#[derive(Debug)]
pub struct FrameLog;

/// A cursor into a log. Dropping the last one tells the request's task that nobody listens.
#[derive(Debug)]
pub struct Reader;

impl Reader {
    /// The next event; `None` after `Finished` or `Failed`. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        todo!("G3")
    }
}
