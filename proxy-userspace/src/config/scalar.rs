//! Scalars as YAML reads them.

/// A scalar as YAML 1.2's core schema reads it, and as it was typed.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) typed: String,
    pub(super) kind: ScalarKind,
}

/// YAML 1.2's core schema: `off`, `yes` and `1:30` are text, unlike in YAML 1.1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum ScalarKind {
    Null,
    Bool(bool),
    /// None where it does not fit: more than any bound.
    Integer(Option<i64>),
    Float,
    Text,
    /// Reported already: the value is passed over without a word.
    Unusable,
}

/// What a scalar without quotes is: section 10.3.2 of YAML 1.2.2.
pub(super) fn resolve(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return ScalarKind::Null,
        "true" | "True" | "TRUE" => return ScalarKind::Bool(true),
        "false" | "False" | "FALSE" => return ScalarKind::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" | ".nan" | ".NaN" | ".NAN" => return ScalarKind::Float,
        _ => {}
    }
    let all_digits = |digits: &str, radix| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && all_digits(digits, radix)
        {
            return ScalarKind::Integer(i64::from_str_radix(digits, radix).ok());
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if all_digits(unsigned, 10) {
        return ScalarKind::Integer(text.parse().ok());
    }
    let looks_numeric = unsigned
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    if looks_numeric && unsigned.contains(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok() {
        return ScalarKind::Float;
    }
    ScalarKind::Text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars() {
        for (text, kind) in [
            ("", ScalarKind::Null),
            ("~", ScalarKind::Null),
            ("true", ScalarKind::Bool(true)),
            ("off", ScalarKind::Text),
            ("yes", ScalarKind::Text),
            ("65537", ScalarKind::Integer(Some(65_537))),
            ("-1", ScalarKind::Integer(Some(-1))),
            ("0x10", ScalarKind::Integer(Some(16))),
            ("0o17", ScalarKind::Integer(Some(15))),
            ("99999999999999999999", ScalarKind::Integer(None)),
            ("1e6", ScalarKind::Float),
            ("1.5", ScalarKind::Float),
            ("1_000", ScalarKind::Text),
            ("1:30", ScalarKind::Text),
            ("192.0.2.1", ScalarKind::Text),
            ("192.0.2.1:53", ScalarKind::Text),
            ("2001:db8::1", ScalarKind::Text),
            ("1024-32767", ScalarKind::Text),
            ("-", ScalarKind::Text),
            (".", ScalarKind::Text),
            ("e", ScalarKind::Text),
            ("2s", ScalarKind::Text),
        ] {
            assert_eq!(resolve(text), kind, "{text}");
        }
    }
}
