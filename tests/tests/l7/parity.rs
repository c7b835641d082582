//! The same requests through Weir and through Envoy, with nginx, Envoy and HAProxy behind and before them: the same
//! answers, or a reason in docs/parity.md.
//!
//! That page is made by
//!
//! ```text
//! WEIR_BLESS=1 cargo test -p weir-tests --test l7 parity
//! ```

use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use weir_tests::l7::{
    Site,
    parity::{Case, Parity, cases, outcome},
};

/// Requests at a time: most of the time is a proxy's silence.
const THREADS: usize = 8;

/// Fewer would not be what docs/parity.md says.
const FEWEST_CASES: usize = 200;

const PAGE_BEGIN: &str = "# Where Weir answers otherwise than Envoy

Made by `WEIR_BLESS=1 cargo test -p weir-tests --test l7 parity`, which fails when this page is not true.

Every request of [tests/data/parity/cases.yaml](../tests/data/parity/cases.yaml) is sent through Weir and through Envoy with the
same settings: straight to a backend, with nginx, Envoy and HAProxy between them and the backend, and with each of
these in front of them. Compared are the status, the headers of the response, its body and trailers, 1xx, and what
the backend got: method, target, headers, body and trailers. Not compared: headers that frame a message or name a hop
(Connection, Content-Length, Transfer-Encoding, Date, Server, Via, X-Forwarded-*, X-Request-Id, x-envoy-*), and the texts of
errors that a proxy makes.

The answers are the same, except for these; where some ways are not named, it is all of them:

| request | Weir | Envoy | ways | why |
|---|---|---|---|---|
";

#[test]
fn weir_answers_as_envoy_does() -> Result<()> {
    let site = Site::shared();
    let parity = Parity::start(site)?;
    let cases = cases(&data("parity/cases.yaml"))?;
    ensure!(
        cases.len() >= FEWEST_CASES,
        "there are only {} cases",
        cases.len()
    );
    let compared = compare(site, &parity, &cases)?;
    let mut page = PAGE_BEGIN.to_owned();
    let mut wrong = String::new();
    for (case, differences) in cases.iter().zip(&compared) {
        match (&case.differs, differences.is_empty()) {
            (None, true) => {}
            (Some(why), false) => page += &rows(case, differences, why, parity.chains.len()),
            (Some(_), true) => writeln!(wrong, "{}: no longer differs", case.name)?,
            (None, false) => {
                for (chain, [weir, envoy]) in differences {
                    writeln!(
                        wrong,
                        "== {} ({chain})\n-- Weir: {weir}\n-- Envoy: {envoy}",
                        case.name
                    )?;
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "unexplained in cases.yaml:\n{wrong}");
    let path = data("../../docs/parity.md");
    if env::var_os("WEIR_BLESS").is_some() {
        fs::write(&path, &page)?;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    ensure!(
        found == page,
        "docs/parity.md is not what was found now; rewrite it with WEIR_BLESS=1:\n{page}"
    );
    Ok(())
}

/// Where a case differed, and what came back by Weir and by Envoy.
type Differences = BTreeMap<&'static str, [String; 2]>;

fn compare(site: &'static Site, parity: &Parity, cases: &[Case]) -> Result<Vec<Differences>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Differences)>> {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else {
                return Ok(done);
            };
            let mut differences = Differences::new();
            for chain in &parity.chains {
                let answers = [
                    last_outcome(site, chain.weir, case)?,
                    last_outcome(site, chain.envoy, case)?,
                ];
                if answers[0] != answers[1] {
                    differences.insert(chain.name, answers);
                }
            }
            done.push((number, differences));
        }
    };
    let mut all = thread::scope(|scope| -> Result<Vec<_>> {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().ok().context("a thread panicked")??);
        }
        Ok(all)
    })?;
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, differences)| differences).collect())
}

/// What came back. Asked again where nothing did: nginx as a peer leaves a request lying now and then, behind Envoy too.
fn last_outcome(site: &'static Site, to: SocketAddr, case: &Case) -> Result<String> {
    const ATTEMPTS: usize = 3;
    let mut last = outcome(site, to, case)?;
    for _ in 1..ATTEMPTS {
        if !last.starts_with("no answer") {
            break;
        }
        last = outcome(site, to, case)?;
    }
    Ok(last)
}

/// The table's rows about a case: one for each pair of answers.
fn rows(case: &Case, differences: &Differences, why: &str, chains: usize) -> String {
    let mut by_answers: BTreeMap<&[String; 2], Vec<&str>> = BTreeMap::new();
    for (chain, answers) in differences {
        by_answers.entry(answers).or_default().push(chain);
    }
    let mut rows = String::new();
    for ([weir, envoy], ways) in by_answers {
        let ways = if ways.len() == chains {
            String::new()
        } else {
            ways.join(", ")
        };
        let (weir, envoy) = (only(weir, envoy), only(envoy, weir));
        rows += &format!("| {} | {weir} | {envoy} | {ways} | {why} |\n", case.name);
    }
    rows
}

/// The status, and the lines that the other one doesn't have; where it has another status, what the backend got alone.
fn only(one: &str, other: &str) -> String {
    let mut lines = one.lines();
    let status = lines.next().unwrap_or_default();
    let same_status = other.lines().next() == Some(status);
    let others: Vec<&str> = other.lines().collect();
    let rest = lines
        .filter(|line| !others.contains(line) && (same_status || line.starts_with("  upstream: ")))
        .map(|line| format!("; `{}`", line.trim().replace('|', "\\|")));
    status.to_owned() + &rest.collect::<String>()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}
