//! A simulated cloud *below the concrete SDK clients*, in virtual time: real requests, real parsing, real error
//! mapping, the shipped steps and the shipped state machine. Faults come by seed and can be replayed; the promises of
//! the product ([`invariants`]) are judged at every change.
//!
//! `cargo run -p aurora-restore-sim --release -- --seeds 10000`

mod chaos;
pub mod cloud;
pub mod crowd;
mod driver;
pub mod faults;
pub mod invariants;
pub mod machine;
pub mod run;
pub mod scenario;
pub mod setup;
pub mod time;
mod told;
pub mod transcript;
pub mod waits;

pub use faults::{CallFault, Chaos, InvocationFault, Plan};
pub use invariants::Invariant;
pub use machine::{Ended, Machine};
pub use run::{Report, simulate};
pub use scenario::Scenario;
pub use setup::{Second, Setup};
