//! EC2, for one call only: which security groups exist, and in which VPC.
//!
//! Made with [`signed`] instead of `aws-sdk-ec2`, which would take longer to compile than everything else together.

use super::signed::{Service, signed};
use super::{AwsError, aws_error};
use aurora_restore_domain::guards::SecurityGroup;
use aws_config::SdkConfig;
use aws_runtime::auth::SigningOptions;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};

/// EC2 of the target Region.
#[derive(Debug, Clone)]
pub struct Ec2(Option<Operation<String, Vec<SecurityGroup>, ErrorMetadata>>);

impl Ec2 {
    /// EC2 of the configuration's Region.
    pub fn new(config: &SdkConfig) -> Self {
        Self(describe_security_groups(config))
    }

    /// Those of the security groups that exist.
    ///
    /// # Errors
    /// Whatever EC2 says.
    pub async fn security_groups(&self, ids: &[String]) -> Result<Vec<SecurityGroup>, AwsError> {
        let (Some(operation), false) = (&self.0, ids.is_empty()) else { return Ok(vec![]) };
        // As a filter: groups that do not exist are left out instead of failing the call.
        let mut form = "Action=DescribeSecurityGroups&Version=2016-11-15&Filter.1.Name=group-id".to_owned();
        for (index, id) in ids.iter().enumerate() {
            // Ids were checked to be `sg-` and hexadecimal digits: nothing to escape.
            form.push_str(&format!("&Filter.1.Value.{}={id}", index + 1));
        }
        let answer = operation.invoke(form).await;
        answer.map_err(|error| aws_error("ec2:DescribeSecurityGroups", ids.join(", "), error))
    }
}

fn describe_security_groups(config: &SdkConfig) -> Option<Operation<String, Vec<SecurityGroup>, ErrorMetadata>> {
    let region = config.region()?;
    let suffix = if region.as_ref().starts_with("cn-") { ".cn" } else { "" };
    let service = Service {
        name: "EC2",
        signing_name: "ec2",
        endpoint: format!("https://ec2.{region}.amazonaws.com{suffix}"),
        options: SigningOptions::default(),
    };
    let operation = signed(config, "DescribeSecurityGroups", &service)?;
    Some(operation.serializer(request).deserializer(|response: &HttpResponse| read(response)).build())
}

fn request(form: String) -> Result<HttpRequest, BoxError> {
    let length = form.len().to_string();
    let mut request = HttpRequest::new(SdkBody::from(form));
    request.set_method("POST")?;
    request.set_uri("/")?;
    request.headers_mut().insert("content-type", "application/x-www-form-urlencoded");
    request.headers_mut().insert("content-length", length);
    Ok(request)
}

fn read(response: &HttpResponse) -> Result<Vec<SecurityGroup>, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    if response.status().is_success() {
        return groups(body).map_err(OrchestratorError::other);
    }
    Err(OrchestratorError::operation(refusal(body).unwrap_or_else(|_| ErrorMetadata::builder().build())))
}

/// `<DescribeSecurityGroupsResponse><securityGroupInfo><item><groupId/><vpcId/>…`
fn groups(body: &[u8]) -> Result<Vec<SecurityGroup>, XmlDecodeError> {
    let mut document = Document::try_from(body)?;
    let mut root = document.root_element()?;
    let mut groups = Vec::new();
    while let Some(mut info) = root.next_tag() {
        if info.start_el().local() != "securityGroupInfo" {
            continue;
        }
        while let Some(mut item) = info.next_tag() {
            let (mut id, mut vpc_id) = (String::new(), String::new());
            while let Some(mut field) = item.next_tag() {
                match field.start_el().local() {
                    "groupId" => id = text(&mut field)?,
                    "vpcId" => vpc_id = text(&mut field)?,
                    _ => {}
                }
            }
            groups.push(SecurityGroup { id, vpc_id });
        }
    }
    Ok(groups)
}

/// `<Response><Errors><Error><Code/><Message/>…`
fn refusal(body: &[u8]) -> Result<ErrorMetadata, XmlDecodeError> {
    let mut document = Document::try_from(body)?;
    let mut root = document.root_element()?;
    let mut refusal = ErrorMetadata::builder();
    while let Some(mut errors) = root.next_tag() {
        if errors.start_el().local() != "Errors" {
            continue;
        }
        while let Some(mut error) = errors.next_tag() {
            while let Some(mut field) = error.next_tag() {
                match field.start_el().local() {
                    "Code" => refusal = refusal.code(text(&mut field)?),
                    "Message" => refusal = refusal.message(text(&mut field)?),
                    _ => {}
                }
            }
        }
    }
    Ok(refusal.build())
}

fn text(field: &mut ScopedDecoder<'_, '_>) -> Result<String, XmlDecodeError> {
    try_data(field).map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::replay::Wire;
    use aurora_restore_domain::failure::ErrorName;

    const FOUND: &str = r#"<DescribeSecurityGroupsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <requestId>r</requestId><securityGroupInfo><item><ownerId>1</ownerId><groupId>sg-1</groupId>
        <ipPermissions><item><groups><item><groupId>sg-9</groupId></item></groups></item></ipPermissions>
        <vpcId>vpc-1</vpcId></item><item><groupId>sg-2</groupId><vpcId>vpc-2</vpcId></item></securityGroupInfo>
        </DescribeSecurityGroupsResponse>"#;
    const REFUSED: &str = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized\
        </Message></Error></Errors><RequestID>r</RequestID></Response>";

    #[tokio::test]
    async fn groups_are_found_with_their_vpc() {
        let wire = Wire::new([(200, FOUND)]);
        let groups = Ec2::new(&wire.config()).security_groups(&["sg-1".into(), "sg-2".into()]).await.unwrap();
        let of = |id: &str, vpc_id: &str| SecurityGroup { id: id.into(), vpc_id: vpc_id.into() };
        assert_eq!(groups, [of("sg-1", "vpc-1"), of("sg-2", "vpc-2")]);
        assert!(wire.asked()[0].ends_with("&Filter.1.Name=group-id&Filter.1.Value.1=sg-1&Filter.1.Value.2=sg-2"));
    }

    #[tokio::test]
    async fn a_refusal_has_its_name() {
        let wire = Wire::new([(403, REFUSED)]);
        let refused = Ec2::new(&wire.config()).security_groups(&["sg-1".into()]).await.unwrap_err();
        assert_eq!(refused.name, ErrorName::AccessDenied);
        assert!(refused.to_string().contains("UnauthorizedOperation: You are not authorized"), "{refused}");
    }
}
