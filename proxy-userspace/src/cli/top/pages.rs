//! The pages: which there are, and what each shows of two answers.

mod kernel;
mod l7;
mod services;

use super::{sample::Pair, sheet::Sheet};
use crate::cli::judge::Judgement;

/// A page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Page {
    Services,
    Listeners,
    Workers,
    Drops,
    Kernel,
    Health,
    /// Of one service.
    Backends,
}

impl Page {
    /// Those with a number, in their order.
    pub(super) const TABS: [Self; 6] = [
        Self::Services,
        Self::Listeners,
        Self::Workers,
        Self::Drops,
        Self::Kernel,
        Self::Health,
    ];

    /// How many there are in all.
    pub(super) const COUNT: usize = Self::TABS.len() + 1;

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Services => "Services",
            Self::Listeners => "Listeners",
            Self::Workers => "Workers",
            Self::Drops => "Drops",
            Self::Kernel => "Kernel",
            Self::Health => "Health",
            Self::Backends => "Backends",
        }
    }

    /// What stands there instead of rows.
    pub(super) fn nothing(self) -> &'static str {
        match self {
            Self::Services => "no L4 services; listeners with routes are on page 2",
            Self::Listeners => "no L7 listeners; what is forwarded is on page 1",
            Self::Workers => "no workers",
            Self::Drops => "nothing was dropped",
            Self::Kernel => "nothing",
            Self::Health => "nothing needs attention",
            Self::Backends => "no backends, or the service is gone",
        }
    }
}

/// A page's rows, in the daemon's order. `service` is the one whose backends are shown.
pub(super) fn sheet(page: Page, pair: Pair<'_>, judgement: &Judgement, service: Option<&str>) -> Sheet {
    match page {
        Page::Services => services::services(pair),
        Page::Backends => services::backends(pair, service.unwrap_or_default()),
        Page::Listeners => l7::listeners(pair),
        Page::Workers => l7::workers(pair),
        Page::Drops => kernel::drops(pair),
        Page::Kernel => kernel::plane(pair),
        Page::Health => kernel::health(judgement),
    }
}
