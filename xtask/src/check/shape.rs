//! The shape of the source files: how long they and their functions are, how they open, what they
//! don't contain.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};
use syn::{spanned::Spanned, visit::Visit};

/// Lines of a file before its tests: one idea.
const FILE_LINES: usize = 400;
/// Lines of a function: a screen.
const FUNCTION_LINES: usize = 70;

/// Attributes that hide a problem instead of solving it, and what to do.
const FORBIDDEN: [(&str, &str); 2] = [
    ("allow", "do what the lint asks"),
    ("ignore", "make the test run, or give it a verb of its own"),
];

/// Something to be changed.
#[derive(PartialEq, Eq, Debug)]
struct Finding {
    line: usize,
    what: String,
}

/// Checks every Rust file of the workspace.
///
/// # Errors
/// When there is a finding; each has been printed.
pub fn run() -> Result<()> {
    let mut files = Vec::new();
    rust_files(shell::root(), &mut files)?;
    files.sort();
    let mut count = 0;
    for path in &files {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = path.strip_prefix(shell::root()).unwrap_or(path).display();
        for finding in findings(&text) {
            println!("{shown}:{}: {}", finding.line, finding.what);
            count += 1;
        }
    }
    if count > 0 {
        bail!("{count} findings in {} files", files.len());
    }
    Ok(())
}

/// The Rust files below a folder, but for build output and hidden folders.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// What is to be changed in a file's text.
fn findings(text: &str) -> Vec<Finding> {
    let file = match syn::parse_file(text) {
        Ok(file) => file,
        Err(error) => {
            let line = error.span().start().line;
            return vec![Finding::new(line, format!("not Rust: {error}; fix the syntax"))];
        }
    };
    let mut visitor = Visitor::default();
    if !text.starts_with("//!") {
        visitor.find(
            1,
            "the file does not open with //!; say in one sentence what it is for",
        );
    }
    let lines = lines_before_tests(text, &file);
    if lines > FILE_LINES {
        let what = format!("{lines} lines before the tests, at most {FILE_LINES}; split it by idea");
        visitor.find(FILE_LINES + 1, what);
    }
    visitor.visit_file(&file);
    visitor.findings
}

/// Lines up to the first item under `#[cfg(test)]` that has a body here.
fn lines_before_tests(text: &str, file: &syn::File) -> usize {
    let tests = file.items.iter().find_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_some() && is_test(&module.attrs) => Some(module.span()),
        _ => None,
    });
    tests.map_or(text.lines().count(), |span| span.start().line - 1)
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

impl Finding {
    fn new(line: usize, what: impl fmt::Display) -> Self {
        Self {
            line,
            what: what.to_string(),
        }
    }
}

/// Collects findings on the way through a file's syntax tree.
#[derive(Default)]
struct Visitor {
    findings: Vec<Finding>,
}

impl Visitor {
    fn find(&mut self, line: usize, what: impl fmt::Display) {
        self.findings.push(Finding::new(line, what));
    }

    /// Counts from the signature to the closing brace.
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        let lines = last - first + 1;
        if lines > FUNCTION_LINES {
            let name = &signature.ident;
            self.find(
                first,
                format!("fn {name} has {lines} lines, at most {FUNCTION_LINES}; take a step of it out"),
            );
        }
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        for (name, remedy) in FORBIDDEN {
            if attribute.path().is_ident(name) {
                self.find(attribute.span().start().line, format!("#[{name}]; {remedy}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No lines.
    const NONE: [usize; 0] = [];

    fn lines(text: &str) -> Vec<usize> {
        findings(text).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_well_shaped_file_has_no_findings() {
        let tests = "    fn x() {}\n".repeat(FILE_LINES);
        assert_eq!(
            findings(&format!(
                "//! What for.\n\nfn f() {{}}\n\n#[cfg(test)]\nmod tests {{\n{tests}}}\n"
            )),
            []
        );
    }

    #[test]
    fn a_file_must_open_with_its_purpose() {
        assert_eq!(lines("fn f() {}\n"), [1]);
        assert_eq!(lines("\n//! Late.\n"), [1]);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(
            lines(&format!("//! X.\n{}", "// y\n".repeat(FILE_LINES - 1))),
            NONE
        );
        assert_eq!(
            lines(&format!("//! X.\n{}", "// y\n".repeat(FILE_LINES))),
            [FILE_LINES + 1]
        );
    }

    #[test]
    fn long_functions_are_found_wherever_they_are() {
        let body = "    ;\n".repeat(FUNCTION_LINES - 1);
        for (open, close, line) in [
            ("fn f() {", "}", 2),
            ("/// Doc.\n#[inline]\nfn f() {", "}", 4),
            ("impl X { fn f() {", "}}", 2),
            ("trait X { fn f() {", "}}", 2),
            ("fn g() { fn f() {", "}}", 2),
        ] {
            let text = format!("//! X.\n{open}\n{body}{close}\n");
            assert!(lines(&text).contains(&line), "{open}");
        }
        let fits = "    ;\n".repeat(FUNCTION_LINES - 2);
        assert_eq!(lines(&format!("//! X.\nfn f() {{\n{fits}}}\n")), NONE);
    }

    #[test]
    fn attributes_that_hide_are_found() {
        assert_eq!(lines("//! X.\n#[allow(dead_code)]\nfn f() {}\n"), [2]);
        assert_eq!(lines("//! X.\n#![allow(dead_code)]\n"), [2]);
        assert_eq!(lines("//! X.\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n"), [3]);
    }
}
