//! Named points at which the process can be made to die, so that a death between any two steps is tried
//! and not waited for.
//!
//! A point is nothing in a normal build. With the feature `crash-points`, which tests have and no release,
//! `CRASH_AT=name` ends the process when it comes to that point (`name:3`: for the third time). Its last
//! words on standard error are [`LAST_WORDS`] and the point's name: another abort is not taken for it.

/// Every point, in the order of the way through it.
pub const POINTS: [&str; 35] = [
    "start: journal opened",
    "start: half rebuilt",
    "start: rebuilt",
    "start: lane runs",
    "reserve: admitted",
    "reserve: submitted",
    "reserve: decided",
    "reserve: durable",
    "reply: half written",
    "lane: decided",
    "lane: appended",
    "lane: published",
    "lane: told",
    "lane: swept",
    "redis: before the call",
    "redis: answered",
    "redis: before the barrier",
    "redis: told",
    "redis: swept",
    "writer: read",
    "writer: begun",
    "writer: rows written",
    "writer: cursor moved",
    "writer: before the commit",
    "writer: committed",
    "writer: told",
    "writer: before the trim",
    "writer: trimmed",
    "recovery: books held",
    "recovery: remembered",
    "recovery: fenced",
    "recovery: half written",
    "recovery: written",
    "recovery: reopened",
    "drain: begun",
];

/// What stands before the name of the point on standard error.
pub const LAST_WORDS: &str = "crash point: ";

/// The process dies here, if it is told to.
#[inline(always)]
pub fn point(name: &'static str) {
    if comes_to(name) {
        die(name);
    }
}

/// Whether the process is to die at this point now. Whoever asks does what is to be half done then, and lets
/// it [`die`]; it is asked once each time.
#[cfg(not(any(test, feature = "crash-points")))]
#[inline(always)]
pub fn comes_to(_name: &'static str) -> bool {
    false
}

/// Whether the process is to die at this point now. Whoever asks does what is to be half done then, and lets
/// it [`die`]; it is asked once each time.
#[cfg(all(feature = "crash-points", not(test)))]
pub fn comes_to(name: &'static str) -> bool {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// The point, and how often it is passed before it counts.
    static AT: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let at = std::env::var("CRASH_AT").ok()?;
        let (name, nth) = match at.rsplit_once(':') {
            Some((name, nth)) if nth.parse::<u32>().is_ok() => (name, nth.parse().unwrap_or(1)),
            Some(_) | None => (at.as_str(), 1),
        };
        Some((name.to_owned(), AtomicU32::new(nth)))
    });
    match &*AT {
        Some((wanted, left)) => wanted == name && left.fetch_sub(1, Ordering::Relaxed) == 1,
        None => false,
    }
}

/// A simulation decides whether whoever came here dies.
#[cfg(test)]
pub fn comes_to(name: &'static str) -> bool {
    simulated::come_to(name);
    false
}

/// No destructors, no flush, no answer: as SIGKILL would have it.
pub fn die(name: &'static str) -> ! {
    use std::io::Write;
    // Whoever does not listen is no reason to live on.
    let _ = writeln!(std::io::stderr(), "{LAST_WORDS}{name}");
    std::process::abort();
}

/// Deaths in a simulation: the thread unwinds, and what it had begun is rolled back.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::RefCell;

    /// What becomes of whoever comes to a point.
    type Decides = Box<dyn FnMut(&'static str)>;

    thread_local! {
        static DECIDES: RefCell<Option<Decides>> =
            const { RefCell::new(None) };
    }

    /// Who is asked at each point that the calling thread comes to.
    pub fn decided_by(decides: Option<Box<dyn FnMut(&'static str)>>) {
        DECIDES.with(|known| *known.borrow_mut() = decides);
    }

    pub fn come_to(name: &'static str) {
        debug_assert!(super::POINTS.contains(&name), "{name} is in no list");
        DECIDES.with(|known| {
            if let Some(decides) = known.borrow_mut().as_mut() {
                decides(name);
            }
        });
    }
}
