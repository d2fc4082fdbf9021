//! The feature `mutants` lets code do things wrong on purpose: only the simulator and storage's own tests may switch it on, and only
//! when they are asked to.

use crate::Violation;
use crate::tree::TextFile;
use toml::{Table, Value};

const FEATURE: &str = "mutants";
/// The packages that may name it as something to switch on, each by its feature of the same name.
const SWITCHES: [&str; 2] = ["dlog-sim", "dlog-storage"];
/// What they may switch on.
const SWITCHED: &str = "dlog-core/mutants";

/// Finds whatever else switches it on: default features, other features, features of dependencies.
pub fn check(manifests: &[&TextFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for manifest in manifests {
        // A manifest that is no TOML is told by another rule.
        let Ok(table) = manifest.text.parse::<Table>() else { continue };
        let package = table.get("package").and_then(|p| p.get("name")).and_then(Value::as_str).unwrap_or_default();
        let mut named = Vec::new();
        walk(&mut String::new(), &Value::Table(table.clone()), &mut named);
        for (place, text) in named {
            let may = SWITCHES.contains(&package) && place == format!("features.{FEATURE}") && text == SWITCHED;
            if !may {
                let message =
                    format!("{place} switches `{text}` on: only {SWITCHES:?} may, by their feature {FEATURE}");
                violations.push(Violation::new(&manifest.path, 0, message));
            }
        }
    }
    violations
}

/// Every text that switches the feature on, with the keys that lead to it.
fn walk(place: &mut String, value: &Value, named: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if text == FEATURE || text.ends_with("/mutants") => {
            named.push((place.clone(), text.clone()));
        }
        Value::Array(values) => values.iter().for_each(|value| walk(place, value, named)),
        Value::Table(table) => {
            for (key, value) in table {
                let before = place.len();
                if before > 0 {
                    place.push('.');
                }
                place.push_str(key);
                walk(place, value, named);
                place.truncate(before);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        check(&[&TextFile { path: "x/Cargo.toml".into(), text: text.into() }]).len()
    }

    #[test]
    fn only_the_simulator_and_storages_tests_switch_it_on() {
        let storage = "[package]\nname = \"dlog-storage\"\n[features]\n";
        assert_eq!(count(&format!("{storage}mutants = [\"dlog-core/mutants\"]")), 0);
        assert_eq!(count(&format!("{storage}rocksdb = [\"dlog-core/mutants\"]")), 1);
        let sim = "[package]\nname = \"dlog-sim\"\n[features]\n";
        assert_eq!(count(&format!("{sim}mutants = [\"dlog-core/mutants\"]")), 0);
        assert_eq!(count("[package]\nname = \"dlog-core\"\n[features]\nmutants = []"), 0);
        assert_eq!(count(&format!("{sim}default = [\"mutants\"]\nmutants = [\"dlog-core/mutants\"]")), 1);
        assert_eq!(count("[package]\nname = \"dlog-server\"\n[features]\nmutants = [\"dlog-core/mutants\"]"), 1);
        let dependency = "dlog-core = { path = \"../dlog-core\", features = [\"mutants\"] }";
        for section in ["dependencies", "dev-dependencies", "workspace.dependencies", "target.'cfg(unix)'.dependencies"]
        {
            assert_eq!(count(&format!("[package]\nname = \"dlog-sim\"\n[{section}]\n{dependency}")), 1, "{section}");
        }
    }
}
