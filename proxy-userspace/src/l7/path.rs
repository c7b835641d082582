//! One canonical path for router, access rules and upstream.

#[cfg(test)]
mod tests;

use crate::model::l7::{EncodedSlashes, PathOptions};
use std::borrow::Cow;

/// Why a path is refused; each is answered with 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathMistake {
    /// RFC 9112, 3.2.1: the origin form begins with a slash. (`*` and CONNECT's target have no path to be asked about.)
    #[error("the path does not begin with /")]
    NotAbsolute,
    /// A control character, space, byte above 0x7E, or one that ends a path (`?`, `#`).
    #[error("the path holds a byte that must be percent-encoded")]
    Byte,
    /// Some servers read it as a slash.
    #[error("the path holds a backslash")]
    Backslash,
    /// `%` without two hexadecimal digits behind it.
    #[error("the path's percent-encoding is malformed")]
    Encoding,
    /// `%00`, which ends a text for servers in C.
    #[error("the path holds %00")]
    Nul,
    /// `%2F` or `%5C`, unless the listener keeps or decodes them.
    #[error("the path holds an encoded slash or backslash")]
    EncodedSlash,
    /// RFC 3986, 5.2.4 would drop such a `..`; whoever sends it does not mean well.
    #[error("the path leaves the root")]
    LeavesRoot,
    /// A rewrite joined two harmless parts into `.` or `..`.
    #[error("the rewritten path has a dot segment")]
    RewrittenDots,
}

/// The one form of a path (without query) that router, access rules and upstream see. Borrowed where it was so already.
///
/// Unreserved characters are decoded and hexadecimal digits are upper case (RFC 3986, 6.2.2); then, as the options
/// say, encoded slashes become slashes (`%5C` as well: what reads a backslash at all reads it so), several slashes in
/// a row become one, and dot segments are resolved, in this order. Everything else stays as it is. Idempotent.
///
/// # Errors
/// What a path may not hold.
pub fn canonical<'a>(path: &'a str, options: &PathOptions) -> Result<Cow<'a, str>, PathMistake> {
    if is_canonical(path.as_bytes(), options) {
        return Ok(Cow::Borrowed(path));
    }
    rewritten(path.as_bytes(), options).map(Cow::Owned)
}

/// Whether a segment of it is `.` or `..`.
pub fn has_dot_segments(path: &str) -> bool {
    path.split('/').any(|segment| is_dots(segment.as_bytes()))
}

/// What a byte is to the scan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Percent,
    Refused,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        classes[byte] = match byte as u8 {
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b'?' | b'#' | b'\\' => Class::Refused,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

/// One pass without a write: nearly all paths end here.
fn is_canonical(path: &[u8], options: &PathOptions) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    // Of a segment, after its slash.
    let mut begin = 1;
    let mut at = 1;
    while let Some(byte) = path.get(at) {
        match CLASSES[usize::from(*byte)] {
            Class::Plain => {}
            Class::Slash => {
                let segment = &path[begin..at];
                if options.merge_slashes && segment.is_empty()
                    || options.resolve_dot_segments && is_dots(segment)
                {
                    return false;
                }
                begin = at + 1;
            }
            Class::Percent if is_kept(path, at, options) => at += 2,
            Class::Percent | Class::Refused => return false,
        }
        at += 1;
    }
    !(options.resolve_dot_segments && is_dots(&path[begin..]))
}

/// Whether the encoded byte at this place is in canonical form.
fn is_kept(path: &[u8], at: usize, options: &PathOptions) -> bool {
    let Ok(byte) = encoded(path, at) else {
        return false;
    };
    let may_stay = match byte {
        0 => false,
        b'/' | b'\\' => options.encoded_slashes == EncodedSlashes::Keep,
        _ => !is_unreserved(byte),
    };
    may_stay && !path[at + 1..at + 3].iter().any(u8::is_ascii_lowercase)
}

/// The byte that is encoded at this place.
fn encoded(path: &[u8], at: usize) -> Result<u8, PathMistake> {
    let digit = |at| {
        let byte = *path.get(at)?;
        char::from(byte).to_digit(16)
    };
    match (digit(at + 1), digit(at + 2)) {
        (Some(high), Some(low)) => u8::try_from(high << 4 | low).map_err(|_| PathMistake::Encoding),
        _ => Err(PathMistake::Encoding),
    }
}

fn rewritten(path: &[u8], options: &PathOptions) -> Result<String, PathMistake> {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    if path.first() != Some(&b'/') {
        return Err(PathMistake::NotAbsolute);
    }
    let mut out = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        match CLASSES[usize::from(byte)] {
            Class::Plain => out.push(char::from(byte)),
            Class::Slash => slash(&mut out, options)?,
            Class::Refused if byte == b'\\' => return Err(PathMistake::Backslash),
            Class::Refused => return Err(PathMistake::Byte),
            Class::Percent => {
                let byte = encoded(path, at)?;
                match (byte, options.encoded_slashes) {
                    (0, _) => return Err(PathMistake::Nul),
                    (b'/' | b'\\', EncodedSlashes::Reject) => return Err(PathMistake::EncodedSlash),
                    (b'/' | b'\\', EncodedSlashes::Decode) => slash(&mut out, options)?,
                    (byte, _) if is_unreserved(byte) => out.push(char::from(byte)),
                    (byte, _) => out.extend([
                        '%',
                        DIGITS[usize::from(byte >> 4)],
                        DIGITS[usize::from(byte & 15)],
                    ]),
                }
                at += 2;
            }
        }
        at += 1;
    }
    if options.resolve_dot_segments {
        resolve_last(&mut out)?;
    }
    Ok(out)
}

/// Ends a segment and begins the next.
fn slash(out: &mut String, options: &PathOptions) -> Result<(), PathMistake> {
    let was_dots = options.resolve_dot_segments && resolve_last(out)?;
    // What dots left ends with the slash that is due.
    let is_there = was_dots || options.merge_slashes && out.ends_with('/');
    if !is_there {
        out.push('/');
    }
    Ok(())
}

/// Takes a last segment of dots away, with the one before it if there are two. Whether there was one.
fn resolve_last(out: &mut String) -> Result<bool, PathMistake> {
    let Some(slash) = out.rfind('/') else {
        return Ok(false);
    };
    match &out[slash + 1..] {
        "." => out.truncate(slash + 1),
        ".." => {
            let before = out[..slash].rfind('/').ok_or(PathMistake::LeavesRoot)?;
            out.truncate(before + 1);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn is_dots(segment: &[u8]) -> bool {
    matches!(segment, b"." | b"..")
}

/// RFC 3986, 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
