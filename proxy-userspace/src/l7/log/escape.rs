//! Values of clients inside lines: nothing they send ends a line, a quotation or a JSON string, or steers a terminal.

use std::io::Write;

/// How bytes are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Escape {
    /// As they are: for what the config says.
    None,
    /// `"`, `\`, controls and all that isn't ASCII become `\xNN`, as in nginx.
    Text,
    /// Inside of a JSON string (RFC 8259, section 7). Bytes that aren't UTF-8 become U+FFFD.
    Json,
}

impl Escape {
    /// Appends a value.
    pub(super) fn write(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(bytes),
            Self::Text => write_text(bytes, out),
            Self::Json => write_json(bytes, out),
        }
    }
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// How many plain bytes it begins with: most values are plain to their end, and copied at once.
fn plain(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| !is_plain(*byte))
        .unwrap_or(bytes.len())
}

fn write_text(mut bytes: &[u8], out: &mut Vec<u8>) {
    loop {
        let (head, rest) = bytes.split_at(plain(bytes));
        out.extend_from_slice(head);
        let Some((byte, rest)) = rest.split_first() else {
            return;
        };
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let digit = |value: u8| DIGITS[usize::from(value & 0xf)];
        out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(*byte)]);
        bytes = rest;
    }
}

fn write_json(bytes: &[u8], out: &mut Vec<u8>) {
    let head = plain(bytes);
    out.extend_from_slice(&bytes[..head]);
    if head == bytes.len() {
        return;
    }
    for chunk in bytes[head..].utf8_chunks() {
        for character in chunk.valid().chars() {
            write_json_character(character, out);
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn write_json_character(character: char, out: &mut Vec<u8>) {
    let short = match character {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        // Controls, and what some readers take for the end of a line.
        control if control.is_control() || matches!(control, '\u{2028}' | '\u{2029}') => {
            // Writing into memory does not fail.
            let _infallible = write!(out, "\\u{:04x}", u32::from(control));
            return;
        }
        character => {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
    };
    out.extend_from_slice(short);
}
