//! A crate imports crates of lower floors only (ARCHITECTURE.md, "Crates and floors").

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;

use crate::repository;

/// The crates by floor, lowest first. On one floor nobody imports a neighbour.
const FLOORS: &[&[&str]] = &[
    &["oxkeeper-types"],
    &["oxkeeper-wire"],
    &["oxkeeper-tree", "oxkeeper-zab", "oxkeeper-storage"],
    &["oxkeeper-core"],
    &["oxkeeper-server"],
    &["oxkeeper-testkit", "oxkeeper-model", "oxkeeper-shell"],
    &["oxkeeper", "oxkeeper-sim", "oxkeeper-bench", "oxkeeper-recipes"],
];

/// Imports that only tests may have: a crate's tests may use a higher floor to drive it as a whole.
const TESTS_MAY_IMPORT: &[&str] = &["oxkeeper-testkit", "oxkeeper-model"];

/// Checks every import between crates of the workspace; the error lists those that point up or sideways.
pub(crate) fn check() -> Result<(), Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .map_err(|error| vec![format!("cargo metadata cannot be run: {error}")])?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| vec![format!("cargo metadata cannot be read: {error}")])?;
    judge(&metadata)
}

fn judge(metadata: &Value) -> Result<(), Vec<String>> {
    let floor_of: HashMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor)))
        .collect();
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if !name.starts_with("oxkeeper") {
            continue;
        }
        let Some(&floor) = floor_of.get(name) else {
            problems.push(format!(
                "{name} has no floor; give it one in xtask/src/floors.rs and ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let imported = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"].as_str() == Some("dev");
            // Tests may ask for a crate's own features by importing it.
            let is_itself = imported == name && for_tests;
            match floor_of.get(imported) {
                _ if is_itself => {}
                Some(_) if for_tests && TESTS_MAY_IMPORT.contains(&imported) => {}
                // The crate itself, with features that only its tests turn on.
                Some(_) if for_tests && imported == name => {}
                Some(&below) if below >= floor => {
                    problems.push(format!(
                        "{name} (floor {floor}) imports {imported} (floor {below})"
                    ));
                }
                _ => {}
            }
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn crates_import_lower_floors_only() {
        check().unwrap();
    }

    #[test]
    fn an_import_of_a_neighbour_is_found() {
        let metadata = json!({"packages": [
            {"name": "oxkeeper-tree", "dependencies": [{"name": "oxkeeper-storage", "kind": null}]}
        ]});
        let problems = judge(&metadata).unwrap_err();
        assert_eq!(
            problems,
            ["oxkeeper-tree (floor 2) imports oxkeeper-storage (floor 2)"]
        );
    }
}
