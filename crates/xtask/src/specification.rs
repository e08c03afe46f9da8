//! SPECIFICATION.md names a test for every promise; the test here holds it to that.

use std::path::{Path, PathBuf};

/// A test that the specification names.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    line: usize,
    file: PathBuf,
    test: String,
}

/// The tests of every table row: in its last cell, files (`src/a.rs`, under the folder of its section) and, after each,
/// names.
fn named_tests(text: &str) -> Vec<Named> {
    let mut folder = PathBuf::new();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("## ") {
            folder.clear();
        }
        if let Some(rest) = line.strip_prefix("Under `") {
            folder = rest
                .split('`')
                .next()
                .map(PathBuf::from)
                .unwrap_or_default();
        }
        let Some(cell) = line
            .strip_prefix('|')
            .and_then(|row| row.rsplit('|').nth(1))
        else {
            continue;
        };
        let mut file = None;
        for word in cell.split('`').skip(1).step_by(2) {
            if Path::new(word)
                .extension()
                .is_some_and(|extension| extension == "rs")
            {
                file = Some(folder.join(word));
            } else if let Some(file) = &file {
                found.push(Named {
                    line: number + 1,
                    file: file.clone(),
                    test: word.to_owned(),
                });
            }
        }
    }
    found
}

/// Whether a file has a test, a trial or a snapshot of this name.
fn has(source: &str, test: &str) -> bool {
    let function = format!("fn {test}(");
    let trial = format!("\"{test}\",");
    let snapshot = format!("{test},");
    source.lines().map(str::trim).any(|line| {
        line.contains(&function)
            || line.contains(&trial)
            || line == snapshot
            || (line.contains("snapshot!(") && line.contains(&snapshot))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::root;

    #[test]
    fn every_promise_names_tests_that_exist() {
        let text = std::fs::read_to_string(root().join("SPECIFICATION.md")).unwrap();
        let named = named_tests(&text);
        assert!(
            named.len() > 300,
            "the tables were not read: {} tests",
            named.len()
        );
        let missing: Vec<_> = named
            .iter()
            .filter(|named| {
                let source = std::fs::read_to_string(root().join(&named.file)).unwrap_or_default();
                !has(&source, &named.test)
            })
            .collect();
        assert!(
            missing.is_empty(),
            "SPECIFICATION.md names tests that are not there: {missing:#?}"
        );
    }

    #[test]
    fn functions_trials_and_snapshots_are_tests() {
        let source = "fn one() {\nname: \"two\",\n\"three\",\nsnapshot!(four, x)\n";
        for test in ["one", "two", "three", "four"] {
            assert!(has(source, test), "{test}");
        }
        assert!(!has(source, "wo") && !has(source, "five"));
    }

    #[test]
    fn a_row_names_its_tests_after_their_files() {
        let text = "## a\n\nUnder `crates/a`.\n\n| Promise | Held by |\n|---|---|\n| It works `well`. | `src/x.rs` `one`, `two`, `tests/y.rs` `three` |\n";
        let names: Vec<_> = named_tests(text)
            .into_iter()
            .map(|n| (n.line, n.file, n.test))
            .collect();
        let expected = [
            (7, "crates/a/src/x.rs".into(), "one".to_owned()),
            (7, "crates/a/src/x.rs".into(), "two".to_owned()),
            (7, "crates/a/tests/y.rs".into(), "three".to_owned()),
        ];
        assert_eq!(names, expected);
    }
}
