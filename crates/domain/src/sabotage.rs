//! Deliberate defects that the simulator must find (`crates/sim/tests/teeth.rs`). Only the feature `sabotage`, which
//! nothing that is deployed is built with, can switch one on; without it every question here is a constant `false`.

/// A defect, named by what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Sabotage {
    SkipTagCheck,
    IgnoreMembers,
    AlreadyExistsIsDone,
    ForgetFence,
    DeleteBeforeCopyIsThere,
    PublishBeforeRecording,
    SwallowThrottle,
    KeepLock,
    LeaveUnprotected,
    NoBegunRecord,
    FailureLooksLikeSuccess,
    SecretInAudit,
    RetentionTakesWhatIsNotOurs,
    TakeLiveLock,
    SkipPasswordReset,
    MaskWhileOpen,
    ProtectWithoutLock,
    TakeLockBeforeRecording,
    LeaveFormerRunning,
    ForgetFailedStep,
    BelieveInSwap,
    GiveNameAwayEarly,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::SkipTagCheck,
        Self::IgnoreMembers,
        Self::AlreadyExistsIsDone,
        Self::ForgetFence,
        Self::DeleteBeforeCopyIsThere,
        Self::PublishBeforeRecording,
        Self::SwallowThrottle,
        Self::KeepLock,
        Self::LeaveUnprotected,
        Self::NoBegunRecord,
        Self::FailureLooksLikeSuccess,
        Self::SecretInAudit,
        Self::RetentionTakesWhatIsNotOurs,
        Self::TakeLiveLock,
        Self::SkipPasswordReset,
        Self::MaskWhileOpen,
        Self::ProtectWithoutLock,
        Self::TakeLockBeforeRecording,
        Self::LeaveFormerRunning,
        Self::ForgetFailedStep,
        Self::BelieveInSwap,
        Self::GiveNameAwayEarly,
    ];

    /// Whether this defect is switched on.
    #[cfg(not(feature = "sabotage"))]
    pub const fn is_on(self) -> bool {
        false
    }

    /// Whether this defect is switched on, on this thread.
    #[cfg(feature = "sabotage")]
    pub fn is_on(self) -> bool {
        ON.with(|on| on.get() == Some(self))
    }

    /// Switches one defect on for this thread, or none.
    #[cfg(feature = "sabotage")]
    pub fn switch(which: Option<Self>) {
        ON.with(|on| on.set(which));
    }
}

#[cfg(feature = "sabotage")]
thread_local! {
    static ON: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}
