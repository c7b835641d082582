//! What is shown: two answers, a page, and what was chosen on it. Pure: input and answers in, rows out.

use super::{
    keys::Action,
    pages::{Page, sheet},
    sample::{Pair, Sample},
    sheet::{Sheet, Sort},
};
use crate::cli::judge::{Judgement, judge};
use std::time::Duration;

/// What `+` and `-` go through.
const INTERVALS: [Duration; 8] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// What was chosen on one page.
#[derive(Clone, Default)]
pub(super) struct Chosen {
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// The selected row's place, and its key: rows that move take the selection with them.
    selected: usize,
    key: Option<String>,
}

/// All of it.
pub(super) struct Top {
    now: Option<Sample>,
    before: Option<Sample>,
    page: Page,
    /// The service whose backends are shown.
    service: Option<String>,
    chosen: [Chosen; Page::COUNT],
    pub(super) interval: Duration,
    /// Why the daemon gives no answer.
    pub(super) away: Option<String>,
    pub(super) is_paused: bool,
    /// A filter is being typed.
    pub(super) is_typing: bool,
    pub(super) is_help: bool,
    /// The time is over.
    pub(super) is_over: bool,
}

impl Top {
    pub(super) fn new(page: Page, interval: Duration) -> Self {
        Self {
            now: None,
            before: None,
            page,
            service: None,
            chosen: Default::default(),
            interval,
            away: None,
            is_paused: false,
            is_typing: false,
            is_help: false,
            is_over: false,
        }
    }

    /// An answer, or why there is none; while paused neither changes what is shown.
    pub(super) fn take(&mut self, answer: Result<Sample, String>) {
        if self.is_paused {
            return;
        }
        match answer {
            Ok(sample) => {
                self.away = None;
                self.before = self.now.replace(sample);
            }
            Err(why) => self.away = Some(why),
        }
        self.follow_selection();
    }

    pub(super) fn pair(&self) -> Option<Pair<'_>> {
        Some(Pair::new(self.now.as_ref()?, self.before.as_ref()))
    }

    pub(super) fn judgement(&self) -> Option<Judgement> {
        let pair = self.pair()?;
        Some(judge(&pair.now.status, pair.before(), pair.now.unix_seconds))
    }

    /// The page, and the service it is about.
    pub(super) fn page(&self) -> (Page, Option<&str>) {
        (self.page, self.service.as_deref())
    }

    pub(super) fn chosen(&self) -> &Chosen {
        &self.chosen[self.page as usize]
    }

    /// The page's rows as chosen; none before the first answer.
    pub(super) fn sheet(&self) -> Option<Sheet> {
        let judgement = self.judgement()?;
        let mut sheet = sheet(self.page, self.pair()?, &judgement, self.service.as_deref());
        sheet.filter(&self.chosen().filter);
        sheet.sort(self.chosen().sort);
        Some(sheet)
    }

    /// The selected row's place among these; 0 where there are none.
    pub(super) fn selected(&self, sheet: &Sheet) -> usize {
        let chosen = self.chosen();
        let by_key = (chosen.key.as_ref()).and_then(|key| sheet.rows.iter().position(|row| row.key == *key));
        by_key.unwrap_or_else(|| chosen.selected.min(sheet.rows.len().saturating_sub(1)))
    }

    /// Does what a key says.
    pub(super) fn act(&mut self, action: Action) {
        if self.is_help && action != Action::Quit {
            self.is_help = false;
            return;
        }
        match action {
            Action::Quit => self.is_over = true,
            Action::Show(page) => self.show(page),
            Action::NextPage => self.turn(1),
            Action::PreviousPage => self.turn(Page::TABS.len() - 1),
            Action::Move(rows) => self.select(|at, _| at.saturating_add_signed(rows)),
            Action::First => self.select(|_, _| 0),
            Action::Last => self.select(|_, count| count),
            Action::Enter => self.enter(),
            Action::Back => self.back(),
            Action::NextSort => self.next_sort(),
            Action::Reverse => {
                let sort = &mut self.chosen_mut().sort;
                sort.is_reversed = !sort.is_reversed;
            }
            Action::BeginFilter => self.is_typing = true,
            Action::Type(character) => self.chosen_mut().filter.push(character),
            Action::Erase => {
                self.chosen_mut().filter.pop();
            }
            Action::EndFilter => self.is_typing = false,
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Slower => {
                let longer = INTERVALS.iter().find(|each| **each > self.interval);
                self.interval = *longer.unwrap_or(&self.interval);
            }
            Action::Faster => {
                let shorter = INTERVALS.iter().rfind(|each| **each < self.interval);
                self.interval = *shorter.unwrap_or(&self.interval);
            }
            Action::Help => self.is_help = true,
        }
        self.follow_selection();
    }

    fn chosen_mut(&mut self) -> &mut Chosen {
        &mut self.chosen[self.page as usize]
    }

    fn show(&mut self, page: Page) {
        self.page = page;
        self.service = None;
    }

    /// To the tab so many after this one; backends count as services.
    fn turn(&mut self, by: usize) {
        let at = Page::TABS.iter().position(|page| *page == self.page);
        self.show(Page::TABS[(at.unwrap_or_default() + by) % Page::TABS.len()]);
    }

    fn enter(&mut self) {
        if self.page != Page::Services {
            return;
        }
        let Some(sheet) = self.sheet() else { return };
        if let Some(row) = sheet.rows.get(self.selected(&sheet)) {
            self.page = Page::Backends;
            self.service = Some(row.key.clone());
            // Another service's choice is none for this one.
            *self.chosen_mut() = Chosen {
                sort: self.chosen().sort,
                ..Chosen::default()
            };
        }
    }

    fn back(&mut self) {
        if self.is_typing || !self.chosen().filter.is_empty() {
            self.is_typing = false;
            self.chosen_mut().filter.clear();
        } else if self.page == Page::Backends {
            self.show(Page::Services);
        }
    }

    fn next_sort(&mut self) {
        let columns = self.sheet().map_or(0, |sheet| sheet.columns.len());
        let sort = &mut self.chosen_mut().sort;
        sort.is_reversed = false;
        sort.column = match sort.column {
            None => (columns > 0).then_some(0),
            Some(column) => (column + 1 < columns).then_some(column + 1),
        };
    }

    fn select(&mut self, place: impl Fn(usize, usize) -> usize) {
        let Some(sheet) = self.sheet() else { return };
        let last = sheet.rows.len().saturating_sub(1);
        let at = place(self.selected(&sheet), last).min(last);
        let key = sheet.rows.get(at).map(|row| row.key.clone());
        let chosen = self.chosen_mut();
        (chosen.selected, chosen.key) = (at, key);
    }

    /// The place of the selected row may be another now. One that nobody chose stays at its place.
    fn follow_selection(&mut self) {
        if self.chosen().key.is_some() {
            self.select(|at, _| at);
        }
    }
}
