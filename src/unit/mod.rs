//! What systemd will read (pure): a unit file as a value, systemd.syntax(7).
//!
//! A [`UnitFile`] is ordered sections of ordered lines with their comments; printing ([`fmt::Display`]) and
//! [`UnitFile::parse`] are inverses. Nobody puts unit text together by hand: values go through [`UnitFile::add`], words of
//! a command line through [`argument`], assignments of `Environment=` through [`word`], other text through
//! [`specifiers`]. [`plan`] makes the units of an app.

pub mod companions;
pub mod plan;
mod sandbox;

use std::fmt;

/// One unit file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFile {
    /// Comment lines before the first section, each with its `#`; empty strings are blank lines.
    pub head: Vec<String>,
    pub sections: Vec<Section>,
}

/// `[Name]` and its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub lines: Vec<Line>,
}

/// `Key=value` with the comment lines above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// As [`UnitFile::head`].
    pub comments: Vec<String>,
    pub key: String,
    /// Raw: escaped as systemd wants it for this key.
    pub value: String,
}

/// What is no unit file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("line {0}: a line before the first [Section]")]
    Homeless(usize),
    #[error("line {0}: neither KEY=VALUE nor [Section] nor a comment")]
    Shape(usize),
}

impl UnitFile {
    /// Reads a unit file. Continued lines are joined with a blank, as systemd does; comments after the last line of a
    /// section move to the next section's first line.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let mut unit = Self::default();
        let mut comments = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                comments.push(line.to_owned());
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                if unit.sections.is_empty() {
                    unit.head = std::mem::take(&mut comments);
                    while unit.head.last().is_some_and(String::is_empty) {
                        unit.head.pop();
                    }
                }
                unit.sections.push(Section { name: name.to_owned(), lines: Vec::new() });
                comments.retain(|comment| !comment.is_empty());
                continue;
            }
            let mut whole = line.to_owned();
            while whole.ends_with('\\') {
                whole.pop();
                let Some((_, next)) = lines.next() else { break };
                // Comments within a continued line are skipped, systemd.syntax(7).
                if next.trim_start().starts_with(['#', ';']) {
                    whole.push('\\');
                    continue;
                }
                whole.push(' ');
                whole.push_str(next.trim());
            }
            let (key, value) = whole.split_once('=').ok_or(UnitError::Shape(index + 1))?;
            let section = unit.sections.last_mut().ok_or(UnitError::Homeless(index + 1))?;
            section.lines.push(Line {
                comments: std::mem::take(&mut comments),
                key: key.trim_end().to_owned(),
                value: value.trim().to_owned(),
            });
        }
        Ok(unit)
    }

    /// Puts a line at the end of a section, which is made when missing. `value` is raw; see [`clean`].
    pub fn add(&mut self, section: &str, key: &str, value: impl AsRef<str>) {
        let line = Line { comments: Vec::new(), key: clean(key), value: clean(value.as_ref()) };
        self.section(section).lines.push(line);
    }

    /// Replaces the template's slot `Key=@` by one line a value. No value: the slot goes with its comments. Without a slot
    /// the lines come last.
    pub fn fill<I>(&mut self, section: &str, key: &str, values: I)
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let lines = &mut self.section(section).lines;
        let slot = lines.iter().position(|line| line.key == key && line.value == SLOT);
        let mut comments = slot.map(|at| lines.remove(at).comments).unwrap_or_default();
        let at = slot.unwrap_or(lines.len());
        let new = values.into_iter().map(|value| Line {
            comments: std::mem::take(&mut comments),
            key: clean(key),
            value: clean(value.as_ref()),
        });
        lines.splice(at..at, new);
    }

    /// [`UnitFile::fill`] with one value.
    pub fn set(&mut self, section: &str, key: &str, value: impl AsRef<str>) {
        self.fill(section, key, [value.as_ref()]);
    }

    /// Another value for a key that is there once, whatever its own.
    pub fn replace(&mut self, section: &str, key: &str, value: &str) {
        for line in self.section(section).lines.iter_mut().filter(|line| line.key == key) {
            value.clone_into(&mut line.value);
        }
    }

    /// Drops the lines whose keys do not pass, with their comments.
    pub fn retain(&mut self, section: &str, pass: impl Fn(&str) -> bool) {
        self.section(section).lines.retain(|line| pass(&line.key));
    }

    /// Appends another file's lines, section by section.
    pub fn extend(&mut self, other: Self) {
        for section in other.sections {
            self.section(&section.name).lines.extend(section.lines);
        }
    }

    /// Puts a comment line before all else.
    pub fn comment(&mut self, text: &str) {
        self.head.insert(0, format!("# {}", clean(text)).trim_end().to_owned());
    }

    /// The value of a key; the last one when there are several.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let sections = self.sections.iter().filter(|it| it.name == section);
        sections.flat_map(|it| &it.lines).rfind(|line| line.key == key).map(|line| line.value.as_str())
    }

    /// All values of a key, in order.
    pub fn get_all<'a>(&'a self, section: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
        let sections = self.sections.iter().filter(move |it| it.name == section);
        sections.flat_map(|it| &it.lines).filter(move |line| line.key == key).map(|line| line.value.as_str())
    }

    fn section(&mut self, name: &str) -> &mut Section {
        let at = self.sections.iter().position(|section| section.name == name).unwrap_or_else(|| {
            self.sections.push(Section { name: clean(name), lines: Vec::new() });
            self.sections.len() - 1
        });
        &mut self.sections[at]
    }
}

/// What a template writes in place of a value that the plan fills in.
pub const SLOT: &str = "@";

impl fmt::Display for UnitFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for comment in &self.head {
            writeln!(f, "{comment}")?;
        }
        for (index, section) in self.sections.iter().enumerate() {
            if index > 0 || !self.head.is_empty() {
                writeln!(f)?;
            }
            writeln!(f, "[{}]", section.name)?;
            for line in &section.lines {
                for comment in &line.comments {
                    writeln!(f, "{comment}")?;
                }
                writeln!(f, "{}={}", line.key, line.value)?;
            }
        }
        Ok(())
    }
}

/// Text as it can stand in one line: control characters become blanks, blanks and backslashes at the end go. The checked
/// model refuses such values with a message; this holds the line even so, so that no value can ever begin another line.
fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().trim_end_matches(|c: char| c == '\\' || c.is_whitespace()).to_owned()
}

/// Literal text for a value in which systemd expands specifiers: `%` becomes `%%`.
pub fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// One literal word of a value that systemd splits into words, such as `Environment=`: `%` doubled, and quoted where it
/// must be (systemd.syntax(7), "Quoting").
pub fn word(text: &str) -> String {
    quote(&specifiers(text))
}

/// One literal argument of `ExecStart=` and its kin: as [`word`], and `$` doubled (systemd.service(5), "Command lines").
pub fn argument(text: &str) -> String {
    quote(&specifiers(text).replace('$', "$$"))
}

fn quote(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=@%+,$~^".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A name as one part of a slice's name, where `-` separates levels: escaped as systemd-escape(1) does.
pub fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || (byte == b'.' && index > 0) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// systemd's own reading of a value's words: extract_first_word() with UNQUOTE and CUNESCAPE, then specifiers, then
    /// (for commands) `$$`. Only what [`quote`] can write is understood; all else fails the test.
    fn read_words(value: &str, command: bool) -> Vec<String> {
        let mut words = Vec::new();
        let mut chars = value.chars().peekable();
        loop {
            while chars.next_if(|c| *c == ' ').is_some() {}
            if chars.peek().is_none() {
                break;
            }
            let mut word = String::new();
            let quoted = chars.next_if_eq(&'"').is_some();
            while let Some(c) = chars.next() {
                match c {
                    '"' if quoted => break,
                    '\\' if quoted => match chars.next().unwrap() {
                        'n' => word.push('\n'),
                        't' => word.push('\t'),
                        'r' => word.push('\r'),
                        kind @ ('x' | 'u') => {
                            let digits: String = chars.by_ref().take(if kind == 'x' { 2 } else { 4 }).collect();
                            let code = u32::from_str_radix(&digits, 16).unwrap();
                            assert!(code != 0, "systemd refuses NUL");
                            word.push(char::from_u32(code).unwrap());
                        }
                        c @ ('"' | '\\') => word.push(c),
                        c => panic!("\\{c}"),
                    },
                    ' ' if !quoted => break,
                    c => {
                        assert!(quoted || !"'\"\\;".contains(c), "{c} is special outside quotes");
                        word.push(c);
                    }
                }
            }
            assert!(!word.replace("%%", "").contains('%'), "a specifier in {word}");
            word = word.replace("%%", "%");
            if command {
                assert!(!word.replace("$$", "").contains('$'), "a variable in {word}");
                word = word.replace("$$", "$");
            }
            words.push(word);
        }
        words
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        for (text, written) in [
            ("node", "node"),
            ("--port=80", "--port=80"),
            ("/srv/my app/x.js", "\"/srv/my app/x.js\""),
            ("", "\"\""),
            ("100%", "100%%"),
            ("$HOME", "$$HOME"),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("it's", "\"it's\""),
            (";", "\";\""),
            ("a\nb\tc\x07", "\"a\\nb\\tc\\x07\""),
            ("grüße", "grüße"),
            ("#", "\"#\""),
        ] {
            assert_eq!(argument(text), written);
        }
        assert_eq!(word("A=$x %"), "\"A=$x %%\"");
    }

    #[test]
    fn slices_do_not_nest() {
        assert_eq!(escape("my-app.v2_x"), "my\\x2dapp.v2_x");
    }

    #[test]
    fn slots_are_filled_in_place() {
        let text = "# head\n\n[Unit]\nDescription=@\n# why\nAfter=@\n\n[Service]\n# gone\nUser=@\nType=exec\n";
        let mut unit = UnitFile::parse(text).unwrap();
        assert_eq!(unit.to_string(), text);
        unit.set("Unit", "Description", "x");
        unit.fill("Unit", "After", ["a", "b"]);
        unit.fill("Service", "User", [""; 0]);
        unit.set("Service", "Nice", "5");
        let filled = "# head\n\n[Unit]\nDescription=x\n# why\nAfter=a\nAfter=b\n\n[Service]\nType=exec\nNice=5\n";
        assert_eq!(unit.to_string(), filled);
        assert_eq!(unit.get("Unit", "After"), Some("b"));
    }

    #[test]
    fn continued_lines_are_joined() {
        let unit = UnitFile::parse("[Service]\nExecStart=a \\\n# not this\n  b \\\n  c\nType=exec").unwrap();
        assert_eq!(unit.get("Service", "ExecStart").unwrap().split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(unit.get("Service", "Type"), Some("exec"));
        assert_eq!(UnitFile::parse("A=1"), Err(UnitError::Homeless(1)));
        assert_eq!(UnitFile::parse("[A]\nnonsense"), Err(UnitError::Shape(2)));
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverses(
            head in ".{0,20}",
            lines in prop::collection::vec(("Unit|Service|X-Own", "[A-Z][A-Za-z]{0,9}", "(.|\n|\\\\| ){0,20}"), 0..12),
        ) {
            let mut unit = UnitFile::default();
            unit.comment(&head);
            for (section, key, value) in &lines {
                unit.add(section, key, value);
            }
            let count = unit.sections.iter().map(|section| section.lines.len()).sum::<usize>();
            prop_assert_eq!(count, lines.len());
            let text = unit.to_string();
            prop_assume!(!unit.sections.is_empty());
            prop_assert_eq!(UnitFile::parse(&text), Ok(unit));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(.|\n|=|\\[|\\]|\\\\){0,200}") {
            if let Ok(unit) = UnitFile::parse(&text) {
                let _ = unit.to_string();
            }
        }

        #[test]
        fn systemd_reads_back_what_was_meant(words in prop::collection::vec("[^\0]{0,12}", 0..6)) {
            let command: Vec<String> = words.iter().map(|it| argument(it)).collect();
            let list: Vec<String> = words.iter().map(|it| word(it)).collect();
            prop_assert_eq!(&read_words(&command.join(" "), true), &words);
            prop_assert_eq!(&read_words(&list.join(" "), false), &words);
        }
    }
}
