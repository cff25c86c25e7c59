//! What stands in for types that loom cannot look into. Each keeps its original's promise, and no more.

pub use loom::sync::{Mutex, atomic};

use std::sync::{Arc, PoisonError};

use self::atomic::{AtomicBool, Ordering};

/// For `std::sync::OnceLock`: made once, and whoever sees it sees what was done before it was made.
#[derive(Debug)]
pub struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    making: Mutex<()>,
    made: AtomicBool,
}

impl<T> OnceLock<T> {
    pub fn new() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            making: Mutex::new(()),
            made: AtomicBool::new(false),
        }
    }

    pub fn get(&self) -> Option<&T> {
        if self.made.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let value = self.value.get_or_init(make);
        self.made.store(true, Ordering::Release);
        value
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// For `arc_swap::ArcSwap`: whoever loads what was stored sees what was done before.
#[derive(Debug, Default)]
pub struct ArcSwap<T>(Mutex<Arc<T>>);

impl<T> ArcSwap<T> {
    pub fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn load_full(&self) -> Arc<T> {
        self.load()
    }

    pub fn store(&self, value: Arc<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// For `crossbeam::channel`: bounded, of many to many, first in first out. A queue whose receivers are
/// all gone drops what is in it; one whose senders are all gone is emptied first.
pub mod channel {
    use std::collections::VecDeque;
    use std::sync::{Arc, PoisonError};
    use std::time::Duration;

    use loom::sync::{Mutex, MutexGuard};
    use loom::thread::yield_now;

    #[derive(Debug)]
    struct Queue<T> {
        waiting: VecDeque<T>,
        capacity: usize,
        senders: usize,
        receivers: usize,
    }

    type Shared<T> = Arc<Mutex<Queue<T>>>;

    fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, Queue<T>> {
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[derive(Debug)]
    pub struct Sender<T>(Shared<T>);

    #[derive(Debug)]
    pub struct Receiver<T>(Shared<T>);

    pub enum TrySendError<T> {
        Full(T),
        Disconnected(T),
    }

    /// Empty, and every sender is gone.
    #[derive(Debug)]
    pub struct RecvError;

    pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let queue = Queue { waiting: VecDeque::new(), capacity, senders: 1, receivers: 1 };
        let shared = Arc::new(Mutex::new(queue));
        (Sender(Arc::clone(&shared)), Receiver(shared))
    }

    impl<T> Sender<T> {
        pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            let mut queue = lock(&self.0);
            if queue.receivers == 0 {
                return Err(TrySendError::Disconnected(value));
            }
            if queue.waiting.len() >= queue.capacity {
                return Err(TrySendError::Full(value));
            }
            queue.waiting.push_back(value);
            Ok(())
        }

        pub fn len(&self) -> usize {
            lock(&self.0).waiting.len()
        }
    }

    impl<T> Receiver<T> {
        pub fn try_iter(&self) -> impl Iterator<Item = T> {
            std::iter::from_fn(|| lock(&self.0).waiting.pop_front())
        }

        /// `None`: nothing is there yet.
        fn poll(&self) -> Option<Result<T, RecvError>> {
            let mut queue = lock(&self.0);
            match queue.waiting.pop_front() {
                Some(value) => Some(Ok(value)),
                None if queue.senders == 0 => Some(Err(RecvError)),
                None => None,
            }
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            lock(&self.0).senders += 1;
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Self {
            lock(&self.0).receivers += 1;
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            lock(&self.0).senders -= 1;
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let mut queue = lock(&self.0);
            queue.receivers -= 1;
            let dropped = if queue.receivers == 0 {
                std::mem::take(&mut queue.waiting)
            } else {
                VecDeque::new()
            };
            drop(queue);
            drop(dropped);
        }
    }

    /// Which of two queues had something to say first.
    pub enum Either<A, B> {
        First(Result<A, RecvError>),
        Second(Result<B, RecvError>),
        Neither,
    }

    /// Waits for either of two queues, or until the time is up. There is no time in a model: it is up
    /// once everybody else has had a turn, or never where it is the longest there is.
    pub fn either<A, B>(a: &Receiver<A>, b: &Receiver<B>, idle: Duration) -> Either<A, B> {
        loop {
            if let Some(first) = a.poll() {
                return Either::First(first);
            }
            if let Some(second) = b.poll() {
                return Either::Second(second);
            }
            yield_now();
            if idle < Duration::MAX {
                return Either::Neither;
            }
        }
    }

    /// The one form of crossbeam's macro that the product has.
    macro_rules! select {
        (
            recv($a:expr) -> $first:ident => $on_first:expr,
            recv($b:expr) -> $second:ident => $on_second:expr,
            default($idle:expr) => $otherwise:expr $(,)?
        ) => {
            match $crate::stand_ins::channel::either($a, $b, $idle) {
                $crate::stand_ins::channel::Either::First($first) => $on_first,
                $crate::stand_ins::channel::Either::Second($second) => $on_second,
                $crate::stand_ins::channel::Either::Neither => $otherwise,
            }
        };
    }
    pub(crate) use select;
}
