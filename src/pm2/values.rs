//! Values of an entry as PM2 takes them: numbers also in quotes, lists also as one string, spans with a letter.

use serde_json::Value;

/// A value in a few words, for reports.
pub fn show(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { format!("{}…", text.chars().take(59).collect::<String>()) } else { text }
}

/// What is wrong with a value: what it should be.
pub(super) type Unfit = &'static str;

pub fn text(value: &Value) -> Result<String, Unfit> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err("a string"),
    }
}

pub fn truth(value: &Value) -> Result<bool, Unfit> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err("true or false"),
    }
}

/// A whole number that is not negative.
pub(super) fn number(value: &Value) -> Result<u64, Unfit> {
    const WANTED: &str = "a whole number, 0 or more";
    let number = match value {
        Value::Number(number) => number.as_u64().map(|number| number as f64).or_else(|| number.as_f64()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| *number >= 0.0 && *number < 9e15).map(|number| number as u64).ok_or(WANTED)
}

/// Milliseconds: a number, or one with `h`, `m`, `s`.
pub(super) fn milliseconds(value: &Value) -> Result<u64, Unfit> {
    const WANTED: &str = "milliseconds, or a string such as \"10s\", \"5m\", \"1h\"";
    if let Value::String(text) = value
        && let Some((digits, unit)) = [("h", 3_600_000), ("m", 60_000), ("s", 1000)]
            .into_iter()
            .find_map(|(letter, unit)| Some((text.strip_suffix(letter)?, unit)))
    {
        return digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit)).ok_or(WANTED);
    }
    number(value).map_err(|_| WANTED)
}

/// Bytes: a number, or one with `K`, `M`, `G`.
pub(super) fn bytes(value: &Value) -> Result<u64, Unfit> {
    const WANTED: &str = "bytes, or a string such as \"300M\" or \"1G\"";
    match value {
        Value::String(text) => crate::config::value::read_size(text).map_err(|_| WANTED),
        _ => number(value).map_err(|_| WANTED),
    }
}

/// An array, one element, or a string of words.
pub(super) fn words(value: &Value) -> Result<Vec<String>, Unfit> {
    const WANTED: &str = "an array of strings, or a string";
    match value {
        Value::Array(elements) => elements.iter().map(|element| text(element).map_err(|_| WANTED)).collect(),
        Value::String(line) => Ok(split(line)),
        Value::Number(number) => Ok(vec![number.to_string()]),
        _ => Err(WANTED),
    }
}

/// Words as PM2 splits them: by blanks; quotes around a word go, those of `--name="a b"` stay, and nothing is escaped.
pub(super) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, length) = first_word(rest);
        if !word.trim().is_empty() {
            words.push(word);
        }
        rest = rest[length..].trim_start();
    }
    words
}

/// The first word, and how long it is with its quotes.
fn first_word(rest: &str) -> (String, usize) {
    let quoted = |from: usize| {
        let quote = rest[from..].chars().next().filter(|first| ['"', '\''].contains(first))?;
        let end = rest[from + 1..].find(quote)?;
        Some(from + 1 + end + 1)
    };
    if let Some(end) = quoted(0) {
        return (rest[1..end - 1].to_owned(), end);
    }
    // `name="a b"`
    let key = rest.find(|c: char| c.is_whitespace() || ['"', '\'', '='].contains(&c));
    if let Some(at) = key.filter(|at| *at > 0 && rest[*at..].starts_with('='))
        && let Some(end) = quoted(at + 1)
    {
        return (rest[..end].to_owned(), end);
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    (rest[..end].to_owned(), end)
}

/// A variable's value; `None`: there is none. Objects become JSON.
pub(super) fn variable(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_are_split_as_pm2_does() {
        for (line, words) in [
            ("--port 1  -x", &["--port", "1", "-x"][..]),
            ("say \"two words\" 'and more'", &["say", "two words", "and more"]),
            ("--name=\"a b\" c", &["--name=\"a b\"", "c"]),
            ("--name='a b'", &["--name='a b'"]),
            ("--a=b=c it's", &["--a=b=c", "it's"]),
            ("", &[]),
            ("\"open", &["\"open"]),
            ("\"\" x", &["x"]),
        ] {
            assert_eq!(split(line), words, "{line}");
        }
    }

    #[test]
    fn numbers_and_their_letters() {
        assert_eq!(number(&json!("4000")), Ok(4000));
        assert_eq!(number(&json!(1.9)), Ok(1));
        assert!(number(&json!(-1)).is_err() && number(&json!(true)).is_err());
        assert_eq!(milliseconds(&json!("2m")), Ok(120_000));
        assert_eq!(milliseconds(&json!(1500)), Ok(1500));
        assert!(milliseconds(&json!("soon")).is_err());
        assert_eq!(bytes(&json!("1G")), Ok(1 << 30));
        assert_eq!(bytes(&json!(1024)), Ok(1024));
    }

    #[test]
    fn variables_are_text() {
        assert_eq!(variable(&json!({"a": [1, true]})).unwrap(), "{\"a\":[1,true]}");
        assert_eq!(variable(&json!(true)).unwrap(), "true");
        assert_eq!(variable(&json!(null)), None);
    }
}
