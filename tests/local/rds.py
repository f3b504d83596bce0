"""What moto's RDS lacks, put right where it matters to a restore. Each hook says how AWS behaves.

- a restored cluster has a PostgreSQL, or for aurora-mysql a MariaDB, behind its endpoint once its first instance exists, until it
  is deleted
- the master password changes a moment after ModifyDBCluster, shown as pending until then
- things take time when the stack's pace says so: copying (with percent), creating, deleting
- a live name is refused, unknown clusters are a fault (moto: 500), states are checked, a missing final snapshot is an error,
  a member of a global cluster is not deleted, its instances follow a renamed cluster; new names take a while, and are refused while
  something is going on
- a restore takes AWS's defaults where the request is silent; moto takes the source's, even when the request says `false`
- KMS: keys and their state are checked, an encrypted copy across Regions needs one, an unencrypted one refuses one
- subnet group and parameter group must exist; snapshots are found by ARN; copies name their source
- the account's limits are told (DescribeAccountAttributes), with what is used of them
- the classes that can be ordered are those of Aurora
- no automated backup at creation: it would block the same name for a minute
"""

import copy
import datetime
import functools
import json
import re
import secrets
import threading
import time

from moto.core.responses import ActionResult
from moto.kms.models import kms_backends
from moto.rds.exceptions import (
    DBInstanceAlreadyExists,
    DBClusterNotFoundError,
    DBClusterParameterGroupNotFoundError,
    DBClusterSnapshotNotFoundError,
    DBSubnetGroupNotFoundError,
    InvalidDBClusterSnapshotStateFault,
    InvalidDBClusterStateFault,
    InvalidDBInstanceStateFault,
    InvalidParameterCombination,
    InvalidParameterValue,
    KMSKeyNotAccessibleFault,
    RDSClientError,
)
from moto.rds.models import DBCluster, DBClusterSnapshot, DBInstanceClustered, FilterDef, RDSBackend, find_cluster, rds_backends
from moto.rds.responses import RDSResponse
from moto.secretsmanager.models import secretsmanager_backends

IDENTIFIER = re.compile(r"^(?!.*--)[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$")
ORDERABLE = re.compile(r"^db\.(serverless|(t3|t4g)\.(medium|large)|(r5|r6g|r6i|r7g|r8g)\.(large|xlarge|(2|4|8|12|16)xlarge))$")
# Seconds that things take. Zero: done by the next call. The password is never immediate, as on AWS.
PACE = {"copy": 0.0, "restore": 0.0, "instance": 0.0, "delete": 0.0, "rename": 0.0, "master_password": 1.0}


class Cloud:
    """What the hooks share: the servers behind the clusters, the pace, and what is due to happen later."""

    def __init__(self, plane, mysql):
        self.plane, self.mysql = plane, mysql
        # moto's collections are not safe to change while another request walks through them.
        self.lock = threading.RLock()
        self.timers = set()
        self.on_event = None
        self.reset()

    def reset(self):
        with self.lock:
            for timer in self.timers:
                timer.cancel()
            self.timers.clear()
            self.pace = dict(PACE)
            self.next_restore_status = None
            self.denied = set()
            self.silent, self.stale = {}, {}
            self.tells_events = True

    def servers(self, cluster):
        """What holds the server behind this cluster."""
        return self.mysql if "mysql" in cluster.engine else self.plane

    def later(self, seconds, action):
        """Runs the action after so many seconds, unless the stack is reset before."""

        def run():
            with self.lock:
                if timer in self.timers:
                    self.timers.discard(timer)
                    action()

        timer = threading.Timer(seconds, run)
        timer.daemon = True
        with self.lock:
            self.timers.add(timer)
        timer.start()

    def tell(self, backend, kind, name, event_id, message):
        """An event of RDS as EventBridge brings it to the function wake; best effort, as on AWS."""
        if self.on_event and self.tells_events:
            arn = f"arn:aws:rds:{backend.region_name}:{backend.account_id}:{kind}:{name}"
            what = {"cluster": ("RDS DB Cluster Event", "CLUSTER"), "db": ("RDS DB Instance Event", "DB_INSTANCE")}[kind]
            self.on_event({
                "version": "0", "source": "aws.rds", "detail-type": what[0], "account": backend.account_id, "region": backend.region_name, "resources": [arn],
                "detail": {"SourceType": what[1], "SourceArn": arn, "SourceIdentifier": name, "EventID": event_id, "Message": message},
            })  # fmt: skip

    # What deeds.py asks about resources; None for what is not there.

    def found(self, arn):
        region, kind, name = arn.split(":")[3], arn.split(":")[5], arn.split(":", 6)[6]
        backend = rds_backends[arn.split(":")[4]][region]
        return {"cluster": backend.clusters, "db": backend.databases, "cluster-snapshot": backend.cluster_snapshots}[kind].get(name)

    def tag(self, arn, name):
        thing = self.found(arn)
        return next((tag["Value"] for tag in thing.tags if tag["Key"] == name), None) if thing else None

    def key_of(self, arn):
        thing = self.found(arn)
        is_encrypted = thing and getattr(thing, "encrypted", getattr(thing, "storage_encrypted", False))
        return thing.kms_key_id if is_encrypted else None

    def cluster_at(self, port):
        """What tokens.py asks about the cluster behind a port."""
        key = self.plane.key_at(port) or self.mysql.key_at(port)
        with self.lock:
            for region, backend in rds_backends["123456789012"].items():
                for cluster in backend.clusters.values():
                    if cluster.db_cluster_resource_id == key:
                        return {"resource_id": key, "region": region, "is_on": bool(getattr(cluster, "iam_auth", False)), "denied": self.denied}
        return None

    def subnet_group_of(self, arn):
        thing = self.found(arn)
        return thing.db_subnet_group_name if thing else None

    def key_arn(self, region, key_id):
        """As KMS finds it: by id, ARN or alias."""
        backend = kms_backends["123456789012"][region]
        name = backend.get_alias_name(key_id)
        known = backend.get_key_id_from_alias(name) if name.startswith("alias/") else backend.get_key_id(key_id)
        return f"arn:aws:kms:{region}:123456789012:key/{known}" if known in backend.keys else f"no key: {key_id}"

    def cluster_of_secret(self, region, arn):
        """ARN of the cluster whose master password RDS keeps there, as it is called by now."""
        with self.lock:
            for cluster in rds_backends["123456789012"][region].clusters.values():
                if getattr(getattr(cluster, "master_user_secret", None), "secret_arn", None) == arn:
                    return cluster.db_cluster_arn
        return None

    def key_of_secret(self, region, arn):
        """As it was named when the secret was made; None for Secrets Manager's own."""
        return secretsmanager_backends["123456789012"][region].secrets.get(arn).kms_key_id

    def change(self, order):
        """POST /_stack/rds: puts a resource into a state, sets the pace, or prepares how the next restore ends."""
        with self.lock:
            backend = rds_backends[order.get("account", "123456789012")][order.get("region", "us-west-2")]
            self.pace.update(order.get("pace") or {})
            # Users whom IAM lets nobody log in as.
            self.denied = set(order.get("deny_tokens_of", self.denied))
            # {"cluster_id", "but"}: whoever bears the name answers nobody, but the one of this resource id.
            self.silent = order.get("silent", self.silent)
            # {"cluster_id", "leads_to"}: the endpoint of that name leads to the cluster of this resource id, as DNS does for a while.
            self.stale = order.get("stale", self.stale)
            self.tells_events = order.get("tell_events", self.tells_events)
            if "next_restore_status" in order:
                self.next_restore_status = order["next_restore_status"]
            if "cluster_id" in order:
                if order["cluster_id"] not in backend.clusters:
                    raise DBClusterNotFoundError(order["cluster_id"])
                backend.clusters[order["cluster_id"]].status = order["status"]
            if "instance_id" in order:
                backend.describe_db_instances(order["instance_id"])[0].status = order["status"]
            if "snapshot_id" in order:
                if order["snapshot_id"] not in backend.cluster_snapshots:
                    raise DBClusterSnapshotNotFoundError(order["snapshot_id"])
                snapshot = backend.cluster_snapshots[order["snapshot_id"]]
                if "created_at" in order:
                    snapshot.created = datetime.datetime.fromisoformat(order["created_at"]).replace(tzinfo=None)
                if "rename" in order:  # nobody may create an `rds:` name through the API
                    snapshot.db_cluster_snapshot_identifier = order["rename"]
                    backend.cluster_snapshots[order["rename"]] = backend.cluster_snapshots.pop(order["snapshot_id"])
                for field in ("status", "snapshot_type", "percent_progress"):
                    if field in order:
                        setattr(snapshot, field, order[field])


def wrap(owner, name):
    """Replaces a method; the new one gets the original as its first argument."""

    def decorate(function):
        original = getattr(owner, name)

        @functools.wraps(original)
        def method(*args, **kwargs):
            return function(original, *args, **kwargs)

        setattr(owner, name, method)
        return function

    return decorate


def check_name(name, parameter):
    if not IDENTIFIER.match(name):
        raise InvalidParameterValue(
            f"The parameter {parameter} is not a valid identifier. Identifiers must begin with a letter; must contain only ASCII "
            "letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive hyphens."
        )


def default_parameter_group(engine, engine_version):
    major = engine_version.split(".")[0] if "postgresql" in engine else "8.0"
    return f"default.{engine}{major}"


def install(cloud):
    """Puts the hooks in place, once per process."""
    DBCluster.save_automated_backup = lambda self: None
    DBClusterSnapshot.SUPPORTED_FILTERS["db-cluster-snapshot-id"] = FilterDef(
        ["db_cluster_snapshot_arn", "db_cluster_snapshot_identifier"], "DB Cluster Snapshot Identifiers", case_insensitive=True
    )
    # moto says `creating` exactly once, whoever asks; here a status is what was set.
    DBCluster.status = property(lambda self: self._status, lambda self, value: setattr(self, "_status", value))
    install_endpoints(cloud)
    install_snapshots(cloud)
    install_creation(cloud)
    install_changes(cloud)
    install_deletion(cloud)


def install_endpoints(cloud):
    amazon_endpoint, amazon_reader = DBCluster.endpoint.fget, DBCluster.reader_endpoint.fget
    instance_endpoint = DBInstanceClustered.endpoint.fget

    def port(cluster):
        if cloud.silent.get("cluster_id") == cluster.resource_id and cloud.silent["but"] != cluster.db_cluster_resource_id:
            return 9  # nobody listens there
        if cloud.stale.get("cluster_id") == cluster.resource_id:
            return cloud.servers(cluster).port(cloud.stale["leads_to"])
        return cloud.servers(cluster).port(cluster.db_cluster_resource_id)

    DBCluster.endpoint = property(lambda self: "localhost" if port(self) else amazon_endpoint(self))
    DBCluster.reader_endpoint = property(lambda self: "localhost" if port(self) else amazon_reader(self))
    # The port in the answer is where the server really listens; the one asked for stays what a copy of the cluster inherits.
    DBCluster.port = property(lambda self: port(self) or self._port, lambda self, value: setattr(self, "_port", value))
    DBInstanceClustered.endpoint = property(
        lambda self: {"Address": "localhost", "Port": port(self.cluster)} if port(self.cluster) else instance_endpoint(self)
    )

    @wrap(DBCluster, "get_cfg")
    def get_cfg(original, self):
        settings = original(self)
        settings["port"] = settings.pop("_port")
        # A restored cluster is nobody's replica and in no global cluster, whatever the source was.
        settings.pop("global_cluster_identifier")
        settings.pop("replication_source_identifier")
        return settings


def install_snapshots(cloud):
    def progress(self):
        started, seconds = getattr(self, "copying", (0, 0))
        return min(100, int(100 * (time.monotonic() - started) / seconds)) if seconds else 100

    def status(self):
        return "copying" if self._status == "available" and progress(self) < 100 else self._status

    def percent(self):
        return progress(self) if self._percent is None else self._percent

    DBClusterSnapshot.status = property(status, lambda self, value: setattr(self, "_status", value))
    # moto sets 100 at birth: that means "not set by hand".
    DBClusterSnapshot.percent_progress = property(percent, lambda self, value: setattr(self, "_percent", None if value == 100 else value))

    @wrap(RDSBackend, "create_db_cluster_snapshot")
    def create_snapshot(original, self, db_cluster_identifier, db_cluster_snapshot_identifier, *args, **kwargs):
        check_name(db_cluster_snapshot_identifier, "DBClusterSnapshotIdentifier")
        return original(self, db_cluster_identifier, db_cluster_snapshot_identifier, *args, **kwargs)

    @wrap(RDSBackend, "_validate_kms_key")
    def validate_key(original, self, key_id):
        try:
            arn = original(self, key_id)
        except AttributeError:  # moto: an alias that does not exist
            raise KMSKeyNotAccessibleFault(key_id) from None
        if self.kms.describe_key(arn).key_state != "Enabled":
            raise KMSKeyNotAccessibleFault(key_id)
        return arn

    @wrap(RDSBackend, "copy_db_cluster_snapshot")
    def copy_snapshot(original, self, source_db_cluster_snapshot_identifier, target_db_cluster_snapshot_identifier, **kwargs):
        check_name(target_db_cluster_snapshot_identifier, "TargetDBClusterSnapshotIdentifier")
        source = self.get_db_cluster_snapshot(source_db_cluster_snapshot_identifier)
        if source.status != "available":
            raise InvalidDBClusterSnapshotStateFault(f"The source snapshot is in {source.status} state, but expected it to be available.")
        key = kwargs.get("kms_key_id")
        if source.encrypted and not key and source.region != self.region_name:
            # The source's key is of no use in another Region.
            raise KMSKeyNotAccessibleFault(source.kms_key_id)
        if key and not source.encrypted:
            raise InvalidParameterCombination("KmsKeyId cannot be specified when the source DB cluster snapshot is not encrypted.")
        snapshot = original(self, source_db_cluster_snapshot_identifier, target_db_cluster_snapshot_identifier, **kwargs)
        snapshot.source_db_cluster_snapshot_arn = source.arn
        snapshot.copying = (time.monotonic(), cloud.pace["copy"])
        return snapshot

    @wrap(RDSBackend, "delete_db_cluster_snapshot")
    def delete_snapshot(original, self, db_snapshot_identifier):
        snapshot = self.cluster_snapshots.get(db_snapshot_identifier)
        if snapshot and snapshot.snapshot_type == "automated":
            raise InvalidDBClusterSnapshotStateFault("Automated snapshots cannot be deleted.")
        return original(self, db_snapshot_identifier)


def install_creation(cloud):
    @wrap(RDSBackend, "create_db_cluster")
    def create_cluster(original, self, kwargs):
        name = kwargs["db_cluster_identifier"]
        check_name(name, "DBClusterIdentifier")
        if name in self.clusters:
            raise RDSClientError("DBClusterAlreadyExistsFault", "DB Cluster already exists")
        if kwargs.get("kms_key_id") not in (None, "default_kms_key_id"):
            kwargs["kms_key_id"] = self._validate_kms_key(kwargs["kms_key_id"])
        group = kwargs.get("db_subnet_group_name") or "default"
        if group != "default" and group not in self.subnet_groups:
            raise DBSubnetGroupNotFoundError(group)
        parameters = kwargs.get("db_cluster_parameter_group_name")
        if parameters and not parameters.startswith("default.") and parameters not in self.db_cluster_parameter_groups:
            raise DBClusterParameterGroupNotFoundError(parameters)
        cluster = original(self, kwargs)
        cluster._status = "available"
        cluster.parameter_group = parameters or default_parameter_group(cluster.engine, cluster.engine_version)
        if not cluster.storage_encrypted:
            cluster.kms_key_id = None  # moto names a default key on every cluster
        return cluster

    @wrap(RDSBackend, "restore_db_cluster_from_snapshot")
    def restore(original, self, from_snapshot_id, overrides):
        snapshot = self.describe_db_cluster_snapshots(None, from_snapshot_id)[0]
        if snapshot.status != "available":
            raise InvalidDBClusterSnapshotStateFault(f"The snapshot is in {snapshot.status} state, but expected it to be available.")
        if overrides["engine"] != snapshot.engine:
            raise InvalidParameterCombination(f"The snapshot's engine is {snapshot.engine}, not {overrides['engine']}.")
        cluster = original(self, snapshot.db_cluster_snapshot_identifier, overrides)
        # Settings that a snapshot does not carry: the request's, else AWS's defaults.
        cluster.deletion_protection = bool(overrides.get("deletion_protection"))
        cluster.copy_tags_to_snapshot = bool(overrides.get("copy_tags_to_snapshot"))
        cluster.iam_auth = bool(overrides.get("enable_iam_database_authentication"))
        cluster.db_subnet_group_name = overrides.get("db_subnet_group_name") or "default"
        cluster.vpc_security_group_ids = overrides.get("vpc_security_group_ids") or ["sg-default"]
        cluster.serverless_v2_scaling_configuration = overrides.get("serverless_v2_scaling_configuration")
        if overrides.get("kms_key_id"):  # also the way to encrypt what was not
            cluster.storage_encrypted, cluster.kms_key_id = True, self._validate_kms_key(overrides["kms_key_id"])
        cluster.availability_zones = [f"{self.region_name}{zone}" for zone in "abc"]
        cluster.restored = True
        final, cloud.next_restore_status = cloud.next_restore_status or "available", None
        cluster.status = final
        answer = copy.copy(cluster)
        answer.status = "creating"
        if cloud.pace["restore"]:
            cluster.status = "creating"

            def made():
                cluster.status = final
                cloud.tell(self, "cluster", cluster.resource_id, "RDS-EVENT-0170", "DB cluster created")

            cloud.later(cloud.pace["restore"], made)
        return answer

    @wrap(RDSBackend, "create_db_instance")
    def create_instance(original, self, kwargs):
        instance = original(self, kwargs)
        if not isinstance(instance, DBInstanceClustered):
            return instance
        cluster = instance.cluster

        def ready():
            # An Aurora cluster's endpoint leads nowhere until an instance is there to serve it.
            if getattr(cluster, "restored", False) and self.clusters.get(cluster.resource_id) is cluster:
                cloud.servers(cluster).restore(cluster.db_cluster_resource_id, cluster.resource_id)
            instance.status = "available"
            cloud.tell(self, "db", instance.db_instance_identifier, "RDS-EVENT-0005", "DB instance created")

        if cloud.pace["instance"]:
            instance.status = "creating"
            cloud.later(cloud.pace["instance"], ready)
            return instance
        ready()
        answer = copy.copy(instance)
        answer.status = "creating"
        return answer


def install_changes(cloud):
    @wrap(RDSBackend, "modify_db_cluster")
    def modify(original, self, kwargs):
        name = kwargs["db_cluster_identifier"]
        if name not in self.clusters:
            raise DBClusterNotFoundError(name)
        cluster = self.clusters[name]
        if cluster.status != "available":
            raise InvalidDBClusterStateFault(f"DB cluster {name} is in {cluster.status} state but expected it to be available.")
        renamed = kwargs.get("new_db_cluster_identifier")
        if renamed:
            check_name(renamed, "NewDBClusterIdentifier")
            if renamed in self.clusters:
                raise RDSClientError("DBClusterAlreadyExistsFault", "DB Cluster already exists")
        password = kwargs.pop("master_user_password", None)
        if password is not None:
            cluster.master_user_password = password  # refuses a bad one
        managed = kwargs.get("manage_master_user_password")
        answer = original(self, kwargs)
        if managed:
            # moto's secret says the same for every cluster; AWS makes a password, and applies it like any other.
            password = secrets.token_urlsafe(24)
            secret = cluster.master_user_secret
            text = json.dumps({"username": cluster.master_username, "password": password})
            secret.secretsmanager.put_secret_value(secret_id=secret.secret_arn, secret_string=text, secret_binary=None, client_request_token=None, version_stages=None)
        for instance in self.databases.values():
            if renamed and instance.db_cluster_identifier == name:
                instance.db_cluster_identifier = cluster.resource_id
        if renamed and cloud.pace["rename"]:
            cluster.status = "renaming"
            cloud.later(cloud.pace["rename"], lambda: renaming_done(self, cluster, "cluster", renamed))
        if password is not None:
            # AWS answers at once, shows the change as pending, and makes it some time later.
            cluster.pending_modified_values = {"MasterUserPassword": "****"}
            answer.pending_modified_values = cluster.pending_modified_values
            half = cloud.pace["master_password"] / 2
            cloud.later(half, lambda: password_begun(self, cluster, password, half))
        return answer

    def renaming_done(backend, thing, kind, name):
        thing.status = "available"
        if kind == "cluster":
            cloud.tell(backend, kind, name, "RDS-EVENT-0172", f"Renamed to {name}")

    @wrap(RDSBackend, "modify_db_instance")
    def modify_instance(original, self, db_instance_identifier, db_kwargs):
        instance = self.databases.get(db_instance_identifier)
        renamed = db_kwargs.get("new_db_instance_identifier")
        if instance and renamed:
            check_name(renamed, "NewDBInstanceIdentifier")
            if renamed in self.databases:
                raise DBInstanceAlreadyExists()
            if instance.status != "available":
                raise InvalidDBInstanceStateFault(f"Database instance {db_instance_identifier} is not in available state.")
        answer = original(self, db_instance_identifier, db_kwargs)
        if renamed and cloud.pace["rename"]:
            instance.status = "renaming"
            cloud.later(cloud.pace["rename"], lambda: renaming_done(self, instance, "db", renamed))
        return answer

    def password_begun(backend, cluster, password, half):
        # One after the other: two timers of a busy machine may run in either order, and the cluster would stay in this state.
        cluster.status = "resetting-master-credentials"
        cloud.later(half, lambda: password_done(backend, cluster, password))

    def password_done(backend, cluster, password):
        cloud.servers(cluster).set_master_password(cluster.db_cluster_resource_id, cluster.master_username, password)
        cluster.pending_modified_values = None
        if cluster.status == "resetting-master-credentials":
            cluster.status = "available"
        cloud.tell(backend, "cluster", cluster.resource_id, "RDS-EVENT-0016", "Reset master credentials")


def install_deletion(cloud):
    @wrap(RDSBackend, "delete_db_instance")
    def delete_instance(original, self, db_instance_identifier, *args, **kwargs):
        instance = self.databases.get(db_instance_identifier)
        if instance and instance.status == "deleting":
            raise InvalidDBInstanceStateFault(f"Instance {db_instance_identifier} is already being deleted.")
        if not (cloud.pace["delete"] and isinstance(instance, DBInstanceClustered)):
            return original(self, db_instance_identifier, *args, **kwargs)
        instance.status = "deleting"
        cloud.later(cloud.pace["delete"], lambda: original(self, db_instance_identifier, *args, **kwargs))
        return instance

    @wrap(RDSBackend, "delete_db_cluster")
    def delete_cluster(original, self, cluster_identifier, snapshot_name=None):
        cluster = self.clusters.get(cluster_identifier)
        if cluster is None:
            raise DBClusterNotFoundError(cluster_identifier)
        if cluster.status == "deleting":
            raise InvalidDBClusterStateFault(f"DB cluster {cluster_identifier} is already being deleted.")
        for global_backends in rds_backends[self.account_id].values():
            for global_cluster in global_backends.global_clusters.values():
                if cluster in global_cluster.members:
                    raise InvalidDBClusterStateFault(
                        "This cluster is a part of a global cluster, please remove it from global cluster first"
                    )
        if cluster.deletion_protection or [member for member in cluster.members if member.status != "deleting"]:
            return original(self, cluster_identifier, snapshot_name)  # refuses
        if snapshot_name:
            self.create_db_cluster_snapshot(cluster_identifier, snapshot_name)

        def gone():
            self.clusters.pop(cluster_identifier, None)
            cloud.servers(cluster).destroy(cluster.db_cluster_resource_id)
            cloud.tell(self, "cluster", cluster_identifier, "RDS-EVENT-0171", "DB cluster deleted")

        cluster.status = "deleting"
        if cloud.pace["delete"]:
            # A cluster goes after its instances.
            cloud.later(1.5 * cloud.pace["delete"], gone)
        else:
            gone()
        return cluster

    install_global_clusters()
    install_quotas()
    install_orderable()

    @wrap(RDSResponse, "delete_db_cluster")
    def delete_cluster_request(original, self):
        # What becomes of the data must be said. moto's backend never sees SkipFinalSnapshot.
        skip, final = self.params.get("SkipFinalSnapshot"), self.params.get("FinalDBSnapshotIdentifier")
        if not skip and not final:
            raise InvalidParameterCombination("FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.")
        if skip and final:
            raise InvalidParameterCombination("FinalDBSnapshotIdentifier cannot be specified when SkipFinalSnapshot is true.")
        return original(self)

    @wrap(RDSResponse, "delete_db_instance")
    def delete_instance_request(original, self):
        instance = self.backend.databases.get(self.params.get("DBInstanceIdentifier"))
        if isinstance(instance, DBInstanceClustered) and self.params.get("FinalDBSnapshotIdentifier"):
            # The data is the cluster's.
            raise InvalidParameterCombination("FinalDBSnapshotIdentifier can not be specified when deleting a cluster instance.")
        return original(self)


def install_quotas():
    """moto does not know the call. The limits are AWS's defaults."""

    def describe(self):
        backend = self.backend
        manual = sum(snapshot.snapshot_type == "manual" for snapshot in backend.cluster_snapshots.values())
        used = [("DBClusters", len(backend.clusters), 40), ("DBInstances", len(backend.databases), 40), ("ManualClusterSnapshots", manual, 100)]
        return ActionResult({"AccountQuotas": [{"AccountQuotaName": name, "Used": count, "Max": limit} for name, count, limit in used]})

    RDSResponse.describe_account_attributes = describe


def install_orderable():
    """moto knows a few classes of a few versions; AWS offers these families with every version of Aurora that is used here."""

    def describe(self):
        engine, version, instance_class = (self.params.get(name) for name in ("Engine", "EngineVersion", "DBInstanceClass"))
        offered = engine.startswith("aurora-") and ORDERABLE.match(instance_class)
        option = {"Engine": engine, "EngineVersion": version, "DBInstanceClass": instance_class, "LicenseModel": "postgresql-license", "Vpc": True}
        return ActionResult({"OrderableDBInstanceOptions": [option] if offered else []})

    RDSResponse.describe_orderable_db_instance_options = describe


def install_global_clusters():
    """moto looks for their members in one Region only; a global cluster's are in several."""

    @wrap(RDSBackend, "create_global_cluster")
    def create(original, self, **kwargs):
        arn = kwargs.pop("source_db_cluster_identifier", None)
        source = find_cluster(arn) if arn else None
        if source:
            kwargs |= {"engine": source.engine, "engine_version": source.engine_version}
        made = original(self, source_db_cluster_identifier=None, **kwargs)
        if source:
            source.is_writer, source.global_cluster_identifier = True, made.global_cluster_identifier
            made.members.append(source)
        return made

    @wrap(RDSBackend, "remove_from_global_cluster")
    def remove(original, self, global_cluster_identifier, db_cluster_identifier):
        for backend in list(rds_backends[self.account_id].values()):
            made = backend.global_clusters.get(global_cluster_identifier)
            for member in list(made.members) if made else []:
                if member.arn == db_cluster_identifier or (member.region, member.resource_id) == (self.region_name, db_cluster_identifier):
                    made.members.remove(member)
                    member.global_cluster_identifier = None
                    return made
        return None
