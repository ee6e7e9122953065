//! The calendar's notations against others' readers of them: systemd's own, and a well-kept reader of cron.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

use appctl::config::calendar;
use chrono::{DateTime, NaiveDateTime, Utc};
use croner::parser::{CronParser, Seconds};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A Tuesday in a leap year's February.
const BASE: &str = "2028-02-15 10:20:30";
const TIMES: usize = 8;

/// `None`: there is no systemd-analyze.
fn systemd(arguments: &[&str], calendars: &[String]) -> Option<Output> {
    let mut command = Command::new("systemd-analyze");
    let output = command.env("TZ", "UTC").args(["calendar"]).args(arguments).arg("--").args(calendars).output();
    if output.is_err() {
        eprintln!("skipped: systemd-analyze is not here; install systemd");
    }
    output.ok()
}

fn read_time(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap_or_else(|error| panic!("{text}: {error}")).and_utc()
}

/// The next times by systemd: of all the values together.
fn by_systemd(calendars: &[String]) -> Option<Vec<DateTime<Utc>>> {
    let (base, times) = (format!("--base-time={BASE}"), format!("--iterations={TIMES}"));
    let output = systemd(&[&base, &times], calendars)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{calendars:?}: {}", String::from_utf8_lossy(&output.stderr));
    let times = text.lines().filter_map(|line| {
        let (what, time) = line.trim().split_once(": ")?;
        // `Next elapse: Tue 2028-02-15 10:25:00 UTC`, `never`
        let time = time.trim().trim_end_matches(" UTC").split_once(' ')?.1;
        (what == "Next elapse" || what.starts_with("Iter")).then(|| read_time(time))
    });
    let mut times: Vec<_> = times.collect();
    times.sort();
    times.dedup();
    times.truncate(TIMES);
    Some(times)
}

fn by_croner(line: &str) -> Vec<DateTime<Utc>> {
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    let cron = parser.parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    cron.iter_after(read_time(BASE)).take(TIMES).collect()
}

/// Lines of cron with all that both readers understand.
fn lines() -> impl Strategy<Value = String> {
    fn field(least: u32, most: u32, names: &'static [&'static str]) -> BoxedStrategy<String> {
        let value = (least..=most).prop_map(move |value| match names.get((value - least) as usize) {
            Some(name) if value % 2 == 0 => (*name).to_owned(),
            _ => value.to_string(),
        });
        let range = (least..=most, least..=most).prop_map(|(one, two)| format!("{}-{}", one.min(two), one.max(two)));
        let step = 1..=(most - least).min(12);
        let part = prop_oneof![
            3 => value,
            2 => range.clone(),
            1 => (range, step).prop_map(|(range, step)| format!("{range}/{step}")),
        ];
        prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(",")).boxed()
    }
    fn open(least: u32, most: u32, names: &'static [&'static str]) -> BoxedStrategy<String> {
        let stepped = (1..=(most - least).min(12)).prop_map(|step| format!("*/{step}"));
        prop_oneof![2 => Just("*".to_owned()), 1 => stepped, 3 => field(least, most, names)].boxed()
    }
    const MONTHS: &[&str] = &["Jan", "FEB", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const DAYS: &[&str] = &["sun", "Mon", "tue", "WED", "thu", "fri", "sat"];
    let star = || Just("*".to_owned());
    // Of the days and the weekdays, `*/2` beside a restricted one is read in two ways by the readers of this world.
    let days =
        prop_oneof![(field(1, 31, &[]), field(0, 7, DAYS)), (star(), open(0, 6, DAYS)), (open(1, 31, &[]), star()),];
    let seconds = prop_oneof![2 => Just(String::new()), 1 => open(0, 59, &[]).prop_map(|it| format!("{it} "))];
    (seconds, open(0, 59, &[]), open(0, 23, &[]), days, open(1, 12, MONTHS)).prop_map(
        |(seconds, minute, hour, (day, weekday), month)| format!("{seconds}{minute} {hour} {day} {month} {weekday}"),
    )
}

#[test]
fn a_line_of_cron_means_the_same_to_systemd() {
    let same = |line: &str| {
        let calendars = calendar::read(line).unwrap_or_else(|wrong| panic!("{line}: {wrong}"));
        let Some(found) = by_systemd(&calendars) else { return false };
        assert_eq!(found, by_croner(line), "{line} as {calendars:?}");
        true
    };
    for line in [
        "0 4 * * *",
        "*/5 * * * *",
        "0 0 13 * 5",
        "0 0 * * 7",
        "0 0 29 2 *",
        "30 3 1-7 * sun",
        "@weekly",
        "1 2 3 4 5 6",
    ] {
        if !same(line) {
            return;
        }
    }
    // Times that do not come again within a reader's patience are not what this is about.
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    runner
        .run(&lines().prop_filter("a day that no month has", |line| by_croner(line).len() == TIMES), |line| {
            same(&line);
            Ok(())
        })
        .unwrap();
}

/// Near values of `OnCalendar=`, good and bad.
fn calendars() -> impl Strategy<Value = String> {
    fn list(least: u32, most: u32) -> BoxedStrategy<String> {
        let number = || prop_oneof![9 => least..=most, 1 => 0..(most + 10)];
        let part = prop_oneof![
            4 => number().prop_map(|n| n.to_string()),
            2 => number().prop_map(|n| format!("{n:02}")),
            2 => (number(), 0..(most + 2)).prop_map(|(n, step)| format!("{n}/{step}")),
            2 => (number(), number()).prop_map(|(from, to)| format!("{from}..{to}")),
            1 => (number(), number(), 0..9u32).prop_map(|(from, to, step)| format!("{from}..{to}/{step}")),
            1 => "[0-9*.,/-]{0,4}",
        ];
        let parts = prop::collection::vec(part, 1..3).prop_map(|parts| parts.join(","));
        prop_oneof![2 => Just("*".to_owned()), 3 => parts].boxed()
    }
    let weekdays = prop_oneof![
        4 => Just(String::new()),
        2 => "(Mon|tue|Wednesday|SUN)(,|\\.\\.|-)(Fri|Sat|Sunday|Mon) ",
        1 => "(Mon|Tues|Sat),? ",
        1 => "[A-Za-z]{2,4} ",
    ];
    let date = prop_oneof![
        3 => Just(String::new()),
        2 => (list(1, 12), prop::sample::select(vec!["-", "~"]), list(1, 31)).prop_map(|(m, s, d)| format!("{m}{s}{d} ")),
        2 => (list(1990, 2190), list(1, 12), prop::sample::select(vec!["-", "~"]), list(1, 31))
            .prop_map(|(y, m, s, d)| format!("{y}-{m}{s}{d} ")),
    ];
    let time = prop_oneof![
        1 => Just(String::new()),
        2 => (list(0, 23), list(0, 59)).prop_map(|(h, m)| format!("{h}:{m}")),
        2 => (list(0, 23), list(0, 59), list(0, 59)).prop_map(|(h, m, s)| format!("{h}:{m}:{s}")),
    ];
    let zone = prop_oneof![4 => Just(""), 1 => Just(" UTC"), 1 => Just(" Europe/Berlin"), 1 => Just(" Etc/GMT+3")];
    let word = prop_oneof![12 => Just(None), 1 => "(daily|Weekly|hourly|semi-annually|fortnightly)".prop_map(Some)];
    (word, weekdays, date, time, zone).prop_map(|(word, weekdays, date, time, zone)| {
        let text = word.unwrap_or_else(|| format!("{weekdays}{date}{time}"));
        format!("{}{zone}", text.trim_end())
    })
}

/// Nothing is let through that would keep a timer from loading, and nothing good is refused.
#[test]
fn the_calendar_is_read_as_systemd_reads_it() {
    let zones = std::path::Path::new("/usr/share/zoneinfo/Europe/Berlin").exists();
    let mut runner = TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
    runner
        .run(&calendars(), |text| {
            // What needs tzdata cannot be tried without it.
            prop_assume!(zones || !text.contains(['B', 'G']));
            let ours = calendar::read(&text);
            let Some(output) = systemd(&[], std::slice::from_ref(&text)) else { return Ok(()) };
            let theirs = String::from_utf8_lossy(&output.stderr).into_owned();
            // What it reads it may still not be able to count.
            let taken = output.status.success() || theirs.contains("determine next elapse");
            let story = format!("{text}: {ours:?}; systemd: {theirs}");
            prop_assert!(taken || ours.is_err(), "{}", story);
            // Ranges, lists from the month's end and fractions of seconds have corners that are none of ours.
            let corner = text.contains('.') || text.split_once('~').is_some_and(|(_, days)| days.contains(','));
            prop_assert!(ours.is_ok() || !taken || corner, "{}", story);
            Ok(())
        })
        .unwrap();
    for good in [
        "Mon..Fri 04:00",
        "*-*-1..7 03:30:00 Europe/Berlin",
        "08..18/2:00",
        "Sat,Sun 10:0/15",
        "*-02~01",
        "quarterly UTC",
    ] {
        assert_eq!(calendar::read(good), Ok(vec![good.to_owned()]));
    }
}
