//! The manual pages in `packaging/man` say what the program says: `BLESS=1 cargo test --test integration man` writes them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const README: &str = include_str!("../README.md");

/// A row of the README's table of keys: key, example, default, meaning.
fn rows() -> Vec<[String; 4]> {
    let table = README.lines().skip_while(|line| !line.starts_with("| Key | Example | Default |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<String> = line.trim_matches('|').splitn(4, '|').map(|cell| cell.trim().to_owned()).collect();
        <[String; 4]>::try_from(cells).unwrap()
    });
    rows.collect()
}

/// What is said of a section's subject before its first table or code.
fn section(title: &str) -> String {
    let lines = README.lines().skip_while(|line| *line != title).skip(1);
    let told = lines.take_while(|line| !line.starts_with("| ") && !line.starts_with('#') && !line.starts_with("```"));
    told.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Markdown within a line, as roff: links are their texts, what is in backquotes is bold.
fn inline(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        plain.push_str(before);
        rest = match link.split_once("](") {
            Some((text, after)) if !text.contains(']') => {
                plain.push_str(text);
                after.split_once(')').map_or("", |(_, after)| after)
            }
            _ => {
                plain.push('[');
                link
            }
        };
    }
    plain.push_str(rest);
    let plain = plain.replace('\\', "\\e").replace('-', "\\-").replace("**", "");
    let parts = plain.split('`').enumerate();
    let text: String =
        parts.map(|(at, part)| if at % 2 == 1 { format!("\\fB{part}\\fR") } else { part.to_owned() }).collect();
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

/// appctl.toml(5).
fn toml() -> String {
    let mut page = format!(
        ".TH appctl.toml 5 \"\" \"appctl {}\" \"appctl\"\n.SH NAME\nappctl.toml \\- the file of an app\n.SH SYNOPSIS\n\
         /etc/appctl/NAME.toml\n.PP\n~/.config/appctl/NAME.toml\n.SH DESCRIPTION\n",
        env!("CARGO_PKG_VERSION")
    );
    for line in section("## `NAME.toml`").lines() {
        page += &format!("{}\n", inline(line));
    }
    page += ".PP\n\\fBappctl check\\fR tells all mistakes of a file, with their lines. Where a key says \"see above\" or \"see below\", the \
             README of appctl has more.\n.SH KEYS\n";
    for [key, example, default, meaning] in rows() {
        page += &format!(".TP\n\\fB{}\\fR\n{}\n", inline(key.trim_matches('`')), inline(&meaning));
        if !default.is_empty() {
            page += &format!("Default: {}.\n", inline(&default));
        }
        page += &format!("Example: {}\n", inline(&example));
    }
    let sample = README.split("With most of it:").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap();
    page += ".SH EXAMPLE\n.nf\n";
    for line in sample.trim_start_matches("toml\n").lines() {
        page += &format!("{}\n", line.replace('\\', "\\e").replace('-', "\\-"));
    }
    page + ".fi\n.SH \"SEE ALSO\"\nappctl(1), systemd.service(5), systemd.exec(5), systemd.socket(5), systemd.time(7)\n"
}

fn pages() -> BTreeMap<String, String> {
    let mut pages: BTreeMap<String, String> = appctl::cli::man::pages().unwrap().into_iter().collect();
    pages.insert("appctl.toml.5".to_owned(), toml());
    pages
}

#[test]
fn manual_pages_are_up_to_date() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man");
    let pages = pages();
    let bless = std::env::var_os("BLESS").is_some();
    let mut there: Vec<String> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    for (name, text) in &pages {
        let path = directory.join(name);
        if bless {
            std::fs::write(&path, text).unwrap();
        } else {
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(written == *text, "{name} is not what it would be: BLESS=1 writes it");
        }
    }
    for name in there.iter().filter(|name| !pages.contains_key(*name)) {
        assert!(bless, "{name} is of no command any more: BLESS=1 removes it");
        std::fs::remove_file(directory.join(name)).unwrap();
    }
}

/// groff finds no fault with them, where it is installed.
#[test]
fn manual_pages_are_sound() {
    for (name, text) in pages() {
        let formatter = Command::new("groff")
            .args(["-man", "-Kutf8", "-ww", "-Tutf8", "-z"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut formatter) = formatter else {
            return crate::support::skip("groff is missing; tests/run installs it");
        };
        formatter.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = formatter.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    }
}

#[test]
fn the_page_of_the_file_has_every_key() {
    let page = toml();
    let keys = crate::readme::examples();
    assert!(["exec", "profile.NAME.environment.NAME"].iter().all(|key| keys.iter().any(|(known, _)| known == key)));
    for (key, example) in keys {
        let (_, entry) = page.split_once(&format!(".TP\n\\fB{key}\\fR\n")).unwrap_or_else(|| panic!("no {key}"));
        let (entry, _) =
            entry.split_once("\nExample: ").unwrap_or_else(|| panic!("{key} has no example such as {example}"));
        assert!(entry.len() > 10 && !entry.contains(".TP\n"), "{key} has no meaning: {entry}");
    }
    assert!(!page.contains("]("), "a link is left");
}
