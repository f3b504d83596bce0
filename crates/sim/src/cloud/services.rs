//! Secrets Manager, KMS, SNS, Step Functions: the calls that the product makes.

use super::model::Published;
use super::wire::{Call, Fault, Reply, Xml, fault};
use super::{Effect, World};
use serde_json::{Value, json};

/// Answers a call.
pub(super) fn answer(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    match (call.service, call.action.as_str()) {
        ("secretsmanager", "GetSecretValue") => {
            let name = call.json["SecretId"].as_str().unwrap_or_default();
            match world.secrets.get(name) {
                Some(text) => {
                    let body = json!({ "Name": name, "SecretString": text, "VersionStages": ["AWSCURRENT"] });
                    Ok(Reply::new(body.to_string(), "a value"))
                }
                None => fault("ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
            }
        }
        ("kms", "DescribeKey") => {
            let id = call.json["KeyId"].as_str().unwrap_or_default();
            match world.key(&call.region, id) {
                Some((arn, state)) => {
                    let key_id = arn.rsplit('/').next().unwrap_or_default();
                    let body = json!({ "KeyMetadata": { "Arn": arn, "KeyId": key_id, "KeyState": state } });
                    Ok(Reply::new(body.to_string(), state))
                }
                None => fault("NotFoundException", format!("Key '{id}' does not exist")),
            }
        }
        ("states", "DescribeExecution") => {
            let arn = call.json["executionArn"].as_str().unwrap_or_default();
            match world.executions.get(arn) {
                Some(status) => {
                    let body = json!({
                        "executionArn": arn, "status": status, "startDate": 0.0,
                        "stateMachineArn": "arn:aws:states:us-west-2:123456789012:stateMachine:aurora-restore",
                    });
                    Ok(Reply::new(body.to_string(), status.clone()))
                }
                None => fault("ExecutionDoesNotExist", format!("Execution Does Not Exist: '{arn}'")),
            }
        }
        ("states", "SendTaskSuccess") => {
            match world.answer_token(call.json["taskToken"].as_str().unwrap_or_default()) {
                Some(true) => Ok(Reply::new("{}".into(), "woken")),
                Some(false) => fault("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'"),
                None => fault("InvalidToken", "Invalid Token: 'Invalid token'"),
            }
        }
        ("sns", "Publish") => publish(world, call),
        ("ec2", "DescribeSecurityGroups") => Ok(security_groups(world, call)),
        ("s3", "ListBucket") => Ok(objects(world, call)),
        ("s3", "GetObject") => {
            let path = call.form.get("path").unwrap_or_default();
            match world.objects.get(path) {
                Some(text) => Ok(Reply::new(text.clone(), format!("{} bytes", text.len()))),
                None => fault("NoSuchKey", "The specified key does not exist."),
            }
        }
        (service, action) => fault("InvalidAction", format!("the simulated {service} has no {action}")),
    }
}

/// Those of a bucket below a prefix.
fn objects(world: &World, call: &Call) -> Reply {
    let bucket = format!("{}/", call.form.get("path").unwrap_or_default());
    let prefix = format!("{bucket}{}", call.form.get("prefix").unwrap_or_default());
    let found: Vec<_> = world.objects.iter().filter(|(path, _)| path.starts_with(&prefix)).collect();
    let mut xml = Xml::default();
    xml.wrap("ListBucketResult", |xml| {
        xml.leaf("IsTruncated", false);
        for (path, text) in &found {
            xml.wrap("Contents", |xml| {
                xml.leaf("Key", path.trim_start_matches(&bucket)).leaf("Size", text.len());
            });
        }
    });
    Reply::new(xml.0, format!("{} objects", found.len()))
}

/// Those of the filter that exist.
fn security_groups(world: &World, call: &Call) -> Reply {
    let known = world.regions.get(&call.region).map(|region| &region.security_groups);
    let wanted = (1..).map_while(|number| call.form.get(&format!("Filter.1.Value.{number}")));
    let mut xml = Xml::default();
    let mut found = 0;
    xml.wrap("securityGroupInfo", |xml| {
        for id in wanted {
            if let Some(vpc_id) = known.and_then(|known| known.get(id)) {
                found += 1;
                xml.wrap("item", |xml| {
                    xml.leaf("groupId", id).leaf("vpcId", vpc_id);
                });
            }
        }
    });
    Reply::new(xml.0, format!("{found} groups"))
}

fn publish(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    if call.form.get("TopicArn") != Some(world.scene.topic_arn.as_str()) {
        return fault("NotFound", "Topic does not exist");
    }
    let message: Value = serde_json::from_str(call.form.get("Message").unwrap_or_default()).unwrap_or_default();
    let text = message["email"].as_str().unwrap_or_default().to_owned();
    let machine: Value = serde_json::from_str(message["sqs"].as_str().unwrap_or_default()).unwrap_or_default();
    let attribute = |number: u32| {
        let prefix = format!("MessageAttributes.entry.{number}");
        let name = call.form.get(&format!("{prefix}.Name"))?;
        Some((name, call.form.get(&format!("{prefix}.Value.StringValue"))?))
    };
    let status = (1..).map_while(attribute).find(|(name, _)| *name == "status").map(|(_, value)| value.to_owned());
    world.effect(call, &Effect::Publish);
    let told = Published {
        at_us: world.time.now_us(),
        status: status.clone().unwrap_or_default(),
        operation_id: machine["operation_id"].as_str().unwrap_or_default().to_owned(),
        execution_arn: world.caller().map(|caller| caller.execution_arn.clone()).unwrap_or_default(),
        says_repeat: text.contains("This is a repeat") || text.contains("This corrects"),
        text,
    };
    if world.scene.shows_messages {
        let text = told.text.clone();
        for line in text.lines() {
            world.line("", &format!("    | {line}"));
        }
    }
    crate::invariants::judge_message(world, &told);
    world.published.push(told);
    let mut xml = Xml::default();
    xml.leaf("MessageId", format!("message-{}", world.published.len()));
    Ok(Reply::new(xml.0, status.unwrap_or_default()))
}
