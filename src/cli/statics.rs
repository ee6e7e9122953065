//! `static` of PM2's files: directories of files, each of which becomes an app that runs `appctl serve`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::exit::Failure;
use super::served;
use crate::config::{Scope, Workers};
use crate::pm2::app::{Became, Imported, Told, fitting};
use crate::pm2::values::{self, show};

/// PM2's, when an entry does not say.
const PORT: &str = "8080";

/// What an entry is called here.
pub(super) fn name(entry: &Map<String, Value>) -> String {
    let text = |key: &str| entry.get(key).and_then(|value| values::text(value).ok());
    text("name")
        .map_or_else(|| served::usual_name(&text("port").unwrap_or_else(|| PORT.to_owned())), |name| fitting(&name))
}

/// One entry. `Err`: what is wrong with it.
pub(super) fn read(entry: &Map<String, Value>, directory: &Path, scope: Scope) -> Result<Imported, Failure> {
    let name = name(entry);
    let wrong = |key: &str, wanted: &str| Failure::failed(format!("static {name}: {key}: write {wanted}"));
    let (mut path, mut port, mut spa, mut told) = (PathBuf::from("."), PORT.to_owned(), false, Vec::new());
    for (key, value) in entry {
        let became = match key.as_str() {
            "path" => {
                path = PathBuf::from(values::text(value).map_err(|wanted| wrong(key, wanted))?);
                Became::Lines("exec, directory".to_owned())
            }
            "port" => {
                port = values::text(value).map_err(|wanted| wrong(key, wanted))?;
                Became::Lines(format!("listen = [\"{port}\"]"))
            }
            "spa" => {
                spa = values::truth(value).map_err(|wanted| wrong(key, wanted))?;
                Became::Lines("exec: --spa".to_owned())
            }
            "name" => Became::Lines(format!("{name}.toml")),
            key if key.to_lowercase().replace('_', "").starts_with("basicauth") => Became::Refused(format!(
                "a password does not belong into a file that all may read: `appctl serve PATH PORT --name {name} \
                 --basic-auth-username USER --basic-auth-password PASSWORD`"
            )),
            _ => Became::Unknown("of `static` only path, port, spa and name are known".to_owned()),
        };
        // What may be a password is not shown.
        let value = if matches!(became, Became::Lines(_)) { show(value) } else { "…".to_owned() };
        told.push(Told { key: format!("static.{key}"), value, became });
    }
    let directory = served::absolute(&directory.join(path))?;
    let draft = served::draft(&name, directory, port, spa, Workers::Count(1), None, scope)?;
    Ok(Imported { draft, told, notes: vec!["a directory of files, as `appctl serve` serves it".to_owned()] })
}
