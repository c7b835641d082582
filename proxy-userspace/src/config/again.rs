//! Reads a config that was read before: routes whose text is as it was are taken from then. Of thousands of them one changes, and to read
//! the others costs a hundred times what that one does.
//!
//! A YAML parser goes from left to right, and what is behind it matters to it only as the indentation of what is open. So elements of a list
//! can be left out of a text, from the dash of one to the dash of another, and all else is read as before. Up to where a text differs from the
//! one before, its elements begin where they began. Behind that they do if one more of them, which isn't left out, is seen to begin where it
//! should. Whatever is in doubt is read whole: a mistake, or what says something of these routes.

use super::{
    error::Report,
    path::KeyPath,
    validate::Document,
    yaml::{Node, Value},
};
use crate::model::l7::{Listener, ListenerKind, PathOptions, Route};
use std::{iter, ops::Range, path::PathBuf, sync::Arc};

/// Fewer routes are read anew.
const FEW: usize = 64;

/// What was read last, as far as it helps to read it again.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Known(Vec<KnownFile>);

#[derive(PartialEq, Eq, Debug)]
struct KnownFile {
    path: PathBuf,
    text: String,
    lists: Vec<KnownList>,
}

/// The routes of a listener, each of which begins with a dash at the same column of a line of its own.
#[derive(PartialEq, Eq, Debug)]
struct KnownList {
    /// Among the file's.
    listener: usize,
    /// Where each begins.
    lines: Vec<u32>,
    /// What paths were read by.
    options: PathOptions,
    routes: Arc<[Route]>,
}

/// A text without what is known of it.
pub(super) struct Short {
    pub(super) text: String,
    pub(super) left_out: LeftOut,
}

/// What was left out of a text.
#[derive(Default)]
pub(super) struct LeftOut {
    /// In order.
    gaps: Vec<Gap>,
    lists: Vec<Part>,
}

/// Lines that aren't there.
struct Gap {
    /// The line of the short text that they stood before.
    before: u32,
    lines: u32,
}

/// Routes of a list that are taken from before.
pub(super) struct Part {
    /// Of the list.
    path: KeyPath,
    /// What paths were read by.
    pub(super) options: PathOptions,
    routes: Arc<[Route]>,
    /// Where they began.
    lines: Vec<u32>,
    /// Those that follow the first of the list.
    head: Range<usize>,
    /// Those that stand before the last of the list, and one that stands before them.
    tail: Range<usize>,
    /// By how many lines `tail` has moved.
    moved: i32,
}

impl Known {
    /// A file's text without the routes that stand in it as they did, if there are enough of them.
    pub(super) fn shorten(&self, path: &PathBuf, text: &str) -> Option<Short> {
        let known = self.0.iter().find(|known| known.path == *path)?;
        let starts = (line_starts(&known.text), line_starts(text));
        let same_begin = common_prefix(known.text.as_bytes(), text.as_bytes());
        let same_end = common_suffix(
            &known.text.as_bytes()[same_begin..],
            &text.as_bytes()[same_begin..],
        );
        let changed = same_begin..known.text.len() - same_end;
        let moved = i32::try_from(starts.1.len()).ok()? - i32::try_from(starts.0.len()).ok()?;
        let parts = known
            .lists
            .iter()
            .map(|list| list.part(&changed, &starts.0, moved));
        let lists: Vec<Part> = parts.collect();
        let mut left_out = LeftOut::default();
        let mut short = String::new();
        let mut from = 0;
        for (lines, moved) in lists.iter().flat_map(Part::left_out) {
            let [first, end] = [lines.start, lines.end].map(|line| line.saturating_add_signed(moved));
            let [first_byte, end_byte] = [first, end].map(|line| starts.1.get(line as usize - 1).copied());
            short.push_str(text.get(from..first_byte?)?);
            from = end_byte?;
            let before = left_out.gaps.iter().map(|gap| gap.lines).sum::<u32>();
            left_out.gaps.push(Gap {
                before: first - before,
                lines: end - first,
            });
        }
        if left_out.gaps.is_empty() {
            return None;
        }
        short.push_str(text.get(from..)?);
        left_out.lists = lists;
        Some(Short {
            text: short,
            left_out,
        })
    }

    /// What is worth keeping of files that were read without a mistake.
    pub(super) fn of(
        texts: Vec<(usize, Option<String>)>,
        documents: &[Document],
        listeners: &[Listener],
        report: &Report,
    ) -> Self {
        let files = iter::zip(texts, documents).filter_map(|((file, text), document)| {
            let (path, text) = (report.files()[file].clone(), text?);
            // An anchor that is left out, or stands twice, would be missed where it is used.
            if document.anchored || text.contains('\r') {
                return None;
            }
            let all = 0..document.raw.listeners.as_ref()?.len();
            let lists = all.filter_map(|listener| known_list(listener, &text, document, listeners, report));
            let lists: Vec<KnownList> = lists.collect();
            (!lists.is_empty()).then_some(KnownFile { path, text, lists })
        });
        Self(files.collect())
    }
}

fn known_list(
    listener: usize,
    text: &str,
    document: &Document,
    listeners: &[Listener],
    report: &Report,
) -> Option<KnownList> {
    let typed = document.raw.listeners.as_ref()?.get(listener)?.as_ref()?;
    let name = &typed.name.as_ref()?.0;
    let model = listeners.iter().find(|model| *model.name == **name)?;
    let ListenerKind::Http { settings, routes, .. } = &model.kind else {
        return None;
    };
    let path = routes_path(listener);
    if routes.len() < FEW || report.warns_below(document.file, &path) {
        return None;
    }
    let lines = document.left_out.lines_of(&document.root, &path)?;
    let are_alone = begin_with_dashes(text, &lines);
    (lines.len() == routes.len() && are_alone).then(|| KnownList {
        listener,
        lines,
        options: settings.path,
        routes: Arc::clone(routes),
    })
}

fn routes_path(listener: usize) -> KeyPath {
    KeyPath::ROOT.key("listeners").index(listener).key("routes")
}

impl KnownList {
    /// What can be taken from it, where these bytes have changed.
    fn part(&self, changed: &Range<usize>, starts: &[usize], moved: i32) -> Part {
        let count = self.lines.len();
        let start = |line: u32| starts.get(line as usize - 1).copied().unwrap_or(usize::MAX);
        // Those that end before the change; the last of them may go on in it.
        let before = self.lines[1..].partition_point(|line| start(*line) <= changed.start);
        let last_before = before.saturating_sub(1).max(1);
        let first_behind = self.lines.partition_point(|line| start(*line) < changed.end);
        let first_behind = first_behind.min(count - 1).max(last_before);
        Part {
            path: routes_path(self.listener),
            options: self.options,
            routes: Arc::clone(&self.routes),
            lines: self.lines.clone(),
            head: 1..last_before,
            tail: (first_behind + 1).min(count - 1)..count - 1,
            moved,
        }
    }
}

impl Part {
    /// The lines that are left out, as they were numbered, and by how many they have moved.
    fn left_out(&self) -> impl Iterator<Item = (Range<u32>, i32)> {
        let of = |range: &Range<usize>, moved| {
            (!range.is_empty()).then(|| (self.lines[range.start]..self.lines[range.end], moved))
        };
        of(&self.head, 0).into_iter().chain(of(&self.tail, self.moved))
    }

    /// The routes that stand before an element of the short list, each with its line.
    pub(super) fn before(&self, element: usize, elements: usize) -> impl Iterator<Item = (&Route, u32)> {
        let head = if element == 1 { self.head.clone() } else { 0..0 };
        let tail = if element + 1 == elements {
            self.tail.clone()
        } else {
            0..0
        };
        let of = |range: Range<usize>, moved| {
            range.map(move |index| {
                (
                    &self.routes[index],
                    self.lines[index].saturating_add_signed(moved),
                )
            })
        };
        of(head, 0).chain(of(tail, self.moved))
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether those beside what is left out begin where they should, by their lines in the whole text.
    fn fits(&self, kept: &[u32]) -> bool {
        let line = |index: usize, moved: i32| Some(self.lines[index].saturating_add_signed(moved));
        let head = self.head.is_empty()
            || (kept.first().copied() == line(0, 0) && kept.get(1).copied() == line(self.head.end, 0));
        let tail = self.tail.is_empty() || {
            let last_two = kept.len().checked_sub(2).map(|from| [kept[from], kept[from + 1]]);
            let should = line(self.tail.start - 1, self.moved).zip(line(self.tail.end, self.moved));
            last_two.map(|[a, b]| (a, b)) == should
        };
        head && tail
    }
}

impl LeftOut {
    pub(super) fn is_nothing(&self) -> bool {
        self.gaps.is_empty()
    }

    /// A line's number in the whole text.
    pub(super) fn whole_line(&self, line: u32) -> u32 {
        let gaps = self.gaps.iter().filter(|gap| gap.before <= line);
        line + gaps.map(|gap| gap.lines).sum::<u32>()
    }

    /// What is taken from before for the list that stands there.
    pub(super) fn part(&self, path: &KeyPath) -> Option<&Part> {
        self.lists
            .iter()
            .find(|part| part.path == *path && part.count() > 0)
    }

    /// Whether all is as it was supposed.
    pub(super) fn fits(&self, root: &Node, report: &Report, file: usize) -> bool {
        let taken = self.lists.iter().filter(|part| part.count() > 0);
        let mut fitting = taken.map(|part| {
            let kept = list_at(root, &part.path).map(|list| self.lines(list));
            kept.is_some_and(|kept| part.fits(&kept)) && !report.warns_below(file, &part.path)
        });
        fitting.all(|fits| fits)
    }

    fn lines(&self, list: &[Node]) -> Vec<u32> {
        list.iter().map(|node| self.whole_line(node.line)).collect()
    }

    /// Where the elements of the whole list begin.
    fn lines_of(&self, root: &Node, path: &KeyPath) -> Option<Vec<u32>> {
        let kept = self.lines(list_at(root, path)?);
        let Some(part) = self.part(path) else {
            return Some(kept);
        };
        let mut lines = Vec::with_capacity(kept.len() + part.count());
        for (element, line) in kept.iter().enumerate() {
            lines.extend(part.before(element, kept.len()).map(|(_, line)| line));
            lines.push(*line);
        }
        Some(lines)
    }
}

fn list_at<'a>(root: &'a Node, path: &KeyPath) -> Option<&'a [Node]> {
    match &root.at(path)?.value {
        Value::List(elements) => Some(elements),
        _ => None,
    }
}

/// Where each line begins.
fn line_starts(text: &str) -> Vec<usize> {
    let ends = memchr::memchr_iter(b'\n', text.as_bytes());
    iter::once(0).chain(ends.map(|at| at + 1)).collect()
}

/// Whether each of these lines begins with a dash, all of them at one column, and no two are one.
fn begin_with_dashes(text: &str, lines: &[u32]) -> bool {
    let starts = line_starts(text);
    let column = |line: &u32| {
        let rest = text.get(*starts.get(*line as usize - 1)?..)?;
        let column = rest.bytes().take_while(|byte| *byte == b' ').count();
        let is_dash = rest[column..].starts_with("- ");
        is_dash.then_some(column)
    };
    let ascending = lines.is_sorted_by(|a, b| a < b);
    let first = lines.first().and_then(column);
    ascending && first.is_some() && lines.iter().all(|line| column(line) == first)
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const CHUNK: usize = 4 << 10;
    let chunks = iter::zip(a.chunks(CHUNK), b.chunks(CHUNK));
    let same = chunks.take_while(|(a, b)| a == b).map(|(a, _)| a.len()).sum();
    let rest = iter::zip(&a[same..], &b[same..]);
    same + rest.take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    const CHUNK: usize = 4 << 10;
    let chunks = iter::zip(a.rchunks(CHUNK), b.rchunks(CHUNK));
    let same: usize = chunks.take_while(|(a, b)| a == b).map(|(a, _)| a.len()).sum();
    let rest = iter::zip(a[..a.len() - same].iter().rev(), b[..b.len() - same].iter().rev());
    same + rest.take_while(|(a, b)| a == b).count()
}
