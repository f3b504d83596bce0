//! Holds the README against the code: every request field and every variable that is read is explained there.

use aurora_restore_core::domain::failure::ErrorName;
use aurora_restore_core::domain::request::FIELDS;

const README: &str = include_str!("../../../README.md");
const CONFIG: &str = include_str!("../../core/src/config.rs");

#[test]
fn every_field_of_the_request_is_in_the_table() {
    let rows: Vec<&str> = README.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for field in FIELDS {
        assert!(rows.contains(field), "the table of the request lacks {field}");
    }
}

#[test]
fn every_variable_is_explained() {
    let production = CONFIG.split("#[cfg(test)]").next().unwrap();
    let names =
        production.split('"').filter(|text| text.len() > 4 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    // Lambda's own, and the name of a function in a message.
    for name in names.filter(|name| !name.starts_with("AWS_LAMBDA")) {
        assert!(README.contains(&format!("`{name}`")), "{name} is read and not explained");
    }
}

#[test]
fn every_error_has_its_entry_in_the_runbook() {
    let runbook = include_str!("../../../docs/runbook.md");
    let entries: Vec<(&str, &str)> =
        runbook.split("\n### ").skip(1).map(|entry| entry.split_once('\n').unwrap()).collect();
    for name in ErrorName::ALL {
        let (_, text) = entries
            .iter()
            .find(|(title, _)| *title == name.to_string())
            .unwrap_or_else(|| panic!("no entry for {name}"));
        for part in ["**Means**", "**Left**", "**Do**", "`"] {
            assert!(text.contains(part), "{name} lacks {part}");
        }
    }
    assert_eq!(entries.len(), ErrorName::ALL.len(), "an entry for a name that no longer exists");
}
