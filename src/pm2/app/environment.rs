//! Variables of an entry: `env`, the profiles, `port`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{Became, NAMES_ALONE, Reader, Told};
use crate::pm2::draft::{Draft, Variables};
use crate::pm2::keys::find;
use crate::pm2::values::{self, show};

/// Where a unit's programs are looked for, systemd.exec(5).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Reader<'_> {
    /// Adds what can be a variable.
    pub(super) fn variables(&mut self, key: &str, value: &Value) -> Variables {
        let Some(entries) = value.as_object() else {
            self.problems.push(format!("{key}: write an object of variables, not {}", show(value)));
            return Variables::new();
        };
        let mut variables = Variables::new();
        for (name, value) in entries {
            let Some(text) = values::variable(value) else { continue };
            let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
            let clean = !text.chars().any(|c| c.is_control() && !"\t\n".contains(c));
            if fits && clean {
                variables.push((name.clone(), text));
            } else {
                let what =
                    if fits { "its value has control characters" } else { "systemd takes letters, digits and `_`" };
                self.notes.push(format!("{key}: the variable `{name}` is left out: {what}"));
            }
        }
        variables
    }

    pub(super) fn environment(&mut self, draft: &mut Draft) {
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        if let (Some(deploy), Some(profile)) = (self.place.deploy, self.place.profile)
            && let Some(values) = deploy.get(profile).and_then(|it| it.get("env"))
        {
            variables.extend(self.variables(&format!("deploy.{profile}.env"), values));
        }
        if let Some((key, value)) = self.given("env") {
            let value = value.clone();
            variables.extend(self.variables(&key, &value));
            let names: Vec<String> = variables.keys().cloned().collect();
            self.lines("env", format!("[environment] {}", names.join(", ")));
        }
        if let Some(port) = self.get("port", values::number) {
            variables.insert("PORT".to_owned(), port.to_string());
            self.lines("port", format!("environment.PORT = \"{port}\""));
        }
        let python =
            |word: &String| Path::new(word).file_name().is_some_and(|name| name.to_string_lossy().contains("python"));
        if !self.place.typed && draft.exec.first().is_some_and(python) {
            variables.entry("PYTHONUNBUFFERED".to_owned()).or_insert_with(|| "1".to_owned());
            self.notes.push("PYTHONUNBUFFERED=1, as PM2 sets it: lines come at once".to_owned());
        }
        // `#!/usr/bin/env node` must find the Node that the caller has, such as one of nvm's.
        let node = self.machine.find("node").filter(|_| !self.place.typed);
        let directory = node.as_deref().and_then(Path::parent).map(|it| it.display().to_string());
        if let Some(directory) = directory.filter(|it| !PATH.split(':').any(|known| known == it))
            && !variables.contains_key("PATH")
        {
            self.notes.push(format!("PATH begins with {directory}, where your node is: a unit would not look there"));
            variables.insert("PATH".to_owned(), format!("{directory}:{PATH}"));
        }
        let profiles: Vec<(String, Value)> = self
            .entry
            .iter()
            .filter(|(key, _)| find(key).is_some_and(|known| known.name == "env_*"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for (key, value) in profiles {
            let profile = key.trim_start_matches("env_").to_owned();
            let values = self.variables(&key, &value);
            let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
            let lines = Became::Lines(format!("[profile.{profile}.environment] {}", names.join(", ")));
            self.told.push(Told { key, value: NAMES_ALONE.to_owned(), became: lines });
            draft.profiles.push((profile, values));
        }
        if let Some(profile) = self.place.profile.filter(|_| !self.place.typed) {
            if draft.profiles.iter().any(|(known, _)| known == profile) {
                draft.active_profile = Some(profile.to_owned());
            } else {
                self.notes.push(format!("--env {profile}: there is no env_{profile}"));
            }
        }
        draft.environment = variables.into_iter().collect();
        if !self.place.typed
            && draft.variable("NODE_ENV").is_none()
            && let Some(value) = self.machine.variable("NODE_ENV")
        {
            self.notes.push(format!("NODE_ENV = \"{value}\", from your shell, as PM2 takes it"));
            draft.environment.push(("NODE_ENV".to_owned(), value));
        }
    }
}
