//! What packages for apps under PM2 say over the channel: metrics, actions and what comes of them.
//!
//! Read and run as they are: @pm2/io 6.1.0 (the newest on npm; there is no 7.x), tx2 1.0.5 and pmx 1.6.8, as a cluster
//! worker and as a plain child, with both encodings, under PM2 7.0.4 and under a parent of ten lines. None of them looks
//! at `pm_id`, `PM2_USAGE` or `axm_*`: all that they need is `process.send`. (@pm2/io takes over uncaught exceptions unless
//! `exec_mode` is `cluster_mode`, which workers with a channel are told; PM2's own wrapper does it there, and Node here.)
//!
//! | `type` of `{type, data}` | `data` | when, by which file of @pm2/io |
//! | --- | --- | --- |
//! | `axm:monitor` | `{NAME: {value, unit, type, historic}}`; tx2 adds `agg_type`, pmx `alert`, its probes a bare value | all that have a value, each second (services/metrics.js; tx2 and pmx: 990 ms) |
//! | `axm:action` | `{action_name, action_type, arity, opts}`; `action_type`: `custom`, `internal`, `scoped`, of tx2 none | once, when it is registered (services/actions.js) |
//! | `axm:reply` | `{action_name, return, at}`; no number of the call | whenever the action answers, be it twice or never |
//! | `axm:scoped_action:stream`, `:error`, `:end` | `{data, uuid, action_name}` | a scoped action's answer in parts |
//! | `process:exception` | `{name, message, stack, metadata, context, callsite}` | `notifyError` and the handlers of Express and Koa (features/notify.js) |
//! | `axm:option:configuration`, `human:event`, `application:dependencies`, `profilings` | | for PM2 Plus; ignored |
//!
//! Values are numbers, texts (`"9.73"`: the built-in ones are `toFixed`) and booleans. Several packages in one worker send
//! messages of their own, which PM2 adds up by name.
//!
//! An action is called by a message: its name, or `{msg: NAME, opts: PARAM}`. With two arguments it gets `opts` first (`{}`
//! when called by its bare name). A scoped one wants a `uuid` (pmx: `action_name`, too), which `pm2 trigger` does not give:
//! it waits for ever, as it does for an action that throws, which in a cluster worker ends the process.

use super::channel::{Frame, PREFIX};
use super::message::MessageError;
use super::value::Value as Raw;
use super::{Encoding, json, v8};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Longest frame that is read for what an app tells of itself, bytes.
pub const FRAME_LIMIT: usize = 128 << 10;
/// …and for an answer that somebody waits for.
pub const ANSWER_LIMIT: usize = 1 << 20;
/// Longest name of a metric or an action, bytes.
const NAME: usize = 128;
const UNIT: usize = 32;
const TYPE: usize = 64;
/// Longest value that is a text; what is longer is cut, bytes.
const TEXT: usize = 256;
/// What an action says of itself (`opts`), as JSON.
const OPTIONS: usize = 512;
/// Message and stack of an exception, bytes.
const STACK: usize = 8 << 10;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Monitor,
    Action,
    Reply,
    Scoped(Part),
    Exception,
}

/// A part of a scoped action's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Stream,
    Error,
    End,
}

/// By a message's `type`.
pub(super) fn kind(word: Raw<'_>) -> Option<Kind> {
    const KINDS: [(&str, Kind); 7] = [
        ("axm:monitor", Kind::Monitor),
        ("axm:action", Kind::Action),
        ("axm:reply", Kind::Reply),
        ("axm:scoped_action:stream", Kind::Scoped(Part::Stream)),
        ("axm:scoped_action:error", Kind::Scoped(Part::Error)),
        ("axm:scoped_action:end", Kind::Scoped(Part::End)),
        ("process:exception", Kind::Exception),
    ];
    KINDS.into_iter().find(|(name, _)| word.is(name)).map(|(_, kind)| kind)
}

/// A figure that an app shows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    /// A number, a text or a boolean.
    pub value: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Where it comes from: `internal/v8/heap/used`; of the app's own what it likes.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub historic: Option<bool>,
}

impl Metric {
    /// Its value, if it is a number or a text that is one.
    pub fn number(&self) -> Option<f64> {
        let number = match &self.value {
            Value::Number(number) => number.as_f64(),
            // pmx writes "0.81ms", and the unit as well.
            Value::String(text) => {
                let unit = self.unit.as_deref().unwrap_or_default();
                text.strip_suffix(unit).unwrap_or(text).trim().parse().ok()
            }
            _ => None,
        };
        number.filter(|number| number.is_finite())
    }

    /// Value and unit, as people read them.
    pub fn text(&self) -> String {
        let value = match &self.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match &self.unit {
            Some(unit) if !value.ends_with(unit.as_str()) => format!("{value} {unit}"),
            _ => value,
        }
    }

    /// Not the app's own, but the package's.
    pub fn is_internal(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind.starts_with("internal/"))
    }

    /// What it takes to keep, about, bytes.
    pub fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let value = if let Value::String(text) = &self.value { text.len() } else { 16 };
        self.name.len() + value + text(&self.unit) + text(&self.kind)
    }
}

/// What an app lets others call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    #[serde(rename = "action_name")]
    pub name: String,
    /// `custom`, `internal` (the package's own), `scoped`.
    #[serde(default, rename = "action_type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arity: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opts: Option<Value>,
}

impl Action {
    /// It answers in parts, to a call with a `uuid`.
    pub fn is_scoped(&self) -> bool {
        self.kind.as_deref() == Some("scoped")
    }

    /// Not the app's own, but the package's.
    pub fn is_internal(&self) -> bool {
        self.kind.as_deref() == Some("internal")
    }

    /// It takes a parameter.
    pub fn takes_param(&self) -> bool {
        self.arity.is_some_and(|arity| arity >= 2)
    }
}

/// The metrics of one message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    pub metrics: Vec<Metric>,
    /// How many were none: without a name or value that can be shown, or with one that is too long.
    pub wrong: usize,
}

/// An answer, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub action: String,
    pub uuid: Option<String>,
    /// Null: nothing was answered.
    pub value: Value,
}

/// What an app reports of an error, as it would have been printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    pub summary: String,
    pub stack: Option<String>,
}

/// Reads `axm:monitor`.
pub fn metrics(frame: &Frame) -> Result<Metrics, MessageError> {
    let mut read = Metrics::default();
    for (name, told) in data(frame, FRAME_LIMIT)? {
        match metric(name, told) {
            Some(metric) => read.metrics.push(metric),
            None => read.wrong += 1,
        }
    }
    Ok(read)
}

fn metric(name: String, told: Value) -> Option<Metric> {
    let mut members = match told {
        Value::Object(members) => members,
        bare => Map::from_iter([("value".to_owned(), bare)]),
    };
    let value = match members.remove("value")? {
        Value::String(text) => Value::String(shown(&text, TEXT)),
        value @ (Value::Number(_) | Value::Bool(_)) => value,
        _ => return None,
    };
    let mut word = |name: &str, most| match members.remove(name) {
        Some(Value::String(text)) => Some(text).filter(|text| is_name(text, most)),
        _ => None,
    };
    let (unit, kind) = (word("unit", UNIT), word("type", TYPE));
    let historic = members.get("historic").and_then(Value::as_bool);
    is_name(&name, NAME).then_some(Metric { name, value, unit, kind, historic })
}

/// Reads `axm:action`. `None`: its name cannot be shown.
pub fn action(frame: &Frame) -> Result<Option<Action>, MessageError> {
    let mut members = data(frame, FRAME_LIMIT)?;
    let Some(name) = text(&mut members, "action_name").filter(|name| is_name(name, NAME)) else { return Ok(None) };
    let kind = text(&mut members, "action_type").filter(|kind| is_name(kind, TYPE));
    let arity = members.get("arity").and_then(Value::as_u64);
    let opts = members.remove("opts").filter(|opts| !opts.is_null() && opts.to_string().len() <= OPTIONS);
    Ok(Some(Action { name, kind, arity, opts }))
}

/// Reads `axm:reply` and `axm:scoped_action:*`.
pub fn answer(frame: &Frame) -> Result<Answer, MessageError> {
    let mut members = data(frame, ANSWER_LIMIT)?;
    let action = text(&mut members, "action_name").unwrap_or_default();
    let uuid = text(&mut members, "uuid");
    // A reply has the one, a part the other.
    let value = members.remove("return").or_else(|| members.remove("data")).unwrap_or_default();
    Ok(Answer { action, uuid, value })
}

/// Reads `process:exception`.
pub fn exception(frame: &Frame) -> Result<Exception, MessageError> {
    let mut members = data(frame, FRAME_LIMIT)?;
    let message = match members.remove("message") {
        Some(Value::String(message)) => message,
        // tx2 sends whatever it was given.
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let name = text(&mut members, "name").filter(|name| is_name(name, NAME)).unwrap_or_else(|| "Error".to_owned());
    let summary = if message.is_empty() { name } else { format!("{name}: {}", shown(&message, STACK)) };
    let stack = text(&mut members, "stack").map(|stack| {
        // It begins with the same again.
        let lines = stack.lines().filter(|line| line.trim_start().starts_with("at ")).map(|line| shown(line, STACK));
        cut(&lines.collect::<Vec<_>>().join("\n"), STACK)
    });
    Ok(Exception { summary, stack: stack.filter(|stack| !stack.is_empty()) })
}

/// The member `data` of a message that is no longer than that.
fn data(frame: &Frame, most: usize) -> Result<Map<String, Value>, MessageError> {
    if frame.bytes.len() > most {
        return Err(MessageError(format!("{} bytes, more than {most} are not read", frame.bytes.len())));
    }
    let whole = match frame.encoding {
        Encoding::Json | Encoding::Bun => json::whole(&frame.bytes)?,
        Encoding::Advanced => v8::json(frame.bytes.get(PREFIX..).unwrap_or_default())?,
    };
    match whole {
        Value::Object(mut members) => match members.remove("data") {
            Some(Value::Object(data)) => Ok(data),
            _ => Err(MessageError("its data is no object".to_owned())),
        },
        _ => Err(MessageError("no object".to_owned())),
    }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    if let Some(Value::String(text)) = members.remove(name) { Some(text) } else { None }
}

/// Whether it can be shown anywhere, whole.
fn is_name(name: &str, most: usize) -> bool {
    !name.is_empty() && name.len() <= most && !name.chars().any(char::is_control)
}

/// One line that does nothing to a terminal.
fn shown(text: &str, most: usize) -> String {
    cut(text, most).chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::super::message::{Message, read};
    use super::*;
    use serde_json::json;

    fn frame(message: &Value) -> Frame {
        Frame { encoding: Encoding::Json, bytes: format!("{message}\n").into() }
    }

    fn of(kind: &str, data: &Value) -> Frame {
        frame(&json!({"type": kind, "data": data}))
    }

    /// As Node 20.20.2 wrote it for @pm2/io 6.1.0, of what `{type, data}` are.
    const SENT: &[u8] = b"\xFF\x0Fo\"\x04type\"\x0Baxm:monitor\"\x04datao\"\x09Downloadso\"\x08historicT\"\x04unit_\"\x04type_\"\x05valueI\x0C{\x04\
        \"\x04Heapo\"\x08historicT\"\x04unit\"\x03MiB\"\x04type\"\x10internal/v8/heap\"\x05value\"\x049.48{\x04{\x02{\x02";

    #[test]
    fn a_message_is_known_by_its_type() {
        for (kind, wanted) in [
            ("axm:monitor", Message::Axm(Kind::Monitor)),
            ("axm:action", Message::Axm(Kind::Action)),
            ("axm:scoped_action:end", Message::Axm(Kind::Scoped(Part::End))),
            ("process:exception", Message::Axm(Kind::Exception)),
            ("axm:option:configuration", Message::Other),
            ("human:event", Message::Other),
        ] {
            assert_eq!(read(&of(kind, &json!({}))), Ok(wanted), "{kind}");
        }
    }

    #[test]
    fn metrics_in_both_encodings() {
        let length = u32::try_from(SENT.len()).unwrap().to_be_bytes();
        let sent = Frame { encoding: Encoding::Advanced, bytes: [&length, SENT].concat().into() };
        assert_eq!(read(&sent), Ok(Message::Axm(Kind::Monitor)));
        let read = metrics(&sent).unwrap();
        assert_eq!(read.metrics.iter().map(Metric::text).collect::<Vec<_>>(), ["6", "9.48 MiB"]);
        assert_eq!(read.metrics[1].number(), Some(9.48));
        let same = of(
            "axm:monitor",
            &json!({"Downloads": {"historic": true, "value": 6},
                "Heap": {"historic": true, "unit": "MiB", "type": "internal/v8/heap", "value": "9.48"}}),
        );
        assert_eq!(metrics(&same).unwrap(), read);
    }

    #[test]
    fn values_of_all_kinds() {
        let told = json!({
            "a": 7, "b": {"value": true}, "c": {"value": "x\u{1b}[31m\ny"}, "d": {"value": null}, "e": {"value": [1]},
            "f\n": 1, "": 1, "g": {"unit": "ms"}, "h": {"value": 1, "unit": 5, "type": {}},
            "i": {"value": "9".repeat(300)}, "n".repeat(129): 1,
        });
        let read = metrics(&of("axm:monitor", &told)).unwrap();
        let by = |name: &str| read.metrics.iter().find(|metric| metric.name == name).unwrap();
        assert_eq!((by("a").number(), by("b").number(), by("c").number()), (Some(7.0), None, None));
        assert_eq!((by("c").text().as_str(), by("h").text().as_str()), ("x [31m y", "1"));
        let delay = Metric { value: "0.81ms".into(), unit: Some("ms".into()), ..by("a").clone() };
        assert_eq!((delay.number(), delay.text().as_str()), (Some(0.81), "0.81ms"));
        let none = Metric { value: 1.into(), unit: Some(String::new()), ..by("a").clone() };
        assert_eq!((none.number(), none.text().as_str()), (Some(1.0), "1"));
        assert!(by("i").text().ends_with('…') && by("i").text().len() < 300);
        assert_eq!((read.metrics.len(), read.wrong), (5, 6));
        assert!(metrics(&of("axm:monitor", &json!([1]))).is_err());
        assert!(
            metrics(&of("axm:monitor", &json!({"a": "x".repeat(FRAME_LIMIT)}))).unwrap_err().0.contains("not read")
        );
    }

    #[test]
    fn actions_and_their_answers() {
        let told = json!({"action_name": "gc", "action_type": "custom", "arity": 2, "opts": {"comment": "hey"}});
        let read = action(&of("axm:action", &told)).unwrap().unwrap();
        assert!(read.takes_param() && !read.is_scoped() && !read.is_internal());
        assert_eq!(serde_json::to_value(&read).unwrap(), told, "as PM2's jlist has it");
        assert_eq!(action(&of("axm:action", &json!({"action_name": "a\u{7}"}))), Ok(None));
        assert_eq!(
            action(&of("axm:action", &json!({"action_name": "a", "opts": "o".repeat(600)}))).unwrap().unwrap().opts,
            None
        );
        let reply = answer(&of("axm:reply", &json!({"at": 1, "action_name": "gc", "return": [1, "x"]}))).unwrap();
        assert_eq!(reply, Answer { action: "gc".into(), uuid: None, value: json!([1, "x"]) });
        let none = answer(&of("axm:reply", &json!({"at": 1, "action_name": "gc"}))).unwrap();
        assert_eq!(none.value, Value::Null);
        let part =
            answer(&of("axm:scoped_action:stream", &json!({"data": "a", "uuid": "u", "action_name": "s"}))).unwrap();
        assert_eq!((part.uuid.as_deref(), part.value), (Some("u"), json!("a")));
    }

    #[test]
    fn exceptions() {
        let told = json!({"name": "TypeError", "message": "no\nway", "stack": "TypeError: no\nway\n    at f (a.js:1:2)\n    at g"});
        let read = exception(&of("process:exception", &told)).unwrap();
        assert_eq!(read.summary, "TypeError: no way");
        assert_eq!(read.stack.as_deref(), Some("    at f (a.js:1:2)\n    at g"));
        let odd = exception(&of("process:exception", &json!({"message": {"a": 1}, "stack": {"a": 1}}))).unwrap();
        assert_eq!(odd, Exception { summary: "Error: {\"a\":1}".into(), stack: None });
    }
}
