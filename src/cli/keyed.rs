//! `appctl logs --format`: lines of `key=value`, as PM2 writes them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::look::AppNow;

/// The fields of an entry that a line is made of.
pub(super) const FIELDS: &str = "MESSAGE,PRIORITY,APP,SLOT,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT,UNIT,USER_UNIT";
/// The least severe priority that counts as an error: *err* of syslog(3).
const ERR: u8 = 3;

/// The ids of workers, by their units.
#[derive(Debug, Default)]
pub(super) struct Ids(HashMap<String, u32>);

impl Ids {
    pub(super) fn of(apps: &[AppNow]) -> Self {
        let workers = apps.iter().flat_map(|app| &app.workers);
        Self(workers.filter_map(|worker| Some((worker.unit.clone(), worker.id?))).collect())
    }

    /// One entry of the journal in JSON as a line; `None`: it is none.
    pub(super) fn line(&self, entry: &str) -> Option<String> {
        let entry: Value = serde_json::from_str(entry).ok()?;
        let text = |field: &str| entry[field].as_str();
        // What a manager says of a unit carries the unit as UNIT, its own is _SYSTEMD_UNIT.
        let units = ["USER_UNIT", "UNIT", "_SYSTEMD_USER_UNIT", "_SYSTEMD_UNIT"];
        let unit = units.into_iter().find_map(text).unwrap_or_default();
        let micros = text("__REALTIME_TIMESTAMP")?.parse().ok()?;
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros))?;
        let mut line = format!("timestamp={}", humantime::format_rfc3339_millis(at));
        let app = text("APP").or_else(|| unit.split(['@', '.']).next()).unwrap_or_default();
        line.push_str(&format!(" app={app}"));
        if let Some(id) = self.0.get(unit) {
            line.push_str(&format!(" id={id}"));
        }
        let is_error = text("PRIORITY").and_then(|it| it.parse().ok()).is_some_and(|priority: u8| priority <= ERR);
        let kind = if is_error { "error" } else { "out" };
        line.push_str(&format!(" unit={unit} type={kind} message={}", message(&entry["MESSAGE"])));
        Some(line)
    }
}

/// On one line, whatever was written.
fn message(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        // What is no UTF-8 comes as numbers.
        Value::Array(bytes) => {
            let bytes = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect::<Vec<u8>>();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    };
    text.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::shop;
    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let ids = Ids::of(&[shop()]);
        let line = |entry: &str| ids.line(entry);
        let worker = r#"{"__REALTIME_TIMESTAMP": "1763726400123456", "MESSAGE": "a=b\nc", "APP": "shop", "SLOT": "1",
                         "_SYSTEMD_UNIT": "shop@1.service", "PRIORITY": "6"}"#;
        let expected = "timestamp=2025-11-21T12:00:00.123Z app=shop id=3 unit=shop@1.service type=out message=a=b\\nc";
        assert_eq!(line(worker).as_deref(), Some(expected));
        let manager = r#"{"__REALTIME_TIMESTAMP": "0", "MESSAGE": "Failed", "_SYSTEMD_UNIT": "init.scope", "UNIT": "shop@2.service",
                          "PRIORITY": "3"}"#;
        let expected = "timestamp=1970-01-01T00:00:00.000Z app=shop id=4 unit=shop@2.service type=error message=Failed";
        assert_eq!(line(manager).as_deref(), Some(expected));
        let bytes =
            r#"{"__REALTIME_TIMESTAMP": "0", "MESSAGE": [97, 255], "APP": "shop", "_SYSTEMD_UNIT": "shop.service"}"#;
        assert!(line(bytes).unwrap().ends_with(" app=shop unit=shop.service type=out message=a\u{fffd}"));
        assert_eq!(line("{\"MESSAGE\": "), None);
    }
}
