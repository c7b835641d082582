//! Who may send to a service: prefixes typed in the config or listed in files of their own, and rates.

use super::{Checks, Place, elements};
use crate::{
    config::{address, error::Mistake, limits, raw, suggest::shown},
    model::{Guard, Rate},
};
use ipnet::IpNet;
use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

/// Mistakes of one file that are said; a file of another kind would have one a line.
const SAID: usize = 10;

/// Prefixes of a file, each with its line; or the mistakes in it, each with its line.
pub(super) type Listed = Result<Arc<[(u32, IpNet)]>, Arc<[(u32, Mistake)]>>;

pub(super) fn read<'a>(forward: &'a raw::Forward, place: &Place<'a>, checks: &mut Checks<'_>) -> Guard {
    let mut rules = Rules {
        place,
        known: HashMap::new(),
    };
    let allow = rules.list(
        ("allow", forward.allow.as_ref()),
        ("allow_files", forward.allow_files.as_ref()),
        checks,
    );
    let deny = rules.list(
        ("deny", forward.deny.as_ref()),
        ("deny_files", forward.deny_files.as_ref()),
        checks,
    );
    let files_place = place.key("allow_files");
    let files: Vec<_> = elements(forward.allow_files.as_ref(), files_place.clone()).collect();
    let were_read = |checks: &Checks<'_>| {
        let blamed = |place: &Place<'_>| checks.report.blames(place.document.file, &place.path);
        !files.iter().any(|(place, _)| blamed(place))
    };
    if !files.is_empty() && allow.is_empty() && were_read(checks) {
        checks.error(
            &files_place,
            "no prefix in them, and without one every source may send",
            "write one, or remove `allow_files`",
        );
    }
    let count = allow.len() + deny.len();
    if count > limits::MAX_RULES {
        checks.error(
            place,
            format!("{count} rules, and a service may have {}", limits::MAX_RULES),
            "join neighbouring prefixes",
        );
    }
    let limits = forward.limits.as_ref();
    Guard {
        allow: allow.into(),
        deny: deny.into(),
        packets: limits.and_then(|limits| rate(limits.packets.as_ref())),
        connections: limits.and_then(|limits| rate(limits.connections.as_ref())),
    }
}

fn rate(typed: Option<&raw::SourceRate>) -> Option<Rate> {
    let per_second = typed?.per_second?;
    let burst = typed?.burst.unwrap_or(per_second);
    Some(Rate { per_second, burst })
}

/// The rules of one service while they are read.
struct Rules<'a, 'b> {
    place: &'b Place<'a>,
    /// Every prefix: the key it stands under, and where.
    known: HashMap<IpNet, (&'static str, Stands<'a>)>,
}

/// Where a prefix stands.
enum Stands<'a> {
    Typed(Place<'a>),
    Listed(&'a str, u32),
}

impl<'a> Rules<'a, '_> {
    /// All prefixes of `allow` or `deny`: those typed, and those of files.
    fn list(
        &mut self,
        (key, typed): (&'static str, Option<&'a raw::List<raw::PrefixText>>),
        (files_key, files): (&str, Option<&'a raw::List<raw::FilePath>>),
        checks: &mut Checks<'_>,
    ) -> Vec<IpNet> {
        let mut prefixes = Vec::new();
        for (place, typed) in elements(typed, self.place.key(key)) {
            let parsed = address::prefix::<IpNet>(&typed.0, "192.0.2.0/24");
            let Some(prefix) = checks.parsed(&place, parsed) else {
                continue;
            };
            if let Some((_, first)) = self.known.get(&prefix) {
                let pointer = pointer(first, &place, checks);
                checks.error(&place, format!("{prefix} stands {pointer} already"), TWICE);
                continue;
            }
            self.known.insert(prefix, (key, Stands::Typed(place)));
            prefixes.push(prefix);
        }
        for (place, file) in elements(files, self.place.key(files_key)) {
            match checks.prefixes(&place, file) {
                Some(Ok(listed)) => self.take(key, &place, (file, &listed), checks, &mut prefixes),
                Some(Err(mistakes)) => say(&mistakes, &place, file, checks),
                None => {}
            }
        }
        prefixes
    }

    /// Takes in a file. Lists are put together from others: one prefix in two of them is no mistake, unless they contradict.
    fn take(
        &mut self,
        key: &'static str,
        place: &Place<'a>,
        (file, listed): (&'a raw::FilePath, &[(u32, IpNet)]),
        checks: &mut Checks<'_>,
        prefixes: &mut Vec<IpNet>,
    ) {
        let mut contradictions = Vec::new();
        for &(line, prefix) in listed {
            match self.known.entry(prefix) {
                Entry::Vacant(entry) => {
                    entry.insert((key, Stands::Listed(&file.0, line)));
                    prefixes.push(prefix);
                }
                Entry::Occupied(entry) if entry.get().0 == key => {}
                Entry::Occupied(entry) => {
                    let (other, first) = entry.get();
                    let pointer = pointer(first, place, checks);
                    let problem = format!("{prefix} stands under {other} {pointer} already");
                    contradictions.push((line, Mistake::new(problem, TWICE)));
                }
            }
        }
        say(&contradictions, place, file, checks);
    }
}

const TWICE: &str = "remove one of the two: which of them counts could not be told";

fn pointer(to: &Stands<'_>, from: &Place<'_>, checks: &Checks<'_>) -> String {
    match to {
        Stands::Typed(place) => checks.pointer(from, place),
        Stands::Listed(file, line) => format!("at {file}:{line}"),
    }
}

/// Reports mistakes of a file, each with its line there.
fn say(mistakes: &[(u32, Mistake)], place: &Place<'_>, file: &raw::FilePath, checks: &mut Checks<'_>) {
    for (line, mistake) in mistakes.iter().take(SAID) {
        let problem = format!("{}:{line}: {}", file.0, mistake.problem);
        checks.error(place, problem, mistake.remedy.clone());
    }
    if let Some(more) = mistakes.len().checked_sub(SAID + 1) {
        let problem = format!("{}: {} more lines are wrong", file.0, more + 1);
        checks.error(place, problem, "write a prefix a line, such as 192.0.2.0/24");
    }
}

/// One prefix or address a line, `#` begins a comment, blank lines are nothing: as HAProxy's lists.
pub(super) fn listed(bytes: &[u8]) -> Listed {
    let mut prefixes = Vec::new();
    let mut mistakes = Vec::new();
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let text = String::from_utf8_lossy(text);
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        match prefix(text) {
            Ok(prefix) => prefixes.push((line, prefix)),
            Err(mistake) => mistakes.push((line, mistake)),
        }
    }
    if mistakes.is_empty() {
        Ok(prefixes.into())
    } else {
        Err(mistakes.into())
    }
}

fn prefix(text: &str) -> Result<IpNet, Mistake> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    if text.contains(char::is_whitespace) {
        let problem = format!("{} is more than a prefix", shown(text));
        return Err(Mistake::new(
            problem,
            "write one a line, and `#` before what is said of it",
        ));
    }
    address::prefix(text, "192.0.2.0/24")
}
