//! The first line of a file that an import wrote: by it an import knows again what it wrote, and whether anybody has changed
//! it since. The number of workers is no such change, since that is what `appctl scale` is for.

use sha2::{Digest, Sha256};

/// How a file begins that was imported.
pub(super) const WRITTEN_BY_IMPORT: &str = "# Written by `appctl import` from ";
/// Characters of the checksum.
const CHECKSUM: usize = 16;
/// Lines that are shown of a difference.
const SHOWN: usize = 12;

/// A file with its first line. `from`: what it was made of.
pub(super) fn stamped(from: &str, text: &str) -> String {
    let workers = workers(text).unwrap_or("1").trim_matches('"');
    format!("{WRITTEN_BY_IMPORT}{} [{} {workers}]\n{text}", from.replace('\n', " "), checksum(text))
}

/// Whether a file is as an import wrote it, but for its number of workers.
pub(super) fn is_untouched(text: &str) -> bool {
    stamp(text).is_some_and(|(sum, _, rest)| sum == checksum(rest))
}

/// Checksum, number of workers and the rest of a file that an import wrote.
fn stamp(text: &str) -> Option<(&str, &str, &str)> {
    let (first, rest) = text.split_once('\n')?;
    let (_, stamp) = first.strip_prefix(WRITTEN_BY_IMPORT)?.strip_suffix(']')?.rsplit_once('[')?;
    let (sum, workers) = stamp.split_once(' ')?;
    Some((sum, workers, rest))
}

/// What a file that is imported again is to say, where it says something else by now: a number that `scale` has changed
/// stays, unless the file of PM2's has another one than before. And what there is to tell of it.
pub(super) fn renewed(there: &str, new: &str) -> (String, Option<String>) {
    let unchanged = (new.to_owned(), None);
    let (Some((_, imported, there)), Some((_, next, text))) = (stamp(there), stamp(new)) else { return unchanged };
    let (Some(line), Some(own)) = (workers(text), workers(there)) else { return unchanged };
    let now = own.trim_matches('"');
    if now == imported || now == next {
        unchanged
    } else if next == imported {
        let kept = new.replacen(&format!("\nworkers = {line}\n"), &format!("\nworkers = {own}\n"), 1);
        (
            kept,
            Some(format!(
                "keeps the number of workers that `appctl scale` gave it, {now}; it was imported with {next}"
            )),
        )
    } else {
        (new.to_owned(), Some(format!("workers: {next}, as the file says by now, instead of {now}")))
    }
}

/// Whether two files differ in nothing but their number of workers.
pub(super) fn differ_in_workers_alone(there: &str, new: &str) -> bool {
    there != new && without_workers(there) == without_workers(new)
}

fn checksum(text: &str) -> String {
    let sum = Sha256::digest(without_workers(text));
    sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..CHECKSUM].to_owned()
}

fn without_workers(text: &str) -> String {
    let number = text.lines().take_while(|line| !line.starts_with('[')).position(|line| value(line).is_some());
    let lines = text.lines().enumerate().filter(|(at, _)| Some(*at) != number);
    lines.map(|(_, line)| format!("{line}\n")).collect()
}

/// The value of `workers` in a file, as it is written there.
fn workers(text: &str) -> Option<&str> {
    text.lines().take_while(|line| !line.starts_with('[')).find_map(value)
}

fn value(line: &str) -> Option<&str> {
    let value = line.strip_prefix("workers")?.trim_start().strip_prefix('=')?;
    Some(value.split('#').next().unwrap_or(value).trim())
}

/// The value of `active_profile` in a file.
pub(super) fn profile(text: &str) -> Option<&str> {
    let line =
        text.lines().take_while(|line| !line.starts_with('[')).find(|line| line.starts_with("active_profile"))?;
    Some(line.split_once('=')?.1.trim().trim_matches('"'))
}

/// The lines in which two files differ, `-` those that are there, `+` those that would be; the first line of an import apart.
pub(super) fn difference(there: &str, new: &str) -> String {
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with(WRITTEN_BY_IMPORT)).map(str::to_owned).collect()
    };
    let (old, new) = (lines(there), lines(new));
    // The longest lines that both have in their order; files of apps are short.
    let mut longest = vec![vec![0; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            longest[at][to] = if old[at] == new[to] {
                longest[at + 1][to + 1] + 1
            } else {
                longest[at + 1][to].max(longest[at][to + 1])
            };
        }
    }
    let (mut at, mut to, mut shown) = (0, 0, Vec::new());
    while at < old.len() || to < new.len() {
        if at < old.len() && to < new.len() && old[at] == new[to] {
            (at, to) = (at + 1, to + 1);
        } else if at < old.len() && (to == new.len() || longest[at + 1][to] >= longest[at][to + 1]) {
            shown.push(format!("  - {}", old[at]));
            at += 1;
        } else {
            shown.push(format!("  + {}", new[to]));
            to += 1;
        }
    }
    let more = shown.len().saturating_sub(SHOWN);
    shown.truncate(SHOWN);
    if more > 0 {
        shown.push(format!("  … and {more} more"));
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "exec = ['x']\nworkers = 2\nlisten = []\n";

    #[test]
    fn a_file_that_somebody_changed_is_known() {
        let whole = stamped("/srv/a [1].json", TEXT);
        assert!(is_untouched(&whole), "{whole}");
        assert!(!is_untouched(&whole.replace("'x'", "'y'")));
        assert!(!is_untouched(TEXT) && !is_untouched(""));
        assert!(is_untouched(&whole.replace("workers = 2", "workers = 3")), "that is what scale does");
        assert!(!is_untouched(&format!("{whole}\n[service]\nworkers = 3\n")));
    }

    #[test]
    fn what_scale_has_done_stays_until_the_file_changes_its_mind() {
        let imported = stamped("a.json", TEXT);
        let scaled = imported.replace("workers = 2", "workers = \"max\"");
        let (same, told) = renewed(&imported, &imported);
        assert_eq!((same, told), (imported.clone(), None));
        let (kept, told) = renewed(&scaled, &imported);
        assert!(kept == scaled && told.unwrap().contains("keeps the number"), "{kept}");
        let other = stamped("a.json", &TEXT.replace("workers = 2", "workers = 4"));
        let (new, told) = renewed(&scaled, &other);
        assert!(new == other && told.unwrap().contains("4, as the file says by now, instead of max"));
        assert_eq!(renewed(&imported, &other), (other.clone(), None));
        assert!(differ_in_workers_alone(TEXT, &TEXT.replace('2', "3")) && !differ_in_workers_alone(TEXT, TEXT));
    }

    #[test]
    fn differences_are_lines() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\nd\n"), "  - b\n  + x\n  + d");
        let many: String = (0..20).map(|at| format!("{at}\n")).collect();
        assert!(difference("", &many).ends_with("\n  … and 8 more"));
        assert_eq!(profile("active_profile = \"a\"\n[x]\n"), Some("a"));
        assert_eq!(profile("[x]\nactive_profile = \"a\"\n"), None);
    }
}
