//! A request's events so far: appended by its task, read at a cursor by whoever serves the caller.
//!
//! Events keep their sequence number, their index, for the request's whole life. So several readers are possible, and
//! one that comes back can go on where it was.

use super::Event;
use crate::error::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The writing side. Dropped without an end, it ends the log with a failure, so that no reader waits for ever.
#[derive(Debug)]
pub struct FrameLog {
    shared: Arc<Shared>,
    stall: Duration,
    linger: Duration,
}

/// Where further readers join.
#[derive(Debug, Clone)]
pub(super) struct Readers(Arc<Shared>);

/// A cursor into a log. Dropping the last one tells the request's task that nobody listens.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    id: u64,
    cursor: usize,
}

/// The log is full: more events than the request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more events than the request's output tokens allow")]
pub struct Full;

/// Why nobody waits for the answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// Every reader was dropped.
    Gone,
    /// Every reader that is left has had unread events for too long.
    Stalled,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something was appended: for readers.
    appended: Notify,
    /// A reader moved, came or went: for the writer.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    events: Vec<Event>,
    /// Most events before the last one.
    bound: usize,
    ended: bool,
    readers: Vec<ReaderState>,
    /// The next reader's id.
    next: u64,
    /// When the last reader left.
    left_at: Option<Instant>,
}

#[derive(Debug)]
struct ReaderState {
    id: u64,
    /// Since when it has had something to read without reading.
    behind_since: Option<Instant>,
}

impl FrameLog {
    /// A log with its first reader, who counts as gone after `stall` with something unread. At most `bound` events,
    /// the last one not counted.
    pub fn new(bound: usize, stall: Duration) -> (FrameLog, Reader) {
        FrameLog::lingering(bound, stall, Duration::ZERO)
    }

    /// As [`FrameLog::new`], for an answer that is wanted although nobody reads it at the moment: it counts as abandoned
    /// only `linger` after its last reader left.
    pub(super) fn lingering(bound: usize, stall: Duration, linger: Duration) -> (FrameLog, Reader) {
        // A day is for ever here, and no sum of it with a time overflows.
        let stall = stall.min(Duration::from_secs(86_400));
        let (events, readers) = (Vec::new(), Vec::new());
        let state = State { events, bound, ended: false, readers, next: 0, left_at: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), appended: Notify::new(), moved: Notify::new() });
        let log = FrameLog { shared, stall, linger };
        let reader = log.readers().join();
        (log, reader)
    }

    /// Where further readers join.
    pub(super) fn readers(&self) -> Readers {
        Readers(Arc::clone(&self.shared))
    }

    /// All events so far.
    pub(super) fn events(&self) -> Vec<Event> {
        self.shared.state().events.clone()
    }

    /// Sets the bound, once it is known.
    pub fn allow(&self, bound: usize) {
        self.shared.state().bound = bound;
    }

    /// Appends an event that is not the last.
    ///
    /// # Errors
    /// [`Full`]; the event is dropped. An event after the end is dropped too.
    pub fn append(&self, event: Event) -> Result<(), Full> {
        let mut state = self.shared.state();
        if state.events.len() >= state.bound {
            return Err(Full);
        }
        state.push(event, false, Instant::now());
        drop(state);
        self.shared.appended.notify_waiters();
        Ok(())
    }

    /// Appends the last event, for which there is always room. Only the first call counts.
    pub fn end(&self, event: Event) {
        self.shared.end(event);
    }

    /// Ready once nobody waits for the answer. Cancelling loses nothing.
    pub async fn abandoned(&self) -> Abandoned {
        loop {
            let moved = self.shared.moved.notified();
            let next_look = match self.shared.state().abandonment(self.stall, self.linger, Instant::now()) {
                Ok(why) => return why,
                Err(next_look) => next_look,
            };
            tokio::select! {
                () = moved => {}
                () = sleep_until(next_look) => {}
            }
        }
    }
}

impl Drop for FrameLog {
    fn drop(&mut self) {
        self.shared.end(Event::Failed(Error::new(
            ErrorKind::Internal,
            "The request ended without a result. Give its id to the operator.",
        )));
    }
}

impl Readers {
    /// A reader of the whole log, from its first event.
    pub(super) fn join(&self) -> Reader {
        let mut state = self.0.state();
        let id = state.next;
        state.next += 1;
        let behind_since = (!state.events.is_empty()).then(Instant::now);
        state.readers.push(ReaderState { id, behind_since });
        Reader { shared: Arc::clone(&self.0), id, cursor: 0 }
    }
}

impl Reader {
    /// The next event; `None` after `Finished` or `Failed`. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let appended = self.shared.appended.notified();
            {
                let mut state = self.shared.state();
                if let Some(event) = state.read(self.id, &mut self.cursor, Instant::now()) {
                    drop(state);
                    self.shared.moved.notify_one();
                    return Some(event);
                }
                if state.ended {
                    return None;
                }
            }
            appended.await;
        }
    }

    /// A reader of events that are all there already, the last one being the end.
    pub(crate) fn from_events(events: Vec<Event>) -> Reader {
        let (log, reader) = FrameLog::new(events.len(), Duration::ZERO);
        let mut state = log.shared.state();
        for event in events {
            state.push(event, false, Instant::now());
        }
        state.ended = true;
        drop(state);
        reader
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.readers.retain(|reader| reader.id != self.id);
        if state.readers.is_empty() {
            state.left_at = Some(Instant::now());
        }
        drop(state);
        self.shared.moved.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, event: Event) {
        self.state().push(event, true, Instant::now());
        self.appended.notify_waiters();
    }
}

impl State {
    fn push(&mut self, event: Event, ends: bool, now: Instant) {
        if self.ended {
            return;
        }
        self.events.push(event);
        self.ended = ends;
        for reader in &mut self.readers {
            reader.behind_since.get_or_insert(now);
        }
    }

    fn read(&mut self, id: u64, cursor: &mut usize, now: Instant) -> Option<Event> {
        let event = self.events.get(*cursor)?.clone();
        *cursor += 1;
        let has_more = *cursor < self.events.len();
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.behind_since = has_more.then_some(now);
        }
        Some(event)
    }

    /// Whether everybody has left; if not, when to look again unless a reader moves before.
    fn abandonment(&self, stall: Duration, linger: Duration, now: Instant) -> Result<Abandoned, Instant> {
        let holds_out = |reader: &ReaderState| reader.behind_since.unwrap_or(now) + stall;
        // The reader who holds out longest counts.
        match self.readers.iter().map(holds_out).max() {
            None => match self.left_at.unwrap_or(now) + linger {
                until if until <= now => Ok(Abandoned::Gone),
                until => Err(until),
            },
            Some(until) if until + linger <= now => Ok(Abandoned::Stalled),
            // An append may start a stall without waking us, so look every now and then.
            Some(until) => Err((until + linger).min(now + stall / 8)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_protocol::Counts;
    use futures::FutureExt;

    const STALL: Duration = Duration::from_secs(30);

    fn text(text: &str) -> Event {
        Event::Text { choice: 0, text: text.into(), logprobs: Vec::new(), counts: Counts::default() }
    }

    fn failed() -> Event {
        Event::Failed(Error::new(ErrorKind::Overloaded, "busy"))
    }

    fn shown(event: Option<Event>) -> String {
        match event {
            Some(Event::Text { text, .. }) => text,
            Some(Event::Failed(error)) => format!("{:?}", error.kind),
            Some(Event::Started(_) | Event::Reasoning { .. } | Event::Tool { .. } | Event::Finished(_)) => {
                "other".into()
            }
            None => "none".into(),
        }
    }

    #[tokio::test]
    async fn events_are_read_in_order_until_the_end() {
        let (log, mut reader) = FrameLog::new(2, STALL);
        assert!(reader.next().now_or_never().is_none(), "nothing there yet");
        log.append(text("a")).unwrap();
        log.append(text("b")).unwrap();
        log.end(failed());
        for expected in ["a", "b", "Overloaded", "none", "none"] {
            assert_eq!(shown(reader.next().await), expected);
        }
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let (log, mut reader) = FrameLog::new(2, STALL);
        let read = tokio::spawn(async move { shown(reader.next().await) });
        tokio::task::yield_now().await;
        log.append(text("late")).unwrap();
        assert_eq!(read.await.unwrap(), "late");
    }

    #[tokio::test]
    async fn a_full_log_still_has_room_for_its_end() {
        let (log, mut reader) = FrameLog::new(1, STALL);
        log.append(text("a")).unwrap();
        assert_eq!(log.append(text("b")), Err(Full));
        log.allow(2);
        log.append(text("c")).unwrap();
        log.end(failed());
        log.end(text("never"));
        assert_eq!(shown(reader.next().await), "a");
        assert_eq!(shown(reader.next().await), "c");
        assert_eq!(shown(reader.next().await), "Overloaded");
        assert_eq!(shown(reader.next().await), "none");
    }

    #[tokio::test]
    async fn a_dropped_reader_is_noticed() {
        let (log, reader) = FrameLog::new(2, STALL);
        assert!(log.abandoned().now_or_never().is_none());
        drop(reader);
        assert_eq!(log.abandoned().await, Abandoned::Gone);
    }

    #[tokio::test]
    async fn a_reader_that_goes_while_the_writer_waits_is_noticed() {
        let (log, reader) = FrameLog::new(2, STALL);
        let waits = tokio::spawn(async move { log.abandoned().await });
        tokio::task::yield_now().await;
        drop(reader);
        assert_eq!(waits.await.unwrap(), Abandoned::Gone);
    }

    fn state_with_a_reader() -> State {
        let readers = vec![ReaderState { id: 0, behind_since: None }];
        State { events: vec![], bound: 9, ended: false, readers, next: 1, left_at: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wanted_answer_outlives_its_readers_for_a_while_and_anew_after_each() {
        let (log, reader) = FrameLog::lingering(9, STALL, Duration::from_secs(60));
        let start = Instant::now();
        log.append(text("a")).unwrap();
        drop(reader);
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(log.abandoned().now_or_never().is_none());
        let mut second = log.readers().join();
        assert_eq!(shown(second.next().await), "a", "from the start");
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(log.abandoned().now_or_never().is_none(), "it is read");
        drop(second);
        assert_eq!(log.abandoned().await, Abandoned::Gone);
        assert_eq!(start.elapsed().as_secs(), 59 + 100 + 60);
        let _third = log.readers().join();
        assert_eq!(log.abandoned().await, Abandoned::Stalled, "a reader who takes nothing is none");
        assert_eq!(start.elapsed().as_secs(), 59 + 100 + 60 + 30 + 60);
    }

    #[test]
    fn a_reader_stalls_only_with_something_unread() {
        let mut state = state_with_a_reader();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cursor = 0;
        assert!(state.abandonment(STALL, Duration::ZERO, at(1000)).is_err(), "nothing to read is no stall");
        state.push(text("a"), false, at(1000));
        state.push(text("b"), false, at(1020));
        assert!(state.abandonment(STALL, Duration::ZERO, at(1029)).is_err());
        assert_eq!(state.abandonment(STALL, Duration::ZERO, at(1030)), Ok(Abandoned::Stalled));
        state.read(0, &mut cursor, at(1029));
        assert!(state.abandonment(STALL, Duration::ZERO, at(1058)).is_err(), "it moved, so it has its time again");
        assert_eq!(state.abandonment(STALL, Duration::ZERO, at(1059)), Ok(Abandoned::Stalled));
        state.read(0, &mut cursor, at(1058));
        assert!(state.abandonment(STALL, Duration::ZERO, at(9999)).is_err(), "it has read all");
    }

    #[test]
    fn one_reader_that_goes_on_is_enough() {
        let now = Instant::now();
        let mut state = state_with_a_reader();
        state.push(text("a"), false, now);
        state.readers.push(ReaderState { id: 1, behind_since: None });
        assert!(state.abandonment(STALL, Duration::ZERO, now + STALL).is_err());
        state.readers.pop();
        assert_eq!(state.abandonment(STALL, Duration::ZERO, now + STALL), Ok(Abandoned::Stalled));
    }

    #[tokio::test]
    async fn a_stalled_reader_is_noticed() {
        let (log, _reader) = FrameLog::new(2, Duration::from_millis(20));
        log.append(text("a")).unwrap();
        assert_eq!(log.abandoned().await, Abandoned::Stalled);
    }

    #[tokio::test]
    async fn a_log_dropped_without_an_end_fails_its_reader() {
        let (log, mut reader) = FrameLog::new(2, STALL);
        log.append(text("a")).unwrap();
        drop(log);
        assert_eq!(shown(reader.next().await), "a");
        assert_eq!(shown(reader.next().await), "Internal");
        assert_eq!(shown(reader.next().await), "none");
    }

    #[tokio::test]
    async fn ready_made_events_are_read_and_then_end() {
        let mut reader = Reader::from_events(vec![text("a"), failed()]);
        assert_eq!(shown(reader.next().await), "a");
        assert_eq!(shown(reader.next().await), "Overloaded");
        assert_eq!(shown(reader.next().await), "none");
    }
}
