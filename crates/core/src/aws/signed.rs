//! Calls to services of which we need one or two, made with the SDK's own orchestrator, signer, retries and timeouts
//! instead of a crate of their own.

use aws_config::SdkConfig;
use aws_runtime::auth::sigv4::{self, SigV4AuthScheme};
use aws_runtime::auth::{SigV4OperationSigningConfig, SigningOptions};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_smithy_runtime::client::orchestrator::operation::{Operation, OperationBuilder};
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SigningName;
use aws_types::region::SigningRegion;

/// A service as a request reaches it.
pub(crate) struct Service {
    /// For traces.
    pub(crate) name: &'static str,
    /// In the signature's scope.
    pub(crate) signing_name: &'static str,
    /// Where it is, unless the configuration names another endpoint.
    pub(crate) endpoint: String,
    /// How it wants its requests signed.
    pub(crate) options: SigningOptions,
}

/// A signed call, still without its serializer and deserializer; `None` for a configuration without Region, credentials
/// or HTTP client, with which no other client works either. Errors are `ErrorMetadata`.
pub(crate) fn signed(config: &SdkConfig, operation: &'static str, service: &Service) -> Option<OperationBuilder> {
    let region = config.region()?.clone();
    let signing = SigV4OperationSigningConfig {
        region: Some(SigningRegion::from(region)),
        name: Some(SigningName::from_static(service.signing_name)),
        signing_options: service.options.clone(),
        ..SigV4OperationSigningConfig::default()
    };
    let mut layer = Layer::new(service.name);
    layer.store_put(AuthSchemeOptionResolverParams::new(()));
    layer.store_put(signing);
    let scheme = SharedAuthSchemeOptionResolver::new(StaticAuthSchemeOptionResolver::new(vec![sigv4::SCHEME_ID]));
    let components = RuntimeComponentsBuilder::new(service.name)
        .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
        .with_auth_scheme_option_resolver(Some(scheme))
        .with_identity_cache(config.identity_cache())
        .with_identity_resolver(sigv4::SCHEME_ID, SharedIdentityResolver::new(config.credentials_provider()?));
    let plugin = StaticRuntimePlugin::new().with_config(layer.freeze()).with_runtime_components(components);

    let mut builder = Operation::builder()
        .service_name(service.name)
        .operation_name(operation)
        .endpoint_url(config.endpoint_url().unwrap_or(&service.endpoint))
        .http_client(config.http_client()?)
        .standard_retry(config.retry_config().unwrap_or(&RetryConfig::standard()))
        .retry_classifier(TransientErrorClassifier::<ErrorMetadata>::new())
        .retry_classifier(AwsErrorCodeClassifier::<ErrorMetadata>::new())
        .retry_classifier(HttpStatusCodeClassifier::default())
        .timeout_config(config.timeout_config().cloned().unwrap_or_else(TimeoutConfig::disabled))
        .runtime_plugin(plugin);
    if let Some(sleep) = config.sleep_impl() {
        builder = builder.sleep_impl(sleep);
    }
    if let Some(time) = config.time_source() {
        builder = builder.time_source(time);
    }
    Some(builder)
}
