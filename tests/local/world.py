"""A restore seen from outside: starts executions and looks at everything they leave behind. Used by the tests and the demo."""

import json
import re
import time
import uuid
from decimal import Decimal

from functions import FUNCTIONS
from postgres import PRODUCTION_LOGINS
from seed import AUDIT_TABLE, STATE_TABLE, TARGET_CLUSTER

READ_ONLY = re.compile(r"^(Describe|Get|List|Query|Scan|BatchGet|Receive|Lookup|Invoke)")
PATIENCE_SECONDS = 180


def plain(value):
    """DynamoDB's numbers and sets as ordinary Python, so that tests can compare them."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return {plain(item) for item in value} if isinstance(value, (set, frozenset)) else value


def from_dynamodb(item):
    from boto3.dynamodb.types import TypeDeserializer

    return {name: plain(TypeDeserializer().deserialize(value)) for name, value in item.items()}


class Run:
    """An execution that is over, with what it left behind at that moment."""

    def __init__(self, world, description, events):
        self.arn, self.name, self.status = description["executionArn"], description["name"], description["status"]
        self.error, self.cause = description.get("error"), description.get("cause")
        self.input = json.loads(description["input"])
        self.output = json.loads(description["output"]) if description.get("output") else None
        self.seconds = (description["stopDate"] - description["startDate"]).total_seconds()
        self.events = events
        self.states = [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]
        self.item = world.item_of(self.arn)
        self.operation_id = self.item["operation_id"] if self.item else None
        self.audit = world.audit(self.operation_id) if self.operation_id else []

    @property
    def message(self):
        """The reason in words: a function's error message when the cause is one."""
        try:
            return json.loads(self.cause)["errorMessage"]
        except (TypeError, ValueError, KeyError):
            return self.cause

    @property
    def history_text(self):
        return json.dumps(self.events, default=str)


class World:
    def __init__(self, stack, seeded=None):
        self.stack, self.seeded = stack, seeded

    # Executions

    def machine_arn(self):
        if self.seeded and self.seeded.state_machine_arn:
            return self.seeded.state_machine_arn
        machines = self.stack.client("stepfunctions").list_state_machines()["stateMachines"]
        if not machines:
            raise SystemExit("The stack has no state machine: statemachine/restore.asl.json was missing when it was seeded.")
        return machines[0]["stateMachineArn"]

    def start(self, request=None, name=None):
        """Starts an execution and returns its ARN. Always with a name: moto would call it `None`."""
        text = request if isinstance(request, str) else json.dumps(request or {})
        states = self.stack.client("stepfunctions")
        return states.start_execution(stateMachineArn=self.machine_arn(), name=name or f"test-{uuid.uuid4().hex[:12]}", input=text)["executionArn"]

    def describe(self, arn):
        return self.stack.client("stepfunctions").describe_execution(executionArn=arn)

    def events(self, arn):
        pages = self.stack.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn, PaginationConfig={"PageSize": 1000})
        return [event for page in pages for event in page["events"]]

    def wait(self, arn, patience_seconds=PATIENCE_SECONDS):
        deadline = time.monotonic() + patience_seconds
        while True:
            description = self.describe(arn)
            if description["status"] != "RUNNING":
                return Run(self, description, self.events(arn))
            if time.monotonic() > deadline:
                events = self.events(arn)
                entered = [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]
                self.stack.client("stepfunctions").stop_execution(executionArn=arn)
                raise TimeoutError(f"{arn} still runs after {patience_seconds} s; last states: {entered[-8:]}")
            time.sleep(0.25)

    def run(self, request=None, name=None, patience_seconds=PATIENCE_SECONDS):
        return self.wait(self.start(request, name), patience_seconds)

    def stop(self, arn):
        self.stack.client("stepfunctions").stop_execution(executionArn=arn)
        return self.wait(arn)

    def invoke(self, step, payload):
        """One step by hand: (its answer, None) or (None, its error payload)."""
        response = self.stack.client("lambda").invoke(FunctionName=step, Payload=json.dumps(payload))
        answer = json.loads(response["Payload"].read())
        return (None, answer) if "FunctionError" in response else (answer, None)

    # State, audit, journal, notifications

    def items(self, table=STATE_TABLE):
        pages = self.stack.client("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [from_dynamodb(item) for page in pages for item in page["Items"]]

    def state_item(self, operation_id):
        found = self.stack.client("dynamodb").get_item(TableName=STATE_TABLE, Key={"operation_id": {"S": operation_id}}, ConsistentRead=True)
        return from_dynamodb(found["Item"]) if "Item" in found else None

    def item_of(self, arn):
        return next((item for item in self.items() if item.get("execution_arn") == arn), None)

    def locks(self):
        return [item for item in self.items() if item["operation_id"].startswith("lock#")]

    def audit(self, operation_id=None):
        """The audit records in their order, of one operation or of all."""
        client = self.stack.client("dynamodb")
        if operation_id is None:
            pages = client.get_paginator("scan").paginate(TableName=AUDIT_TABLE, ConsistentRead=True)
        else:
            pages = client.get_paginator("query").paginate(
                TableName=AUDIT_TABLE, ConsistentRead=True, KeyConditionExpression="operation_id = :id", ExpressionAttributeValues={":id": {"S": operation_id}}
            )
        records = [from_dynamodb(item) for page in pages for item in page["Items"]]
        return sorted(records, key=lambda record: record["timestamp"])

    def calls(self, service=None, mutating=None, action=None, caller=None):
        """The journal of AWS calls that functions and the state machine made, oldest first. Our own are left out."""
        return [
            call
            for call in self.stack.calls()
            if (call["caller"] or "") != "stack"
            and service in (None, call["service"])
            and action in (None, call["action"])
            and caller in (None, call["caller"])
            and mutating in (None, not READ_ONLY.match(call["action"]))
        ]

    def rds_calls(self, mutating=True, caller=None):
        return self.calls("rds", mutating=mutating, caller=caller)

    def messages(self):
        """What arrived in the queue since the last look: subject, body (parsed when it is JSON), attributes, the whole envelope."""
        sqs = self.stack.client("sqs")
        url = self.seeded.queue_url if self.seeded else sqs.list_queues()["QueueUrls"][0]
        found = []
        while True:
            batch = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            if not batch:
                return found
            for message in batch:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                envelope = json.loads(message["Body"])
                try:
                    body = json.loads(envelope["Message"])
                except ValueError:
                    body = envelope["Message"]
                attributes = {name: value["Value"] for name, value in envelope.get("MessageAttributes", {}).items()}
                found.append({"subject": envelope.get("Subject"), "body": body, "attributes": attributes, "envelope": envelope})

    def published(self):
        """Each SNS message as it was sent: the parts by protocol (`default`, `email`, ...)."""
        sent = []
        for call in self.calls("sns", action="Publish"):
            message = call["parameters"]["Message"]
            sent.append(json.loads(message) if call["parameters"].get("MessageStructure") == "json" else {"default": message})
        return sent

    def logs(self, step=None):
        return "".join(self.stack.log(name) for name in ([step] if step else FUNCTIONS))

    # RDS

    def cluster(self, cluster_id=TARGET_CLUSTER, region="us-west-2"):
        rds = self.stack.client("rds", region)
        try:
            return rds.describe_db_clusters(DBClusterIdentifier=cluster_id)["DBClusters"][0]
        except rds.exceptions.DBClusterNotFoundFault:
            return None

    def instances(self, cluster_id=TARGET_CLUSTER, region="us-west-2"):
        filters = [{"Name": "db-cluster-id", "Values": [cluster_id]}]
        return self.stack.client("rds", region).describe_db_instances(Filters=filters)["DBInstances"]

    def snapshots(self, region="us-west-2"):
        found = self.stack.client("rds", region).describe_db_cluster_snapshots()["DBClusterSnapshots"]
        return sorted(found, key=lambda snapshot: snapshot["DBClusterSnapshotIdentifier"])

    def tags(self, resource):
        return {tag["Key"]: tag["Value"] for tag in resource.get("TagList", [])}

    # The database

    def connect(self, user, password, database="app", cluster_id=TARGET_CLUSTER, region="us-west-2"):
        import psycopg

        cluster = self.cluster(cluster_id, region)
        return psycopg.connect(
            host=cluster["Endpoint"], port=cluster["Port"], user=user, password=password, dbname=database, connect_timeout=5, autocommit=True,
            sslmode="verify-full", sslrootcert=self.stack.ca_file, application_name="aurora-restore-check",
        )  # fmt: skip

    def login(self, user, password, database="app", **where):
        """None when the login works and a query answers, else the server's reason."""
        import psycopg

        try:
            with self.connect(user, password, database, **where) as connection:
                connection.execute("SELECT 1")
            return None
        except psycopg.Error as refused:
            reasons = re.findall(r"FATAL:\s+(.*)", str(refused))
            return reasons[-1] if reasons else str(refused).strip().splitlines()[-1]

    def secret(self, name):
        value = self.stack.client("secretsmanager").get_secret_value(SecretId=f"aurora-restore/dev/{name}")
        return json.loads(value["SecretString"])

    def master_secret(self):
        """The master credentials: RDS's own secret of the target, else the contract's."""
        managed = (self.cluster() or {}).get("MasterUserSecret")
        if not managed:
            return self.secret("master-credentials")
        return json.loads(self.stack.client("secretsmanager").get_secret_value(SecretId=managed["SecretArn"])["SecretString"])

    def master(self):
        """The master user's name and the password that works: the secret's, else still production's."""
        credentials = self.master_secret()
        if self.login(credentials["username"], credentials["password"], "postgres") is None:
            return credentials["username"], credentials["password"]
        return "master", PRODUCTION_LOGINS["master"]

    def query(self, text, database="app", user=None, password=None):
        """Rows of a query as a list of dictionaries; as the master user unless told otherwise."""
        from psycopg.rows import dict_row

        if user is None:
            user, password = self.master()
        with self.connect(user, password, database) as connection:
            return connection.cursor(row_factory=dict_row).execute(text).fetchall()

    def roles(self):
        """Every role of the restored cluster by name: attributes and the roles it is a member of."""
        rows = self.query(
            """SELECT r.rolname AS name, r.rolcanlogin AS login, r.rolsuper AS superuser, r.rolcreaterole AS createrole,
                      r.rolcreatedb AS createdb, r.rolinherit AS inherit, r.rolconnlimit AS connection_limit, r.rolvaliduntil AS valid_until,
                      r.rolconfig AS config,
                      ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid ORDER BY 1) AS member_of
               FROM pg_roles r WHERE r.rolname NOT LIKE 'pg\\_%' ORDER BY 1""",
            "postgres",
        )
        return {row.pop("name"): row for row in rows}

    def secret_values(self):
        """Every value that must never show up in state, audit, logs, history or notifications."""
        values = [self.master_secret()["password"], *PRODUCTION_LOGINS.values()]
        return values + [user["password"] for user in self.secret("app-credentials").values()]
