//! A text on hold: its reload failed, so the units of what runs are made from the text before it. Else a worker that
//! crashes a week later would be started from the release that did not work.
//!
//! Two texts of an app are kept until the next boot. The *proven* one is what its workers were started with, by a start of
//! the app or by a reload that succeeded. The *held* one is what the last reload failed with: it is on hold for as long as
//! the file says just that, until somebody tries it again.

use std::io;

use super::apps::AppFile;
use super::places::Places;
use super::{good, kept};
use crate::config::{self, App};

/// Below [`Places::kept`].
const PROVEN: &str = ".proven";
/// Its names tell everybody what is on hold; the texts are for root's (the user's) eyes alone.
const HELD: &str = ".held";

/// Whether the file of an app is on hold.
pub fn is_held(places: &Places, name: &str) -> bool {
    kept::path(places, HELD, name).is_some_and(|path| path.exists())
}

/// What the running workers were started with.
pub fn proven(places: &Places, name: &str) -> Option<String> {
    kept::recorded(places, PROVEN, name)
}

/// `text` has shown that it works.
pub fn prove(places: &Places, name: &str, text: &str) -> io::Result<()> {
    kept::keep(places, PROVEN, name, text)
}

/// The app was started: what its units were made from counts as proven, unless that is the proven text already.
pub fn prove_started(places: &Places, name: &str) -> io::Result<()> {
    match good::text(places, name) {
        Some(text) if !is_held(places, name) => prove(places, name, &text),
        _ => Ok(()),
    }
}

/// Puts what the units were made from on hold. `false`: that is what the workers were started with.
pub fn hold(places: &Places, name: &str) -> io::Result<bool> {
    match (good::text(places, name), proven(places, name)) {
        (Some(text), Some(proven)) if text != proven => kept::keep(places, HELD, name, &text).map(|()| true),
        _ => Ok(false),
    }
}

/// The number of workers is another, and that alone, in the proven text and in the file. `held`: what the file says now, if
/// it was on hold and shall stay so.
pub fn change(places: &Places, name: &str, held: Option<&String>, proven: &str) -> io::Result<()> {
    prove(places, name, proven)?;
    held.map_or(Ok(()), |text| kept::keep(places, HELD, name, text))
}

/// What the file says is wanted, whatever came of it before. Says whether it was on hold: then systemd has to read all
/// units again.
pub fn lift(places: &Places, name: &str) -> io::Result<bool> {
    let Some(path) = kept::path(places, HELD, name) else { return Ok(false) };
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the units are made from instead of a file that is on hold.
pub fn instead(places: &Places, file: &AppFile) -> Option<App> {
    let held = held(places, &file.name)?;
    // A file with mistakes stands for its last text without.
    let says = match file.report.app {
        Some(_) => file.text.clone(),
        None if file.refused => return None,
        None => good::text(places, &file.name)?,
    };
    if says != held {
        return None;
    }
    config::parse(&file.name, &file.source, &proven(places, &file.name)?, places.scope).app
}

/// Forgets holds of files that say something else by now.
pub(super) fn forget(places: &Places, file: &AppFile) {
    if file.report.app.is_some() && held(places, &file.name).is_some_and(|held| held != file.text) {
        // Whatever remains is compared again.
        let _ = lift(places, &file.name);
    }
}

fn held(places: &Places, name: &str) -> Option<String> {
    kept::recorded(places, HELD, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scope;

    #[test]
    fn a_hold_from_its_beginning_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().to_owned();
        let places = Places::new(Scope::System, |name| (name == "APPCTL_ROOT").then(|| at.clone().into())).unwrap();
        let file = at.join("etc/appctl/a.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        // What a worker would be started with, after a daemon-reload.
        let unit = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let out = tempfile::tempdir().unwrap();
            crate::generator::generate(&places, 1, out.path());
            std::fs::read_to_string(out.path().join("a@.service")).unwrap()
        };
        let (one, two, three) = ("exec = '/bin/one'\n", "exec = '/bin/two'\n", "exec = '/bin/three'\n");
        assert!(unit(one).contains("/bin/one"));
        assert!(!hold(&places, "a").unwrap(), "nothing was proven yet");
        prove_started(&places, "a").unwrap();
        assert!(!hold(&places, "a").unwrap(), "it is what runs");

        assert!(unit(two).contains("/bin/two"), "a reload tries it");
        assert!(hold(&places, "a").unwrap() && is_held(&places, "a"));
        let held = unit(two);
        assert!(held.contains("/bin/one") && held.contains("(its file is on hold: appctl status a)"), "{held}");
        // A mistake on top of it changes nothing, nor does a start by systemctl.
        assert!(unit("[[[").contains("/bin/one"));
        prove_started(&places, "a").unwrap();
        assert_eq!(proven(&places, "a").as_deref(), Some(one));
        assert!(unit(two).contains("/bin/one"));

        // Another number of workers, of both.
        let more = |text: &str| format!("{text}workers = 2\n");
        change(&places, "a", Some(&more(two)), &more(one)).unwrap();
        assert!(unit(&more(two)).contains("/bin/one") && is_held(&places, "a"));
        // It is tried again.
        assert!(lift(&places, "a").unwrap() && !lift(&places, "a").unwrap());
        assert!(unit(&more(two)).contains("/bin/two"));
        assert!(hold(&places, "a").unwrap());
        // Any edit is another release, and going back to the one on hold is one more.
        assert!(unit(three).contains("/bin/three") && !is_held(&places, "a"));
        assert!(unit(&more(two)).contains("/bin/two"));

        assert!(hold(&places, "a").unwrap());
        std::fs::remove_file(&file).unwrap();
        crate::generator::generate(&places, 1, tempfile::tempdir().unwrap().path());
        assert!(!is_held(&places, "a") && proven(&places, "a").is_none(), "an app that is gone leaves nothing");
    }
}
