//! When a sale sells. The state is never stored: it follows from the window and the time, so a
//! gateway that was down when a sale should have opened or closed is right the moment it is back.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// `[opens_at, closes_at)`, and whether an operator has paused the sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First instant at which units are taken; `None`: until somebody opens the sale by hand.
    pub opens_at: Option<Millis>,
    /// First instant at which none are taken any more; `None`: until somebody closes it.
    pub closes_at: Option<Millis>,
    /// Stopped for now by an operator.
    pub paused: bool,
}

/// What a window says of an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// Not open yet.
    Scheduled,
    /// Selling.
    Open,
    /// Inside its window, stopped by an operator.
    Paused,
    /// Over for good.
    Closed,
}

impl SaleState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            SaleState::Scheduled => "scheduled",
            SaleState::Open => "open",
            SaleState::Paused => "paused",
            SaleState::Closed => "closed",
        }
    }
}

/// What an operator can do to a sale's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// Start selling now.
    Open,
    /// Stop for now.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Stop for good.
    Close,
}

impl Move {
    /// The word on the wire, in the command line and in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Move::Open => "open",
            Move::Pause => "pause",
            Move::Resume => "resume",
            Move::Close => "close",
        }
    }
}

impl Window {
    /// The state at `now`.
    pub fn state(&self, now: Millis) -> SaleState {
        if self.closes_at.is_some_and(|closes_at| now >= closes_at) {
            return SaleState::Closed;
        }
        if self.opens_at.is_none_or(|opens_at| now < opens_at) {
            return SaleState::Scheduled;
        }
        if self.paused { SaleState::Paused } else { SaleState::Open }
    }

    /// The window after `step`, taken at `now`: unchanged where the sale already is as asked.
    /// `None` where the step makes no sense from the state that the sale is in.
    pub fn after(&self, step: Move, now: Millis) -> Option<Window> {
        use SaleState::{Closed, Open, Paused, Scheduled};
        let state = self.state(now);
        match (step, state) {
            (Move::Open, Scheduled) => Some(Window { opens_at: Some(now), ..*self }),
            (Move::Pause, Open) => Some(Window { paused: true, ..*self }),
            (Move::Resume, Paused) => Some(Window { paused: false, ..*self }),
            (Move::Close, Scheduled | Open | Paused) => {
                Some(Window { closes_at: Some(now), ..*self })
            }
            (Move::Open | Move::Resume, Open) | (Move::Pause, Paused) | (Move::Close, Closed) => {
                Some(*self)
            }
            (Move::Open, Paused | Closed) | (Move::Pause | Move::Resume, Scheduled | Closed) => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window =
        Window { opens_at: Some(Millis(10)), closes_at: Some(Millis(20)), paused: false };

    /// The window is half open: its first instant sells, its last does not.
    #[test]
    fn edges() {
        assert_eq!(WINDOW.state(Millis(9)), SaleState::Scheduled);
        assert_eq!(WINDOW.state(Millis(10)), SaleState::Open);
        assert_eq!(WINDOW.state(Millis(19)), SaleState::Open);
        assert_eq!(WINDOW.state(Millis(20)), SaleState::Closed);
        assert_eq!(Window::default().state(Millis(u64::MAX)), SaleState::Scheduled);
    }

    /// Steps are idempotent, closing is final, and a step that makes no sense is refused.
    #[test]
    fn steps() {
        let paused = WINDOW.after(Move::Pause, Millis(12)).unwrap();
        assert_eq!(paused.state(Millis(12)), SaleState::Paused);
        assert_eq!(paused.after(Move::Pause, Millis(13)), Some(paused));
        assert_eq!(paused.after(Move::Open, Millis(13)), None);
        assert_eq!(paused.after(Move::Resume, Millis(13)), Some(WINDOW));
        let closed = paused.after(Move::Close, Millis(14)).unwrap();
        assert_eq!(closed.state(Millis(14)), SaleState::Closed);
        assert_eq!(closed.after(Move::Close, Millis(15)), Some(closed));
        assert_eq!(closed.after(Move::Resume, Millis(15)), None);
        assert_eq!(WINDOW.after(Move::Pause, Millis(5)), None);
        let early = WINDOW.after(Move::Open, Millis(5)).unwrap();
        assert_eq!(early.state(Millis(5)), SaleState::Open, "opened by hand before its time");
    }
}
