//! An app's file before it is written, and the text that it becomes.

use std::path::PathBuf;

/// Where clients connect if nobody says it.
pub const DEFAULT_LISTEN: &str = "8080";

use crate::config::Workers;

/// Variables and their values, in the order in which they are written.
pub type Variables = Vec<(String, String)>;

/// One app's file before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The first lines, as comments.
    pub head: Vec<String>,
    pub name: String,
    pub exec: Vec<String>,
    pub directory: PathBuf,
    pub user: Option<String>,
    pub group: Option<String>,
    pub workers: Workers,
    pub runtime: Option<String>,
    /// `false`: only when asked.
    pub at_boot: bool,
    pub listen: Vec<String>,
    /// An empty one is the directory itself.
    pub watch: Vec<String>,
    pub ignore: Vec<String>,
    pub index_variable: Option<String>,
    pub increment_variable: Option<String>,
    pub environment: Variables,
    pub active_profile: Option<String>,
    pub profiles: Vec<(String, Variables)>,
    /// Lines of tables such as `[restart]`.
    pub tables: Vec<(&'static str, Vec<String>)>,
}

/// A string as TOML has it.
pub fn quote(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn array(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(", "))
}

/// Bare where it can be.
fn table_key(name: &str) -> String {
    toml_edit::Key::new(name).to_string()
}

impl Draft {
    /// The file, the same for the same app.
    pub fn toml(&self) -> String {
        let mut text: String = self.head.iter().map(|line| format!("# {line}\n")).collect();
        text.push_str(&format!("exec = {}\n", array(&self.exec)));
        text.push_str(&format!("directory = {}\n", quote(&self.directory.to_string_lossy())));
        for (key, value) in [("user", &self.user), ("group", &self.group), ("runtime", &self.runtime)] {
            if let Some(value) = value {
                text.push_str(&format!("{key} = {}\n", quote(value)));
            }
        }
        text.push_str(&format!("workers = {}\n", workers(self.workers)));
        if !self.at_boot {
            text.push_str("start = \"manual\"\n");
        }
        text.push_str(&format!("listen = {}\n", array(&self.listen)));
        match self.watch.as_slice() {
            [] => {}
            paths if paths.iter().any(String::is_empty) => text.push_str("watch = true\n"),
            paths => text.push_str(&format!("watch = {}\n", array(paths))),
        }
        if !self.ignore.is_empty() {
            text.push_str(&format!("ignore = {}\n", array(&self.ignore)));
        }
        for (key, value) in [
            ("index_variable", &self.index_variable),
            ("increment_variable", &self.increment_variable),
            ("active_profile", &self.active_profile),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("{key} = {}\n", quote(value)));
            }
        }
        if !self.environment.is_empty() {
            text.push_str(&format!("\n[environment]\n{}", variables(&self.environment)));
        }
        for (profile, values) in &self.profiles {
            text.push_str(&format!("\n[profile.{}.environment]\n{}", table_key(profile), variables(values)));
        }
        for (table, lines) in &self.tables {
            text.push_str(&format!("\n[{table}]\n{}\n", lines.join("\n")));
        }
        text
    }

    /// The variables that workers get: those of the active profile on top.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let active = self.profiles.iter().find(|(profile, _)| Some(profile) == self.active_profile.as_ref());
        let layers = active.map(|(_, values)| values).into_iter().chain([&self.environment]);
        layers.flatten().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// `workers` as the file has it.
pub fn workers(workers: Workers) -> String {
    match workers {
        Workers::Count(number) => number.to_string(),
        Workers::MaxMinus(0) => "\"max\"".to_owned(),
        Workers::MaxMinus(less) => format!("\"max-{less}\""),
    }
}

fn variables(variables: &Variables) -> String {
    variables.iter().map(|(name, value)| format!("{name} = {}\n", quote(value))).collect()
}
