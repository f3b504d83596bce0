//! Tokens for IAM database authentication, made by the SDK's own generator.

use super::AwsError;
use aurora_restore_domain::failure::ErrorName;
use aws_config::{Region, SdkConfig};
use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;

/// What a query leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A token for `user` of the database at `host` and `port` in `region`, good for 15 minutes.
pub(super) async fn login_token(
    config: &SdkConfig,
    region: &str,
    host: &str,
    port: u16,
    user: &str,
) -> Result<SecretString, AwsError> {
    // The reason is not told: whose words it is, and that they hold no credentials, nobody has promised.
    let failed = |_| AwsError {
        name: ErrorName::ServiceUnavailable,
        action: "rds-db:connect",
        resource: user.to_owned(),
        code: None,
        message: "no token could be signed: the function has no credentials, or cannot get them".into(),
        request_id: None,
    };
    let wanted = Config::builder()
        .hostname(host)
        .port(port.into())
        .region(Region::new(region.to_owned()))
        // The generator puts it into a URL as it is; any name is legal in PostgreSQL.
        .username(utf8_percent_encode(user, UNRESERVED).to_string())
        .build()
        .map_err(failed)?;
    let token = AuthTokenGenerator::new(wanted).auth_token(config).await.map_err(failed)?;
    Ok(SecretString::from(token.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::replay::Wire;
    use aws_smithy_async::time::StaticTimeSource;
    use secrecy::ExposeSecret;

    async fn token(user: &str) -> SecretString {
        let wire = Wire::new([]);
        let config = wire.config().to_builder().time_source(StaticTimeSource::from_secs(1_724_709_600)).build();
        let token = login_token(&config, "us-east-1", "db.us-east-1.rds.amazonaws.com", 5432, user).await.unwrap();
        assert_eq!(wire.asked(), [""; 0], "signed here, without a call");
        token
    }

    #[tokio::test]
    async fn a_token_is_for_one_user_of_one_database_and_fifteen_minutes() {
        let token = token("app_user").await;
        let expected = "db.us-east-1.rds.amazonaws.com:5432/?Action=connect&DBUser=app_user\
            &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=key%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request\
            &X-Amz-Date=20240826T220000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=";
        let signature = token.expose_secret().strip_prefix(expected).unwrap();
        assert_eq!(signature.len(), 64);
        assert!(!format!("{token:?}").contains("X-Amz"));
    }

    #[tokio::test]
    async fn any_name_can_be_signed_for() {
        for (user, in_query) in
            [("Report'er", "Report%27er"), ("a&b=c#d?", "a%26b%3Dc%23d%3F"), ("ü \"1+1%", "%C3%BC%20%221%2B1%25")]
        {
            let token = token(user).await;
            assert!(token.expose_secret().contains(&format!("&DBUser={in_query}&X-Amz-Algorithm=")), "{user}");
        }
    }

    #[tokio::test]
    async fn without_credentials_nothing_is_told_but_that() {
        let config = SdkConfig::builder().build();
        let error = login_token(&config, "us-east-1", "db", 5432, "app").await.unwrap_err();
        assert_eq!(error.name, ErrorName::ServiceUnavailable);
        assert!(error.to_string().starts_with("rds-db:connect for app failed: no token could be signed"), "{error}");
    }
}
