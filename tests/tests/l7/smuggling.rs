//! Requests that two proxies may read differently: refused with 400, the connection closed, nothing behind them taken.

use super::support::Proxy;
use anyhow::{Result, ensure};

/// What follows each of them: answered, it would have been smuggled.
const SECOND: &str = "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Heads and bodies, after `POST /echo HTTP/1.1` and Host.
const CASES: [(&str, &str); 18] = [
    (
        "two lengths",
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ),
    ("two lengths in a list", "Content-Length: 3, 4\r\n\r\nabcd"),
    ("length with a sign", "Content-Length: +3\r\n\r\nabc"),
    ("length below zero", "Content-Length: -1\r\n\r\n"),
    ("length in hex", "Content-Length: 0x3\r\n\r\nabc"),
    (
        "length over 64 bits",
        "Content-Length: 18446744073709551619\r\n\r\nabc",
    ),
    ("length with a space in it", "Content-Length: 1 0\r\n\r\nabc"),
    ("no length", "Content-Length:\r\n\r\n"),
    (
        "space before the colon",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    ("folded header", "X-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n"),
    ("folded coding", "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("bare CR in a header", "X-A: 1\rContent-Length: 3\r\n\r\n"),
    ("NUL in a header", "X-A: a\0b\r\n\r\n"),
    ("header without a name", ": 1\r\n\r\n"),
    (
        "chunk's size is no number",
        "Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk's size below zero",
        "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk's size over 64 bits",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk longer than its size",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    ),
];

/// The whole request.
const WHOLE: [(&str, &str); 7] = [
    ("no host", "GET /echo HTTP/1.1\r\n\r\n"),
    (
        "two hosts",
        "GET /echo HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
    ),
    ("a host with a space", "GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n"),
    (
        "space before the first header",
        "GET /echo HTTP/1.1\r\n Host: a.test\r\n\r\n",
    ),
    (
        "a space in the target",
        "GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ),
    (
        "a header without a colon",
        "GET /echo HTTP/1.1\r\nHost: a.test\r\nX-A\r\n\r\n",
    ),
    (
        "a version of its own",
        "GET /echo HTTP/9.9\r\nHost: a.test\r\n\r\n",
    ),
];

#[test]
fn ambiguous_requests_are_refused() -> Result<()> {
    let proxy = Proxy::start("")?;
    let framed = CASES.map(|(what, rest)| (what, format!("POST /echo HTTP/1.1\r\nHost: a.test\r\n{rest}")));
    let whole = WHOLE.map(|(what, request)| (what, request.to_owned()));
    let mut wrong = String::new();
    for (what, request) in framed.into_iter().chain(whole) {
        let mut raw = proxy.raw()?;
        raw.send(format!("{request}{SECOND}"));
        match raw.answer() {
            Ok(answer) if answer.status == 400 => {
                if !raw.is_closed()? {
                    wrong += &format!("{what}: the connection goes on after the 400\n");
                }
            }
            Ok(answer) => wrong += &format!("{what}: {} {}\n", answer.status, answer.text()),
            Err(error) => wrong += &format!("{what}: no answer: {error:#}\n"),
        }
    }
    ensure!(wrong.is_empty(), "\n{wrong}");
    Ok(())
}

/// A coding that is not understood may hide the message's end (RFC 9112, 6.1).
#[test]
fn unknown_codings_are_refused() -> Result<()> {
    let proxy = Proxy::start("")?;
    let codings = [
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "xchunked",
        "chunked, identity",
        "identity",
        "chunked;q=1",
        "\x0bchunked",
    ];
    for coding in codings {
        let mut raw = proxy.raw()?;
        raw.send(format!(
            "POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: {coding}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{SECOND}"
        ));
        let answer = raw.answer()?;
        ensure!([400, 501].contains(&answer.status), "{coding:?}: {answer:?}");
        ensure!(raw.is_closed()?, "{coding:?}: the connection goes on");
    }
    Ok(())
}

/// Both lengths in one request: Transfer-Encoding counts, and the other one goes no further, so that what comes behind
/// can't read it otherwise (RFC 9112, 6.3).
#[test]
fn of_two_lengths_one_is_forwarded() -> Result<()> {
    let proxy = Proxy::start("")?;
    for heads in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        let mut raw = proxy.raw()?;
        raw.send(format!(
            "POST /echo HTTP/1.1\r\nHost: a.test\r\n{heads}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{SECOND}"
        ));
        let answer = raw.answer()?;
        if answer.status == 400 {
            continue;
        }
        let seen = answer.seen()?;
        ensure!(seen.text("body") == "abc", "{heads:?}: {seen:?}");
        ensure!(seen.header("content-length").is_none(), "{heads:?}: {seen:?}");
    }
    Ok(())
}

/// A line that ends with LF alone may be taken (RFC 9112, 2.2); what goes on has CRLF.
#[test]
fn lines_ended_by_lf_are_mended() -> Result<()> {
    let proxy = Proxy::start("")?;
    let mut raw = proxy.raw()?;
    raw.send("POST /echo HTTP/1.1\nHost: a.test\nContent-Length: 3\nX-A: 1\n\nabc");
    let seen = raw.answer()?.seen()?;
    ensure!(
        seen.text("body") == "abc" && seen.header("x-a") == Some("1"),
        "{seen:?}"
    );
    let mut raw = proxy.raw()?;
    raw.send(format!(
        "POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n{SECOND}"
    ));
    raw.answer()?.expect(400)?;
    ensure!(raw.is_closed()?, "in chunks it is refused");
    Ok(())
}

/// What is legal must not be refused by too much caution.
#[test]
fn odd_but_legal_framing_passes() -> Result<()> {
    let proxy = Proxy::start("")?;
    let bodies = [
        (
            "upper case",
            "Transfer-Encoding: CHUNKED\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "0123456789",
        ),
        (
            "extension",
            "Transfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0;c\r\n\r\n",
            "abc",
        ),
        (
            "zeroes before",
            "Transfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n",
            "abc",
        ),
        (
            "tab before the coding",
            "Transfer-Encoding:\tchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "abc",
        ),
        (
            "length with zeroes before",
            "Content-Length: 003\r\n\r\nabc",
            "abc",
        ),
        (
            "an empty line before the request",
            "Content-Length: 0\r\n\r\n",
            "",
        ),
    ];
    for (what, rest, body) in bodies {
        let mut raw = proxy.raw()?;
        let before = if what.starts_with("an empty line") {
            "\r\n"
        } else {
            ""
        };
        raw.send(format!(
            "{before}POST /echo HTTP/1.1\r\nHost: a.test\r\n{rest}{SECOND}"
        ));
        let seen = raw.answer()?.expect(200)?.seen()?;
        ensure!(seen.text("body") == body, "{what}: {seen:?}");
        let second = raw.answer()?.expect(200)?.seen()?;
        ensure!(second.text("target") == "/second", "{what}: {second:?}");
    }
    Ok(())
}
