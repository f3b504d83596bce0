//! A simulation as a person reads it.

use crate::time::SECOND;
use std::fmt;

/// One line: when, who, what.
#[derive(Debug, Clone)]
pub struct Line {
    /// Microseconds since the start.
    pub at_us: u64,
    /// A step, the state machine, AWS itself, somebody else, or the simulator's judge.
    pub who: String,
    /// What happened.
    pub text: String,
    /// Whether it is a look or a note of the product's own: left out unless somebody wants every call.
    pub is_detail: bool,
}

impl Line {
    /// To the second, for transcripts that are kept.
    pub fn brief(&self) -> String {
        let seconds = self.at_us / SECOND;
        let text = self.text.replace(" -> ", " → ");
        format!("{:>2}:{:02}:{:02}  {:<16} {text}", seconds / 3600, seconds / 60 % 60, seconds % 60, self.who)
    }
}

/// The lines as a person reads them: what changed and what was decided. Looks are left out, and of a long wait only its
/// first and its last.
pub fn in_short(lines: &[Line]) -> Vec<&Line> {
    let is_wait = |line: &Line| line.text.starts_with("= Waiting");
    let is_loop = |line: &Line| {
        let state = line.text.rsplit(' ').next().unwrap_or_default();
        line.who == "Step Functions" && (line.text.contains("] WaitFor") || LOOPS.contains(&state))
    };
    let is_registration = |line: &Line| line.who == "wake" && line.text.starts_with("= {\"waits_for\"");
    let is_told = |line: &&Line| !(line.is_detail || is_loop(line) || is_registration(line));
    let told: Vec<&Line> = lines.iter().filter(is_told).collect();
    let inside = |position: usize| {
        let same = |other: Option<&&Line>| other.is_some_and(|other| is_wait(other) && other.who == told[position].who);
        is_wait(told[position])
            && same(position.checked_sub(1).and_then(|before| told.get(before)))
            && same(told.get(position + 1))
    };
    (0..told.len()).filter(|position| !inside(*position)).map(|position| told[position]).collect()
}

/// States that are entered again and again while something takes its time.
const LOOPS: [&str; 5] = ["CheckCopy", "DeleteCluster", "CheckRestore", "SwapCluster", "RetireCluster"];

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at_us / SECOND;
        let millis = self.at_us % SECOND / 1000;
        write!(
            f,
            "{:>2}:{:02}:{:02}.{millis:03}  {:<16} {}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            self.who,
            self.text
        )
    }
}
