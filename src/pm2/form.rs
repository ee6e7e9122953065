//! An ecosystem file as text or as the value that Node made of it: its apps.

use serde_json::{Map, Value};

use super::app::{Became, Told};
use super::keys::{Fate, TOP};
use super::values::show;

/// How a file is read, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With comments, trailing commas and bare keys, as PM2 takes it.
    Json,
    Yaml,
    /// A program, for Node.
    Script,
    /// `package.json`, which is about PM2 in one key only.
    Package,
}

/// What `start` without a word looks for, in this order, as PM2 does.
pub const USUAL: [&str; 6] = [
    "ecosystem.json",
    "ecosystem.yml",
    "ecosystem.yaml",
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
];

/// `None`: no file of PM2's.
pub fn kind(path: &str) -> Option<Kind> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if name == "package.json" {
        Some(Kind::Package)
    } else if ends(&[".json"]) {
        Some(Kind::Json)
    } else if ends(&[".yml", ".yaml"]) {
        Some(Kind::Yaml)
    } else {
        ends(&[".config.js", ".config.cjs", ".config.mjs"]).then_some(Kind::Script)
    }
}

/// The value of a file that is no program. `Err`: what is wrong with it.
pub fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Yaml => {
            // As YAML 1.2, and so js-yaml, has them: `on` is a word.
            let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
        }
        Kind::Json | Kind::Package | Kind::Script => serde_json::from_str(text).or_else(|strict| {
            json5::from_str(text).map_err(|error| {
                if strict.is_eof() {
                    // The other one tells no place.
                    return format!("line {}: the file ends too early: {strict}", text.lines().count().max(1));
                }
                format!(
                    "{error}\nCode in it would be evaluated by PM2, not here: call the file ecosystem.config.js then."
                )
            })
        }),
    }
}

/// A file's apps, and what is beside them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ecosystem {
    pub apps: Vec<Map<String, Value>>,
    pub deploy: Option<Value>,
    /// Directories of files to serve.
    pub statics: Vec<Map<String, Value>>,
    /// Keys beside the apps, of which nothing becomes.
    pub told: Vec<Told>,
}

/// Finds the apps as PM2 does: `apps`, or `pm2`, or the whole is one app or a list of them.
pub fn ecosystem(kind: Kind, value: Value) -> Result<Ecosystem, String> {
    let mut found = Ecosystem::default();
    let apps = match value {
        Value::Object(mut top) => {
            let inner = ["apps", "pm2"].into_iter().find_map(|key| top.remove(key).filter(|it| !it.is_null()));
            match inner {
                Some(Value::Object(mut inner)) if inner.contains_key("apps") => {
                    inner.remove("apps").unwrap_or_default()
                }
                Some(inner) => {
                    found.deploy = top.get("deploy").cloned();
                    found.statics = statics(top.remove("static"))?;
                    if kind != Kind::Package {
                        found.told = top.iter().map(|(key, value)| beside(key, value)).collect();
                    }
                    inner
                }
                None if kind == Kind::Package => return Err("it has no key `pm2`".to_owned()),
                None if top.contains_key("static") && top.len() == 1 => {
                    found.statics = statics(top.remove("static"))?;
                    Value::Array(Vec::new())
                }
                None => Value::Object(top),
            }
        }
        other => other,
    };
    let apps = match apps {
        Value::Array(apps) => apps,
        one => vec![one],
    };
    for (number, app) in apps.into_iter().enumerate() {
        match app {
            Value::Object(app) => found.apps.push(app),
            other => return Err(format!("app {number} (from 0) must be an object, not {}", show(&other))),
        }
    }
    if found.apps.is_empty() && found.statics.is_empty() {
        return Err("it has no apps".to_owned());
    }
    Ok(found)
}

/// The entries of `static`; one may stand alone.
fn statics(value: Option<Value>) -> Result<Vec<Map<String, Value>>, String> {
    let entries = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(one) => vec![one],
    };
    let object = |entry| match entry {
        Value::Object(entry) => Ok(entry),
        other => Err(format!("static: an entry must be an object with path and port, not {}", show(&other))),
    };
    entries.into_iter().map(object).collect()
}

fn beside(key: &str, value: &Value) -> Told {
    let became = match TOP.iter().find(|known| known.name == key) {
        Some(known) if known.fate == Fate::Refused => Became::Refused(known.note.to_owned()),
        Some(_) => Became::Needless("`apps` is there, and counts".to_owned()),
        None => Became::Unknown("PM2 has no such key beside `apps`, and passes over it".to_owned()),
    };
    Told { key: key.to_owned(), value: show(value), became }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_are_known_by_their_names() {
        for (path, known) in [
            ("/srv/ecosystem.config.js", Some(Kind::Script)),
            ("pm2.config.cjs", Some(Kind::Script)),
            ("a.config.mjs", Some(Kind::Script)),
            ("processes.json", Some(Kind::Json)),
            ("./package.json", Some(Kind::Package)),
            ("p.yml", Some(Kind::Yaml)),
            ("config.js", None),
            ("app.toml", None),
        ] {
            assert_eq!(kind(path), known, "{path}");
        }
    }

    #[test]
    fn json_as_pm2_takes_it() {
        let text = "// apps\n{ apps: [{ name: 'a', /* b */ \"script\": 'a.js', }], }";
        assert_eq!(parse(Kind::Json, text).unwrap(), json!({"apps": [{"name": "a", "script": "a.js"}]}));
        let error = parse(Kind::Json, "{ script: require('x') }").unwrap_err();
        assert!(error.contains("ecosystem.config.js"), "{error}");
    }

    #[test]
    fn yaml_as_js_yaml_takes_it() {
        let text = "base: &base\n  instances: 2\napps:\n  - <<: *base\n    script: a.js\n    watch: on\n    env: {PORT: 3000, A: null}\n";
        let value = parse(Kind::Yaml, text).unwrap();
        assert_eq!(
            value["apps"],
            json!([{"instances": 2, "script": "a.js", "watch": "on", "env": {"PORT": 3000, "A": null}}])
        );
        let error = parse(Kind::Yaml, "apps:\n  - name: a\n   script: b.js\n").unwrap_err();
        assert!(error.starts_with("while parsing") && error.ends_with("at line 3, column 4"), "{error}");
    }

    #[test]
    fn where_the_apps_are() {
        let app = json!({"script": "a.js"});
        for (kind, value) in [
            (Kind::Json, json!({"apps": [app]})),
            (Kind::Json, json!({"apps": app})),
            (Kind::Json, json!([app])),
            (Kind::Json, app.clone()),
            (Kind::Package, json!({"name": "x", "pm2": {"apps": [app]}})),
            (Kind::Package, json!({"name": "x", "pm2": [app]})),
        ] {
            let found = ecosystem(kind, value.clone()).unwrap();
            assert_eq!((found.apps.len(), found.told), (1, Vec::new()), "{value}");
        }
        assert!(ecosystem(Kind::Package, json!({"name": "x"})).unwrap_err().contains("pm2"));
        assert!(ecosystem(Kind::Json, json!({"apps": []})).is_err());
        assert!(ecosystem(Kind::Json, json!({"apps": ["a.js"]})).is_err());
        let found = ecosystem(Kind::Json, json!({"apps": [app], "deploy": {}, "colour": 1})).unwrap();
        let became: Vec<_> = found.told.iter().map(|told| &told.became).collect();
        assert!(matches!(became[..], [Became::Unknown(_), Became::Refused(_)]), "{became:?}");
    }
}
