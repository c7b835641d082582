//! Builds the compiled form of routes.

use super::{
    index::{Candidate, HOST_SEED, Host, Index, LONG, List, NONE, Node, Reach, Whole},
    table::{self, Table},
    text::{Span, Text},
};
use crate::model::l7::{GrpcMatch, HostMatch, PathMatch, Regex, Route, RouteMatch};
use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
};

/// Up to so many whole paths of a host lie in its tree, so that a host with few routes is one place in memory.
const WHOLE_IN_TREE: usize = 8;

/// The compiled form, or none if 32 bits are too few for it.
pub(super) fn compile(routes: &[Route]) -> Option<Index> {
    let (names, mut entries) = entries(routes)?;
    entries.sort_unstable_by(|a, b| {
        let key = |entry: &Entry<'_>| (entry.host, entry.candidate.route);
        (a.host, &a.text)
            .cmp(&(b.host, &b.text))
            .then(key(a).cmp(&key(b)))
    });
    let mut builder = Builder::default();
    let mut rest = entries.as_slice();
    for (number, name) in (0..).zip(&names) {
        let count = rest.partition_point(|entry| entry.host == number);
        let (own, others) = rest.split_at(count);
        rest = others;
        builder.host(number, name.unwrap_or_default(), own)?;
    }
    Some(builder.finish(&names))
}

/// A route under one of its hosts: at which text of the tree it stands.
struct Entry<'a> {
    host: u32,
    text: Cow<'a, [u8]>,
    candidate: Candidate,
}

/// The name of each host (none for any, which is the first), and the entries in the order of routes.
fn entries(routes: &[Route]) -> Option<(Vec<Option<&str>>, Vec<Entry<'_>>)> {
    let mut names = vec![None];
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut entries = Vec::with_capacity(routes.len());
    for (route, number) in routes.iter().zip(0..NONE) {
        let (text, candidate) = path(&route.matches, number);
        let mut add = |host| {
            entries.push(Entry {
                host,
                text: text.clone(),
                candidate,
            });
        };
        if route.matches.hosts.is_empty() {
            add(0);
        }
        for host in &route.matches.hosts {
            let (HostMatch::Exact(name) | HostMatch::Suffix(name)) = host;
            let next = u32::try_from(names.len()).ok()?;
            let host = *numbers.entry(name).or_insert(next);
            if host == next {
                names.push(Some(&**name));
            }
            add(host);
        }
    }
    (u32::try_from(routes.len()).ok()? < NONE).then_some((names, entries))
}

/// The text that a path must begin with, and what must hold besides.
fn path(matches: &RouteMatch, route: u32) -> (Cow<'_, [u8]>, Candidate) {
    let (text, reach) = match (&matches.path, &matches.grpc) {
        (Some(PathMatch::Exact(text)), _) => (text.as_bytes().into(), Reach::Whole),
        (Some(PathMatch::Prefix(text)), _) => (text.as_bytes().into(), Reach::Prefix),
        (Some(PathMatch::SegmentPrefix(text)), _) => (text.as_bytes().into(), Reach::Segment),
        (Some(PathMatch::Regex(regex)), _) => (literal_prefix(regex).into(), Reach::Prefix),
        (None, Some(grpc)) => grpc_path(grpc),
        (None, None) => (Cow::default(), Reach::Prefix),
    };
    let checked = !matches.methods.is_empty()
        || !matches.headers.is_empty()
        || !matches.query.is_empty()
        || matches.grpc.is_some()
        || matches!(matches.path, Some(PathMatch::Regex(_)));
    let candidate = Candidate {
        route,
        reach,
        checked,
    };
    (text, candidate)
}

fn grpc_path(grpc: &GrpcMatch) -> (Cow<'static, [u8]>, Reach) {
    match (&grpc.service, &grpc.method) {
        (Some(service), Some(method)) => (format!("/{service}/{method}").into_bytes().into(), Reach::Whole),
        (Some(service), None) => (format!("/{service}/").into_bytes().into(), Reach::Prefix),
        (None, _) => (Cow::default(), Reach::Prefix),
    }
}

/// What everything begins with that the expression matches, as far as it can be told.
fn literal_prefix(regex: &Regex) -> Vec<u8> {
    let Ok(expression) = regex_syntax::parse(regex.as_str()) else {
        return Vec::new();
    };
    let literals = regex_syntax::hir::literal::Extractor::new().extract(&expression);
    literals.longest_common_prefix().unwrap_or_default().to_vec()
}

#[derive(Default)]
struct Builder {
    text: Vec<u8>,
    candidates: Vec<Candidate>,
    nodes: Vec<Node>,
    whole: Vec<Whole>,
    hosts: Vec<Host>,
}

impl Builder {
    fn finish(self, names: &[Option<&str>]) -> Index {
        let path_hashes: Vec<u64> = self
            .whole
            .iter()
            .map(|whole| table::hash(whole.host, whole.path.bytes(&self.text)))
            .collect();
        let named = names.iter().flatten();
        let host_hashes: Vec<u64> = named
            .clone()
            .map(|name| table::hash(HOST_SEED, name.as_bytes()))
            .collect();
        let mut suffix_lengths = [0; 4];
        let mut longest_suffix = 0;
        for suffix in named.filter(|name| name.starts_with('.')) {
            let length = suffix.len().min(LONG);
            suffix_lengths[length / 64] |= 1 << (length % 64);
            longest_suffix = longest_suffix.max(suffix.len());
        }
        Index {
            whole_table: Table::new(&path_hashes),
            host_table: Table::new(&host_hashes),
            text: self.text.into(),
            candidates: self.candidates.into(),
            nodes: self.nodes.into(),
            whole: self.whole.into(),
            hosts: self.hosts.into(),
            suffix_lengths,
            longest_suffix,
        }
    }

    /// Entries are all of this host, by text, then by route.
    fn host(&mut self, number: u32, name: &str, entries: &[Entry<'_>]) -> Option<()> {
        let name = Text::new(name.as_bytes(), &mut self.text)?;
        let is_whole = |entry: &&Entry<'_>| entry.candidate.reach == Reach::Whole;
        let whole: Vec<&Entry<'_>> = entries.iter().filter(is_whole).collect();
        let mut first_whole = NONE;
        let tree = if whole.len() > WHOLE_IN_TREE {
            for same in whole.chunk_by(|a, b| a.text == b.text) {
                let path = Text::new(&same[0].text, &mut self.text)?;
                let list = self.list(same)?;
                first_whole = first_whole.min(list.first.route);
                self.whole.push(Whole {
                    host: number,
                    path,
                    list,
                });
            }
            let others: Vec<&Entry<'_>> = entries.iter().filter(|entry| !is_whole(entry)).collect();
            self.tree(&others)?
        } else {
            self.tree(&entries.iter().collect::<Vec<_>>())?
        };
        let checked = entries.iter().filter(|entry| entry.candidate.checked);
        let first_checked = checked.map(|entry| entry.candidate.route).min();
        self.hosts.push(Host {
            name,
            first_whole,
            first_checked: first_checked.unwrap_or(NONE),
            tree,
        });
        Some(())
    }

    /// The radix tree, level by level: children lie side by side, and depth costs no stack.
    fn tree(&mut self, entries: &[&Entry<'_>]) -> Option<Node> {
        let mut root = Node::EMPTY;
        let mut queue = VecDeque::new();
        if !entries.is_empty() {
            queue.push_back((None, entries, 0));
        }
        while let Some((at, entries, depth)) = queue.pop_front() {
            let end = depth
                + common(
                    &entries[0].text[depth..],
                    &entries[entries.len() - 1].text[depth..],
                );
            let label = Text::new(&entries[0].text[depth..end], &mut self.text)?;
            let (here, below) = entries.split_at(entries.partition_point(|entry| entry.text.len() == end));
            let list = self.list(here)?;
            let children = self.nodes.len();
            let mut branches = Vec::new();
            for child in below.chunk_by(|a, b| a.text[end] == b.text[end]) {
                branches.push(child[0].text[end]);
                queue.push_back((Some(self.nodes.len()), child, end));
                self.nodes.push(Node::EMPTY);
            }
            let first_route = entries.iter().map(|entry| entry.candidate.route).min();
            let node = Node {
                label,
                first_route: first_route.unwrap_or(NONE),
                list,
                branches: Text::new(&branches, &mut self.text)?,
                children: u32::try_from(children).ok()?,
            };
            match at {
                Some(at) => self.nodes[at] = node,
                None => root = node,
            }
        }
        Some(root)
    }

    /// Entries of one text by route. What stands behind a route that takes all that come here is never reached.
    fn list(&mut self, entries: &[&Entry<'_>]) -> Option<List> {
        let Some((first, more)) = entries.split_first() else {
            return Some(List::EMPTY);
        };
        let takes_all = |candidate: &Candidate| candidate.reach == Reach::Prefix && !candidate.checked;
        let start = self.candidates.len();
        if !takes_all(&first.candidate) {
            for entry in more {
                self.candidates.push(entry.candidate);
                if takes_all(&entry.candidate) {
                    break;
                }
            }
        }
        Some(List {
            first: first.candidate,
            more: Span::new(start, self.candidates.len())?,
        })
    }
}

/// Length of the common begin.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
