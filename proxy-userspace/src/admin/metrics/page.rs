//! Writes a page of metrics. The formats differ in a counter's family name, in UNIT and in the end.

use super::{
    Format,
    catalogue::{Kind, Metric},
};
use crate::l7::meters::{BOUNDS_SECONDS, BUCKETS, Exemplar};
use bytes::Bytes;
use std::fmt::Write;

/// A page in the making: a family after the other, each once.
pub struct Page {
    text: String,
    format: Format,
}

/// A sample's labels, written once and used in many families.
#[derive(Clone, Default, Debug)]
pub struct Labels(String);

/// A family of a page; what it is is written before its first sample, and not without one.
pub struct Family<'a> {
    page: &'a mut Page,
    metric: &'static Metric,
    is_begun: bool,
}

impl Labels {
    /// In the catalogue's order.
    pub fn new(pairs: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for pair in pairs {
            push_label(&mut text, *pair);
        }
        Self(text)
    }
}

impl Page {
    /// Empty.
    pub fn new(format: Format) -> Self {
        Self {
            text: String::with_capacity(64 << 10),
            format,
        }
    }

    /// The next family.
    pub fn family(&mut self, metric: &'static Metric) -> Family<'_> {
        Family {
            page: self,
            metric,
            is_begun: false,
        }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, metric: &'static Metric, value: f64) {
        self.family(metric).float(&Labels::default(), value);
    }

    /// All of it.
    pub fn finish(mut self) -> Bytes {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text.into()
    }
}

impl Family<'_> {
    /// A sample with a whole number.
    pub fn number(&mut self, labels: &Labels, value: u64) {
        self.begin();
        self.name(self.suffix(), labels, None);
        self.end(format_args!("{value}"));
    }

    /// The same with one label more.
    pub fn number_of(&mut self, labels: &Labels, more: (&str, &str), value: u64) {
        self.begin();
        self.name(self.suffix(), labels, Some(more));
        self.end(format_args!("{value}"));
    }

    /// A sample with any number that is finite.
    pub fn float(&mut self, labels: &Labels, value: f64) {
        self.begin();
        self.name(self.suffix(), labels, None);
        self.end(format_args!("{value}"));
    }

    /// A histogram's samples, of counts that aren't cumulated; with a trace of each bucket that has one where the format knows that.
    pub fn histogram(
        &mut self,
        labels: &Labels,
        buckets: &[u64; BUCKETS],
        sum_nanoseconds: u64,
        exemplars: Option<&[Option<Exemplar>; BUCKETS]>,
    ) {
        self.begin();
        let exemplars = exemplars.filter(|_| self.page.format == Format::OpenMetrics);
        let mut below = 0;
        for (bucket, (count, bound)) in buckets.iter().zip(LE).enumerate() {
            below += count;
            self.name("_bucket", labels, Some(("le", bound)));
            // A request is counted a moment after its trace is over, and may be in the next bucket.
            match exemplars
                .and_then(|exemplars| exemplars[bucket])
                .filter(|_| *count > 0)
            {
                None => self.end(format_args!("{below}")),
                Some(Exemplar {
                    trace_id,
                    nanoseconds,
                    unix_milliseconds,
                }) => self.end(format_args!(
                    "{below} # {{trace_id=\"{trace_id:032x}\"}} {} {}.{:03}",
                    nanoseconds as f64 / 1e9,
                    unix_milliseconds / 1_000,
                    unix_milliseconds % 1_000
                )),
            }
        }
        self.name("_sum", labels, None);
        self.end(format_args!("{}", sum_nanoseconds as f64 / 1e9));
        self.name("_count", labels, None);
        self.end(format_args!("{below}"));
    }

    fn suffix(&self) -> &'static str {
        self.metric.kind.suffix()
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let Metric {
            name,
            kind,
            unit,
            help,
            ..
        } = self.metric;
        let text = &mut self.page.text;
        // A counter's family is named without the suffix of its samples in OpenMetrics, and with it in the older format.
        let suffix = match self.page.format {
            Format::Text => kind.suffix(),
            Format::OpenMetrics => "",
        };
        let written = write!(text, "# HELP {name}{suffix} ");
        push_escaped(text, help, self.page.format == Format::OpenMetrics);
        let kind = kind.name();
        let typed = write!(text, "\n# TYPE {name}{suffix} {kind}\n");
        // Writing to a String doesn't fail.
        debug_assert!(written.is_ok() && typed.is_ok());
        if self.page.format == Format::OpenMetrics && !unit.is_empty() {
            let told = writeln!(text, "# UNIT {name} {unit}");
            debug_assert!(told.is_ok());
        }
    }

    fn name(&mut self, suffix: &str, labels: &Labels, more: Option<(&str, &str)>) {
        let text = &mut self.page.text;
        text.push_str(self.metric.name);
        text.push_str(suffix);
        if labels.0.is_empty() && more.is_none() {
            return;
        }
        text.push('{');
        let begin = text.len();
        text.push_str(&labels.0);
        if let Some((name, value)) = more {
            if text.len() > begin {
                text.push(',');
            }
            text.push_str(name);
            text.push_str("=\"");
            push_escaped(text, value, true);
            text.push('"');
        }
        text.push('}');
    }

    fn end(&mut self, value: std::fmt::Arguments<'_>) {
        let text = &mut self.page.text;
        let written = writeln!(text, " {value}");
        debug_assert!(written.is_ok());
    }
}

/// [`BOUNDS_SECONDS`] as OpenMetrics wants them, the same in both formats: else a series' labels would depend on the format.
const LE: [&str; BUCKETS] = [
    "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0",
    "10.0", "+Inf",
];

const _: () = assert!(BOUNDS_SECONDS.len() + 1 == LE.len());

fn push_label(text: &mut String, (name, value): (&str, &str)) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    push_escaped(text, value, true);
    text.push('"');
}

/// Backslash and line feed; quotes too in labels, and in OpenMetrics' help.
fn push_escaped(text: &mut String, value: &str, quotes: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

impl Kind {
    /// What its samples' names have behind the family's; a histogram's have several.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Gauge | Self::Histogram => "",
        }
    }

    /// As TYPE names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static COUNTER: Metric = Metric {
        name: "weir_sent_bytes",
        kind: Kind::Counter,
        unit: "bytes",
        labels: &["listener"],
        help: "What \"it\" sent\\.",
    };
    static HISTOGRAM: Metric = Metric {
        name: "weir_duration_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "Time.",
    };

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        let odd = Labels::new(&[("listener", "a\\b\"c\nd")]);
        let mut family = page.family(&COUNTER);
        family.number(&odd, 7);
        family.number_of(&Labels::default(), ("listener", "x"), u64::MAX);
        let _no_samples = page.family(&HISTOGRAM);
        String::from_utf8(page.finish().to_vec()).unwrap()
    }

    #[test]
    fn both_formats_escape_and_name_as_they_must() {
        assert_eq!(
            page(Format::Text),
            "# HELP weir_sent_bytes_total What \"it\" sent\\\\.\n\
             # TYPE weir_sent_bytes_total counter\n\
             weir_sent_bytes_total{listener=\"a\\\\b\\\"c\\nd\"} 7\n\
             weir_sent_bytes_total{listener=\"x\"} 18446744073709551615\n"
        );
        assert_eq!(
            page(Format::OpenMetrics),
            "# HELP weir_sent_bytes What \\\"it\\\" sent\\\\.\n\
             # TYPE weir_sent_bytes counter\n\
             # UNIT weir_sent_bytes bytes\n\
             weir_sent_bytes_total{listener=\"a\\\\b\\\"c\\nd\"} 7\n\
             weir_sent_bytes_total{listener=\"x\"} 18446744073709551615\n\
             # EOF\n"
        );
    }

    #[test]
    fn open_metrics_has_exemplars() {
        let mut exemplars = [None; BUCKETS];
        exemplars[1] = Some(Exemplar {
            trace_id: 0x1f,
            nanoseconds: 700_000,
            unix_milliseconds: 1_795_728_429_007,
        });
        exemplars[2] = exemplars[1];
        let mut buckets = [0; BUCKETS];
        (buckets[0], buckets[1]) = (3, 1);
        let text = |format| {
            let mut page = Page::new(format);
            page.family(&HISTOGRAM)
                .histogram(&Labels::default(), &buckets, 0, Some(&exemplars));
            String::from_utf8(page.finish().to_vec()).unwrap()
        };
        let line = "_bucket{le=\"0.001\"} 4 # {trace_id=\"0000000000000000000000000000001f\"} 0.0007 1795728429.007\n";
        let open = text(Format::OpenMetrics);
        assert!(open.contains(line), "{open}");
        assert_eq!(
            open.matches(" # {").count(),
            1,
            "one whose bucket counts none: {open}"
        );
        assert!(!text(Format::Text).contains("trace_id"));
    }

    #[test]
    fn a_histogram_is_cumulated() {
        let mut page = Page::new(Format::Text);
        let mut buckets = [0; BUCKETS];
        (buckets[0], buckets[3], buckets[BUCKETS - 1]) = (1, 2, 4);
        page.family(&HISTOGRAM)
            .histogram(&Labels::default(), &buckets, 1_500_000_000, None);
        let text = String::from_utf8(page.finish().to_vec()).unwrap();
        for line in [
            "weir_duration_seconds_bucket{le=\"0.0005\"} 1\n",
            "weir_duration_seconds_bucket{le=\"0.0025\"} 1\n",
            "weir_duration_seconds_bucket{le=\"0.005\"} 3\n",
            "weir_duration_seconds_bucket{le=\"10.0\"} 3\n",
            "weir_duration_seconds_bucket{le=\"+Inf\"} 7\n",
            "weir_duration_seconds_sum 1.5\n",
            "weir_duration_seconds_count 7\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        for (text, bound) in LE.iter().zip(BOUNDS_SECONDS) {
            assert_eq!(text.parse::<f64>().unwrap(), bound);
        }
    }
}
