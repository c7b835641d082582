//! Templates show what they say, and nothing a client sends breaks a line or a JSON document.

use super::*;
use http::{HeaderMap, HeaderValue, Version};
use serde_json::{Value as Json, json};
use std::time::{Duration, UNIX_EPOCH};

/// Envoy's own default, with the time until the response's head where Envoy has a header of its own.
const ENVOY: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
     %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESPONSE_DURATION% \"%REQ(X-FORWARDED-FOR)%\" \
     \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

/// Everything is known.
fn with_entry<T>(look: impl FnOnce(&Entry<'_>) -> T) -> T {
    let request = headers(&[("user-agent", "curl/8"), ("x-forwarded-for", "198.51.100.9")]);
    let response = headers(&[("content-type", "text/plain")]);
    let trailers = headers(&[("grpc-status", "5"), ("grpc-message", "nope")]);
    let mut flags = Flags::UPSTREAM_RETRY_LIMIT;
    flags |= Flags::UPSTREAM_CONNECTION_FAILURE;
    look(&Entry {
        duration: Duration::from_micros(12_999),
        request_duration: Some(Duration::from_millis(3)),
        response_duration: Some(Duration::from_millis(11)),
        method: Some("GET"),
        path: Some("/a?b=c"),
        authority: Some("www.example.com"),
        scheme: Some("https"),
        protocol: Some(Version::HTTP_2),
        request_headers: Some(&request),
        response_headers: Some(&response),
        response_trailers: Some(&trailers),
        response_code: Some(200),
        response_flags: flags,
        response_code_details: Some("via_upstream"),
        bytes_received: 7,
        bytes_sent: 1 << 40,
        upstream_host: Some("10.0.0.1:8080".parse().unwrap()),
        upstream_cluster: Some("api"),
        route_name: Some("r"),
        downstream_remote_address: Some("[2001:db8::1]:4711".parse().unwrap()),
        downstream_local_address: Some("192.0.2.10:443".parse().unwrap()),
        requested_server_name: Some("sni.example"),
        downstream_tls_version: Some("TLSv1.3"),
        downstream_tls_cipher: Some("TLS_AES_128_GCM_SHA256"),
        downstream_peer_subject: Some("CN=client"),
        connection_id: 99,
        ..Entry::new(UNIX_EPOCH + Duration::from_millis(1_795_728_429_007))
    })
}

fn text(template: &str, entry: &Entry<'_>) -> String {
    let mut out = Vec::new();
    Template::parse(template).unwrap().write(entry, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn operators() {
    let host = rustix::system::uname();
    let table = [
        ("plain, 100%%", "plain, 100%"),
        ("%START_TIME%", "2026-11-26T21:27:09.007Z"),
        (
            "%START_TIME(%Y/%m/%d %H:%M:%S.%6f %z)%",
            "2026/11/26 21:27:09.007000 +0000",
        ),
        ("%REQ(:METHOD)% %REQ(:PATH)% %REQ(:SCHEME)%", "GET /a?b=c https"),
        ("%REQ(:AUTHORITY)%|%REQ(host)%", "www.example.com|www.example.com"),
        ("%REQ(User-Agent)%", "curl/8"),
        (
            "%REQ(X-NONE)%|%REQ(X-NONE?USER-AGENT)%|%REQ(X-NONE?X-NO)%",
            "-|curl/8|-",
        ),
        (
            "%REQ(USER-AGENT):4%|%REQ(USER-AGENT):400%|%REQ(USER-AGENT):0%",
            "curl|curl/8|",
        ),
        ("%RESP(CONTENT-TYPE)% %RESP(:STATUS)%", "text/plain 200"),
        ("%TRAILER(grpc-message)%", "nope"),
        ("%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS%", "HTTP/2 200 UF,URX"),
        ("%RESPONSE_CODE_DETAILS%", "via_upstream"),
        ("%BYTES_RECEIVED% %BYTES_SENT%", "7 1099511627776"),
        ("%DURATION% %REQUEST_DURATION% %RESPONSE_DURATION%", "12 3 11"),
        (
            "%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %ROUTE_NAME%",
            "10.0.0.1:8080 api r",
        ),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "[2001:db8::1]:4711"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "2001:db8::1"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", "192.0.2.10:443"),
        ("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "192.0.2.10"),
        (
            "%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION%",
            "sni.example TLSv1.3",
        ),
        ("%DOWNSTREAM_TLS_CIPHER%", "TLS_AES_128_GCM_SHA256"),
        ("%DOWNSTREAM_PEER_SUBJECT% %CONNECTION_ID%", "CN=client 99"),
        ("%HOSTNAME%", host.nodename().to_str().unwrap()),
        ("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)%", "NotFound NOT_FOUND"),
        ("%GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%", "5 5"),
    ];
    with_entry(|entry| {
        for (template, expected) in table {
            assert_eq!(text(template, entry), expected, "{template}");
        }
    });
}

#[test]
fn flags_have_names() {
    assert_eq!(Flags::from_name("UH"), Flags::NO_HEALTHY_UPSTREAM);
    assert_eq!(Flags::from_name("DT"), Flags::DURATION_TIMEOUT);
    assert!(Flags::from_name("no such").is_empty());
}

#[test]
fn what_is_not_known_is_a_dash() {
    let nothing = Entry::new(UNIX_EPOCH);
    assert_eq!(
        text(ENVOY, &nothing),
        "[1970-01-01T00:00:00.000Z] \"- - -\" 0 - 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\""
    );
    assert_eq!(
        text("%REQUEST_DURATION%%UPSTREAM_HOST%%GRPC_STATUS%", &nothing),
        "---"
    );
}

#[test]
fn mistakes_are_named_with_a_remedy() {
    let table = [
        ("%RESPONSE_COD%", "did you mean %RESPONSE_CODE%?"),
        ("%duration%", "did you mean %DURATION%?"),
        ("%UPSTREAM_HOSTS%", "did you mean %UPSTREAM_HOST%?"),
        ("%QWERTZUIOPASDFGHJKL%", "use one of PROTOCOL"),
        ("100% sure", "write a single percent sign as %%"),
        ("%DURATION", "write a single percent sign as %%"),
        ("%REQ(X-A%", "has no )"),
        ("%REQ%", "no header's name"),
        ("%REQ(a b)%", "no header's name"),
        ("%REQ(:STATUS)%", "no header's name"),
        ("%REQ(A):x%", "\"x\" is no number of bytes"),
        ("%DURATION(ms)%", "takes nothing in brackets"),
        ("%START_TIME(%Q)%", "%Q is no part of a time"),
        ("%GRPC_STATUS(X)%", "use CAMEL_STRING"),
    ];
    for (template, part) in table {
        let error = Template::parse(template).unwrap_err();
        assert!(error.contains(part), "{template}: {error}");
    }
    let bad = LogFormat::Json([("key".into(), "%NO_SUCH%".into())].into());
    assert!(Format::new(&bad).unwrap_err().starts_with("key: %NO_SUCH%"));
}

fn json_line(pairs: &[(&str, &str)], entry: &Entry<'_>) -> String {
    let pairs = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let format = Format::new(&LogFormat::Json(pairs.collect())).unwrap();
    let mut out = Vec::new();
    format.write_line(entry, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn json_keeps_numbers_and_nulls() {
    let pairs = [
        ("code", "%RESPONSE_CODE%"),
        ("sent", "%BYTES_SENT%"),
        ("both", "%BYTES_SENT%B"),
        ("agent", "%REQ(USER-AGENT)%"),
        ("none", "%REQ(X-NONE)%"),
        ("some", "a \"%REQ(X-NONE)%\""),
        ("grpc", "%GRPC_STATUS_NUMBER%"),
        ("time", "%START_TIME(\"%s\")%"),
        ("ke\"y\n", "v"),
        ("empty", ""),
    ];
    let line = with_entry(|entry| json_line(&pairs, entry));
    assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
    assert_eq!(
        serde_json::from_str::<Json>(&line).unwrap(),
        json!({
            "code": 200, "sent": 1u64 << 40, "both": "1099511627776B", "agent": "curl/8", "none": null, "some": "a \"-\"",
            "grpc": 5, "time": "\"1795728429\"", "ke\"y\n": "v", "empty": "",
        })
    );
    let nothing = json_line(&[], &Entry::new(UNIX_EPOCH));
    assert_eq!(serde_json::from_str::<Json>(&nothing).unwrap(), json!({}));
}

#[test]
fn lines_end_once() {
    let format = Format::new(&LogFormat::Text(format!("{ENVOY}\n").into())).unwrap();
    let mut out = Vec::new();
    with_entry(|entry| format.write_line(entry, &mut out));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "[2026-11-26T21:27:09.007Z] \"GET /a?b=c HTTP/2\" 200 UF,URX 7 1099511627776 12 11 \"198.51.100.9\" \
         \"curl/8\" \"-\" \"www.example.com\" \"10.0.0.1:8080\"\n"
    );
}

/// What clients might send to forge lines, close quotations, or talk to a terminal.
fn torture() -> Vec<Vec<u8>> {
    let mut set: Vec<Vec<u8>> = [
        "\"",
        "\\",
        "\\\"",
        "\\\\\"",
        "\r\n",
        "\n{\"a\":1}",
        "\0",
        "\u{1b}[2J",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{202e}",
        "ü",
        "日本",
        "😀",
        "</script>",
        "\\u0022",
        "%REQ(X)%",
        "-",
        "",
        "\t",
        "\u{feff}",
        "a\"b\\c\nd",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    // Every byte alone, in pairs with a quotation, and broken UTF-8 of every sort.
    set.extend((0..=255u8).map(|byte| vec![byte]));
    set.extend((0..=255u8).map(|byte| vec![b'"', byte, b'\\']));
    set.extend([
        vec![0xc3],
        vec![0xc3, 0x28],
        vec![0xe2, 0x82],
        vec![0xf0, 0x9f, 0x98],
        vec![0xed, 0xa0, 0x80],
        vec![0xc0, 0xaf],
        vec![0xff, 0xfe, b'"'],
    ]);
    let mut random = fastrand::Rng::with_seed(1);
    set.extend((0..2_000).map(|_| (0..random.usize(..40)).map(|_| random.u8(..)).collect()));
    set
}

/// `\xNN` back to bytes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'\\' {
            let digits = std::str::from_utf8(&after[1..3]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

#[test]
fn nothing_breaks_a_line() {
    for bytes in torture() {
        let mut out = Vec::new();
        Escape::Text.write(&bytes, &mut out);
        assert!(
            out.iter()
                .all(|byte| (0x20..0x7f).contains(byte) && *byte != b'"'),
            "{bytes:?}"
        );
        assert_eq!(unescaped(std::str::from_utf8(&out).unwrap()), bytes);

        let mut out = vec![b'"'];
        Escape::Json.write(&bytes, &mut out);
        out.push(b'"');
        assert!(!out.iter().any(|byte| *byte < 0x20 || *byte == 0x7f), "{bytes:?}");
        let parsed: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(parsed, String::from_utf8_lossy(&bytes), "{bytes:?}");
    }
}

/// The same through headers and whole lines, cut at every length.
#[test]
fn nothing_breaks_a_document() {
    for bytes in torture() {
        let Ok(value) = HeaderValue::from_bytes(&bytes) else {
            continue;
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-a", value);
        let entry = Entry {
            request_headers: Some(&headers),
            path: std::str::from_utf8(&bytes).ok(),
            ..Entry::new(UNIX_EPOCH)
        };
        let limits: Vec<String> = (0..8).map(|limit| format!("%REQ(X-A):{limit}%")).collect();
        let mut pairs = vec![("a", "%REQ(X-A)%"), ("b", "\"%REQ(:PATH)%\"")];
        pairs.extend(limits.iter().map(|limit| (limit.as_str(), limit.as_str())));
        let line = json_line(&pairs, &entry);
        let parsed: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["a"].as_str().unwrap(), String::from_utf8_lossy(&bytes));
        let line = text("\"%REQ(X-A)%\" \"%REQ(:PATH)%\"", &entry);
        assert_eq!(line.matches('"').count(), 4, "{line}");
    }
}
