//! The services' wire formats: requests as the SDK sends them, answers as the services write them.

use super::lean;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A call to a service.
#[derive(Debug, Clone)]
pub struct Call {
    /// `rds`, `dynamodb`, `secretsmanager`, `kms`, `sns`, `states`, `ec2`, `s3`, or `database` for the restored one.
    pub service: &'static str,
    /// `DescribeDBClusters`
    pub action: String,
    /// Region of the endpoint.
    pub region: String,
    /// Parameters of the query protocol.
    pub form: Form,
    /// Body of the JSON protocols.
    pub json: Value,
    /// Its object, once that was asked for: serving a call takes it apart.
    pub about: Option<String>,
    /// Whether the body has what every secret of a simulation has.
    pub may_hold_secret: bool,
}

/// Part of every secret of a simulation, so that one search finds any.
pub const SECRET_MARK: &str = "SecretOfTheTarget";

impl Call {
    /// `service:Action`, as in a policy.
    pub fn name(&self) -> String {
        format!("{}:{}", self.service, self.action)
    }

    /// Reads a request; the reason when it is none that this cloud knows.
    pub fn read(request: &HttpRequest) -> Result<Self, String> {
        let uri = request.uri();
        let host = uri.split("//").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let mut labels = host.split('.');
        let (service, region) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
        let service = match service {
            "rds" => "rds",
            "dynamodb" => "dynamodb",
            "secretsmanager" => "secretsmanager",
            "kms" => "kms",
            "sns" => "sns",
            "states" => "states",
            "ec2" => "ec2",
            "s3" => "s3",
            _ => return Err(format!("the simulated cloud has no service at {uri}")),
        };
        let body = request.body().bytes().ok_or("the request's body is a stream")?;
        let mut call = Self {
            service,
            action: String::new(),
            region: region.to_owned(),
            form: Form::default(),
            json: Value::Null,
            about: None,
            may_hold_secret: std::str::from_utf8(body).is_ok_and(|text| text.contains(SECRET_MARK)),
        };
        match request.headers().get("x-amz-target") {
            Some(target) => {
                call.action = target.rsplit('.').next().unwrap_or_default().to_owned();
                let json = if service == "dynamodb" { lean::read(body) } else { serde_json::from_slice(body) };
                call.json = json.map_err(|error| format!("{uri}: {error}"))?;
            }
            None if service == "s3" => {
                let path = uri.split_once("//").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
                let (path, query) = path.split_once('?').unwrap_or((path, ""));
                call.form = Form::read(format!("path={path}&{query}").as_bytes());
                call.action = if query.is_empty() { "GetObject" } else { "ListBucket" }.to_owned();
            }
            None => {
                call.form = Form::read(body);
                call.action = call.form.get("Action").unwrap_or_default().to_owned();
            }
        }
        Ok(call)
    }

    /// Whether it shows a secret where none may be.
    pub fn shows(&self, secret: &str) -> bool {
        self.service != "secretsmanager" && lean::text(&self.json).contains(secret)
            || self.form.visible().any(|value| value.contains(secret))
    }

    /// The object that the call is about, as transcripts and audit records name it.
    pub fn resource(&self) -> String {
        if let Some(about) = &self.about {
            return about.clone();
        }
        let form = [
            "path",
            "TargetDBClusterSnapshotIdentifier",
            "DBClusterSnapshotIdentifier",
            "DBInstanceIdentifier",
            "DBClusterIdentifier",
            "DBSubnetGroupName",
            "ResourceName",
            "TopicArn",
            "Filters.Filter.1.Values.Value.1",
            "Filter.1.Value.1",
            "DBInstanceClass",
            "DBClusterParameterGroupName",
        ];
        if let Some(value) = form.iter().find_map(|name| self.form.get(name)) {
            return value.to_owned();
        }
        if let Some(text) = ["SecretId", "KeyId", "executionArn"].iter().find_map(|name| self.json[*name].as_str()) {
            return text.to_owned();
        }
        let write = &self.json["TransactItems"][0]["Put"];
        if let (Some(table), Some(key)) = (write["TableName"].as_str(), write["Item"]["operation_id"]["S"].as_str()) {
            return format!("{table}/{key}");
        }
        let key = ["Key", "Item"].iter().find_map(|place| self.json[*place]["operation_id"]["S"].as_str());
        let value = self.json["ExpressionAttributeValues"][":id"]["S"].as_str();
        match (self.json["TableName"].as_str(), key.or(value)) {
            (Some(table), Some(key)) => format!("{table}/{key}"),
            _ => "-".to_owned(),
        }
    }
}

/// Parameters of the query protocol.
#[derive(Debug, Clone, Default)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    fn read(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a parameter says `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// `prefix.1`, `prefix.2`, …
    pub fn list(&self, prefix: &str) -> Vec<String> {
        (1..).map_while(|number| self.get(&format!("{prefix}.{number}")).map(str::to_owned)).collect()
    }

    /// The parameter `Tags`.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let tag = |number: u32| {
            let key = self.get(&format!("Tags.Tag.{number}.Key"))?;
            Some((key.to_owned(), self.get(&format!("Tags.Tag.{number}.Value")).unwrap_or_default().to_owned()))
        };
        (1..).map_while(tag).collect()
    }

    /// Every parameter but secrets, for a search after secrets.
    pub fn visible(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(name, _)| *name != "MasterUserPassword").map(|(_, value)| value.as_str())
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).unwrap_or_default();
                let value = digit() * 16 + digit();
                bytes.push(u8::try_from(value).unwrap_or_default());
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An error as a service answers it.
#[derive(Debug, Clone)]
pub struct Fault {
    /// HTTP status.
    pub status: u16,
    /// Code.
    pub code: &'static str,
    /// Message.
    pub message: String,
}

/// A fault of the caller.
pub fn fault<T>(code: &'static str, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { status: 400, code, message: message.into() })
}

/// A good answer: its body, and in a few words for the transcript.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The body, without what the protocol puts around it.
    pub body: String,
    /// For people.
    pub brief: String,
}

impl Reply {
    /// A reply.
    pub fn new(body: String, brief: impl Into<String>) -> Self {
        Self { body, brief: brief.into() }
    }
}

/// The answer on the wire.
pub fn respond(call: &Call, reply: &Result<Reply, Fault>, request_id: &str) -> HttpResponse {
    let is_query = call.json.is_null();
    let action = &call.action;
    let (status, body) = match (reply, is_query) {
        (Ok(reply), _) if call.service == "ec2" => (
            200,
            format!(
                "<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>{request_id}</requestId>{}\
                 </{action}Response>",
                reply.body
            ),
        ),
        (Err(fault), _) if call.service == "ec2" => (
            fault.status,
            format!(
                "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors>\
                 <RequestID>{request_id}</RequestID></Response>",
                fault.code,
                escape(&fault.message)
            ),
        ),
        (Ok(reply), _) if call.service == "s3" => (200, reply.body.clone()),
        (Err(fault), _) if call.service == "s3" => (
            fault.status,
            format!("<Error><Code>{}</Code><Message>{}</Message></Error>", fault.code, escape(&fault.message)),
        ),
        (Ok(reply), true) => (
            200,
            format!(
                "<{action}Response xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><{action}Result>{}</{action}Result>\
                 <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>",
                reply.body
            ),
        ),
        (Ok(reply), false) => (200, reply.body.clone()),
        (Err(fault), true) => (
            fault.status,
            format!(
                "<ErrorResponse xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><Error><Type>{}</Type><Code>{}</Code>\
                 <Message>{}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>",
                if fault.status < 500 { "Sender" } else { "Receiver" },
                fault.code,
                escape(&fault.message)
            ),
        ),
        (Err(fault), false) => {
            let mut body = json!({ "__type": fault.code, "message": fault.message });
            // DynamoDB tells why in the message and in a list, one for each item.
            if let Some((_, list)) =
                fault.message.split_once("specific reasons [").filter(|_| fault.code == "TransactionCanceledException")
            {
                let codes = list.trim_end_matches(']').split(", ");
                body["CancellationReasons"] = codes.map(|code| json!({ "Code": code })).collect();
            }
            (fault.status, body.to_string())
        }
    };
    // Every status above is one.
    let Ok(status) = StatusCode::try_from(status) else {
        return respond(call, &fault("Internal", "status"), request_id);
    };
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("x-amzn-requestid", request_id.to_owned());
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// XML being written.
#[derive(Debug, Default)]
pub struct Xml(pub String);

impl Xml {
    /// `<name>value</name>`
    pub fn leaf(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        // Writing to a string does not fail.
        let _ = write!(self.0, "<{name}>{}</{name}>", escape(&value.to_string()));
        self
    }

    /// The same, when there is a value.
    pub fn maybe(&mut self, name: &str, value: Option<impl std::fmt::Display>) -> &mut Self {
        if let Some(value) = value {
            self.leaf(name, value);
        }
        self
    }

    /// `<name>…</name>`
    pub fn wrap(&mut self, name: &str, inner: impl FnOnce(&mut Self)) -> &mut Self {
        let _ = write!(self.0, "<{name}>");
        inner(self);
        let _ = write!(self.0, "</{name}>");
        self
    }

    /// A list of tags.
    pub fn tags(&mut self, tags: &BTreeMap<String, String>) -> &mut Self {
        self.wrap("TagList", |xml| {
            for (key, value) in tags {
                xml.wrap("Tag", |xml| {
                    xml.leaf("Key", key).leaf("Value", value);
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        let form = Form::read(b"Action=X&Tags.Tag.1.Key=a%3Ab&Tags.Tag.1.Value=c+d&L.M.1=x&L.M.2=y");
        assert_eq!(form.tags(), BTreeMap::from([("a:b".to_owned(), "c d".to_owned())]));
        assert_eq!(form.list("L.M"), ["x", "y"]);
    }
}
