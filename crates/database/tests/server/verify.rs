//! The checks, on data that is right and on data that is not.

use crate::support::{TestServer, declare};
use aurora_restore_database::{CheckResult, SqlCheck, Verdict, setup_users, verify};

fn check(name: &str, query: &str) -> SqlCheck {
    SqlCheck { name: name.into(), database: "shop".into(), query: query.into() }
}

fn in_short(results: &[CheckResult]) -> Vec<(&str, bool, &str)> {
    let text = |result: &CheckResult| result.reason.is_some();
    results
        .iter()
        .map(|result| {
            let words = if text(result) { result.reason.as_deref() } else { result.value.as_deref() };
            (result.name.as_str(), result.verdict == Verdict::Passed, words.unwrap_or_default())
        })
        .collect()
}

#[tokio::test]
async fn every_check_answers() {
    let server = TestServer::start(&[]).await;
    let (desired, passwords) = declare(&[("application_user", "app_user", "a"), ("readonly_user", "reader", "r")], &[]);
    let before = verify(&server.server(), &desired, &passwords, &[]).await.unwrap();
    assert_eq!(before[0].verdict, Verdict::Failed);
    assert_eq!(before[0].value.as_deref(), Some("partner, prod_admin, prod_report"));
    assert_eq!(before[1].verdict, Verdict::Failed);
    assert!(
        before[1]
            .reason
            .as_deref()
            .is_some_and(|reason| reason.ends_with("refused the login of app_user (SQLSTATE 28P01)"))
    );

    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    let checks = [
        check("orders arrived", "SELECT count(*) = 3 FROM sales.orders;"),
        check("no orders", "SELECT count(*) = 0 FROM sales.orders"),
        check("a number", "SELECT 1"),
        check("too many", "SELECT true FROM generate_series(1, 1000000)"),
        check("too wide", "SELECT true, true"),
        check("nothing", "SELECT true WHERE false"),
        check("null", "SELECT NULL::boolean"),
        check("a write", "WITH gone AS (DELETE FROM public.settings RETURNING 1) SELECT true FROM gone"),
        check("two statements", "SELECT true; DELETE FROM public.settings"),
        check("a hidden write", "SELECT nextval('public.settings_id_seq') > 0"),
        check("a mistake", "SELECT 'secret data'::int = 1"),
        SqlCheck { database: "missing".into(), ..check("no database", "SELECT true") },
    ];
    let results = verify(&server.server(), &desired, &passwords, &checks).await.unwrap();
    assert_eq!(
        in_short(&results),
        [
            ("inherited logins", true, "none can log in"),
            ("login of application_user", true, "app_user"),
            ("read of application_user", true, "public.settings in database Lager \"Süd\" it's"),
            ("login of readonly_user", true, "reader"),
            ("read of readonly_user", true, "public.settings in database Lager \"Süd\" it's"),
            ("orders arrived", true, "true"),
            ("no orders", false, "the query answered false"),
            ("a number", false, "the query answered a value of type INT4, not boolean"),
            ("too many", false, "the query answered more than one row; it must answer one boolean"),
            ("too wide", false, "the query answered more than one column; it must answer one boolean"),
            ("nothing", false, "the query answered no row; it must answer one boolean"),
            ("null", false, "the query answered null"),
            ("a write", false, "the database server refused to answer the query (SQLSTATE 0A000)"),
            ("two statements", false, "the database server refused to answer the query (SQLSTATE 42601)"),
            ("a hidden write", false, "the database server refused to answer the query (SQLSTATE 25006)"),
            ("a mistake", false, "the database server refused to answer the query (SQLSTATE 22P02)"),
            ("no database", false, "the database server refused to open database missing for master (SQLSTATE 3D000)"),
        ]
    );
    assert!(!format!("{results:?}").contains("secret data"));
}
