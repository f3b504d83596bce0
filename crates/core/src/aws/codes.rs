//! Which of our names an AWS error code means. A code that stands nowhere here is `Internal`: an unknown error is
//! never taken for one that may be repeated.

use aurora_restore_domain::failure::ErrorName;

/// `(code on the wire, our name)`. Sources: RDS API reference (errors of each operation and common errors), and the
/// like for DynamoDB, KMS, Secrets Manager, SNS and Step Functions.
pub(super) const CODES: &[(&str, ErrorName)] = &[
    // Slow down.
    ("Throttling", ErrorName::Throttled),
    ("ThrottlingException", ErrorName::Throttled),
    ("ThrottledException", ErrorName::Throttled),
    ("Throttled", ErrorName::Throttled),
    ("RequestLimitExceeded", ErrorName::Throttled),
    ("TooManyRequestsException", ErrorName::Throttled),
    ("ProvisionedThroughputExceededException", ErrorName::Throttled),
    ("LimitExceededException", ErrorName::Throttled),
    ("KMSThrottling", ErrorName::Throttled),
    // Not our fault, over soon.
    ("InternalFailure", ErrorName::ServiceUnavailable),
    ("InternalError", ErrorName::ServiceUnavailable),
    ("InternalErrorException", ErrorName::ServiceUnavailable),
    ("InternalServerError", ErrorName::ServiceUnavailable),
    ("InternalServiceError", ErrorName::ServiceUnavailable),
    ("InternalServiceErrorException", ErrorName::ServiceUnavailable),
    ("KMSInternalException", ErrorName::ServiceUnavailable),
    ("DependencyTimeoutException", ErrorName::ServiceUnavailable),
    ("ServiceUnavailable", ErrorName::ServiceUnavailable),
    ("ServiceUnavailableException", ErrorName::ServiceUnavailable),
    ("RequestTimeout", ErrorName::ServiceUnavailable),
    ("RequestExpired", ErrorName::ServiceUnavailable),
    // Busy: another change is under way.
    ("InvalidDBClusterStateFault", ErrorName::StateConflict),
    ("InvalidDBInstanceState", ErrorName::StateConflict),
    ("InvalidDBInstanceStateFault", ErrorName::StateConflict),
    ("InvalidDBClusterSnapshotStateFault", ErrorName::StateConflict),
    ("ConditionalCheckFailedException", ErrorName::StateConflict),
    ("TransactionConflictException", ErrorName::StateConflict),
    ("TransactionInProgressException", ErrorName::StateConflict),
    // Cancelled for another reason than a condition, which is told apart: throttled, or out of capacity.
    ("TransactionCanceledException", ErrorName::Throttled),
    ("ReplicatedWriteConflictException", ErrorName::StateConflict),
    // Limits.
    ("SnapshotQuotaExceeded", ErrorName::QuotaExceeded),
    ("SharedSnapshotQuotaExceeded", ErrorName::QuotaExceeded),
    ("DBClusterQuotaExceededFault", ErrorName::QuotaExceeded),
    ("InstanceQuotaExceeded", ErrorName::QuotaExceeded),
    ("StorageQuotaExceeded", ErrorName::QuotaExceeded),
    ("DBClusterAutomatedBackupQuotaExceededFault", ErrorName::QuotaExceeded),
    ("InsufficientDBClusterCapacityFault", ErrorName::QuotaExceeded),
    ("InsufficientDBInstanceCapacity", ErrorName::QuotaExceeded),
    ("InsufficientStorageClusterCapacity", ErrorName::QuotaExceeded),
    // Rights.
    ("AuthFailure", ErrorName::AccessDenied),
    ("AccessDenied", ErrorName::AccessDenied),
    ("AccessDeniedException", ErrorName::AccessDenied),
    ("UnauthorizedOperation", ErrorName::AccessDenied),
    ("AuthorizationError", ErrorName::AccessDenied),
    ("AuthorizationErrorException", ErrorName::AccessDenied),
    ("OptInRequired", ErrorName::AccessDenied),
    ("InvalidClientTokenId", ErrorName::AccessDenied),
    ("UnrecognizedClientException", ErrorName::AccessDenied),
    ("ExpiredToken", ErrorName::AccessDenied),
    ("ExpiredTokenException", ErrorName::AccessDenied),
    ("SignatureDoesNotMatch", ErrorName::AccessDenied),
    // Keys.
    ("KMSKeyNotAccessibleFault", ErrorName::KmsKeyUnusable),
    ("KMSAccessDenied", ErrorName::KmsKeyUnusable),
    ("KMSAccessDeniedException", ErrorName::KmsKeyUnusable),
    ("KMSDisabled", ErrorName::KmsKeyUnusable),
    ("KMSDisabledException", ErrorName::KmsKeyUnusable),
    ("KMSInvalidState", ErrorName::KmsKeyUnusable),
    ("KMSInvalidStateException", ErrorName::KmsKeyUnusable),
    ("KMSNotFound", ErrorName::KmsKeyUnusable),
    ("KMSNotFoundException", ErrorName::KmsKeyUnusable),
    ("DecryptionFailure", ErrorName::KmsKeyUnusable),
    ("DisabledException", ErrorName::KmsKeyUnusable),
    // There although it was not seen: our own call whose answer was lost, or somebody else's. The repeated step looks
    // again and tells the two apart by the tag.
    ("DBClusterAlreadyExistsFault", ErrorName::StateConflict),
    ("DBClusterSnapshotAlreadyExistsFault", ErrorName::StateConflict),
    ("DBInstanceAlreadyExists", ErrorName::StateConflict),
    // Things that should be there.
    ("DBClusterSnapshotNotFoundFault", ErrorName::ResourceFailed),
    ("DBClusterNotFoundFault", ErrorName::ResourceFailed),
    ("DBInstanceNotFound", ErrorName::ResourceFailed),
    // Parameters that AWS does not take.
    ("NoSuchBucket", ErrorName::InvalidRequest),
    ("NoSuchKey", ErrorName::InvalidRequest),
    ("PermanentRedirect", ErrorName::InvalidRequest),
    ("AuthorizationHeaderMalformed", ErrorName::InvalidRequest),
    ("DBSubnetGroupNotFoundFault", ErrorName::InvalidRequest),
    ("DBSubnetGroupDoesNotCoverEnoughAZs", ErrorName::InvalidRequest),
    ("DBClusterParameterGroupNotFound", ErrorName::InvalidRequest),
    ("DBParameterGroupNotFound", ErrorName::InvalidRequest),
    ("InvalidSubnet", ErrorName::InvalidRequest),
    ("InvalidVPCNetworkStateFault", ErrorName::InvalidRequest),
    ("InvalidRestoreFault", ErrorName::InvalidRequest),
    ("InvalidParameterValue", ErrorName::InvalidRequest),
    ("InvalidParameterCombination", ErrorName::InvalidRequest),
    ("InvalidParameterException", ErrorName::InvalidRequest),
    ("StorageTypeNotSupported", ErrorName::InvalidRequest),
    ("ValidationError", ErrorName::InvalidRequest),
    ("ValidationException", ErrorName::InvalidRequest),
    ("InvalidParameter", ErrorName::InvalidRequest),
    ("InvalidArn", ErrorName::InvalidRequest),
    ("InvalidArnException", ErrorName::InvalidRequest),
    ("InvalidDBSubnetGroupStateFault", ErrorName::InvalidRequest),
    ("OptionGroupNotFoundFault", ErrorName::InvalidRequest),
    ("NetworkTypeNotSupported", ErrorName::InvalidRequest),
    ("StorageTypeNotAvailableFault", ErrorName::InvalidRequest),
    // A secret that is being deleted (Secrets Manager), a secret, table or topic that is not there.
    ("InvalidRequestException", ErrorName::InvalidRequest),
    ("ResourceNotFoundException", ErrorName::InvalidRequest),
    ("NotFound", ErrorName::InvalidRequest),
];

/// The name that `code` means.
pub(super) fn name_of(code: &str) -> ErrorName {
    CODES.iter().find(|(known, _)| *known == code).map_or(ErrorName::Internal, |(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_stands_twice_and_unknown_ones_are_final() {
        let mut codes: Vec<_> = CODES.iter().map(|(code, _)| code).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
        assert!(!name_of("SomethingNew").is_transient());
    }
}
