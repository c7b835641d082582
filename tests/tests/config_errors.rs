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

fn examples() -> Vec<PathBuf> {
    yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../config"))
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
    assert!(configs.len() >= 60, "only {} broken configs", configs.len());
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
    assert!(examples().len() >= 2);
    for example in examples() {
        let loaded = weir::config::load(&example).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert!(!loaded.services.is_empty());
    }
}
