//! Errors of the YAML parser in words about what was typed.

use super::{
    error::Mistake,
    path::{KeyPath, clipped},
    yaml::Found,
};
use saphyr_parser::ScanError;

/// A place in the text of a syntax error.
struct Place<'a> {
    lines: Vec<&'a str>,
    /// Counted from 0.
    line: usize,
    column: usize,
    info: &'a str,
}

/// What to tell the user: the line, counted from 1 in the block, and the mistake.
type Told = (usize, Mistake);

/// The line and mistake for an error of the parser, whose own words are about its state.
pub(super) fn explain(text: &str, first_line: u32, error: &ScanError) -> Found {
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
    let (line, mistake) = tests.iter().find_map(|test| test(&place)).unwrap_or_else(|| {
        let problem = format!("this is not YAML: {}", clipped(place.info));
        (
            place.line,
            Mistake::new(
                problem,
                "check indentation, quotes and brackets here and on the line above",
            ),
        )
    });
    let line = u32::try_from(line).unwrap_or(u32::MAX).saturating_add(first_line);
    (line, KeyPath::ROOT, mistake)
}

impl<'a> Place<'a> {
    fn text(&self) -> &'a str {
        self.lines.get(self.line).copied().unwrap_or_default()
    }

    /// The nearest line above that is neither blank nor a comment.
    fn above(&self) -> Option<(usize, &'a str)> {
        let written = |text: &str| !text.trim().is_empty() && !text.trim_start().starts_with('#');
        (0..self.line)
            .rev()
            .map(|index| (index, self.lines[index]))
            .find(|(_, text)| written(text))
    }

    fn says(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.info.contains(part))
    }
}

/// `address: {{ vip }}:53`: a template that nobody filled in.
fn placeholder(place: &Place<'_>) -> Option<Told> {
    let found = place.text().contains("{{") && place.text().contains("}}");
    found.then(|| {
        (
            place.line,
            Mistake::new(
                "a {{ placeholder }} of a template is left in",
                "fill the template in first",
            ),
        )
    })
}

fn tab(place: &Place<'_>) -> Option<Told> {
    let indented_by_tab = |text: &str| {
        text.chars()
            .take_while(|c| c.is_whitespace() || *c == '-')
            .any(|c| c == '\t')
    };
    let tab_named = place.info.ends_with("tab") || place.says(&["tab ", "tabs "]);
    let nearby = place.line..(place.line + 3).min(place.lines.len());
    let culprit = nearby.clone().find(|index| indented_by_tab(place.lines[*index]));
    let culprit = culprit.or_else(|| tab_named.then_some(place.line))?;
    (tab_named || culprit == place.line).then(|| {
        (
            culprit,
            Mistake::new("a tab in the indentation", "indent with spaces"),
        )
    })
}

/// `address: [2001:db8::1]:53`: YAML takes the bracket for a list.
fn bracketed_ipv6(place: &Place<'_>) -> Option<Told> {
    let candidates = [Some((place.line, place.text())), place.above()];
    candidates.into_iter().flatten().find_map(|(line, text)| {
        let (address, _) = unquoted_bracketed_ipv6(text)?;
        let problem = format!("{address} without quotes: YAML takes the [ for the start of a list");
        Some((
            line,
            Mistake::new(problem, format!("write \"{address}\", with the quotes")),
        ))
    })
}

/// The first `[IPv6]:port` outside of quotes, and where it starts.
fn unquoted_bracketed_ipv6(text: &str) -> Option<(&str, usize)> {
    let mut from = 0;
    while let Some(open) = text[from..].find('[').map(|at| at + from) {
        from = open + 1;
        let quoted = text[..open].matches(['"', '\'']).count() % 2 == 1;
        let close = text[open..].find("]:").map(|at| at + open)?;
        let port = text[close + 2..].chars().take_while(char::is_ascii_digit).count();
        if !quoted && port > 0 && text[open + 1..close].parse::<std::net::Ipv6Addr>().is_ok() {
            return Some((&text[open..close + 2 + port], open));
        }
    }
    None
}

fn quote(place: &Place<'_>) -> Option<Told> {
    if place.says(&["trailing content after"]) {
        let remedy = "end the value at its closing quote; inside single quotes write a quote as ''";
        return Some((
            place.line,
            Mistake::new("text after the closing quote of a value", remedy),
        ));
    }
    if place.says(&["escape", "hexadecimal"]) {
        let remedy = "write \\\\ for a backslash, or use single quotes, which have no escapes";
        return Some((
            place.line,
            Mistake::new("an unknown escape in double quotes", remedy),
        ));
    }
    if !place.says(&["quoted scalar"]) {
        return None;
    }
    Some((
        place.line,
        Mistake::new(
            "a quote is opened on this line and not closed",
            "close it, or remove it",
        ),
    ))
}

/// `name:dns`, `-item`, or a line with no colon at all.
fn missing_space(place: &Place<'_>) -> Option<Told> {
    if !place.says(&["simple key", "expected key", "mapping values", "'-' indicator"]) {
        return None;
    }
    let candidates = [Some((place.line, place.text())), place.above()];
    candidates.into_iter().flatten().find_map(|(line, text)| {
        let text = text.trim().trim_start_matches("- ");
        let word_end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))?;
        let (word, rest) = text.split_at(word_end);
        if word.starts_with('-') && word.len() > 1 {
            let remedy = format!("write `- {}`", clipped(&text[1..]));
            return Some((
                line,
                Mistake::new("no space after the dash of a list element", remedy),
            ));
        }
        let key = word.starts_with(|c: char| c.is_ascii_alphabetic());
        if key && rest.starts_with(':') && rest.len() > 1 && !rest.starts_with(": ") {
            let remedy = format!("write `{word}: {}`", clipped(&rest[1..]));
            return Some((line, Mistake::new("no space after the colon of a key", remedy)));
        }
        let sign = rest.trim_start().starts_with(['=', ':']);
        if key && rest.starts_with(' ') && (!rest.contains(": ") || sign) && !rest.trim_end().ends_with(':') {
            let value = rest.trim_start_matches([' ', '=', ':']);
            let remedy = format!("write `{word}: {}`", clipped(value));
            return Some((line, Mistake::new("no colon after a key", remedy)));
        }
        None
    })
}

fn list_on_key_line(place: &Place<'_>) -> Option<Told> {
    place
        .says(&[
            "block sequence entries are not allowed",
            "only valid inside a block",
        ])
        .then(|| {
            let remedy = "put each element on a line of its own, or write [first, second]";
            (
                place.line,
                Mistake::new("a list element (-) behind a key on the same line", remedy),
            )
        })
}

fn nested_value(place: &Place<'_>) -> Option<Told> {
    if !place.says(&["mapping values are not allowed"]) {
        return None;
    }
    let text = place.text();
    if text.matches(": ").count() > 1 {
        let remedy = "put the second key on a line of its own, or quote the value";
        return Some((place.line, Mistake::new("two keys on one line", remedy)));
    }
    let (above, _) = place.above()?;
    let problem = format!(
        "this key is indented deeper than line {} allows, which has a value already",
        above + 1
    );
    Some((place.line, Mistake::new(problem, "indent both lines alike")))
}

fn bracket(place: &Place<'_>) -> Option<Told> {
    if place.says(&["misplaced bracket"]) {
        let problem = "a closing bracket that nothing has opened";
        return Some((
            place.line,
            Mistake::new(problem, "remove it, or quote the value it belongs to"),
        ));
    }
    if !place.says(&["flow", "illegal placement of ':'", "may not precede"]) {
        return None;
    }
    let (line, bracket) = open_bracket(place)?;
    let closing = if bracket == '[' { ']' } else { '}' };
    let problem = format!("the {bracket} opened on this line is not closed, or a comma is missing in it");
    Some((
        line,
        Mistake::new(
            problem,
            format!("put commas between elements and a {closing} at the end"),
        ),
    ))
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
        return Some((
            place.line,
            Mistake::new(problem, "quote the value, or define the anchor before"),
        ));
    }
    if place.says(&[
        "unexpected character",
        "cannot start with '-'",
        "tag",
        "directive",
    ]) {
        let c = place.text().chars().nth(place.column).unwrap_or('?');
        let problem = format!("a value can't start with {}", clipped(&c.to_string()));
        return Some((place.line, Mistake::new(problem, "quote it")));
    }
    if place.says(&["unprintable", "byte order mark"]) {
        return Some((
            place.line,
            Mistake::new("a control character", "remove it, and save the file as UTF-8"),
        ));
    }
    if place.says(&["nested too deeply", "recursion limit"]) {
        let problem = "lists and mappings are nested more deeply than any config needs";
        return Some((place.line, Mistake::new(problem, "remove the surplus brackets")));
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
    Some((place.line, Mistake::new(problem, remedy)))
}
