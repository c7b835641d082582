//! Distinguished names as text (RFC 2253), the way OpenSSL's XN_FLAG_RFC2253 and so Envoy and nginx write them.

use std::fmt::Write;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Short names of attribute types that subjects have; others are written as their number.
const SHORT: [(&str, &str); 15] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("2.5.4.97", "organizationIdentifier"),
];

/// The name's parts from the last to the first, between commas.
pub(super) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (index, part) in parts.into_iter().rev().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            write_attribute(&mut text, attribute);
        }
    }
    text
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let number = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == number);
    text.push_str(short.map_or(&number, |(_, short)| short));
    text.push('=');
    match attribute.as_str() {
        Ok(value) => write_escaped(text, value),
        // BMPString and the like: RFC 2253 writes the bytes.
        Err(_) => {
            text.push('#');
            for byte in attribute.as_slice() {
                let _infallible = write!(text, "{byte:02X}");
            }
        }
    }
}

fn write_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        let at_edge = (byte == b'#' && index == 0) || (byte == b' ' && (index == 0 || index == last));
        let _infallible = match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => write!(text, "\\{}", char::from(byte)),
            _ if at_edge => write!(text, "\\{}", char::from(byte)),
            b' '..=b'~' => write!(text, "{}", char::from(byte)),
            _ => write!(text, "\\{byte:02X}"),
        };
    }
}
