"""All sides of one operation at once: what a scenario asserts unless it says otherwise."""

from checks import (
    DECLARED, INHERITED, STEP_OF_STATE, WALKED, calls_of_a_restore, check_audit, check_error, check_execution, check_item, check_lock_free,
    check_logins, check_message, check_roles, copy_id, final_id, instant, made, way_until,
)  # fmt: skip


def check_restored_item(world, run, target, copy, replaced, removed, kept):
    """What a successful operation knows of itself, compared with the world."""
    item, cluster = run.item, world.cluster(target)
    assert "error" not in item and (item["target"], item["source"]) == (f"us-west-2#{target}", f"{world.seeded.source_region}#production")
    made_here = item["copy"]
    assert made_here["made_by_us"] == copy and made_here["status"] == "available"
    assert made_here["snapshot_id"] == (copy_id(run.operation_id, target) if copy else item["plan"]["snapshot"]["id"])
    if replaced:
        assert item["replaced"]["gone"] and item["replaced"]["final_snapshot_id"] == final_id(run.operation_id, target)
    else:
        assert "replaced" not in item
    state = item["cluster"]
    assert (state["arn"], state["endpoint"], state["port"], state["status"]) == (cluster["DBClusterArn"], cluster["Endpoint"], cluster["Port"], "available")
    assert state["instances"] == sorted(instance["DBInstanceIdentifier"] for instance in world.instances(target))
    assert instant(state["master_password_reset_at"]) < instant(state["ready_at"])
    users = item["users"]
    assert {user["role"]: user["profile"] for user in users["declared"]} == DECLARED
    assert users["locked"] == INHERITED and users["left"] == [] and users["databases"] == ["analytics", "app", "postgres"]
    checks = item["verification"]["checks"]
    assert item["verification"]["passed"] and all(check["passed"] for check in checks)
    assert {"inherited logins", "no write of readonly_user"} | {f"{verb} of {key}" for verb in ("login", "read") for key in world.secret("app-credentials")} <= {c["name"] for c in checks}
    if copy:
        this = copy_id(run.operation_id, target)
        assert item["archive"] == {"archived": this, "removed": list(removed), "kept": list(kept or [this]), "failed": []}
    else:
        assert "archive" not in item


def check_success(world, run, target="staging", *, copy=True, replaced=("staging-2", "staging-1"), removed=(), kept=None, **calls):
    """Every side of a restore that went well on a scene of its own. Returns the message's body."""
    states = WALKED["SameRegion" if not copy else "Happy" if replaced else "NoTarget"]
    check_execution(run, states)
    check_item(world, run, "succeeded", states)
    check_restored_item(world, run, target, copy, replaced, removed, kept)
    check_audit(world)
    assert made(world) == calls_of_a_restore(run.operation_id, target, copy=copy, replaced=replaced, removed=removed, **calls)
    check_logins(world, target)
    if target == "staging":
        check_roles(world)
    check_lock_free(world)
    cluster = world.cluster(target)
    return check_message(
        world, run.item, "SUCCEEDED", f"Cluster {target} was restored and verified.", f"Endpoint     {cluster['Endpoint']}:{cluster['Port']}",
        f"Checks       {len(run.item['verification']['checks'])} of", "Users        app_user (read-write)", f"Locked       {', '.join(INHERITED)}",
        target=target,
    )  # fmt: skip


def check_failure(world, run, error, state, *words, calls=(), target="staging", told_target=None, left=()):
    """Every side of a restore that failed in this state of a scene of its own. Returns the message's body."""
    states, step = way_until(state), STEP_OF_STATE[state]
    check_execution(run, states, error)
    check_error(run, error, step, *words)
    check_item(world, run, "failed", [s for s in states if s in STEP_OF_STATE and (state != "Preflight" or "preflight" in run.item["timings"] or s != "Preflight")])
    check_audit(world)
    assert made(world) == list(calls)
    check_lock_free(world)
    body = check_message(
        world, run.item, "FAILED", f"The restore of cluster {told_target or target} FAILED.", f"Failed step  {step}", f"Reason       {error}", run.message,
        *left, target=told_target or target,
    )  # fmt: skip
    for line in left:
        assert line in body["left_behind"]
    return body
