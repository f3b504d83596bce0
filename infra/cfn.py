"""infra/template.yaml as CloudFormation would make it from given parameters, as far as names, policies and variables go. For the tests
(tests/infra), the policy linter and `make verify`."""

import functools
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "infra" / "template.yaml"
ACCOUNT, REGION = "123456789012", "us-west-2"
NOTHING = object()
# What stands for the parameters that have no default, unless they are given.
PARAMETERS = {
    "NamePrefix": "aurora-restore", "Environment": "dev", "SourceRegion": "us-east-1", "SourceClusterId": "production", "TargetClusterId": "staging",
    "VpcId": "vpc-1", "SubnetIds": ["subnet-1", "subnet-2"], "DatabaseSecurityGroupId": "sg-1",
}  # fmt: skip


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags."""


def short_tag(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", short_tag)


def read_toml(path):
    try:
        import tomllib as toml
    except ImportError:  # Python 3.10; sam brings this one
        import tomlkit as toml
    return toml.loads(Path(path).read_text())


@functools.cache
def load(path=TEMPLATE):
    return yaml.load(Path(path).read_text(), Loader)  # noqa: S506 a loader of our own, and safe


class Stack:
    """The template with parameters: `resource(name)` is a resource with everything in it resolved, or None if it is not made."""

    def __init__(self, parameters=None, template=None, account=ACCOUNT, region=REGION):
        self.template, self.account, self.region = template or load(), account, region
        self.pseudo = {"AWS::AccountId": account, "AWS::Region": region, "AWS::Partition": "aws"}
        defaults = {name: parameter["Default"] for name, parameter in self.template["Parameters"].items() if "Default" in parameter}
        usual = {name: value for name, value in PARAMETERS.items() if name in self.template["Parameters"]}
        self.parameters = defaults | usual | (parameters or {})
        unknown = set(self.parameters) - set(self.template["Parameters"])
        assert not unknown, f"no such parameters: {unknown}"

    def resources(self):
        return {name: made for name in self.template["Resources"] if (made := self.resource(name))}

    def resource(self, name):
        raw = self.template["Resources"][name]
        if "Condition" in raw and not self.condition(raw["Condition"]):
            return None
        return {"Type": raw["Type"], "Metadata": raw.get("Metadata", {}), "Properties": self.resolve(raw.get("Properties", {}))}

    def condition(self, name):
        return self.truth(self.template["Conditions"][name])

    def truth(self, thing):
        ((kind, value),) = thing.items()
        if kind == "Condition":
            return self.condition(value)
        if kind == "Fn::Equals":
            one, other = (self.resolve(side) for side in value)
            return str(one) == str(other)
        if kind == "Fn::Not":
            return not self.truth(value[0])
        return {"Fn::And": all, "Fn::Or": any}[kind](self.truth(one) for one in value)

    def resolve(self, thing):
        if isinstance(thing, list):
            return [value for item in thing if (value := self.resolve(item)) is not NOTHING]
        if not isinstance(thing, dict):
            return thing
        if len(thing) == 1:
            ((kind, value),) = thing.items()
            if kind == "Ref":
                return self.ref(value)
            if kind == "Fn::GetAtt":
                return self.attribute(*(value.split(".", 1) if isinstance(value, str) else value))
            if kind == "Fn::Sub":
                return self.sub(value)
            if kind == "Fn::If":
                return self.resolve(value[1] if self.condition(value[0]) else value[2])
            if kind == "Fn::Join":
                return value[0].join(self.resolve(value[1]))
            assert not kind.startswith("Fn::"), f"{kind} is not known here"
        return {key: resolved for key, value in thing.items() if (resolved := self.resolve(value)) is not NOTHING}

    def sub(self, value):
        text, names = value if isinstance(value, list) else (value, {})

        def replaced(match):
            name = match[1]
            if name in names:
                return self.resolve(names[name])
            return str(self.attribute(*name.split(".", 1)) if "." in name else self.ref(name))

        return re.sub(r"\$\{([A-Za-z0-9:.]+)\}", replaced, text)

    def ref(self, name):
        if name == "AWS::NoValue":
            return NOTHING
        if name in self.pseudo or name in self.parameters:
            return self.pseudo.get(name, self.parameters.get(name))
        kind = self.template["Resources"][name]["Type"]
        by_arn = ("SNS::Topic", "SecretsManager::Secret", "Serverless::StateMachine", "IAM::ManagedPolicy")
        return self.attribute(name, "Arn") if kind.endswith(by_arn) else self.name(name)

    def name(self, resource):
        """A resource's physical name."""
        raw = self.template["Resources"][resource]
        fields = ("TableName", "TopicName", "BucketName", "FunctionName", "QueueName", "RoleName", "ManagedPolicyName", "LogGroupName", "AliasName", "Name")
        field = next((field for field in fields if field in raw.get("Properties", {})), None)
        return self.resolve(raw["Properties"][field]) if field else {"AWS::KMS::Key": "KEY"}.get(raw["Type"], resource)

    def attribute(self, resource, attribute):
        if attribute != "Arn":
            return f"{resource}.{attribute}"
        name, kind, place = self.name(resource), self.template["Resources"][resource]["Type"], f"{self.region}:{self.account}"
        return {
            "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{place}:table/{name}",
            "AWS::SNS::Topic": f"arn:aws:sns:{place}:{name}",
            "AWS::KMS::Key": f"arn:aws:kms:{place}:key/{name}",
            "AWS::SecretsManager::Secret": f"arn:aws:secretsmanager:{place}:secret:{name}-??????",
            "AWS::S3::Bucket": f"arn:aws:s3:::{name}",
            "AWS::SQS::Queue": f"arn:aws:sqs:{place}:{name}",
            "AWS::IAM::Role": f"arn:aws:iam::{self.account}:role/{name}",
            "AWS::IAM::ManagedPolicy": f"arn:aws:iam::{self.account}:policy/{name}",
            "AWS::Logs::LogGroup": f"arn:aws:logs:{place}:log-group:{name}:*",
            "AWS::Serverless::Function": f"arn:aws:lambda:{place}:function:{name}",
            "AWS::Events::Rule": f"arn:aws:events:{place}:rule/{name}",
            "AWS::Serverless::StateMachine": f"arn:aws:states:{place}:stateMachine:{name}",
        }[kind]

    def policies(self, role):
        """{where: policy document} of a role: its own and the managed ones of this stack."""
        made = self.resource(role)
        found = {f"{role}/{policy['PolicyName']}": policy["PolicyDocument"] for policy in made["Properties"].get("Policies", [])}
        for name in self.template["Resources"]:
            if self.template["Resources"][name]["Type"] == "AWS::IAM::ManagedPolicy" and self.attribute(name, "Arn") in made["Properties"].get("ManagedPolicyArns", []):
                found[name] = self.resource(name)["Properties"]["PolicyDocument"]
        return found
