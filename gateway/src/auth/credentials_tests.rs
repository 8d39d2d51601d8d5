use super::*;
use std::sync::atomic::AtomicU32;
use tokio::sync::oneshot;
use tokio::time::{advance, sleep};

const LEASE: Duration = Duration::from_millis(800);
const MS: Duration = Duration::from_millis(1);

/// What stands in a database that counts how often it is read.
#[derive(Default)]
struct Database {
    value: AtomicU32,
    reads: AtomicU32,
}

impl Database {
    async fn load(&self) -> Result<Option<Result<u32>>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        match self.value.load(Ordering::SeqCst) {
            0 => Ok(None),
            value => Ok(Some(Ok(value))),
        }
    }

    fn set(&self, value: u32) {
        self.value.store(value, Ordering::SeqCst);
    }

    fn reads(&self) -> u32 {
        self.reads.swap(0, Ordering::SeqCst)
    }
}

struct World {
    credentials: Credentials,
    shelf: Shelf<u32>,
    database: Database,
}

impl World {
    fn new() -> World {
        let metrics = Metrics::register(&mut Registry::default());
        let database = Database::default();
        database.set(1);
        World { credentials: Credentials::new(LEASE, &metrics), shelf: Shelf::new(4), database }
    }

    fn renew(&self) {
        self.credentials.lease().renew(Instant::now());
    }

    /// A change of something that this shelf's entries are taken to depend on.
    fn forget(&self) {
        self.credentials.forget(&Affected::Everything);
        self.shelf.clear();
    }

    async fn find(&self) -> Option<u32> {
        let (found, _) = self.credentials.find(&self.shelf, "a", self.database.load()).await.unwrap();
        found.map(|value| *value)
    }

    async fn seen(&self) -> Seen {
        self.credentials.find(&self.shelf, "a", self.database.load()).await.unwrap().1
    }
}

#[tokio::test(start_paused = true)]
async fn under_a_lease_the_database_is_asked_once() {
    let world = World::new();
    world.renew();
    for _ in 0..5 {
        assert_eq!(world.find().await, Some(1));
    }
    assert_eq!(world.database.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_the_database_is_asked_each_time() {
    let world = World::new();
    assert_eq!((world.find().await, world.find().await), (Some(1), Some(1)));
    assert_eq!(world.database.reads(), 2, "nobody has renewed it yet");
    world.renew();
    assert_eq!((world.find().await, world.database.reads()), (Some(1), 0), "what was read meanwhile is remembered");
    advance(LEASE - MS).await;
    world.database.set(0);
    assert_eq!(world.find().await, Some(1), "believed for the last time");
    advance(MS).await;
    assert_eq!((world.find().await, world.database.reads()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_is_read_again() {
    let world = World::new();
    world.renew();
    assert_eq!(world.find().await, Some(1));
    world.database.set(0);
    world.forget();
    assert_eq!(world.find().await, None);
    world.database.set(2);
    assert_eq!(world.find().await, Some(2), "that there was none is not remembered");
}

#[tokio::test(start_paused = true)]
async fn a_slow_read_around_a_change_is_not_remembered() {
    let world = World::new();
    world.renew();
    let (reply, slow) = oneshot::channel();
    let stale = world.credentials.find(&world.shelf, "a", async {
        let _ = slow.await;
        Ok(Some(Ok(1)))
    });
    let change = async {
        sleep(MS * 10).await;
        world.database.set(0);
        world.forget();
        world.renew();
        sleep(MS * 10).await;
        reply.send(()).unwrap();
    };
    let (stale, ()) = tokio::join!(stale, change);
    let (found, seen) = stale.unwrap();
    assert_eq!(found.map(|value| *value), Some(1), "it was read before the change");
    assert!(!world.credentials.still_holds(seen), "and whoever got it can find out");
    assert_eq!(world.find().await, None, "an answer from before the change was put in after it");
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_holds_until_something_is_forgotten_or_nobody_follows_the_feed() {
    let world = World::new();
    let seen = world.seen().await;
    assert!(world.credentials.still_holds(seen));
    advance(LEASE - MS).await;
    assert!(world.credentials.still_holds(seen), "as young as anything remembered");
    advance(MS).await;
    assert!(!world.credentials.still_holds(seen), "cut off");
    world.renew();
    assert!(world.credentials.still_holds(seen), "the feed has been followed all the time");
    world.forget();
    assert!(!world.credentials.still_holds(seen));
    let seen = world.seen().await;
    assert!(world.credentials.still_holds(seen));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_does_not_answer_refuses_nobody_for_good() {
    let world = World::new();
    world.renew();
    assert_eq!(world.find().await, Some(1));
    let down = async { Ok(read::<u32>(Err(Error::new(ErrorKind::Internal, "secret details")))?.map(Ok)) };
    let found = world.credentials.find(&world.shelf, "a", down).await.unwrap();
    assert_eq!(found.0.as_deref(), Some(&1), "remembered");
    advance(LEASE).await;
    let down = async { Ok(read::<u32>(Err(Error::new(ErrorKind::Internal, "secret details")))?.map(Ok)) };
    let error = world.credentials.find(&world.shelf, "a", down).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Overloaded, Some(RETRY_AFTER)));
    assert!(error.message.starts_with("Credentials can't be checked at the moment."), "{error}");
}
