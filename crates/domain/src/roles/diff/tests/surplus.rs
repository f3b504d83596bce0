//! Rights that are too much.

use super::*;

fn held(role: &str, target: GrantTarget, privilege: Privilege, extent: Extent, grantor: &str) -> SurplusRight {
    SurplusRight { role: Some(name(role)), target, privilege, extent, grantor: name(grantor) }
}

fn tables() -> GrantTarget {
    GrantTarget::Tables("public".into())
}

#[test]
fn what_is_too_much_goes_before_what_is_missing_comes() {
    let desired = declared(&[("readonly_user", "reader"), ("application_user", "app")]);
    let mut seen = server(&[("reader", "login works"), ("app", "login works"), ("owner", "mine")], &[]);
    let mut shop = database(&["owner"]);
    shop.missing =
        vec![MissingRight { role: name("app"), target: tables(), privilege: Privilege::Select, owner: name("owner") }];
    shop.surplus = vec![
        held("reader", tables(), Privilege::Truncate, Extent::Right, "owner"),
        held("reader", tables(), Privilege::Insert, Extent::Right, "owner"),
        held("reader", tables(), Privilege::Update, Extent::Columns, "owner"),
        held("app", tables(), Privilege::Select, Extent::GrantOption, "owner"),
        held("app", GrantTarget::Database, Privilege::Temporary, Extent::Right, "owner"),
    ];
    let later = |schema: Option<&str>, owner: &str, privilege| SurplusDefault {
        owner: name(owner),
        schema: schema.map(str::to_owned),
        role: name("reader"),
        kind: ObjectKind::Table,
        privilege,
        extent: Extent::Right,
    };
    shop.surplus_defaults = vec![
        later(None, "owner", Privilege::Insert),
        later(Some("public"), "owner", Privilege::Delete),
        later(None, "rdsadmin", Privilege::Insert),
    ];
    seen.databases = vec![shop];
    assert_eq!(
        words(&desired, &seen),
        [
            "revoke TEMPORARY on the database from app (database shop)",
            "revoke the grant option of SELECT on all tables in schema public from app (database shop)",
            "revoke INSERT, TRUNCATE on all tables in schema public from reader (database shop)",
            "revoke UPDATE on single columns of all tables in schema public from reader (database shop)",
            "revoke INSERT on each table that owner makes later from reader (database shop)",
            "revoke DELETE on each table that owner makes later in schema public from reader (database shop)",
            "grant SELECT on all tables in schema public to app (database shop)",
        ]
    );
    assert_eq!(
        notes(&desired, &seen),
        ["reader gets INSERT on each table that rdsadmin makes later in database shop, beyond its profile"]
    );
}

#[test]
fn the_master_takes_back_in_the_name_of_who_granted_or_says_what_stays() {
    let desired = declared(&[("readonly_user", "reader")]);
    let mut seen = server(&[("reader", "login works"), ("partner", ""), ("leaver", "")], &[]);
    let mut shop = database(&["rdsadmin"]);
    shop.surplus = vec![
        held("reader", tables(), Privilege::Insert, Extent::Right, "partner"),
        held("reader", tables(), Privilege::Insert, Extent::Right, "rdsadmin"),
    ];
    shop.surplus_defaults = vec![SurplusDefault {
        owner: name("leaver"),
        schema: None,
        role: name("reader"),
        kind: ObjectKind::Sequence,
        privilege: Privilege::Usage,
        extent: Extent::Right,
    }];
    seen.databases = vec![shop];
    assert_eq!(
        words(&desired, &seen),
        [
            "make master a member of leaver",
            "make master a member of partner",
            "revoke INSERT on all tables in schema public from reader (database shop)",
            "revoke USAGE on each sequence that leaver makes later from reader (database shop)",
        ]
    );
    let stays = "reader holds INSERT on all tables in schema public of database shop beyond its profile, \
                 as far as rdsadmin granted it";
    assert_eq!(notes(&desired, &seen), [stays]);
}

#[test]
fn an_open_schema_is_closed_for_a_reader_where_its_owner_is_in_reach() {
    let reader = declared(&[("readonly_user", "reader")]);
    let open = "everybody may create objects in schema public of database shop";
    let seen = |grantor: &str| {
        let mut seen = server(&[("reader", "login works"), ("app", "login works"), ("owner", "mine")], &[]);
        seen.databases = vec![ObservedDatabase { surplus: vec![open_schema(grantor)], ..database(&["owner"]) }];
        seen
    };
    assert_eq!(
        words(&reader, &seen("owner")),
        ["lock the inherited login app", "revoke CREATE on schema public from everybody (database shop)"]
    );
    assert_eq!(notes(&reader, &seen("owner")), [""; 0]);
    assert_eq!(words(&reader, &seen("rdsadmin")), ["lock the inherited login app"]);
    assert_eq!(notes(&reader, &seen("rdsadmin")), [open]);
    let nobody_reads = declared(&[("application_user", "app")]);
    assert_eq!(words(&nobody_reads, &seen("owner")), ["lock the inherited login reader"]);
    assert_eq!(notes(&nobody_reads, &seen("owner")), [open]);
}

#[test]
fn what_everybody_may_write_is_said_and_stays() {
    let mut seen = server(&[("user", "login works"), ("owner", "mine")], &[]);
    let everybody = SurplusRight { target: tables(), privilege: Privilege::Insert, ..open_schema("owner") };
    seen.databases = vec![ObservedDatabase { surplus: vec![everybody], ..database(&["owner"]) }];
    let (reader, app) = (declared(&[("readonly_user", "user")]), declared(&[("application_user", "user")]));
    assert_eq!((words(&reader, &seen), words(&app, &seen)), (vec![], vec![]));
    let said = "everybody has INSERT on all tables in schema public of database shop, read-only users too";
    assert_eq!(notes(&reader, &seen), [said]);
    assert_eq!(notes(&app, &seen), [""; 0]);
}

#[test]
fn a_membership_that_gives_any_right_ends_and_a_mere_mark_stays() {
    let desired = declared(&[("readonly_user", "reader"), ("application_user", "app")]);
    let roles = [
        ("reader", "login works"),
        ("app", "login works"),
        ("writers", "holds"),
        ("theirs", "holds foreign"),
        ("nested", ""),
        ("mark", ""),
    ];
    let seen = |role| server(&roles, &[("writers", "nested"), (role, "reader")]);
    for role in ["writers", "nested", "app"] {
        assert_eq!(words(&desired, &seen(role)), [format!("remove reader from {role}")]);
    }
    assert_eq!(words(&desired, &seen("mark")), [""; 0]);
    assert_eq!(words(&desired, &seen("theirs")), [""; 0]);
    assert_eq!(
        notes(&desired, &seen("theirs")),
        ["reader has what theirs may: the master may not end that membership"]
    );
    // Since PostgreSQL 16 the grantor counts too.
    let mut by_stranger = seen("mark");
    by_stranger.memberships.insert(Membership {
        role: name("writers"),
        member: name("reader"),
        grantor: Some(name("rdsadmin")),
    });
    assert_eq!(notes(&desired, &by_stranger), ["reader has what writers may: the master may not end that membership"]);
}
