//! Events of RDS on their way through EventBridge, best effort and without order, and the waits that they end.

use super::World;
use crate::time::SECOND;
use std::collections::BTreeMap;

/// How events arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Within seconds.
    #[default]
    Usual,
    /// Not at all.
    Never,
    /// Some are lost, some late, some come twice, and some are about something else.
    Messy,
}

/// A wait's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Waiting,
    Answered,
    Over,
}

/// What is on its way, and who waits.
#[derive(Debug)]
pub(super) struct Post {
    rng: fastrand::Rng,
    /// ARNs by the moment of their arrival, in microseconds.
    under_way: BTreeMap<(u64, u64), String>,
    tokens: BTreeMap<String, Token>,
}

impl Post {
    pub(super) fn of_seed(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed ^ 0xE7E7), under_way: BTreeMap::new(), tokens: BTreeMap::new() }
    }
}

impl World {
    /// RDS tells that something has happened.
    pub(super) fn tell_event(&mut self, region: &str, kind: &str, id: &str) {
        if region != self.scene.target_region {
            return;
        }
        let arn = self.arn(region, kind, id);
        let soon = self.post.rng.u64(SECOND..6 * SECOND);
        let late = self.post.rng.u64(SECOND..900 * SECOND);
        match (self.delivery, self.post.rng.u8(0..8)) {
            (Delivery::Never, _) | (Delivery::Messy, 0 | 1) => {}
            (Delivery::Messy, 2 | 3) => self.send_event(late, arn),
            (Delivery::Messy, 4) => {
                self.send_event(soon, arn.clone());
                self.send_event(soon, arn);
            }
            (Delivery::Messy, 5) => {
                self.send_event(soon, arn.clone());
                self.send_event(late, arn);
            }
            (Delivery::Messy, 6) => {
                let others = self.arn(region, kind, "somebody-elses");
                self.send_event(soon, others);
                self.send_event(soon, arn);
            }
            (Delivery::Usual | Delivery::Messy, _) => self.send_event(soon, arn),
        }
    }

    fn send_event(&mut self, after_us: u64, arn: String) {
        let place = (self.time.now_us() + after_us, self.serial());
        self.post.under_way.insert(place, arn);
    }

    /// When the next event arrives, in microseconds.
    pub fn next_event_us(&self) -> Option<u64> {
        self.post.under_way.keys().next().map(|(at_us, _)| *at_us)
    }

    /// ARNs of the events that have arrived since somebody asked.
    pub fn arrived_events(&mut self) -> Vec<String> {
        let now = self.time.now_us();
        let mut arrived = vec![];
        while let Some(entry) = self.post.under_way.first_entry().filter(|entry| entry.key().0 <= now) {
            arrived.push(entry.remove());
        }
        arrived
    }

    /// A token of a wait that begins.
    pub fn new_token(&mut self) -> String {
        let token = format!("token-{}", self.post.tokens.len() + 1);
        self.post.tokens.insert(token.clone(), Token::Waiting);
        token
    }

    /// Somebody answers with this token: whether its wait goes on; `None` for one that there never was.
    pub(super) fn answer_token(&mut self, token: &str) -> Option<bool> {
        let state = self.post.tokens.get_mut(token)?;
        let is_first = *state == Token::Waiting;
        if is_first {
            *state = Token::Answered;
        }
        Some(is_first)
    }

    /// Whether the wait was answered, once it is over: by that, or because its time is up.
    pub fn end_of_token(&mut self, token: &str, is_late: bool) -> Option<bool> {
        let state = self.post.tokens.get_mut(token)?;
        let is_answered = *state == Token::Answered;
        if !is_answered && !is_late {
            return None;
        }
        *state = Token::Over;
        Some(is_answered)
    }
}
