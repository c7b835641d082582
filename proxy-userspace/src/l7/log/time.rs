//! Times in lines: strftime's usual conversions, in UTC, with the calendar worked out once a second.

use std::{
    cell::Cell,
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How a time is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TimeFormat(Box<[Piece]>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(Box<str>),
    Field(Field),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Year,
    Month,
    Day,
    DayPadded,
    Hour,
    Minute,
    Second,
    DayOfYear,
    WeekdayName,
    MonthName,
    Epoch,
    /// Digits of the fraction of a second.
    Fraction(u8),
    /// `+0000`.
    Offset,
    /// `UTC`.
    Zone,
}

/// Envoy's default: `2026-11-26T21:27:09.123Z`.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// 1970-01-01 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl TimeFormat {
    /// Conversions: `%Y %m %d %e %H %M %S %j %a %b %s %z %Z %F %T %f %1f … %9f %%`. Empty is the default form.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let text = if text.is_empty() { DEFAULT } else { text };
        parse_into(text, &mut pieces)?;
        Ok(Self(pieces.into()))
    }

    /// Appends it. Texts between conversions come as they were typed, through `escape`.
    pub(super) fn write(&self, time: SystemTime, escape: super::Escape, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let calendar = Calendar::of(since.as_secs());
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => escape.write(text.as_bytes(), out),
                Piece::Field(field) => write_field(*field, &calendar, since, out),
            }
        }
    }
}

fn parse_into(text: &str, pieces: &mut Vec<Piece>) -> Result<(), String> {
    let mut rest = text;
    while let Some((before, conversion)) = rest.split_once('%') {
        push_text(before, pieces);
        let mut characters = conversion.chars();
        let letter = characters.next();
        rest = characters.as_str();
        let field = match letter {
            Some('Y') => Field::Year,
            Some('m') => Field::Month,
            Some('d') => Field::Day,
            Some('e') => Field::DayPadded,
            Some('H') => Field::Hour,
            Some('M') => Field::Minute,
            Some('S') => Field::Second,
            Some('j') => Field::DayOfYear,
            Some('a') => Field::WeekdayName,
            Some('b' | 'h') => Field::MonthName,
            Some('s') => Field::Epoch,
            Some('f') => Field::Fraction(9),
            Some('z') => Field::Offset,
            Some('Z') => Field::Zone,
            Some(digit @ '1'..='9') if rest.starts_with('f') => {
                rest = &rest[1..];
                Field::Fraction(digit as u8 - b'0')
            }
            Some('F') => {
                parse_into("%Y-%m-%d", pieces)?;
                continue;
            }
            Some('T') => {
                parse_into("%H:%M:%S", pieces)?;
                continue;
            }
            Some('%') => {
                push_text("%", pieces);
                continue;
            }
            other => {
                let what = other.map_or_else(|| "a % at the end".into(), |letter| format!("%{letter}"));
                return Err(format!(
                    "{what} is no part of a time; use %Y %m %d %e %H %M %S %j %a %b %s %z %Z %F %T %3f or %%"
                ));
            }
        };
        pieces.push(Piece::Field(field));
    }
    push_text(rest, pieces);
    Ok(())
}

fn push_text(text: &str, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
}

fn write_field(field: Field, calendar: &Calendar, since: Duration, out: &mut Vec<u8>) {
    match field {
        Field::Year => digits(calendar.year, 4, b'0', out),
        Field::Month => digits(calendar.month, 2, b'0', out),
        Field::Day => digits(calendar.day, 2, b'0', out),
        Field::DayPadded => digits(calendar.day, 2, b' ', out),
        Field::Hour => digits(calendar.hour, 2, b'0', out),
        Field::Minute => digits(calendar.minute, 2, b'0', out),
        Field::Second => digits(calendar.second, 2, b'0', out),
        Field::DayOfYear => digits(calendar.day_of_year, 3, b'0', out),
        Field::WeekdayName => out.extend_from_slice(WEEKDAYS[calendar.weekday as usize % 7].as_bytes()),
        Field::MonthName => out.extend_from_slice(MONTHS[(calendar.month as usize + 11) % 12].as_bytes()),
        Field::Epoch => {
            // Writing into memory does not fail.
            let _infallible = write!(out, "{}", since.as_secs());
        }
        Field::Fraction(count) => {
            let scaled = since.subsec_nanos() / 10u32.pow(9 - u32::from(count));
            digits(scaled, usize::from(count), b'0', out);
        }
        Field::Offset => out.extend_from_slice(b"+0000"),
        Field::Zone => out.extend_from_slice(b"UTC"),
    }
}

/// A number in at least `width` places (at most 10), padded.
fn digits(mut number: u32, width: usize, pad: u8, out: &mut Vec<u8>) {
    let mut buffer = [pad; 10];
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let start = at.min(buffer.len().saturating_sub(width));
    out.extend_from_slice(&buffer[start..]);
}

/// A second in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Calendar {
    epoch: u64,
    year: u32,
    /// From 1.
    month: u32,
    /// From 1.
    day: u32,
    /// From 1.
    day_of_year: u32,
    /// Since Thursday.
    weekday: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl Calendar {
    /// The last second asked for is remembered, per thread.
    fn of(epoch: u64) -> Self {
        thread_local! {
            static LAST: Cell<Option<Calendar>> = const { Cell::new(None) };
        }
        match LAST.get() {
            Some(last) if last.epoch == epoch => last,
            _ => {
                let calendar = Self::work_out(epoch);
                LAST.set(Some(calendar));
                calendar
            }
        }
    }

    /// Howard Hinnant's days-to-civil: years begin on the first of March, so that leap days stand at their end.
    fn work_out(epoch: u64) -> Self {
        const DAYS_IN_ERA: u64 = 146_097;
        // From 0000-03-01 to 1970-01-01.
        const SHIFT: u64 = 719_468;
        let days = epoch / 86_400;
        let shifted = days + SHIFT;
        let of_era = shifted % DAYS_IN_ERA;
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + shifted / DAYS_IN_ERA * 400 + u64::from(month <= 2);
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let day_of_year = if month > 2 {
            of_year + 59 + u64::from(leap)
        } else {
            of_year - 306
        };
        Self {
            epoch,
            year: year as u32,
            month: month as u32,
            day: (of_year - (153 * month_from_march + 2) / 5 + 1) as u32,
            day_of_year: day_of_year as u32 + 1,
            weekday: (days % 7) as u32,
            hour: (epoch / 3_600 % 24) as u32,
            minute: (epoch / 60 % 60) as u32,
            second: (epoch % 60) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l7::log::Escape;

    fn shown(format: &str, time: SystemTime) -> String {
        let mut out = Vec::new();
        TimeFormat::parse(format)
            .unwrap()
            .write(time, Escape::Text, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Against another calendar, over four centuries.
    #[test]
    fn agrees_with_an_independent_calendar() {
        let format = "%Y-%m-%d %H:%M:%S %j %a %b %e %s %F %T %z";
        let mut epoch: i64 = 0;
        while epoch < 400 * 366 * 86_400 {
            let theirs = jiff::Timestamp::from_second(epoch).unwrap();
            let theirs = theirs
                .to_zoned(jiff::tz::TimeZone::UTC)
                .strftime(format)
                .to_string();
            let time = UNIX_EPOCH + Duration::from_secs(epoch as u64);
            assert_eq!(shown(format, time), theirs);
            epoch += 86_399 * 11;
        }
    }

    #[test]
    fn fractions() {
        let time = UNIX_EPOCH + Duration::new(1_795_728_429, 1_230_456);
        assert_eq!(shown("", time), "2026-11-26T21:27:09.001Z");
        assert_eq!(shown("%S.%6f|%f|%1f", time), "09.001230|001230456|0");
        assert_eq!(shown("100%% %Z\"", time), "100% UTC\\x22");
        assert_eq!(shown("%s", UNIX_EPOCH - Duration::from_secs(5)), "0");
    }

    #[test]
    fn unknown_conversions_are_named() {
        for (format, named) in [("%Q", "%Q"), ("%", "a % at the end"), ("%3d", "%3"), ("%D", "%D")] {
            let error = TimeFormat::parse(format).unwrap_err();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
