//! What keys and answers make of the screen, without a terminal: rows, and whole screens as golden files.
//!
//! WEIR_BLESS=1 cargo test -p proxy-userspace --lib top

use super::{
    keys::{self, Action},
    pages::Page,
    sample::Sample,
    state::Top,
    view::{self, Paint},
};
use crate::{
    admin::status::{BackendState, Status},
    cli::status::tests::{NOW, status},
};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use std::{env, fs, path::PathBuf, time::Duration};

/// Two services more, and what two seconds bring.
fn answers() -> [Sample; 2] {
    let mut first = status();
    for (name, address, mode) in [
        ("web-v6", "[2001:db8::10]:80", "nat"),
        ("quic", "192.0.2.20:443", "ipip"),
    ] {
        let mut service = first.services[0].clone();
        (service.name, service.address, service.mode) = (name.into(), address.into(), mode.into());
        (service.protocol, service.cluster) = ("tcp".into(), "web".into());
        service.backends.truncate(1);
        first.services.push(service);
    }
    let mut second = first.clone();
    for (service, packets) in second.services.iter_mut().zip([2_000, 24_690, 0]) {
        let counters = service.counters.as_mut().unwrap();
        counters.packets += packets;
        counters.bytes += packets * 100;
        counters.flows += packets / 1_000;
        counters.drops += packets / 2_000;
        let counters = service.backends[0].counters.as_mut().unwrap();
        counters.packets += packets;
        counters.flows += packets / 1_000;
    }
    second.kernel.drops[1].packets += 4;
    second.kernel.steering[0].connections += 20;
    for (worker, requests) in second.l7.workers.iter_mut().zip([3_000, 20]) {
        worker.requests += requests;
        worker.accepted += 10;
        worker.responses[4] += 2;
        worker.sent_bytes += requests * 1_024;
    }
    [sample(0, first), sample(2, second)]
}

fn sample(second: u64, status: Status) -> Sample {
    Sample {
        at: Duration::from_secs(second),
        unix_seconds: NOW + second,
        cpu: vec![Some(Duration::from_secs(second) / 4), None],
        status,
    }
}

fn top(page: Page) -> Top {
    let mut top = Top::new(page, Duration::from_secs(1));
    answers().into_iter().for_each(|sample| top.take(Ok(sample)));
    top
}

/// As typed; Esc and Enter by `<` and `>`.
fn press(top: &mut Top, typed: &str) {
    for character in typed.chars() {
        let code = match character {
            '<' => KeyCode::Esc,
            '>' => KeyCode::Enter,
            other => KeyCode::Char(other),
        };
        if let Some(action) = keys::action(KeyEvent::new(code, KeyModifiers::NONE), top.is_typing) {
            top.act(action);
        }
    }
}

/// The first cells of the rows.
fn names(top: &Top) -> Vec<String> {
    let sheet = top.sheet().unwrap();
    sheet.rows.iter().map(|row| row.cells[0].text.clone()).collect()
}

fn cell(top: &Top, row: usize, title: &str) -> String {
    let sheet = top.sheet().unwrap();
    let column = sheet
        .columns
        .iter()
        .position(|column| column.title == title)
        .unwrap();
    sheet.rows[row].cells[column].text.clone()
}

fn screen(top: &Top, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let paint = Paint { has_colour: true };
    terminal
        .draw(|frame| view::draw(top, paint, frame.area(), frame.buffer_mut()))
        .unwrap();
    let cells = terminal.backend().buffer().content();
    let lines = cells.chunks(width.into()).map(|line| {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[test]
fn rates_come_from_two_answers() {
    let mut top = Top::new(Page::Services, Duration::from_secs(1));
    assert!(top.sheet().is_none());
    let [first, second] = answers();
    top.take(Ok(first));
    assert_eq!(cell(&top, 0, "PPS"), "-");
    top.take(Ok(second.clone()));
    let rates: Vec<String> = (0..3).map(|row| cell(&top, row, "PPS")).collect();
    assert_eq!(rates, ["1.0k", "12.3k", "0"]);
    assert_eq!(cell(&top, 1, "BYTES/S"), "1.2 MiB");
    assert_eq!(cell(&top, 0, "FLOWS/S"), "1.0");
    assert_eq!(cell(&top, 0, "DROPS/S"), "0.5");

    // Another daemon: the kernel's counters go on, the workers' begin anew.
    let mut third = second;
    (third.at, third.status.pid) = (Duration::from_secs(4), 43);
    third.status.services[0].counters.as_mut().unwrap().packets += 20;
    top.take(Ok(third.clone()));
    assert_eq!(cell(&top, 0, "PPS"), "10.0");
    top.act(Action::Show(Page::Workers));
    assert_eq!(
        (cell(&top, 0, "REQUESTS/S"), cell(&top, 0, "BUSY")),
        ("-".into(), "-".into())
    );
    // Maps made anew: a counter that is less than before has no rate.
    third.at = Duration::from_secs(5);
    third.status.services[0].counters = Some(Default::default());
    top.take(Ok(third));
    top.act(Action::Show(Page::Services));
    assert_eq!(cell(&top, 0, "PPS"), "-");
}

#[test]
fn workers_show_how_busy_they_are() {
    let top = top(Page::Workers);
    assert_eq!(cell(&top, 0, "BUSY"), "25 %");
    assert_eq!(cell(&top, 1, "BUSY"), "-");
    assert_eq!(cell(&top, 0, "REQUESTS/S"), "1.5k");
}

#[test]
fn sorting_goes_through_the_columns_and_back_to_the_config() {
    let mut top = top(Page::Services);
    let config = ["dns", "web-v6", "quic"];
    assert_eq!(names(&top), config);
    press(&mut top, "s");
    assert_eq!(names(&top), ["dns", "quic", "web-v6"]);
    press(&mut top, "r");
    assert_eq!(names(&top), ["web-v6", "quic", "dns"]);
    // STATE, BACKENDS, PPS: the greatest first.
    press(&mut top, "sss");
    assert_eq!(names(&top), ["web-v6", "dns", "quic"]);
    press(&mut top, "r");
    assert_eq!(names(&top), ["quic", "dns", "web-v6"]);
    let columns = top.sheet().unwrap().columns.len();
    press(&mut top, &"s".repeat(columns - 3));
    assert_eq!(names(&top), config);
    // Each page has its own.
    press(&mut top, "s2");
    assert_eq!(top.chosen().sort.column, None);
    press(&mut top, "1");
    assert_eq!(top.chosen().sort.column, Some(0));
}

#[test]
fn a_filter_is_typed_kept_and_ended() {
    let mut top = top(Page::Services);
    press(&mut top, "/WEB-");
    assert!(top.is_typing);
    assert_eq!(names(&top), ["web-v6"]);
    top.act(Action::Erase);
    // The cluster's name, too.
    assert_eq!(names(&top), ["web-v6", "quic"]);
    press(&mut top, "q");
    assert!(names(&top).is_empty() && !top.is_over);
    top.act(Action::Erase);
    press(&mut top, ">");
    assert!(!top.is_typing && top.chosen().filter == "WEB");
    press(&mut top, "<");
    assert_eq!(names(&top).len(), 3);
}

#[test]
fn a_service_is_opened_and_left() {
    let mut top = top(Page::Services);
    press(&mut top, ">");
    assert_eq!(top.page(), (Page::Backends, Some("dns udp 192.0.2.53:53")));
    assert_eq!(names(&top), ["198.51.100.1:53", "198.51.100.2:53"]);
    assert_eq!(cell(&top, 0, "SHARE"), "50.0 %");
    assert_eq!(cell(&top, 1, "STATE"), "unhealthy");
    press(&mut top, "<");
    assert_eq!(top.page(), (Page::Services, None));
    press(&mut top, "jj>");
    assert_eq!(top.page().1, Some("quic tcp 192.0.2.20:443"));
    // Gone with the next answer.
    let [_, mut third] = answers();
    third.status.services.truncate(1);
    top.take(Ok(third));
    assert!(names(&top).is_empty());
    press(&mut top, "3");
    assert_eq!(top.page(), (Page::Workers, None));
}

#[test]
fn the_selection_follows_its_row() {
    let mut top = top(Page::Services);
    let selected = |top: &Top| {
        let sheet = top.sheet().unwrap();
        sheet.rows[top.selected(&sheet)].cells[0].text.clone()
    };
    press(&mut top, "jj");
    assert_eq!(selected(&top), "quic");
    press(&mut top, "s");
    assert_eq!(selected(&top), "quic");
    press(&mut top, "jjjj");
    assert_eq!(selected(&top), "web-v6");
    let [_, mut third] = answers();
    third.status.services.remove(1);
    top.take(Ok(third));
    assert_eq!(selected(&top), "quic", "the last one that is left");
    press(&mut top, "g");
    assert_eq!(selected(&top), "dns");
}

#[test]
fn pausing_absence_intervals_and_help() {
    let mut top = top(Page::Services);
    press(&mut top, "p");
    top.take(Err("no weir runs on x".into()));
    assert!(top.away.is_none());
    press(&mut top, "p");
    top.take(Err("no weir runs on x".into()));
    assert!(
        screen(&top, 80, 24).contains("unreachable, what is shown was its last answer: no weir runs on x")
    );
    assert_eq!(names(&top).len(), 3);
    top.take(Ok(answers()[1].clone()));
    assert!(!screen(&top, 80, 24).contains("unreachable"));

    press(&mut top, "++");
    assert_eq!(top.interval, Duration::from_secs(5));
    press(&mut top, "--------");
    assert_eq!(top.interval, Duration::from_millis(250));
    press(&mut top, "?");
    assert!(screen(&top, 80, 24).contains("a service's backends"));
    press(&mut top, "j");
    assert!(!top.is_help && !top.is_over);
    press(&mut top, "q");
    assert!(top.is_over);
}

#[test]
fn any_size_is_drawn() {
    for page in Page::TABS {
        let mut top = top(page);
        for is_help in [false, true] {
            top.is_help = is_help;
            for (width, height) in [(1, 1), (8, 3), (20, 7), (40, 10), (300, 100)] {
                screen(&top, width, height);
            }
        }
    }
}

#[test]
fn the_selected_row_is_seen_among_many() {
    let [first, mut second] = answers();
    for number in 0..100 {
        let mut service = first.status.services[0].clone();
        service.name = format!("more-{number}");
        second.status.services.push(service);
    }
    let mut top = top(Page::Services);
    top.take(Ok(second));
    press(&mut top, "G");
    let screen = screen(&top, 80, 24);
    assert!(
        screen.contains("> more-99") && !screen.contains("  dns"),
        "{screen}"
    );
}

fn golden(name: &str, found: &str) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/top")).join(name);
    if env::var_os("WEIR_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "{}: rewrite it with WEIR_BLESS=1", path.display());
}

#[test]
fn screens() {
    for (width, height) in [(80, 24), (140, 40)] {
        let size = format!("{width}x{height}");
        for page in Page::TABS {
            let name = format!("{}_{size}.txt", page.title().to_lowercase());
            golden(&name, &screen(&top(page), width, height));
        }
        let mut backends = top(Page::Services);
        press(&mut backends, ">j");
        golden(&format!("backends_{size}.txt"), &screen(&backends, width, height));
        press(&mut backends, "?");
        golden(&format!("help_{size}.txt"), &screen(&backends, width, height));
    }
    golden("once.txt", &view::plain(&top(Page::Services), 100));
}

/// Colour is never the only sign: where anything is wrong a word says it.
#[test]
fn without_colour_nothing_is_lost() {
    let top = top(Page::Services);
    let draw = |has_colour| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let paint = Paint { has_colour };
        terminal
            .draw(|frame| view::draw(&top, paint, frame.area(), frame.buffer_mut()))
            .unwrap();
        terminal.backend().buffer().clone()
    };
    let (coloured, plain) = (draw(true), draw(false));
    let symbols = |buffer: &ratatui::buffer::Buffer| -> String {
        buffer.content().iter().map(|cell| cell.symbol()).collect()
    };
    assert_eq!(symbols(&coloured), symbols(&plain));
    let is_plain = |cell: &ratatui::buffer::Cell| cell.fg == ratatui::style::Color::Reset;
    assert!(plain.content().iter().all(is_plain) && !coloured.content().iter().all(is_plain));
    let sheet = top.sheet().unwrap();
    let unhealthy = sheet.rows.iter().filter(|row| row.cells[1].text != "healthy");
    assert_eq!(unhealthy.count(), 1);
    assert_eq!(status().services[0].backends[1].state, BackendState::Unhealthy);
}
