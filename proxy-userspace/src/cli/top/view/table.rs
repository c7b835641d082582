//! The table: which columns fit, and the rows around the selected one.

use super::{Paint, cut};
use crate::cli::{
    judge::Health,
    table::Align,
    top::{
        sheet::{Row, Sheet},
        state::Top,
    },
};
use ratatui::text::{Line, Span};

/// Between columns.
const GAP: usize = 2;
/// In front of a row: whether it is selected.
const MARK: usize = 2;
/// A column that isn't the last has no more, however long its words are.
const WIDEST: usize = 36;
/// The last one may be cut to this.
const NARROWEST: usize = 12;

/// All of the selected row that may not fit in it.
pub(super) fn detail(top: &Top) -> String {
    let sheet = top.sheet();
    let detail = sheet.and_then(|sheet| Some(sheet.rows.get(top.selected(&sheet))?.detail.clone()));
    detail.unwrap_or_default()
}

/// Headings and as many rows as there is room for, the selected one among them. Without a bound on rows none is marked.
pub(super) fn lines(top: &Top, paint: Paint, width: u16, room: Option<u16>) -> Vec<Line<'static>> {
    let Some(sheet) = top.sheet() else {
        return Vec::new();
    };
    let width = usize::from(width);
    let selected = top.selected(&sheet);
    let is_marked = room.is_some();
    let room = room.map_or(usize::MAX, usize::from);
    // As far down as it takes for the selected row to be the last one seen.
    let first = (selected + 1).saturating_sub(room).min(sheet.rows.len());
    let last = first.saturating_add(room).min(sheet.rows.len());
    let shown = &sheet.rows[first..last];
    let columns = fitting(top, &sheet, shown, width);
    let mut lines = vec![Line::styled(
        cut(&headings(top, &sheet, &columns), width),
        paint.strong(),
    )];
    if sheet.rows.is_empty() {
        let (page, _) = top.page();
        let nothing = if top.chosen().filter.is_empty() {
            page.nothing()
        } else {
            "no row has that text; Esc shows all"
        };
        lines.push(Line::raw(format!("  {nothing}")));
    }
    for (at, row) in (first..).zip(shown) {
        lines.push(line(row, &sheet, &columns, paint, is_marked && at == selected));
    }
    lines
}

/// Columns by their place in the sheet, each with its width.
type Fitting = Vec<(usize, usize)>;

/// Takes columns by priority while there is room; the sheet's last one may be cut. What is sorted by is always there.
fn fitting(top: &Top, sheet: &Sheet, rows: &[Row], width: usize) -> Fitting {
    let sorted = top.chosen().sort.column;
    let mut order: Vec<usize> = (0..sheet.columns.len()).collect();
    order.sort_by_key(|column| match sorted == Some(*column) {
        true => 0,
        false => sheet.columns[*column].priority,
    });
    let mut left = width.saturating_sub(MARK);
    let mut taken = Vec::new();
    for column in order {
        let gap = if taken.is_empty() { 0 } else { GAP };
        let heading = heading(top, sheet, column).chars().count();
        let longest = rows
            .iter()
            .map(|row| row.cells[column].text.chars().count())
            .max();
        let wanted = heading.max(longest.unwrap_or_default());
        let is_last = column + 1 == sheet.columns.len() && sheet.columns[column].align == Align::Left;
        let room = left.saturating_sub(gap);
        let wanted = if is_last && room >= NARROWEST {
            wanted.min(room)
        } else if is_last || sheet.columns[column].priority > 0 {
            wanted.min(WIDEST)
        } else {
            // What must be there is cut rather than left out.
            wanted.min(WIDEST.max(width / 2)).min(room)
        };
        if wanted == 0 || wanted > room {
            // Nothing that matters less takes its place.
            break;
        }
        left -= wanted + gap;
        taken.push((column, wanted));
    }
    taken.sort_unstable();
    taken
}

/// With the direction, if it is sorted by.
fn heading(top: &Top, sheet: &Sheet, column: usize) -> String {
    let title = sheet.columns[column].title;
    let sort = top.chosen().sort;
    if sort.column != Some(column) {
        return title.to_owned();
    }
    // Numbers begin with the greatest, words with A.
    let is_falling = (sheet.columns[column].align == Align::Right) != sort.is_reversed;
    format!("{title} {}", if is_falling { "v" } else { "^" })
}

fn headings(top: &Top, sheet: &Sheet, columns: &Fitting) -> String {
    let cells = columns.iter().map(|(column, width)| {
        let text = heading(top, sheet, *column);
        aligned(&text, *width, sheet.columns[*column].align)
    });
    let cells: Vec<String> = cells.collect();
    format!("{}{}", " ".repeat(MARK), cells.join(&" ".repeat(GAP)))
}

fn line(row: &Row, sheet: &Sheet, columns: &Fitting, paint: Paint, is_selected: bool) -> Line<'static> {
    let mut spans = vec![Span::raw(if is_selected { "> " } else { "  " })];
    for (at, (column, width)) in columns.iter().enumerate() {
        if at > 0 {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
        let text = aligned(&row.cells[*column].text, *width, sheet.columns[*column].align);
        // The state's own column, where there is one, has its colour always; whole rows only where something is wrong.
        let is_state = matches!(sheet.columns[*column].title, "STATE" | "HEALTH");
        let style = if is_state || row.health > Health::Healthy {
            paint.health(row.health)
        } else {
            ratatui::style::Style::new()
        };
        spans.push(Span::styled(text, style));
    }
    let line = Line::from(spans);
    if is_selected {
        line.style(paint.chosen())
    } else {
        line
    }
}

fn aligned(text: &str, width: usize, align: Align) -> String {
    let text = cut(text, width);
    match align {
        Align::Left => format!("{text:<width$}"),
        Align::Right => format!("{text:>width$}"),
    }
}
