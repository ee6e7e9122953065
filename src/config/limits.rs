//! `[limits]`: what one worker may use, and from when on it is replaced.

use super::Limits;
use super::file::Table;
use super::report::Problems;
use super::value::{self, Wrong};

pub(super) fn read_limits(top: &mut Table<'_>, problems: &mut Problems) -> Limits {
    let mut table = top.take_table("limits", problems);
    let memory = table.take("memory").and_then(|item| item.read(problems, read_memory));
    let reload_item = table.take("memory_reload");
    let memory_reload = reload_item.as_ref().and_then(|item| item.read(problems, read_memory_reload));
    // A percentage is of this or that machine.
    let most = memory.as_deref().and_then(|memory| value::read_size(memory).ok());
    if let (Some(reload), Some(most), Some(item)) = (memory_reload, most, &reload_item)
        && reload >= most
    {
        problems.error(
            item.span.clone(),
            format!("limits.memory_reload is not below limits.memory ({})", value::write_size(most)),
            "the kernel would kill a worker before it is replaced: lower memory_reload, or raise memory",
        );
    }
    let cpu = table.take("cpu").and_then(|item| item.read(problems, read_quota));
    let tasks = table.take("tasks").and_then(|item| {
        item.read(problems, |text| {
            let fits = text == "infinity" || is_percentage(text, 100.0) || text.parse::<u64>().is_ok_and(|n| n > 0);
            fits.then(|| text.to_owned()).ok_or_else(|| {
                Wrong::new(
                    format!("`{text}` is not a number of tasks"),
                    "write a number from 1, a percentage or \"infinity\"",
                )
            })
        })
    });
    let files = table.take("files").and_then(|item| {
        item.read(problems, |text| {
            let fits = |it: &str| it == "infinity" || it.parse::<u64>().is_ok_and(|n| n > 0);
            let all = text.split_once(':').map_or(fits(text), |(soft, hard)| fits(soft) && fits(hard));
            all.then(|| text.to_owned()).ok_or_else(|| {
                Wrong::new(
                    format!("`{text}` is not a number of files"),
                    "write a number such as 65536, or \"soft:hard\"",
                )
            })
        })
    });
    table.finish(problems);
    Limits { memory, memory_reload, cpu, tasks, files }
}

/// The least that a program could do with.
const LEAST: u64 = 1 << 20;

/// PM2's `max_memory_restart` has the same form.
fn read_memory_reload(text: &str) -> Result<u64, Wrong> {
    if text == "infinity" || text.ends_with('%') {
        return Err(Wrong::new(format!("`{text}` is not a size"), "write a size such as \"300M\""));
    }
    let bytes = value::read_size(text)?;
    if bytes < LEAST { Err(too_few(text, bytes)) } else { Ok(bytes) }
}

fn read_memory(text: &str) -> Result<String, Wrong> {
    if text == "infinity" || is_percentage(text, 100.0) {
        return Ok(text.to_owned());
    }
    let bytes = value::read_size(text)?;
    if bytes < LEAST {
        return Err(too_few(text, bytes));
    }
    Ok(value::write_size(bytes))
}

fn too_few(text: &str, bytes: u64) -> Wrong {
    let remedy = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("write \"{text}M\" for mebibytes")
    } else {
        "write a size such as \"512M\"".to_owned()
    };
    Wrong::new(format!("{bytes} bytes are too few for any program"), remedy)
}

fn read_quota(text: &str) -> Result<String, Wrong> {
    if is_percentage(text, 1e6) {
        return Ok(text.to_owned());
    }
    let remedy = match text.parse::<f64>() {
        Ok(processors) if processors > 0.0 && processors <= 64.0 => {
            format!("write \"{:.0}%\" for {text} processors", processors * 100.0)
        }
        _ => "write a percentage of one processor, such as \"150%\"".to_owned(),
    };
    Err(Wrong::new(format!("`{text}` is not a quota"), remedy))
}

/// `12.5%`, more than 0 and at most `most`.
fn is_percentage(text: &str, most: f64) -> bool {
    text.strip_suffix('%').is_some_and(|number| {
        number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && number.parse::<f64>().is_ok_and(|number| number > 0.0 && number <= most)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Report, Scope, parse};
    use std::path::Path;

    fn limits(text: &str) -> Report {
        parse("app", Path::new("/etc/appctl/app.toml"), &format!("exec = 'a'\n[limits]\n{text}"), Scope::System)
    }

    #[test]
    fn memory_reload_is_a_size_below_memory() {
        for (text, bytes) in [
            ("memory_reload = '300M'", 300 << 20),
            ("memory_reload = '1G'", 1 << 30),
            ("memory_reload = 314572800", 300 << 20),
            ("memory = '301M'\nmemory_reload = '300M'", 300 << 20),
            ("memory = '10%'\nmemory_reload = '300M'", 300 << 20),
            ("memory = 'infinity'\nmemory_reload = '300M'", 300 << 20),
        ] {
            let report = limits(text);
            assert_eq!(report.problems, [], "{text}");
            assert_eq!(report.app.unwrap().limits.memory_reload, Some(bytes), "{text}");
        }
        for (text, told) in [
            ("memory_reload = '300'", "write \"300M\""),
            ("memory_reload = '300MB'", "write \"300M\""),
            ("memory_reload = '50%'", "write a size"),
            ("memory_reload = 'infinity'", "write a size"),
            ("memory_reload = '512M'\nmemory = '512M'", "would kill a worker before"),
            ("memory_reload = '1G'\nmemory = '512M'", "would kill a worker before"),
        ] {
            let report = limits(text);
            assert!(report.app.is_none() && report.problems[0].remedy.contains(told), "{text}: {:?}", report.problems);
        }
    }
}
