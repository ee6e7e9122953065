//! The table on standard output, and the same as JSON.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::load::{Cpu, Outcome};
use crate::peers::Kind;
use crate::shapes::{Load, SHAPES, Shape, Target};

/// Beyond this part of the processors' time gone to others, figures say little.
pub(crate) const QUIET: f64 = 0.05;

/// All rounds of a shape of load on one peer.
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) rounds: Vec<Outcome>,
    /// The turn before them.
    pub(crate) cold: Option<Outcome>,
    /// Of the middle process, before the load (only looked at with idle connections).
    pub(crate) memory_before: Option<u64>,
    /// Why there is nothing.
    pub(crate) missing: Option<String>,
}

impl Row {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, rounds: Vec::new(), cold: None, memory_before: None, missing: None }
    }

    fn rate(&self) -> Option<f64> {
        median(self.rounds.iter().map(Outcome::rate).collect())
    }

    /// CPU seconds for 10,000 operations: of what `part` takes.
    fn cpu(&self, part: fn(&Cpu) -> f64) -> Option<f64> {
        let measured = self.rounds.iter().filter(|round| round.operations > 0);
        median(measured.map(|round| round.of_many(part(&round.cpu))).collect())
    }

    /// The same of what is between clients and workers.
    fn middle(&self) -> Option<f64> {
        self.memory().and_then(|_| self.cpu(|cpu| cpu.middle))
    }

    fn memory(&self) -> Option<u64> {
        self.rounds.iter().map(|round| round.memory).max().filter(|bytes| *bytes > 0)
    }

    /// All turns, the one before the rounds too.
    fn turns(&self) -> impl Iterator<Item = &Outcome> {
        self.cold.iter().chain(&self.rounds)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.turns().map(|turn| turn.errors).sum()
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        even if even % 2 == 0 => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

/// Ours ÷ theirs: of the medians, and the least and the most of one round.
#[derive(Serialize)]
struct Ratio {
    ratio: f64,
    least: f64,
    most: f64,
    /// The same by the CPU time that clients, workers and middle took together for an operation: theirs ÷ ours. It hardly
    /// moves when others use the machine.
    cpu: f64,
}

fn ratio(ours: &Row, theirs: &Row) -> Option<Ratio> {
    let ratio = ours.rate()? / theirs.rate()?;
    let mut each: Vec<f64> = ours.rounds.iter().zip(&theirs.rounds).map(|(a, b)| a.rate() / b.rate()).collect();
    each.retain(|value| value.is_finite());
    each.sort_by(f64::total_cmp);
    let cpu = theirs.cpu(Cpu::all)? / ours.cpu(Cpu::all)?;
    (ratio.is_finite()).then_some(Ratio { ratio, least: *each.first()?, most: *each.last()?, cpu })
}

/// How a target came out.
#[derive(Serialize)]
struct Verdict {
    shape: &'static str,
    wanted: String,
    found: String,
    /// None: could not be measured.
    reached: Option<bool>,
    /// The peer in whose row it is told; none: ours.
    #[serde(skip)]
    at: Option<Kind>,
}

fn verdicts(shape: &Shape, rows: &[Row]) -> Vec<Verdict> {
    let Some(ours) = rows.first() else { return Vec::new() };
    let find = |kind: Kind| rows.iter().find(|row| row.kind == kind);
    shape
        .targets
        .iter()
        .map(|target| {
            let (wanted, found, reached, at) = match target {
                Target::Speed(kind, least) => {
                    let found = find(*kind).and_then(|row| ratio(ours, row)).map(|ratio| ratio.ratio);
                    let text = found.map_or("-".to_owned(), |found| format!("{found:.2}"));
                    (format!("≥ {least} × {}", kind.name()), text, found.map(|found| found >= *least), Some(*kind))
                }
                Target::Thrift(kind, least) => {
                    let theirs = find(*kind).and_then(Row::middle);
                    let found = theirs.and_then(|theirs| Some(theirs / ours.middle()?));
                    let text = found.map_or("-".to_owned(), |found| format!("{found:.2}"));
                    let wanted = format!("per CPU second of the middle: ≥ {least} × {}", kind.name());
                    (wanted, text, found.map(|found| found >= *least), Some(*kind))
                }
                Target::Memory(most) => {
                    let found = ours.memory();
                    let text = found.map_or("-".to_owned(), |found| format!("{:.1} MB", found as f64 / 1e6));
                    (format!("≤ {:.0} MB", *most as f64 / 1e6), text, found.map(|found| found <= *most), None)
                }
                Target::NoErrors => {
                    let reached = (!ours.rounds.is_empty()).then(|| ours.errors() == 0);
                    ("0 errors".to_owned(), ours.errors().to_string(), reached, None)
                }
            };
            Verdict { shape: shape.name, wanted, found, reached, at }
        })
        .collect()
}

pub(crate) struct Report {
    pub(crate) results: Vec<(&'static Shape, Vec<Row>)>,
    /// The part of the processors' time that others took before it began.
    pub(crate) busy_before: f64,
}

impl Report {
    /// A shape's rows, as soon as they are there.
    pub(crate) fn print(shape: &Shape, rows: &[Row]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let verdicts = verdicts(shape, rows);
        let Some(ours) = rows.first() else { return Ok(()) };
        let best = rows[1..]
            .iter()
            .filter(|row| !matches!(row.kind, Kind::Nobody) && !row.kind.is_ours())
            .max_by(|a, b| a.rate().unwrap_or(0.0).total_cmp(&b.rate().unwrap_or(0.0)))
            .map(|row| row.kind);
        writeln!(out, "\n{}: {}", shape.name, shape.what)?;
        let name = ours.kind.name();
        writeln!(
            out,
            "  {:<15} {:>8} {:>8} {:>13} {:>6} | {:>7} {:>7} | {:>10}  {:<11} wanted",
            "peer",
            "ops/s",
            format!("{name} ×").replace("appctl-", ""),
            "(spread)",
            "by CPU",
            "middle",
            "workers",
            "memory MB",
            "errors"
        )?;
        for row in rows {
            let star = if Some(row.kind) == best { "*" } else { " " };
            if let Some(why) = &row.missing {
                writeln!(out, "  {:<15} NOT MEASURED: {why}", row.kind.name())?;
                if row.kind == ours.kind || row.rounds.is_empty() {
                    continue;
                }
            }
            let rate = row.rate().map_or("-".to_owned(), |rate| format!("{rate:.0}"));
            let (compared, spread, by_cpu) = match ratio(ours, row) {
                Some(it) if row.kind != ours.kind => {
                    (format!("{:.2}", it.ratio), format!("({:.2}–{:.2})", it.least, it.most), format!("{:.2}", it.cpu))
                }
                _ => Default::default(),
            };
            let seconds = |cpu: Option<f64>| cpu.map_or("-".to_owned(), |cpu| format!("{cpu:.3}"));
            let (middle, workers) = (seconds(row.middle()), seconds(row.cpu(|cpu| cpu.workers)));
            let memory = row.memory().map_or("-".to_owned(), |bytes| match row.memory_before {
                Some(before) => format!("{:.1}→{:.1}", before as f64 / 1e6, bytes as f64 / 1e6),
                None => format!("{:.1}", bytes as f64 / 1e6),
            });
            let errors = match row.errors() {
                0 => "0".to_owned(),
                errors => format!("!!! {errors} !!!"),
            };
            let wanted: Vec<String> = verdicts
                .iter()
                .filter(|verdict| verdict.at.unwrap_or(ours.kind) == row.kind)
                .map(|verdict| {
                    let word = match verdict.reached {
                        Some(true) => "REACHED",
                        Some(false) => "MISSED",
                        None => "not measured",
                    };
                    format!("{}: {word} ({})", verdict.wanted, verdict.found)
                })
                .collect();
            writeln!(
                out,
                "  {:<14}{star} {rate:>8} {compared:>8} {spread:>13} {by_cpu:>6} | {middle:>7} {workers:>7} | {memory:>10}  {errors:<11} {}",
                row.kind.name(),
                wanted.join(", ")
            )?;
        }
        for row in rows.iter().filter(|row| row.errors() > 0) {
            let done: u64 = row.turns().map(|turn| turn.operations).sum();
            writeln!(
                out,
                "  !!! {}: {} ERRORS beside {done} operations that were right",
                row.kind.name().to_uppercase(),
                row.errors()
            )?;
            let mut kinds = BTreeMap::new();
            for (text, count) in row.turns().flat_map(|turn| &turn.messages) {
                *kinds.entry(text.split_whitespace().collect::<Vec<_>>().join(" ")).or_default() += count;
            }
            let mut kinds: Vec<(String, u64)> = kinds.into_iter().collect();
            kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            for (text, count) in kinds.into_iter().take(3) {
                writeln!(out, "      {count} × {text}")?;
            }
        }
        out.flush()?;
        Ok(())
    }

    /// What holds for all of it.
    pub(crate) fn finish(&self, about: &serde_json::Value, file: &Path) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let all: Vec<Verdict> = self.results.iter().flat_map(|(shape, rows)| verdicts(shape, rows)).collect();
        let count = |wanted: Option<bool>| all.iter().filter(|verdict| verdict.reached == wanted).count();
        let (median_foreign, most) = self.foreign();
        writeln!(
            out,
            "\n* the fastest of those that stand between client and worker. Ratios are of medians, the spread is of\n\
             single rounds. \"by CPU\": the same by the CPU time of clients, workers and middle together, which hardly moves when the\n\
             machine is busy. \"middle\", \"workers\": CPU seconds for 10,000 operations."
        )?;
        writeln!(
            out,
            "Targets: {} reached, {} missed, {} not measured.",
            count(Some(true)),
            count(Some(false)),
            count(None)
        )?;
        let fit =
            if median_foreign > QUIET { "THE MACHINE WAS BUSY: do not publish these figures" } else { "quiet enough" };
        writeln!(
            out,
            "Other programs took {:.1} % of the processors' time (median of all rounds; at most {:.1} %): {fit}.",
            median_foreign * 100.0,
            most * 100.0
        )?;
        let shapes: Vec<_> = self
            .results
            .iter()
            .map(|(shape, rows)| {
                let ours = rows.first();
                let peers: Vec<_> = rows
                    .iter()
                    .map(|row| {
                        json!({
                            "peer": row.kind.name(), "missing": row.missing, "operations_per_second": row.rate(),
                            "ours_to_it": ours.filter(|ours| ours.kind != row.kind).and_then(|ours| ratio(ours, row)),
                            "cpu_seconds_per_10000": { "middle": row.middle(), "workers": row.cpu(|cpu| cpu.workers), "clients": row.cpu(|cpu| cpu.clients) },
                            "memory_bytes": row.memory(),
                            "memory_bytes_before": row.memory_before, "errors": row.errors(), "rounds": row.rounds, "cold": row.cold,
                        })
                    })
                    .collect();
                json!({ "shape": shape.name, "what": shape.what, "peers": peers })
            })
            .collect();
        let text = json!({
            "about": about,
            "foreign_cpu": { "before": self.busy_before, "median": median_foreign, "most": most }, "targets": all, "shapes": shapes,
        });
        std::fs::write(file, serde_json::to_vec_pretty(&text)?)?;
        writeln!(out, "All of it as JSON: {}", file.display())?;
        Ok(())
    }

    /// The part of the processors' time that others took: median and most.
    fn foreign(&self) -> (f64, f64) {
        let all: Vec<f64> = self
            .results
            .iter()
            .flat_map(|(_, rows)| rows)
            .flat_map(|row| &row.rounds)
            .map(|round| round.foreign)
            .collect();
        let most = all.iter().copied().fold(0.0, f64::max);
        (median(all).unwrap_or(0.0), most)
    }

    /// Whether all of ours was measured, without an error. Request routing may not be there.
    pub(crate) fn ours_is_sound(&self) -> bool {
        let ours = self.results.iter().flat_map(|(_, rows)| rows).filter(|row| row.kind.is_ours());
        ours.filter(|row| row.kind != Kind::Routed || row.missing.is_none())
            .all(|row| row.missing.is_none() && row.errors() == 0)
    }
}

/// For `--help`.
pub(crate) fn shapes() -> String {
    SHAPES
        .iter()
        .map(|shape| {
            let note = if shape.load == Load::Idle { " (once)" } else { "" };
            format!("  {:<18} {}{note}\n", shape.name, shape.what)
        })
        .collect()
}
