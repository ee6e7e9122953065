//! `appctl metrics [NAME…]`: what routers count, as Prometheus reads it, or as JSON.

use super::exit::{DONE, Failure, NOT_RUNNING};
use super::manage::{Manager, user_flag};
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::selector;
use crate::config::Scope;
use crate::router::client::ControlError;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps; none: all that run. Their samples differ in the label `app`
    names: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let all = ["all".to_owned()];
    let words = if arguments.names.is_empty() { &all[..] } else { &arguments.names };
    let mut code = DONE;
    let mut families = Families::default();
    for (scope, target) in selector::targets(words, asked).await? {
        let Target::App(name) = &target else {
            return Err(Failure::Usage(format!(
                "metrics are an app's; those of one worker have the label worker: appctl metrics {}",
                target.app()
            )));
        };
        match page(scope, name).await {
            Ok(Some(page)) => families.add(&page),
            Ok(None) if arguments.names.is_empty() => {}
            Ok(None) => {
                printer.note(&format!("{name} does not run; `appctl{} start {name}` starts it", user_flag(scope)));
                code = code.max(NOT_RUNNING);
            }
            Err(failure) => code = code.max(failure.of_one(printer)?),
        }
    }
    if families.0.is_empty() && code == DONE {
        printer.note("no app runs");
        code = NOT_RUNNING;
    }
    if printer.json {
        printer.json(&families.0);
    } else if !families.0.is_empty() {
        printer.data(families.text().trim_end());
    }
    Ok(code)
}

/// What one router tells. `None`: it does not run.
async fn page(scope: Scope, name: &str) -> Result<Option<String>, Failure> {
    let manager = Manager::connect(scope).await?;
    // Whoever asks a router that does not run would start it.
    if !manager.router_runs(&names::units(scope, name)).await? {
        return Ok(None);
    }
    let Some(control) = manager.control(name) else {
        return Err(Failure::failed("XDG_RUNTIME_DIR is not set: there is no user manager".to_owned()));
    };
    control.metrics().await.map(Some).map_err(|error| match error {
        ControlError::Unreachable(error) if error.kind() == ErrorKind::PermissionDenied => Failure::Denied(format!(
            "no right to ask the router of {name}: its control socket is for root and the group appctl\n\
             Use sudo; or give it an address that others may ask, such as router.metrics = \"127.0.0.1:19100\"."
        )),
        error => Failure::failed(format!("{name}: {error}")),
    })
}

/// The pages of several apps as one: each family comes once, as the format demands.
#[derive(Debug, Default)]
struct Families(Vec<Family>);

#[derive(Debug, Serialize)]
struct Family {
    name: String,
    help: String,
    r#type: String,
    samples: Vec<Sample>,
}

#[derive(Debug, Serialize)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
    /// As the router has written it.
    #[serde(skip)]
    line: String,
}

impl Families {
    fn add(&mut self, page: &str) {
        let mut at = None;
        for line in page.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                at = self.0.iter().position(|family| family.name == name).or_else(|| {
                    let (name, help) = (name.to_owned(), help.to_owned());
                    self.0.push(Family { name, help, r#type: String::new(), samples: Vec::new() });
                    Some(self.0.len() - 1)
                });
                continue;
            }
            let Some(family) = at.and_then(|at| self.0.get_mut(at)) else { continue };
            if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                kind.clone_into(&mut family.r#type);
            } else {
                family.samples.extend(sample(line));
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Family { name, help, r#type, samples } in &self.0 {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {type}\n"));
            for Sample { line, .. } in samples {
                text.extend([line.as_str(), "\n"]);
            }
        }
        text
    }
}

/// `name{label="value",…} number`; in a value `\\`, `\"` and `\n` stand for what they do elsewhere.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => text.push(other),
            }
        };
        labels.insert(label.trim_start_matches(',').to_owned(), text);
        rest = &after[end + 1..];
    }
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()?, line: line.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_become_one() {
        let page = |app: &str| {
            format!(
                "# HELP a_total A.\n# TYPE a_total counter\na_total{{app=\"{app}\"}} 1\n\
                 # HELP b B.\n# TYPE b gauge\nb{{app=\"{app}\",file=\"x\\\"\\\\\\n, y=\\\"\"}} 0.5\n"
            )
        };
        let mut families = Families::default();
        families.add(&page("one"));
        assert_eq!(families.text(), page("one"));
        families.add(&page("two"));
        let lines: Vec<_> = families.text().lines().map(str::to_owned).collect();
        let of = |line: &str| lines.iter().position(|it| it.starts_with(line)).unwrap();
        assert_eq!((lines.len(), of("a_total{app=\"one\"}"), of("a_total{app=\"two\"}")), (8, 2, 3), "{lines:#?}");
        let json = serde_json::to_value(&families.0).unwrap();
        let b = &json[1]["samples"][1];
        assert_eq!(b["labels"], serde_json::json!({ "app": "two", "file": "x\"\\\n, y=\"" }));
        assert_eq!((&json[1]["type"], &b["name"], &b["value"]), (&"gauge".into(), &"b".into(), &0.5.into()));
    }
}
