//! Names of listeners and clusters, of interfaces, and of hosts, as they are typed.

use super::{error::Mistake, suggest::shown};

/// A name of a listener or cluster, fit for labels and URLs.
pub(super) fn of_config(typed: &str) -> Result<&str, Mistake> {
    const LONGEST: usize = 64;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let problem = if typed.is_empty() {
        "the name is empty".to_owned()
    } else if typed.len() > LONGEST {
        format!(
            "the name has {} characters, more than {LONGEST}",
            typed.chars().count()
        )
    } else if let Some(bad) = typed.chars().find(|c| !fits(*c)) {
        format!("the name {} contains {}", shown(typed), shown(&bad.to_string()))
    } else if !typed.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        format!("the name {} does not start with a letter or digit", shown(typed))
    } else {
        return Ok(typed);
    };
    Err(Mistake::new(
        problem,
        "use letters, digits, -, _ and ., up to 64, a letter or digit first",
    ))
}

/// A name that Linux gives to interfaces (dev_valid_name in net/core/dev.c).
pub(super) fn of_interface(typed: &str) -> Result<&str, Mistake> {
    const LONGEST: usize = 15;
    let problem = if typed.is_empty() {
        "the name is empty".to_owned()
    } else if typed.len() > LONGEST {
        format!("{} has more than {LONGEST} bytes", shown(typed))
    } else if matches!(typed, "." | "..")
        || typed.contains(|c: char| matches!(c, '/' | ':' | '*' | ',') || c.is_whitespace() || c.is_control())
    {
        format!("{} can't be an interface's name", shown(typed))
    } else {
        return Ok(typed);
    };
    Err(Mistake::new(
        problem,
        "write one name as `ip link` shows it, such as eth0",
    ))
}

/// Labels of letters, digits, `-` and `_` (RFC 1123; the underscore is used by many).
pub(super) fn dns(typed: &str) -> Result<(), Mistake> {
    let mistake =
        |problem: &str, remedy: &str| Err(Mistake::new(format!("{} {problem}", shown(typed)), remedy));
    if !typed.is_ascii() {
        return mistake("is not ASCII", "write it as it is sent, in Punycode (xn--…)");
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if let Some(bad) = typed.chars().find(|c| !fits(*c) && *c != '.') {
        let problem = format!("contains {}", shown(&bad.to_string()));
        return mistake(&problem, "use letters, digits, -, _ and dots");
    }
    let wrong =
        |label: &str| label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-');
    if typed.len() > 253 || typed.split('.').any(wrong) {
        return mistake(
            "is not a name that can be (RFC 1123)",
            "write labels of 1 to 63 characters with dots between, up to 253 together, no - at a label's end",
        );
    }
    Ok(())
}
