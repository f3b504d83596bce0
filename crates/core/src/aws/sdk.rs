//! The SDK's configuration, made for functions: from the environment alone, without profile files, metadata services
//! and roles to be assumed. Its default loader would look at all of these before the first call, and they are a tenth
//! of a function's code.

use crate::config::Env;
use aurora_restore_domain::failure::{ErrorName, Failure};
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::identity::IdentityCache;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_types::sdk_config::SharedCredentialsProvider;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::time::Duration;

/// The roots of Amazon Trust Services; `certs/README.md` says where they come from. The machine's own roots, 144 of
/// them, take longer to read than all the rest of a function's start.
const AMAZON_ROOTS: &[u8] = include_bytes!("../../certs/amazon-roots.pem");

/// The SDK's configuration for `region`: one TLS provider (ring), bounded waits, three attempts. Longer waits belong to
/// the state machine. Of the variables that SDKs share it reads the credentials, `AWS_ENDPOINT_URL` (also for one
/// service: `AWS_ENDPOINT_URL_RDS`), `AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT`, `AWS_SDK_UA_APP_ID` and
/// `AWS_CA_BUNDLE`.
///
/// # Errors
/// `Internal` when `AWS_CA_BUNDLE` cannot be read.
pub fn sdk_config(region: &str, env: &Env) -> Result<SdkConfig, Failure> {
    let trust = TlsContext::builder().with_trust_store(trust_store(region, env)?).build().map_err(|error| {
        Failure::new(ErrorName::Internal, format!("TLS cannot be set up: {error}")).left("nothing was touched")
    })?;
    let http = Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .tls_context(trust)
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(15))
        .operation_timeout(Duration::from_secs(50))
        .build();
    let mut builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .identity_cache(IdentityCache::lazy().build())
        .http_client(http)
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SharedTimeSource::new(SystemTimeSource::new()))
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .service_config(Endpoints(env.clone()));
    let is_on = |name| env.get(name).map(|value| value.eq_ignore_ascii_case("true"));
    builder.set_use_fips(is_on("AWS_USE_FIPS_ENDPOINT"));
    builder.set_use_dual_stack(is_on("AWS_USE_DUALSTACK_ENDPOINT"));
    builder.set_endpoint_url(env.get("AWS_ENDPOINT_URL"));
    builder.set_app_name(env.get("AWS_SDK_UA_APP_ID").and_then(|name| AppName::new(name).ok()));
    Ok(builder.build())
}

/// `AWS_ENDPOINT_URL_<SERVICE>`, which wins over `AWS_ENDPOINT_URL`.
#[derive(Debug)]
struct Endpoints(Env);

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        self.0.get(&format!("{}_{}", key.env(), key.service_id().replace(' ', "_").to_uppercase()))
    }
}

/// Who may vouch for AWS's endpoints.
fn trust_store(region: &str, env: &Env) -> Result<TrustStore, Failure> {
    let store = match uses_amazon_roots(region) {
        true => TrustStore::empty().with_pem_certificate(AMAZON_ROOTS),
        false => TrustStore::default(),
    };
    let Some(file) = env.get("AWS_CA_BUNDLE") else {
        return Ok(store);
    };
    // The SDK's HTTP client would panic over a file that holds anything else.
    let pem = std::fs::read(&file).map_err(|error| error.to_string()).and_then(|pem| match certificates_in(&pem)? {
        0 => Err("there is no certificate in it".into()),
        _ => Ok(pem),
    });
    match pem {
        Ok(pem) => Ok(store.with_pem_certificate(pem)),
        Err(error) => {
            Err(Failure::new(ErrorName::Internal, format!("AWS_CA_BUNDLE: the file {file} cannot be used: {error}"))
                .left("nothing was touched")
                .next("let it name a PEM file of certificates, or remove the variable"))
        }
    }
}

/// Those of China, of the European Sovereign Cloud and the isolated ones have other authorities, or may have.
fn uses_amazon_roots(region: &str) -> bool {
    !["cn-", "eusc-"].iter().any(|partition| region.starts_with(partition)) && !region.contains("-iso")
}

/// How many certificates a PEM file holds that can vouch for others.
fn certificates_in(pem: &[u8]) -> Result<usize, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// SHA-256 of their public keys, <https://www.amazontrust.com/repository/>.
    const PUBLISHED: [&str; 5] = [
        "fbe3018031f9586bcbf41727e417b7d1c45c2f47f93be372a17b96b50757d5a2",
        "7f4296fc5b6a4e3b35d3c369623e364ab1af381d8fa7121533c9d6c633ea2461",
        "36abc32656acfc645c61b71613c4bf21c787f5cabbee48348d58597803d7abc9",
        "f7ecded5c66047d28ed6466b543c40e0743abe81d109254dcf845d4c2c7853c5",
        "2b071c59a0a0ae76b0eadb2bad23bad4580b69c3601b630c2eaf0613afa83f92",
    ];

    /// The SHA-256 of a DER sequence of this content.
    fn digest_of_sequence(content: &[u8]) -> String {
        let length = content.len();
        let mut der = match length {
            0..0x80 => vec![0x30, length as u8],
            0x80..0x100 => vec![0x30, 0x81, length as u8],
            _ => vec![0x30, 0x82, (length >> 8) as u8, length as u8],
        };
        der.extend(content);
        hex::encode(Sha256::digest(der))
    }

    #[test]
    fn the_roots_are_amazons() {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(AMAZON_ROOTS) {
            roots.add(root.unwrap()).unwrap();
        }
        let held = roots.roots.iter().map(|root| digest_of_sequence(&root.subject_public_key_info));
        assert_eq!(held.collect::<Vec<_>>(), PUBLISHED);
    }

    #[test]
    fn other_partitions_have_other_roots() {
        for (region, amazons) in [
            ("us-east-1", true),
            ("eu-central-2", true),
            ("us-gov-west-1", true),
            ("eusc-de-east-1", false),
            ("cn-north-1", false),
            ("us-iso-east-1", false),
            ("us-isob-east-1", false),
            ("eu-isoe-west-1", false),
        ] {
            assert_eq!(uses_amazon_roots(region), amazons, "{region}");
        }
    }

    #[test]
    fn a_bundle_that_cannot_be_used_is_named_and_no_panic() {
        let here = env!("CARGO_MANIFEST_DIR");
        for (file, why) in [("certs/README.md", "no certificate"), ("certs/none.pem", "No such file")] {
            let file = format!("{here}/{file}");
            let failure = sdk_config("us-west-2", &Env::fake([("AWS_CA_BUNDLE", &file)])).unwrap_err();
            assert!(failure.what.contains(why) && failure.what.contains(&file), "{failure}");
        }
        let good = format!("{here}/certs/amazon-roots.pem");
        assert!(sdk_config("us-west-2", &Env::fake([("AWS_CA_BUNDLE", &good)])).is_ok());
    }

    #[test]
    fn a_truncated_certificate_is_an_error() {
        let text = String::from_utf8(AMAZON_ROOTS.to_vec()).unwrap();
        let (from, to) = (text.find("MII").unwrap(), text.find("-----END").unwrap());
        let broken = format!("{}MIIB\n{}", &text[..from], &text[to..]);
        assert!(certificates_in(broken.as_bytes()).is_err());
    }

    #[test]
    fn endpoints_come_from_the_environment_for_one_service_or_all() {
        let env = Env::fake([
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:2"),
        ]);
        let config = sdk_config("us-west-2", &env).unwrap();
        let key = |service| {
            ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url").build()
        };
        let of = |service: &'static str| config.service_config().unwrap().load_config(key(service).unwrap());
        assert_eq!(of("Secrets Manager").as_deref(), Some("http://127.0.0.1:2"));
        assert_eq!((of("RDS"), config.endpoint_url()), (None, Some("http://127.0.0.1:1")));
    }
}
