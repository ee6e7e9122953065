//! What apps show of themselves (@pm2/io and the like), for `appctl status` and PM2's shapes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::look::{AppNow, UnitNow};
use super::print::Table;

/// Metrics and actions of an app's workers: for `status`. `width`: of the terminal.
pub(super) fn block(app: &AppNow, table: impl Fn(&Table) -> String) -> Option<String> {
    let mut text = Vec::new();
    if app.workers.iter().any(|worker| !worker.metrics.is_empty()) {
        text.push("Metrics of its own:".to_owned());
        text.push(table(&metrics(app)));
    }
    for worker in app.workers.iter().filter(|worker| worker.metrics_left_out > 0) {
        let (slot, many) = (worker.slot.as_deref().unwrap_or_default(), worker.metrics_left_out);
        text.push(format!("  (worker {slot}: {many} more, which are too many or too long)"));
    }
    let actions = actions(app);
    if !actions.is_empty() {
        if !text.is_empty() {
            text.push(String::new());
        }
        text.push(format!("Actions (`appctl trigger {} ACTION`):", app.name));
        text.extend(actions.into_iter().map(|line| format!("  {line}")));
    }
    (!text.is_empty()).then(|| text.join("\n"))
}

/// A row for each metric of each worker, those of the same name together.
fn metrics(app: &AppNow) -> Table {
    let mut rows: BTreeMap<&str, Vec<(&str, String)>> = BTreeMap::new();
    for worker in &app.workers {
        for metric in &worker.metrics {
            let slot = worker.slot.as_deref().unwrap_or_default();
            rows.entry(&metric.name).or_default().push((slot, metric.text()));
        }
    }
    let mut table = Table::new(&["  METRIC", "VALUE IN EACH WORKER"]);
    for (name, values) in rows {
        let values: Vec<String> = values.into_iter().map(|(slot, value)| format!("{slot}: {value}")).collect();
        table.row(vec![format!("  {name}").into(), values.join("   ").into()]);
    }
    table
}

/// A line for each action.
fn actions(app: &AppNow) -> Vec<String> {
    let with: Vec<&UnitNow> = app.workers.iter().filter(|worker| worker.pid.is_some()).collect();
    let mut all = BTreeMap::new();
    for worker in &with {
        for action in &worker.actions {
            all.entry(&action.name).or_insert((action, Vec::new())).1.push(worker.slot.clone().unwrap_or_default());
        }
    }
    let line = |(name, (action, slots)): (&String, (&crate::wire::axm::Action, Vec<String>))| {
        let mut line = name.clone();
        if action.takes_param() {
            line.push_str(" [PARAM]");
        }
        if let Some(comment) = action.opts.as_ref().and_then(|opts| opts.get("comment")).and_then(Value::as_str) {
            line.push_str(&format!("  {}", super::print::plain(comment)));
        }
        if slots.len() < with.len() {
            line.push_str(&format!("  (worker {} alone)", slots.join(", ")));
        }
        (action.is_internal(), line)
    };
    // The package's own come last.
    let mut lines: Vec<_> = all.into_iter().map(line).collect();
    lines.sort_by_key(|(internal, _)| *internal);
    lines.into_iter().map(|(_, line)| line).collect()
}

/// `axm_monitor` and `axm_actions` of `jlist`.
pub(super) fn axm(worker: &UnitNow) -> [(&'static str, Value); 2] {
    let metrics: Map<String, Value> = worker
        .metrics
        .iter()
        .map(|metric| {
            let mut told = json!({ "value": metric.value });
            let optional = [
                ("historic", metric.historic.map(Value::Bool)),
                ("unit", metric.unit.clone().map(Value::String)),
                ("type", metric.kind.clone().map(Value::String)),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    told[name] = value;
                }
            }
            (metric.name.clone(), told)
        })
        .collect();
    [("axm_monitor", Value::Object(metrics)), ("axm_actions", json!(worker.actions))]
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::shop;
    use super::*;
    use crate::wire::axm::{Action, Metric};

    fn action(name: &str, kind: &str, arity: u64) -> Action {
        let opts = (name == "gc").then(|| json!({ "comment": "frees \u{1b}[31mmemory" }));
        Action { name: name.into(), kind: Some(kind.into()), arity: Some(arity), opts }
    }

    fn with_all() -> AppNow {
        let mut app = shop();
        let metric = |value: Value| Metric {
            name: "Users".into(),
            value,
            unit: Some("users".into()),
            kind: None,
            historic: Some(true),
        };
        for (at, worker) in app.workers.iter_mut().enumerate() {
            worker.pid = Some(100 + at as u32);
            worker.metrics = vec![metric(json!(at))];
            worker.actions = vec![action("km:heapdump", "internal", 2)];
        }
        app.workers[0].actions.push(action("gc", "custom", 1));
        app.workers[1].metrics_left_out = 3;
        app
    }

    #[test]
    fn in_full() {
        assert_eq!(
            block(&with_all(), |table| table.render(None, false)).unwrap(),
            "Metrics of its own:\n  METRIC  VALUE IN EACH WORKER\n  Users   1: 0 users   2: 1 users\n  \
             (worker 2: 3 more, which are too many or too long)\n\n\
             Actions (`appctl trigger shop ACTION`):\n  gc  frees memory  (worker 1 alone)\n  km:heapdump [PARAM]"
        );
        assert_eq!(block(&shop(), |table| table.render(None, false)), None);
    }

    #[test]
    fn as_pm2_has_it() {
        let app = with_all();
        let [(_, monitor), (_, actions)] = axm(&app.workers[0]);
        assert_eq!(monitor, json!({ "Users": { "value": 0, "unit": "users", "historic": true } }));
        assert_eq!(actions[0], json!({ "action_name": "km:heapdump", "action_type": "internal", "arity": 2 }));
        assert_eq!(axm(&shop().workers[0]), [("axm_monitor", json!({})), ("axm_actions", json!([]))]);
    }
}
