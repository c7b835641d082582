//! What keys do.

use super::pages::Page;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Something to be done to what is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Quit,
    Show(Page),
    NextPage,
    PreviousPage,
    /// Down by so many rows; up if negative.
    Move(isize),
    First,
    Last,
    /// Into the selected row.
    Enter,
    /// Out of it, or of the filter.
    Back,
    NextSort,
    Reverse,
    BeginFilter,
    Type(char),
    Erase,
    /// The filter stays.
    EndFilter,
    Pause,
    Slower,
    Faster,
    Help,
}

/// Rows of a long step.
const PAGE_ROWS: isize = 10;

/// What a key does, while a filter is typed or not.
pub(super) fn action(key: KeyEvent, is_typing: bool) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Action::Quit),
            KeyCode::Char('u') if is_typing => Some(Action::Back),
            _ => None,
        };
    }
    if is_typing {
        typed(key.code)
    } else {
        pressed(key.code)
    }
}

fn typed(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char(character) => Some(Action::Type(character)),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Enter => Some(Action::EndFilter),
        KeyCode::Esc => Some(Action::Back),
        KeyCode::Up => Some(Action::Move(-1)),
        KeyCode::Down => Some(Action::Move(1)),
        _ => None,
    }
}

fn pressed(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Char(digit @ '1'..='9') => {
            let number = digit.to_digit(10)? as usize;
            Action::Show(*Page::TABS.get(number - 1)?)
        }
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => Action::NextPage,
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => Action::PreviousPage,
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Action::Move(PAGE_ROWS),
        KeyCode::PageUp => Action::Move(-PAGE_ROWS),
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Enter => Action::Enter,
        KeyCode::Esc | KeyCode::Backspace => Action::Back,
        KeyCode::Char('s') => Action::NextSort,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('/') => Action::BeginFilter,
        KeyCode::Char('p') => Action::Pause,
        KeyCode::Char('+') => Action::Slower,
        KeyCode::Char('-') => Action::Faster,
        KeyCode::Char('?') => Action::Help,
        _ => return None,
    })
}

/// The keys that are always shown.
pub(super) const HINT: &str = "q quit  Tab page  Enter open  Esc back  s r sort  / filter  p pause  ? help";

/// All of them, for the help.
pub(super) const ALL: [(&str, &str); 11] = [
    ("1-6, Tab, arrows", "pages"),
    ("j k, arrows", "select a row; Space and g G go further"),
    ("Enter", "a service's backends"),
    ("Esc", "back; without the filter"),
    ("s", "sort by the next column, at last as configured"),
    ("r", "the other way round"),
    ("/", "rows with this text alone"),
    ("p", "pause, and go on"),
    ("+ -", "a longer or shorter interval"),
    ("?", "this"),
    ("q", "quit"),
];
