//! Broken configs against their golden errors, and the examples against the schema.
//!
//! `tests/data/configs/NAME.yaml`, or a directory NAME of such files, has its full error output in
//! `NAME.txt`. After a change of wording, rewrite them all and read the diff as a user would:
//!
//! ```text
//! WEIR_BLESS=1 cargo test -p weir-tests --test config_errors
//! ```

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/configs")
}

/// Folders beside them hold what is for other programs.
fn examples() -> Vec<PathBuf> {
    let mut files = yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../config"));
    files.retain(|path| path.is_file());
    files
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("directory is there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("entry is readable").path())
        .collect();
    files.retain(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// What `weir check` prints, with files named as in the data directory.
fn output(path: &Path) -> String {
    let outcome = match weir::config::load(path) {
        Err(errors) => format!("{errors}\n"),
        Ok(loaded) => {
            let warnings = loaded.warnings.iter();
            format!(
                "ok\n{}",
                warnings
                    .map(|warning| format!("warning: {warning}\n"))
                    .collect::<String>()
            )
        }
    };
    outcome.replace(&format!("{}/", data().display()), "")
}

#[test]
fn every_broken_config_gives_its_golden_errors() {
    let bless = env::var_os("WEIR_BLESS").is_some();
    let mut differences = Vec::new();
    let configs = yaml_files(&data());
    for config in &configs {
        let golden = config.with_extension("txt");
        let found = output(config);
        if bless {
            fs::write(&golden, &found).expect("golden file is writable");
        }
        let wanted = fs::read_to_string(&golden).unwrap_or_default();
        if found != wanted {
            differences.push(format!(
                "{}\n--- wanted\n{wanted}--- found\n{found}",
                config.display()
            ));
        }
        let warns = config
            .file_stem()
            .is_some_and(|name| name.to_string_lossy().starts_with("warn"));
        assert_eq!(
            found.starts_with("ok\n"),
            warns,
            "{}: only warn*.yaml may load:\n{found}",
            config.display()
        );
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(configs.len() >= 200, "only {} broken configs", configs.len());
}

#[test]
fn every_error_names_file_line_key_and_remedy() {
    for config in yaml_files(&data()) {
        let Err(errors) = weir::config::load(&config) else {
            continue;
        };
        for error in errors.iter() {
            assert!(error.file.starts_with(&config), "{error}");
            assert!(!error.problem.is_empty() && !error.remedy.is_empty(), "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
            if let Some(line) = error.line {
                let lines = fs::read(&error.file)
                    .expect("file is readable")
                    .split(|byte| *byte == b'\n')
                    .count();
                assert!(
                    (1..=lines).contains(&(line as usize)),
                    "{error}: the file has {lines} lines"
                );
            }
        }
    }
}

#[test]
fn examples_load_without_warnings() {
    assert!(examples().len() >= 3);
    for example in examples() {
        let loaded = weir::config::load(&example).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert!(!loaded.services.is_empty() || !loaded.listeners.is_empty());
    }
}

/// What other tools make of a file: another YAML parser, a real JSON Schema validator.
struct Oracle(jsonschema::Validator);

impl Oracle {
    fn new() -> Self {
        let schema = weir::config::schema();
        assert!(
            jsonschema::draft202012::meta::is_valid(&schema),
            "not a schema of draft 2020-12"
        );
        Self(jsonschema::draft202012::new(&schema).expect("schema compiles"))
    }

    /// None where the file is not YAML with unique keys, or more than one document.
    fn accepts(&self, path: &Path) -> Option<bool> {
        let text = fs::read_to_string(path).ok()?;
        let value: serde_json::Value = serde_yaml_ng::from_str(&text).ok()?;
        Some(self.0.is_valid(&value))
    }
}

#[test]
fn the_schema_accepts_the_examples() {
    let oracle = Oracle::new();
    for example in examples() {
        assert_eq!(oracle.accepts(&example), Some(true), "{}", example.display());
    }
}

/// The names of the files say what kind of mistake is in them.
#[test]
fn the_schema_rejects_what_is_broken_in_structure_and_nothing_else() {
    let oracle = Oracle::new();
    let mut seen = 0;
    for config in yaml_files(&data()).into_iter().filter(|path| path.is_file()) {
        let name = config
            .file_stem()
            .expect("has a name")
            .to_string_lossy()
            .into_owned();
        let structural = ["key_", "type_", "later_", "many_", "cross_empty_"];
        let agreement = ["cross_", "warn_", "value_table_size", "value_timeout_longer"];
        let expected = if structural.iter().any(|prefix| name.starts_with(prefix)) {
            false
        } else if agreement.iter().any(|prefix| name.starts_with(prefix)) {
            name != "value_table_size_bounds"
        } else {
            continue;
        };
        if let Some(accepted) = oracle.accepts(&config) {
            assert_eq!(accepted, expected, "{name}");
            seen += 1;
        }
    }
    assert!(seen >= 70, "only {seen} files could be held against the schema");
}

/// Paths of all keys that hold a value of their own, such as `clusters[].health_check.rise`.
fn leaves(schema: &serde_json::Value, at: &serde_json::Value, path: &str, into: &mut Vec<String>) {
    if let Some(name) = at["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        return leaves(schema, &schema["$defs"][name], path, into);
    }
    for alternative in at["anyOf"].as_array().into_iter().flatten() {
        leaves(schema, alternative, path, into);
    }
    if let Some(properties) = at["properties"].as_object() {
        for (key, property) in properties {
            let dot = if path.is_empty() { "" } else { "." };
            leaves(schema, property, &format!("{path}{dot}{key}"), into);
        }
    } else if at["items"].is_object() {
        leaves(schema, &at["items"], &format!("{path}[]"), into);
    } else if at["anyOf"].is_null() {
        into.push(path.to_owned());
    }
}

#[test]
fn every_key_is_in_the_manual_and_in_the_full_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manual = fs::read_to_string(root.join("docs/config.md")).expect("manual is there");
    let full = fs::read_to_string(root.join("config/full.yaml")).expect("example is there");
    let schema = weir::config::schema();
    let mut paths = Vec::new();
    leaves(&schema, &schema, "", &mut paths);
    assert!(paths.len() >= 150, "{paths:?}");
    for path in paths {
        assert!(
            manual.contains(&format!("| `{path}` |")),
            "docs/config.md lacks {path}"
        );
        let key = path.rsplit('.').next().unwrap_or(&path).trim_end_matches("[]");
        assert!(
            full.contains(&format!("{key}: ")) || full.contains(&format!("{key}:\n")) || path.ends_with("[]"),
            "{path}"
        );
    }
}
