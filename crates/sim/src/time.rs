//! Virtual time and the loop that moves it: nothing here ever waits for real.

use aurora_restore_core::clock::Clock;
use aurora_restore_domain::Instant;
use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_async::time::TimeSource;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};
use time::macros::datetime;

/// When every simulation begins.
pub const START: Instant = datetime!(2026-11-21 20:00 UTC);

/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;

/// The one time that a simulated world has. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Time(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    now_us: u64,
    next: u64,
    timers: BinaryHeap<Reverse<(u64, u64)>>,
    /// Sleepers by number; one that was dropped is gone from here, and its timer moves nothing.
    sleepers: BTreeMap<u64, Option<Waker>>,
    clocks: Vec<Clock>,
}

impl Time {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since [`START`].
    pub fn now_us(&self) -> u64 {
        self.inner().now_us
    }

    /// The instant.
    pub fn now(&self) -> Instant {
        at(self.now_us())
    }

    /// A clock of the product that is `skew` apart from this time for good.
    pub fn clock(&self, skew: time::Duration) -> Clock {
        let clock = Clock::fixed(self.now() + skew);
        self.inner().clocks.push(clock.clone());
        clock
    }

    /// Waits in virtual time.
    pub fn sleep_us(&self, duration_us: u64) -> Sleeper {
        let mut inner = self.inner();
        let number = inner.next;
        inner.next += 1;
        let at = inner.now_us + duration_us;
        inner.timers.push(Reverse((at, number)));
        inner.sleepers.insert(number, None);
        Sleeper { time: self.clone(), at, number }
    }

    /// Moves to the next sleeper's moment and wakes it; `false` when nobody sleeps.
    fn advance(&self) -> bool {
        let mut inner = self.inner();
        while let Some(Reverse((at, number))) = inner.timers.pop() {
            let Some(waker) = inner.sleepers.get_mut(&number) else { continue };
            let waker = waker.take();
            let passed = Duration::from_micros(at.saturating_sub(inner.now_us));
            inner.now_us = inner.now_us.max(at);
            for clock in &inner.clocks {
                clock.advance(passed);
            }
            drop(inner);
            if let Some(waker) = waker {
                waker.wake();
            }
            return true;
        }
        false
    }

    /// Runs `work` to its end; `None` when it waits for something that never comes.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut work = pin!(work);
        loop {
            while woken.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(value) = work.as_mut().poll(&mut context) {
                    return Some(value);
                }
            }
            if !self.advance() {
                return None;
            }
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The instant that is so many microseconds after [`START`].
pub fn at(now_us: u64) -> Instant {
    START + Duration::from_micros(now_us)
}

/// A wait, see [`Time::sleep_us`].
#[derive(Debug)]
pub struct Sleeper {
    time: Time,
    at: u64,
    number: u64,
}

impl Future for Sleeper {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.time.inner();
        if inner.now_us >= self.at {
            return Poll::Ready(());
        }
        inner.sleepers.insert(self.number, Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.time.inner().sleepers.remove(&self.number);
    }
}

impl AsyncSleep for Time {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(self.sleep_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2)))
    }
}

impl TimeSource for Time {
    fn now(&self) -> SystemTime {
        SystemTime::from(at(self.now_us()))
    }
}

/// Runs all of them side by side; the answers in their order.
pub async fn join_all<'a, T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + 'a>>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_pass_in_no_time_and_in_order() {
        let time = Time::default();
        let seen = Mutex::new(vec![]);
        let clock = time.clock(time::Duration::seconds(-3));
        let wait = |seconds: u64| {
            let (time, seen) = (time.clone(), &seen);
            let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
                time.sleep_us(seconds * SECOND).await;
                seen.lock().unwrap().push((seconds, time.now_us() / SECOND));
            });
            future
        };
        // A wait that is given up moves nothing.
        drop(time.sleep_us(1000 * 3600 * SECOND));
        assert_eq!(time.run(join_all(vec![wait(7200), wait(5), wait(60)])).map(|done| done.len()), Some(3));
        assert_eq!(*seen.lock().unwrap(), [(5, 5), (60, 60), (7200, 7200)]);
        assert_eq!(clock.now(), START + time::Duration::seconds(7197));
        assert_eq!(time.run(std::future::pending::<()>()), None);
    }
}
