//! The clock, injected so that tests can move it.

use aurora_restore_domain::Instant;
use std::sync::{Arc, Mutex};

/// Where `now` comes from.
#[derive(Debug, Clone)]
pub struct Clock(Inner);

#[derive(Debug, Clone)]
enum Inner {
    Real,
    Fake(Arc<Mutex<Instant>>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Inner::Real)
    }

    /// A clock that stands at `at` until it is moved.
    pub fn fixed(at: Instant) -> Self {
        Self(Inner::Fake(Arc::new(Mutex::new(at))))
    }

    /// The current instant, UTC.
    pub fn now(&self) -> Instant {
        match &self.0 {
            Inner::Real => Instant::now_utc(),
            Inner::Fake(at) => *lock(at),
        }
    }

    /// Moves a fixed clock; the machine's does not move.
    pub fn advance(&self, by: std::time::Duration) {
        if let Inner::Fake(at) = &self.0 {
            *lock(at) += by;
        }
    }
}

/// A poisoned lock still holds a valid instant.
fn lock(at: &Mutex<Instant>) -> std::sync::MutexGuard<'_, Instant> {
    at.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
