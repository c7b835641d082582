//! Errors of the YAML parser in words about what was typed.

use super::{
    error::Mistake,
    path::{KeyPath, clipped},
    yaml::Found,
};
use saphyr_parser::ScanError;

/// What is wrong, and what to change to read on.
pub(super) struct Explained {
    pub(super) found: Found,
    /// Only where there is no doubt about what was meant.
    pub(super) repair: Option<Repair>,
}

/// One change within one line.
pub(super) struct Repair {
    /// Counted from 0.
    pub(super) line: usize,
    pub(super) from: String,
    pub(super) to: String,
}

/// A place in the text of a syntax error.
struct Place<'a> {
    lines: Vec<&'a str>,
    /// Counted from 0.
    line: usize,
    column: usize,
    info: &'a str,
}

/// What to tell the user; the line is counted from 0.
struct Told {
    line: usize,
    mistake: Mistake,
    repair: Option<(String, String)>,
}

fn told(line: usize, problem: impl Into<String>, remedy: impl Into<String>) -> Option<Told> {
    let mistake = Mistake::new(problem, remedy);
    Some(Told {
        line,
        mistake,
        repair: None,
    })
}

/// The same with a change that is what the remedy says.
fn repaired(line: usize, problem: impl Into<String>, from: &str, to: String) -> Option<Told> {
    let mistake = Mistake::new(problem, format!("write `{}`", clipped(&to)));
    Some(Told {
        line,
        mistake,
        repair: Some((from.to_owned(), to)),
    })
}

/// The line and mistake for an error of the parser, whose own words are about its state.
pub(super) fn explain(text: &str, first_line: u32, error: &ScanError) -> Explained {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(1);
    let line = error.marker().line().saturating_sub(1);
    // At the end of the text the marker stands on the line after the last.
    let column = if line > last {
        usize::MAX
    } else {
        error.marker().col()
    };
    let place = Place {
        lines,
        line: line.min(last),
        column,
        info: error.info(),
    };
    let tests: [fn(&Place<'_>) -> Option<Told>; 10] = [
        placeholder,
        tab,
        bracketed_ipv6,
        quote,
        missing_space,
        list_on_key_line,
        nested_value,
        bracket,
        special_character,
        indentation,
    ];
    let told = tests
        .iter()
        .find_map(|test| test(&place))
        .unwrap_or_else(|| Told {
            line: place.line,
            mistake: Mistake::new(
                format!("this is not YAML: {}", clipped(place.info)),
                "check indentation, quotes and brackets here and on the line above",
            ),
            repair: None,
        });
    let line = u32::try_from(told.line)
        .unwrap_or(u32::MAX)
        .saturating_add(first_line);
    Explained {
        found: (line, KeyPath::ROOT, told.mistake),
        repair: told.repair.map(|(from, to)| Repair {
            line: told.line,
            from,
            to,
        }),
    }
}

impl<'a> Place<'a> {
    fn text(&self) -> &'a str {
        self.lines.get(self.line).copied().unwrap_or_default()
    }

    /// The nearest line above that is neither blank nor a comment.
    fn above(&self) -> Option<(usize, &'a str)> {
        let written = |text: &str| !text.trim().is_empty() && !text.trim_start().starts_with('#');
        let mut above = (0..self.line).rev().map(|index| (index, self.lines[index]));
        above.find(|(_, text)| written(text))
    }

    /// This line and the nearest above: the parser often notices a line late.
    fn nearby(&self) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
        [Some((self.line, self.text())), self.above()]
            .into_iter()
            .flatten()
    }

    fn says(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.info.contains(part))
    }
}

/// `address: {{ vip }}:53`: a template that nobody filled in.
fn placeholder(place: &Place<'_>) -> Option<Told> {
    if !(place.text().contains("{{") && place.text().contains("}}")) {
        return None;
    }
    told(
        place.line,
        "a {{ placeholder }} of a template is left in",
        "fill the template in first",
    )
}

fn tab(place: &Place<'_>) -> Option<Told> {
    let indented_by_tab = |text: &str| {
        let indentation = text.chars().take_while(|c| c.is_whitespace() || *c == '-');
        indentation.into_iter().any(|c| c == '\t')
    };
    let tab_named = place.info.ends_with("tab") || place.says(&["tab ", "tabs "]);
    let mut nearby = place.line..(place.line + 3).min(place.lines.len());
    let culprit = nearby.find(|index| indented_by_tab(place.lines[*index]));
    let culprit = culprit.or_else(|| tab_named.then_some(place.line))?;
    if !tab_named && culprit != place.line {
        return None;
    }
    told(culprit, "a tab in the indentation", "indent with spaces")
}

/// `address: [2001:db8::1]:53`: YAML takes the bracket for a list.
fn bracketed_ipv6(place: &Place<'_>) -> Option<Told> {
    place.nearby().find_map(|(line, text)| {
        let address = unquoted_bracketed_ipv6(text)?;
        let problem = format!("{address} without quotes: YAML takes the [ for the start of a list");
        repaired(line, problem, address, format!("\"{address}\""))
    })
}

/// The first `[IPv6]:port` outside of quotes.
fn unquoted_bracketed_ipv6(text: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(open) = text[from..].find('[').map(|at| at + from) {
        from = open + 1;
        let quoted = text[..open].matches(['"', '\'']).count() % 2 == 1;
        let close = text[open..].find("]:").map(|at| at + open)?;
        let port = text[close + 2..].chars().take_while(char::is_ascii_digit).count();
        if !quoted && port > 0 && text[open + 1..close].parse::<std::net::Ipv6Addr>().is_ok() {
            return Some(&text[open..close + 2 + port]);
        }
    }
    None
}

fn quote(place: &Place<'_>) -> Option<Told> {
    if place.says(&["trailing content after"]) {
        let remedy = "end the value at its closing quote; inside single quotes write a quote as ''";
        return told(place.line, "text after the closing quote of a value", remedy);
    }
    if place.says(&["escape", "hexadecimal"]) {
        let remedy = "write \\\\ for a backslash, or use single quotes, which have no escapes";
        return told(place.line, "an unknown escape in double quotes", remedy);
    }
    if !place.says(&["quoted scalar"]) {
        return None;
    }
    told(
        place.line,
        "a quote is opened on this line and not closed",
        "close it, or remove it",
    )
}

/// `name:dns`, `-item`, `name dns`, `name = dns`.
fn missing_space(place: &Place<'_>) -> Option<Told> {
    if !place.says(&["simple key", "expected key", "mapping values", "'-' indicator"]) {
        return None;
    }
    place.nearby().find_map(|(line, text)| {
        let text = text.trim().trim_start_matches("- ");
        let word_end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))?;
        let (word, rest) = text.split_at(word_end);
        if word.starts_with('-') && word.len() > 1 {
            let problem = "no space after the dash of a list element";
            return repaired(line, problem, text, format!("- {}", &text[1..]));
        }
        if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        if rest.starts_with(':') && rest.len() > 1 && !rest.starts_with(": ") {
            let problem = "no space after the colon of a key";
            return repaired(line, problem, text, format!("{word}: {}", &rest[1..]));
        }
        let sign = rest.trim_start().starts_with(['=', ':']);
        if rest.starts_with(' ') && (!rest.contains(": ") || sign) && !rest.trim_end().ends_with(':') {
            let value = rest.trim_start_matches([' ', '=', ':']);
            return repaired(line, "no colon after a key", text, format!("{word}: {value}"));
        }
        None
    })
}

fn list_on_key_line(place: &Place<'_>) -> Option<Told> {
    if !place.says(&[
        "block sequence entries are not allowed",
        "only valid inside a block",
    ]) {
        return None;
    }
    let remedy = "put each element on a line of its own, or write [first, second]";
    told(
        place.line,
        "a list element (-) behind a key on the same line",
        remedy,
    )
}

fn nested_value(place: &Place<'_>) -> Option<Told> {
    if !place.says(&["mapping values are not allowed"]) {
        return None;
    }
    if place.text().matches(": ").count() > 1 {
        let remedy = "put the second key on a line of its own, or quote the value";
        return told(place.line, "two keys on one line", remedy);
    }
    let (above, _) = place.above()?;
    let problem = format!(
        "this key is indented deeper than line {} allows, which has a value already",
        above + 1
    );
    told(place.line, problem, "indent both lines alike")
}

fn bracket(place: &Place<'_>) -> Option<Told> {
    if place.says(&["misplaced bracket"]) {
        let problem = "a closing bracket that nothing has opened";
        return told(place.line, problem, "remove it, or quote the value it belongs to");
    }
    if !place.says(&["flow", "illegal placement of ':'", "may not precede"]) {
        return None;
    }
    let (line, bracket) = open_bracket(place)?;
    let closing = if bracket == '[' { ']' } else { '}' };
    let problem = format!("the {bracket} opened on this line is not closed, or a comma is missing in it");
    told(
        line,
        problem,
        format!("put commas between elements and a {closing} at the end"),
    )
}

/// The innermost bracket that is open where the error is. Quotes and comments are skipped, as
/// far as one can without a parser.
fn open_bracket(place: &Place<'_>) -> Option<(usize, char)> {
    let mut open = Vec::new();
    for (number, line) in place.lines.iter().enumerate().take(place.line + 1) {
        let mut quote = None;
        for (column, c) in line.chars().enumerate() {
            if number == place.line && column > place.column {
                break;
            }
            match (quote, c) {
                (Some(mark), _) if c == mark => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, '#') => break,
                (None, '[' | '{') => open.push((number, c)),
                (None, ']' | '}') => drop(open.pop()),
                _ => {}
            }
        }
    }
    open.pop()
}

fn special_character(place: &Place<'_>) -> Option<Told> {
    if place.says(&["anchor"]) {
        let problem =
            "a value that starts with * or & is a YAML alias or anchor, and this one has no anchor above";
        return told(
            place.line,
            problem,
            "quote the value, or define the anchor before",
        );
    }
    if place.says(&[
        "unexpected character",
        "cannot start with '-'",
        "tag",
        "directive",
    ]) {
        let c = place.text().chars().nth(place.column).unwrap_or('?');
        return told(place.line, format!("a value can't start with {c}"), "quote it");
    }
    if place.says(&["unprintable", "byte order mark"]) {
        return told(
            place.line,
            "a control character",
            "remove it, and save the file as UTF-8",
        );
    }
    if place.says(&["nested too deeply", "recursion limit"]) {
        let problem = "lists and mappings are nested more deeply than any config needs";
        return told(place.line, problem, "remove the surplus brackets");
    }
    None
}

fn indentation(place: &Place<'_>) -> Option<Told> {
    if !place.says(&[
        "expected key",
        "'-' indicator",
        "simple key",
        "indentation",
        "document start",
    ]) {
        return None;
    }
    let (above, text) = place.above()?;
    let column = text.chars().take_while(|c| *c == ' ' || *c == '-').count();
    let problem = "the indentation of this line fits no line above it";
    let remedy = format!(
        "indent it by {column} spaces to stand beside the key on line {}, or like an outer one",
        above + 1
    );
    told(place.line, problem, remedy)
}
