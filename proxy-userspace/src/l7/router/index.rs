//! The compiled form: hosts by hash, whole paths by hash, prefixes in a radix tree per host.
//!
//! Everything lies in a few arrays and refers to the others by number; what a lookup reads together lies together.
//! With 100,000 routes a lookup's time is that of its cache misses, so that hosts, whole paths and nodes begin with a
//! cache line and hold short texts themselves.

use super::{
    Facts, conditions, table,
    table::Table,
    text::{Span, Text},
};
use crate::model::l7::Route;
use std::iter;

/// Number of no route; behind all others.
pub(super) const NONE: u32 = u32::MAX;
/// [`Table`]'s seed for host names.
pub(super) const HOST_SEED: u32 = u32::MAX;
/// Lengths from this on share a bit of [`Index::suffix_lengths`].
pub(super) const LONG: usize = 255;

/// How far a path may go on behind a candidate's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Not at all.
    Whole,
    /// With a slash.
    Segment,
    /// With anything.
    Prefix,
}

/// A route that may match where its text was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) route: u32,
    pub(super) reach: Reach,
    /// Whether it has conditions besides host and path (or a path that is a regular expression).
    pub(super) checked: bool,
}

/// Candidates in ascending order of routes. Most lists hold one, which is read with its owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) first: Candidate,
    /// Of `candidates`.
    pub(super) more: Span,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        first: Candidate {
            route: NONE,
            reach: Reach::Whole,
            checked: false,
        },
        more: Span::EMPTY,
    };
}

/// A place in a host's radix tree.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Node {
    /// What stands between its parent and it.
    pub(super) label: Text<12>,
    /// The first of all routes here and below.
    pub(super) first_route: u32,
    /// Routes whose text ends here.
    pub(super) list: List,
    /// With which byte each child's label begins.
    pub(super) branches: Text<12>,
    /// The first child's place in `nodes`; the others follow.
    pub(super) children: u32,
}

impl Node {
    pub(super) const EMPTY: Self = Self {
        label: Text::EMPTY,
        first_route: NONE,
        list: List::EMPTY,
        branches: Text::EMPTY,
        children: 0,
    };
}

/// The routes of one name, `*.` name, or of any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    /// With a leading dot for `*.` name.
    pub(super) name: Text<48>,
    /// The first of its routes in `whole`.
    pub(super) first_whole: u32,
    /// The first of its routes that are `checked`.
    pub(super) first_checked: u32,
    pub(super) tree: Node,
}

const _: () = assert!(size_of::<Node>() == 64 && size_of::<Host>() == 128 && size_of::<Whole>() == 64);

/// A path of a host that has many.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Whole {
    pub(super) host: u32,
    pub(super) path: Text<36>,
    pub(super) list: List,
}

/// See the module. Host 0 is any host.
#[derive(Debug)]
pub(super) struct Index {
    /// Of all that are long.
    pub(super) text: Box<[u8]>,
    pub(super) candidates: Box<[Candidate]>,
    pub(super) nodes: Box<[Node]>,
    pub(super) whole: Box<[Whole]>,
    pub(super) whole_table: Table,
    pub(super) hosts: Box<[Host]>,
    /// Hosts from 1 on: names and `*.` names, which begin with a dot as no request's host does.
    pub(super) host_table: Table,
    /// A bit for each length of a `*.` name; bit 255 for that length and all above.
    pub(super) suffix_lengths: [u64; 4],
    pub(super) longest_suffix: usize,
}

impl Index {
    /// The first route that matches.
    pub(super) fn find(&self, routes: &[Route], facts: &Facts<'_>) -> Option<usize> {
        let mut search = Search {
            index: self,
            routes,
            facts,
            best: NONE,
        };
        let name = facts.host.as_bytes();
        if let Some(host) = self.host(name) {
            search.host(host);
        }
        if self.longest_suffix > 0 {
            search.suffixes(name);
        }
        if !self.hosts.is_empty() {
            search.host(0);
        }
        (search.best != NONE).then_some(search.best as usize)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let tables = self.whole_table.memory_bytes() + self.host_table.memory_bytes();
        let paths = size_of_val(&*self.nodes) + size_of_val(&*self.whole);
        tables + paths + size_of_val(&*self.hosts) + size_of_val(&*self.candidates) + self.text.len()
    }

    fn host(&self, name: &[u8]) -> Option<u32> {
        let hash = table::hash(HOST_SEED, name);
        let at = self.host_table.find(hash, |at| {
            self.hosts[at as usize + 1].name.bytes(&self.text) == name
        })?;
        Some(at + 1)
    }
}

struct Search<'a> {
    index: &'a Index,
    routes: &'a [Route],
    facts: &'a Facts<'a>,
    best: u32,
}

impl Search<'_> {
    /// Every `*.` name that the host is below. A host as long as a header may be costs no more than the longest of
    /// them does.
    fn suffixes(&mut self, name: &[u8]) {
        let begin = name.len().saturating_sub(self.index.longest_suffix).max(1);
        for at in begin..name.len() {
            if name[at] != b'.' {
                continue;
            }
            let length = (name.len() - at).min(LONG);
            let is_one = self.index.suffix_lengths[length / 64] >> (length % 64) & 1 != 0;
            if is_one && let Some(host) = self.index.host(&name[at..]) {
                self.host(host);
            }
        }
    }

    /// First what host and path decide, then, of what stands before that, what must be checked: no expression is run
    /// that could not win.
    fn host(&mut self, number: u32) {
        let host = &self.index.hosts[number as usize];
        self.paths(number, host, false);
        if host.first_checked < self.best {
            self.paths(number, host, true);
        }
    }

    fn paths(&mut self, number: u32, host: &Host, checked: bool) {
        let index = self.index;
        if host.first_whole < self.best {
            self.whole(number, checked);
        }
        let mut node = &host.tree;
        let mut rest = self.facts.path.as_bytes();
        while node.first_route < self.best {
            let Some(behind) = rest.strip_prefix(node.label.bytes(&index.text)) else {
                return;
            };
            rest = behind;
            self.list(&node.list, rest, checked);
            let Some(byte) = rest.first() else {
                return;
            };
            let branches = node.branches.bytes(&index.text);
            let Some(branch) = branches.iter().position(|branch| branch == byte) else {
                return;
            };
            node = &index.nodes[node.children as usize + branch];
        }
    }

    fn whole(&mut self, host: u32, checked: bool) {
        let index = self.index;
        let path = self.facts.path.as_bytes();
        let found = index.whole_table.find(table::hash(host, path), |at| {
            let whole = &index.whole[at as usize];
            whole.host == host && whole.path.bytes(&index.text) == path
        });
        if let Some(at) = found {
            self.list(&index.whole[at as usize].list, &[], checked);
        }
    }

    /// Takes the first that matches, if it is before the best so far. `rest` is the path behind the list's text.
    fn list(&mut self, list: &List, rest: &[u8], checked: bool) {
        let more = list.more.of(&self.index.candidates);
        for candidate in iter::once(&list.first).chain(more) {
            if candidate.route >= self.best {
                return;
            }
            let reaches = match candidate.reach {
                Reach::Whole => rest.is_empty(),
                Reach::Segment => matches!(rest.first(), None | Some(b'/')),
                Reach::Prefix => true,
            };
            if reaches
                && candidate.checked == checked
                && (!checked || conditions::hold(&self.routes[candidate.route as usize].matches, self.facts))
            {
                self.best = candidate.route;
                return;
            }
        }
    }
}
