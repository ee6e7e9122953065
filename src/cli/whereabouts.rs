//! Where an app serves whose `start` does not say it; and which app a script belongs to.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::apps;
use super::exit::Failure;
use crate::config::{App, Listen, Scope};
use crate::pm2;
use crate::pm2::draft::DEFAULT_LISTEN;

/// The most that is read of a script, bytes.
const LOOK: u64 = 1 << 20;

/// An app that is there already keeps what its file says; a new one gets 8080. Where another app has that: the port that
/// the script names, or none at all, since a second app that just does its work is no mistake.
pub(super) fn listen(scope: Scope, name: &str, script: &Path) -> Result<Vec<String>, Failure> {
    let names = apps::names(scope)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // One with mistakes has no sockets.
    let all: Vec<App> = apps::read_several(scope, &names)?.into_iter().flatten().map(|loaded| loaded.app).collect();
    if let Some(own) = all.iter().find(|app| app.name == name) {
        return Ok(own.listen.iter().map(ToString::to_string).collect());
    }
    let source = std::fs::File::open(script).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(LOOK).read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    Ok(beside(&all, &source.unwrap_or_default()))
}

fn beside(others: &[App], source: &str) -> Vec<String> {
    let taken = |port: &str| {
        let port = Listen::read(port);
        port.is_ok_and(|port| others.iter().any(|app| app.addresses().any(|other| other.overlaps(&port))))
    };
    if !taken(DEFAULT_LISTEN) {
        return vec![DEFAULT_LISTEN.to_owned()];
    }
    match pm2::port_named_in(source).map(|port| port.to_string()) {
        Some(port) if !taken(&port) => vec![port],
        // It wants to serve: the start tells who has the address.
        Some(_) => vec![DEFAULT_LISTEN.to_owned()],
        None => Vec::new(),
    }
}

/// The apps that run a script, by its path, as PM2's users name them: `restart worker.js`.
pub(super) fn by_script(word: &str, scopes: &[Scope]) -> Result<Vec<(Scope, String)>, Failure> {
    let path = Path::new(word);
    let (Ok(whole), true) = (std::path::absolute(path), path.is_file()) else { return Ok(Vec::new()) };
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| whole.clone());
    let mut found = Vec::new();
    for scope in scopes {
        let names = apps::names(*scope)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let runs = |app: &App| {
            let directory = app.directory.clone().unwrap_or_else(|| PathBuf::from("/"));
            app.exec.iter().take_while(|word| *word != "--").any(|word| {
                let word = directory.join(word);
                word == whole || word == real
            })
        };
        let apps = apps::read_several(*scope, &names)?.into_iter().flatten().map(|loaded| loaded.app);
        found.extend(apps.filter(runs).map(|app| (*scope, app.name)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_app_gets_what_is_left() {
        let app = |listen: &str| {
            let text = format!("exec = 'node /srv/x.js'\nlisten = {listen}\n");
            crate::config::parse("x", Path::new("/etc/appctl/x.toml"), &text, Scope::System).app.unwrap()
        };
        let serves = "http.createServer().listen(3000)";
        let given = |others: &[App], source: &str| beside(others, source).join(" ");
        assert_eq!(given(&[], "setInterval(work)"), "8080");
        assert_eq!(given(&[app("8081")], serves), "8080");
        assert_eq!(given(&[app("8080")], serves), "3000");
        assert_eq!(given(&[app("8080")], "setInterval(work)"), "");
        assert_eq!(given(&[app("'127.0.0.1:8080'")], "server.listen(0)"), "");
        assert_eq!(given(&[app("[8080, 3000]")], serves), "8080");
    }
}
