//! S3, for two calls: which objects are below a prefix, and what is in one. Made with [`signed`] instead of `aws-sdk-s3`,
//! which would be the largest crate of all.

use super::signed::{Service, signed};
use super::{AwsError, aws_error};
use aws_config::SdkConfig;
use aws_runtime::auth::SigningOptions;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_xml::decode::{Document, XmlDecodeError, try_data};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a path may hold as it is, in S3's signature as on the wire.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// The same for a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// S3 of the target Region.
#[derive(Debug, Clone)]
pub struct S3(Option<Operation<String, Vec<u8>, ErrorMetadata>>);

impl S3 {
    /// S3 of the configuration's Region.
    pub fn new(config: &SdkConfig) -> Self {
        Self(get(config))
    }

    /// Objects below `prefix`, in the order of their keys' bytes; at most the first 1,000, and whether there are more.
    ///
    /// # Errors
    /// Whatever S3 says.
    pub async fn objects(&self, bucket: &str, prefix: &str) -> Result<(Vec<Object>, bool), AwsError> {
        let path =
            format!("/{}?list-type=2&prefix={}", utf8_percent_encode(bucket, PATH), utf8_percent_encode(prefix, QUERY));
        let (action, resource) = ("s3:ListBucket", format!("{bucket}/{prefix}"));
        let body = self.call(action, &resource, path).await?;
        objects(&body).map_err(|error| AwsError::unreadable(action, resource, &error))
    }

    /// The object `key`.
    ///
    /// # Errors
    /// Whatever S3 says.
    pub async fn object(&self, bucket: &str, key: &str) -> Result<Vec<u8>, AwsError> {
        let path = format!("/{}/{}", utf8_percent_encode(bucket, PATH), utf8_percent_encode(key, PATH));
        self.call("s3:GetObject", &format!("{bucket}/{key}"), path).await
    }

    async fn call(&self, action: &'static str, resource: &str, path: String) -> Result<Vec<u8>, AwsError> {
        let Some(operation) = &self.0 else { return Ok(vec![]) };
        operation.invoke(path).await.map_err(|error| aws_error(action, resource, error))
    }
}

fn get(config: &SdkConfig) -> Option<Operation<String, Vec<u8>, ErrorMetadata>> {
    let region = config.region()?;
    let suffix = if region.as_ref().starts_with("cn-") { ".cn" } else { "" };
    let mut options = SigningOptions::default();
    // As S3 wants it: paths are taken as they are, and the body's hash is a header.
    (options.double_uri_encode, options.normalize_uri_path, options.content_sha256_header) = (false, false, true);
    let endpoint = format!("https://s3.{region}.amazonaws.com{suffix}");
    let service = Service { name: "S3", signing_name: "s3", endpoint, options };
    let operation = signed(config, "GetObject", &service)?;
    Some(operation.serializer(request).deserializer(|response: &HttpResponse| read(response)).build())
}

fn request(path: String) -> Result<HttpRequest, BoxError> {
    let mut request = HttpRequest::new(SdkBody::empty());
    request.set_method("GET")?;
    request.set_uri(path)?;
    Ok(request)
}

fn read(response: &HttpResponse) -> Result<Vec<u8>, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    if response.status().is_success() {
        return Ok(body.to_vec());
    }
    Err(OrchestratorError::operation(refusal(body).unwrap_or_else(|_| ErrorMetadata::builder().build())))
}

/// An object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// `<ListBucketResult><IsTruncated/><Contents><Key/><Size/>…`
fn objects(body: &[u8]) -> Result<(Vec<Object>, bool), XmlDecodeError> {
    let mut document = Document::try_from(body)?;
    let mut root = document.root_element()?;
    let (mut objects, mut more) = (Vec::new(), false);
    while let Some(mut tag) = root.next_tag() {
        match tag.start_el().local() {
            "IsTruncated" => more = try_data(&mut tag)? == "true",
            "Contents" => {
                let mut object = Object::default();
                while let Some(mut field) = tag.next_tag() {
                    match field.start_el().local() {
                        "Key" => object.key = try_data(&mut field)?.into_owned(),
                        "Size" => object.size = try_data(&mut field)?.parse().unwrap_or(u64::MAX),
                        _ => {}
                    }
                }
                objects.push(object);
            }
            _ => {}
        }
    }
    Ok((objects, more))
}

/// `<Error><Code/><Message/>…`
fn refusal(body: &[u8]) -> Result<ErrorMetadata, XmlDecodeError> {
    let mut document = Document::try_from(body)?;
    let mut root = document.root_element()?;
    let mut refusal = ErrorMetadata::builder();
    while let Some(mut field) = root.next_tag() {
        match field.start_el().local() {
            "Code" => refusal = refusal.code(try_data(&mut field)?.into_owned()),
            "Message" => refusal = refusal.message(try_data(&mut field)?.into_owned()),
            _ => {}
        }
    }
    Ok(refusal.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::replay::Wire;
    use aurora_restore_domain::failure::ErrorName;

    #[tokio::test]
    async fn keys_and_objects() {
        let listed = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>m/app/010 a.sql</Key><Size>3</Size>\
                      </Contents><Contents><Key>m/020.sql</Key><Size>8</Size></Contents></ListBucketResult>";
        let wire = Wire::new([(200, listed), (200, "SELECT 1")]);
        let s3 = S3::new(&wire.config());
        let object = |key: &str, size| Object { key: key.into(), size };
        let objects = vec![object("m/app/010 a.sql", 3), object("m/020.sql", 8)];
        assert_eq!(s3.objects("b", "m/").await.unwrap(), (objects, false));
        assert_eq!(s3.object("b", "m/app/010 a.sql").await.unwrap(), b"SELECT 1");
    }

    #[tokio::test]
    async fn a_refusal_has_its_name() {
        let wire = Wire::new([(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")]);
        let refused = S3::new(&wire.config()).objects("b", "").await.unwrap_err();
        assert_eq!(refused.name, ErrorName::AccessDenied, "{refused}");
    }
}
