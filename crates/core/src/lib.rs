//! What every step shares: configuration, the AWS edges, state, lock and audit in DynamoDB, secrets, and the loop that
//! serves invocations.

pub mod audit;
pub mod aws;
pub mod clock;
pub mod config;
pub mod context;
pub mod error;
pub mod lock;
pub mod metrics;
pub mod secrets;
pub mod serve;
pub mod store;
pub mod wake;

pub use aurora_restore_domain as domain;
pub use context::Context;
pub use error::StepError;
