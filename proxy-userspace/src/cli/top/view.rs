//! Draws what is shown, as lines of a width: on a screen, or as plain text.

mod head;
mod table;

use super::{
    keys::{ALL, HINT},
    state::Top,
};
use crate::cli::judge::Health;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Clear, Paragraph, Widget},
};

/// Lines above the rows: daemon, health, totals, pages, headings.
const HEAD_LINES: u16 = 5;
/// Lines below at most: the selected row's detail, keys.
const DETAIL_LINES: usize = 3;
const KEY_LINES: u16 = 1;

/// How things are set off. Colour is never the only sign: states are words.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    /// Not where NO_COLOR is set.
    pub(super) has_colour: bool,
}

impl Paint {
    fn health(self, health: Health) -> Style {
        match (health, self.has_colour) {
            (Health::Failing, true) => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            (Health::Degraded, true) => Style::new().fg(Color::Yellow),
            (Health::Healthy, true) => Style::new().fg(Color::Green),
            (Health::Failing | Health::Degraded, false) => Style::new().add_modifier(Modifier::BOLD),
            (Health::Healthy, false) => Style::new(),
        }
    }

    fn quiet(self) -> Style {
        if self.has_colour {
            Style::new().fg(Color::Cyan)
        } else {
            Style::new()
        }
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// The whole screen.
pub(super) fn draw(top: &Top, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let mut detail = wrapped(&table::detail(top), area.width.into(), DETAIL_LINES);
    if area.height < HEAD_LINES + KEY_LINES + detail.len() as u16 + 1 {
        detail.clear();
    }
    let foot = KEY_LINES + detail.len() as u16;
    let room = area.height.saturating_sub(HEAD_LINES + foot);
    let mut lines = head::lines(top, paint, area.width);
    lines.extend(table::lines(top, paint, area.width, Some(room)));
    lines.truncate(area.height.into());
    for (y, line) in (area.top()..).zip(&lines) {
        buffer.set_line(area.left(), y, line, area.width);
    }
    if area.height > HEAD_LINES + foot {
        let detail = detail.into_iter().map(|line| Line::styled(line, paint.quiet()));
        for (y, line) in (area.bottom() - foot..).zip(detail.chain([keys(top, paint, area.width)])) {
            buffer.set_line(area.left(), y, &line, area.width);
        }
    }
    if top.is_help {
        help(paint, area, buffer);
    }
}

/// One frame as plain text: as many rows as there are, none of them selected, no keys.
pub(super) fn plain(top: &Top, width: u16) -> String {
    let paint = Paint { has_colour: false };
    let mut lines = head::lines(top, paint, width);
    lines.extend(table::lines(top, paint, width, None));
    let lines = lines.iter().map(|line| {
        let spans = line.spans.iter().map(|span| span.content.as_ref());
        spans.collect::<String>().trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn keys(top: &Top, paint: Paint, width: u16) -> Line<'static> {
    if !top.is_typing {
        return Line::styled(cut(HINT, width.into()), paint.quiet());
    }
    let filter = &top.chosen().filter;
    let text = format!("/{filter}_  Enter keeps the filter, Esc ends it");
    Line::styled(cut(&text, width.into()), paint.strong())
}

fn help(paint: Paint, area: Rect, buffer: &mut Buffer) {
    let lines: Vec<Line<'_>> = ALL
        .iter()
        .map(|(keys, what)| Line::raw(format!(" {keys:<18}{what}")))
        .collect();
    let size = |wanted: u16, there: u16| wanted.min(there);
    let (width, height) = (size(70, area.width), size(ALL.len() as u16 + 2, area.height));
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(place, buffer);
    let block = Block::bordered().title(" keys ").border_style(paint.strong());
    Paragraph::new(lines).block(block).render(place, buffer);
}

/// What is too long ends with two dots.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(2)).collect();
    format!("{kept}..").chars().take(width).collect()
}

/// Broken at spaces into so many lines; what is more is cut.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let is_last = lines.len() == most;
        match lines.last_mut() {
            Some(line) if is_last || line.chars().count() + word.chars().count() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| cut(line, width)).collect()
}
