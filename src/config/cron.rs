//! Lines of crontab(5) as systemd's calendar has them: `0 4 * * mon-fri` → `Mon..Fri *-*-* 04:00:00`.
//!
//! Five fields, or six with seconds first as Node's libraries (and so PM2's `cron_restart`) have them.

use super::value::Wrong;

/// Whether this is cron's notation: systemd's never has five words, and its `@SECONDS` never come again.
pub(super) fn looks_so(text: &str) -> bool {
    text.starts_with('@') || text.split_ascii_whitespace().count() >= 5
}

/// A field: its name, its least and greatest value, and names for its values.
struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const SECOND: Field = Field { what: "second", least: 0, most: 59, names: &[] };
const MINUTE: Field = Field { what: "minute", least: 0, most: 59, names: &[] };
const HOUR: Field = Field { what: "hour", least: 0, most: 23, names: &[] };
const DAY: Field = Field { what: "day of the month", least: 1, most: 31, names: &[] };
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH: Field = Field { what: "month", least: 1, most: 12, names: &MONTHS };
/// 0 and 7 are Sunday.
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const WEEKDAY: Field = Field { what: "day of the week", least: 0, most: 7, names: &WEEKDAYS };

/// The values of `OnCalendar=` that mean the same.
pub(super) fn read(text: &str) -> Result<Vec<String>, Wrong> {
    if let Some(nickname) = text.strip_prefix('@') {
        let calendar = match nickname.to_ascii_lowercase().as_str() {
            "hourly" => "hourly",
            "daily" | "midnight" => "daily",
            // systemd's week begins on Monday.
            "weekly" => "Sun *-*-* 00:00:00",
            "monthly" => "monthly",
            "yearly" | "annually" => "yearly",
            "reboot" => {
                return Err(Wrong::new("`@reboot` is no time", "remove it: an app starts at boot by itself"));
            }
            _ => {
                return Err(Wrong::new(
                    format!("cron has no `{text}`"),
                    "write @hourly, @daily, @weekly, @monthly or @yearly",
                ));
            }
        };
        return Ok(vec![calendar.to_owned()]);
    }
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let (second, fields) = match fields.as_slice() {
        [second, rest @ ..] if rest.len() == 5 => (*second, rest),
        rest => ("0", rest),
    };
    let [minute, hour, day, month, weekday] = fields else {
        return Err(Wrong::new(
            format!("`{text}` has too many words"),
            "a line of cron has five fields: minute, hour, day of the month, month, day of the week",
        ));
    };
    let time = format!(
        "{}:{}:{}",
        write(&HOUR, &read_field(&HOUR, hour)?),
        write(&MINUTE, &read_field(&MINUTE, minute)?),
        write(&SECOND, &read_field(&SECOND, second)?)
    );
    let months = write(&MONTH, &read_field(&MONTH, month)?);
    let days = write(&DAY, &read_field(&DAY, day)?);
    let weekdays = write_weekdays(&read_field(&WEEKDAY, weekday)?);
    let by_day = |days: &str| format!("*-{months}-{days} {time}");
    let by_weekday = |days: &str| match &weekdays {
        Some(weekdays) => format!("{weekdays} {}", by_day(days)),
        None => by_day(days),
    };
    // crontab(5): when both are restricted, either will do.
    if !is_open(day) && !is_open(weekday) {
        return Ok(vec![by_day(&days), by_weekday("*")]);
    }
    Ok(vec![by_weekday(&days)])
}

/// A field that begins with a star restricts nothing by the rule above, even with a step.
fn is_open(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

/// The values that a field means, in order; an array of truths by value.
fn read_field(field: &Field, text: &str) -> Result<Vec<bool>, Wrong> {
    let Field { what, least, most, .. } = *field;
    let remedy = match field.names {
        [] => format!("write numbers from {least} to {most}, such as {least}, {least}-{most}, */2 or {least},{most}"),
        [first, second, ..] => {
            format!(
                "write numbers from {least} to {most} or names, such as {first}, {first}-{second} or {first},{second}"
            )
        }
        [_] => String::new(),
    };
    let mut values = vec![false; most as usize + 1];
    for part in text.split(',') {
        let wrong = || Wrong::new(format!("`{part}` does not fit cron's {what}"), &remedy);
        if field.names.is_empty() && part.contains(['L', 'W']) || part.contains(['#', 'L']) && what == WEEKDAY.what {
            return Err(Wrong::new(
                format!("`{part}`: L, W and # are not understood"),
                "write it as systemd does: \"*-*~01 04:00\" on the month's last day, \"Fri *-*-08..14 04:00\" on the second Friday",
            ));
        }
        let value = |word: &str| {
            let name = field.names.iter().position(|name| word.eq_ignore_ascii_case(name));
            let number = match name {
                Some(at) => u32::try_from(at).ok().map(|at| at + least),
                None if word.len() <= 2 && word.bytes().all(|byte| byte.is_ascii_digit()) => word.parse().ok(),
                None => None,
            };
            number.filter(|number| (least..=most).contains(number)).ok_or_else(wrong)
        };
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (from, to) = match range.split_once('-') {
            // From Friday to Sunday is from 5 to 7.
            Some((from, to)) => match (value(from)?, value(to)?) {
                (from @ 1.., 0) => (from, most),
                both => both,
            },
            None if range == "*" || range == "?" => (least, most.min(least + field.span() - 1)),
            // From there on, where a step follows.
            None if step.is_some() => (value(range)?, most.min(least + field.span() - 1)),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return Err(Wrong::new(format!("`{range}` runs backwards"), &remedy));
        }
        let step = match step {
            None => 1,
            Some(step) => step.parse().ok().filter(|step| (1..=999).contains(step)).ok_or_else(wrong)?,
        };
        (from..=to).step_by(step).for_each(|value| values[value as usize] = true);
    }
    Ok(values)
}

impl Field {
    /// How many different values there are: Sunday has two numbers.
    fn span(&self) -> u32 {
        if self.what == WEEKDAY.what { 7 } else { self.most - self.least + 1 }
    }
}

/// The values as systemd writes a list: `*`, `00/5`, `01,03..05`.
fn write(field: &Field, values: &[bool]) -> String {
    let all: Vec<u32> = (field.least..=field.most).filter(|value| values[*value as usize]).collect();
    if all.len() as u32 == field.span() {
        return "*".to_owned();
    }
    if let [first, second, .., last] = all[..] {
        let step = second - first;
        let even = all.windows(2).all(|pair| pair[1] - pair[0] == step);
        if step > 1 && even && last + step > field.most {
            return format!("{first:02}/{step}");
        }
    }
    runs(&all).map(|(from, to)| run(from, to, |value| format!("{value:02}"))).collect::<Vec<_>>().join(",")
}

/// `None`: every day. systemd's week begins on Monday.
fn write_weekdays(values: &[bool]) -> Option<String> {
    let on = |day: u32| values[day as usize] || day == 7 && values[0];
    let all: Vec<u32> = (1..=7).filter(|day| on(*day)).collect();
    if all.len() == 7 {
        return None;
    }
    let name = |day: u32| {
        let name = WEEKDAYS[day as usize % 7];
        format!("{}{}", name[..1].to_ascii_uppercase(), &name[1..])
    };
    Some(runs(&all).map(|(from, to)| run(from, to, name)).collect::<Vec<_>>().join(","))
}

fn run(from: u32, to: u32, name: impl Fn(u32) -> String) -> String {
    match to - from {
        0 => name(from),
        1 => format!("{},{}", name(from), name(to)),
        _ => format!("{}..{}", name(from), name(to)),
    }
}

/// Neighbours together: 1, 3, 4, 5 → (1, 1), (3, 5).
fn runs(values: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    values.chunk_by(|one, next| one + 1 == *next).filter_map(|run| Some((*run.first()?, *run.last()?)))
}
