//! Prometheus' text format, version 0.0.4 (pure).

use crate::router::tally::{BOUNDS, Histogram};
use std::fmt::{Display, Write};

/// `Content-Type` of it.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written: family after family, each with its samples.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    /// Of every sample.
    app: String,
    family: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Name and value.
pub(crate) type Label<'a> = (&'a str, &'a str);

impl Page {
    pub(crate) fn new(app: &str) -> Self {
        Self { app: app.to_owned(), ..Self::default() }
    }

    /// Begins a family. `help` is one line.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.family = name;
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(crate) fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.line("", labels, None, &value);
    }

    pub(crate) fn histogram(&mut self, labels: &[Label<'_>], histogram: &Histogram) {
        let (below, total) = histogram.cumulated();
        for (bound, count) in BOUNDS.iter().zip(below) {
            let bound = (*bound as f64 / 1e6).to_string();
            self.line("_bucket", labels, Some(("le", &bound)), &count);
        }
        self.line("_bucket", labels, Some(("le", "+Inf")), &total);
        self.line("_sum", labels, None, &histogram.sum());
        self.line("_count", labels, None, &total);
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], last: Option<Label<'_>>, value: &dyn Display) {
        let _ = write!(self.text, "{}{suffix}{{app=\"{}\"", self.family, escape(&self.app));
        for (name, text) in labels.iter().chain(last.iter()) {
            let _ = write!(self.text, ",{name}=\"{}\"", escape(text));
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn families_and_samples() {
        let mut page = Page::new("a\"b\\c\nd");
        page.family("x_total", Kind::Counter, "One\nline.");
        page.sample(&[("reason", "1"), ("code", "400")], 7);
        page.sample(&[], 1.5);
        let app = "app=\"a\\\"b\\\\c\\nd\"";
        let text = format!(
            "# HELP x_total One\\nline.\n# TYPE x_total counter\n\
             x_total{{{app},reason=\"1\",code=\"400\"}} 7\nx_total{{{app}}} 1.5\n"
        );
        assert_eq!(page.into_text(), text);
    }

    #[test]
    fn a_histogram() {
        let histogram = Histogram::default();
        histogram.note(Duration::from_millis(2));
        histogram.note(Duration::from_secs(9));
        let mut page = Page::new("a");
        page.family("x_seconds", Kind::Histogram, "X.");
        page.histogram(&[("worker", "1")], &histogram);
        let text = page.into_text();
        for line in [
            "x_seconds_bucket{app=\"a\",worker=\"1\",le=\"0.0005\"} 0",
            "x_seconds_bucket{app=\"a\",worker=\"1\",le=\"0.0025\"} 1",
            "x_seconds_bucket{app=\"a\",worker=\"1\",le=\"5\"} 1",
            "x_seconds_bucket{app=\"a\",worker=\"1\",le=\"+Inf\"} 2",
            "x_seconds_sum{app=\"a\",worker=\"1\"} 9.002",
            "x_seconds_count{app=\"a\",worker=\"1\"} 2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}:\n{text}");
        }
    }
}
