//! `appctl cat [NAME…]`: the units of apps, exactly as the generator writes them for systemd.

use super::check::{Output, homeless, no_such_app, print, problems};
use crate::config::Scope;
use crate::generator;
use crate::generator::apps::{self, AppFile};
use crate::generator::places::Places;

/// Prints the units of the named apps, or of all. Gives the exit code: 0 done, 1 a file has errors, 4 no such app.
pub fn run(names: &[String], scope: Scope) -> u8 {
    print(&show(names, Places::from_environment(scope).as_ref(), generator::processors()))
}

/// What [`run`] prints.
pub fn show(names: &[String], places: Option<&Places>, processors: u32) -> Output {
    let Some(places) = places else { return homeless() };
    let loaded = apps::load(places);
    let mut output = Output::default();
    if let Some(failure) = &loaded.failure {
        output.err.push_str(&format!("error: {failure}\n"));
        output.code = 1;
    }
    for name in names.iter().filter(|name| loaded.files.iter().all(|file| file.name != **name)) {
        output.err.push_str(&no_such_app(name, &loaded.files, places));
        output.code = 4;
    }
    for file in loaded.files.iter().filter(|file| names.is_empty() || names.contains(&file.name)) {
        if file.report.app.is_none() {
            output.code = output.code.max(1);
            output.err.push_str(&problems(file, false));
        } else {
            output.out.push_str(&units(file, places, processors));
        }
    }
    output
}

/// Each unit below a comment with its file's name, as `systemctl cat` does; then the links.
fn units(file: &AppFile, places: &Places, processors: u32) -> String {
    let directory =
        if places.scope == Scope::User { "$XDG_RUNTIME_DIR/systemd/generator" } else { "/run/systemd/generator" };
    let Some(plan) = generator::plan_of(file, places, processors) else { return String::new() };
    let mut text = String::new();
    for (name, unit) in &plan.units {
        text.push_str(&format!("# {directory}/{name}\n{unit}\n"));
    }
    for (path, target) in &plan.links {
        text.push_str(&format!("# {directory}/{path} -> {target}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_shown_as_written() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/appctl")).unwrap();
        std::fs::write(
            root.path().join("etc/appctl/a.toml"),
            "exec = 'node /x.js'\nlisten = 80\nworkers = 'max'\nwatch = '/srv'\nschedule.reload = 'daily'",
        )
        .unwrap();
        std::fs::write(root.path().join("etc/appctl/b.toml"), "exec = 7").unwrap();
        let path = root.path().to_owned();
        let places = Places::new(Scope::System, |name| (name == "APPCTL_ROOT").then(|| path.clone().into())).unwrap();
        let out = root.path().join("out");
        generator::generate(&places, 2, &out);
        let Output { out: text, code, .. } = show(&["a".to_owned()], Some(&places), 2);
        assert_eq!(code, 0);
        for name in [
            "a.service",
            "a@.service",
            "a.socket",
            "a-channel.socket",
            "a-control.socket",
            "a.slice",
            "a-watch.service",
            "a-reload.timer",
            "a-reload.service",
        ] {
            let unit = std::fs::read_to_string(out.join(name)).unwrap();
            assert!(text.contains(&format!("# /run/systemd/generator/{name}\n{unit}")), "{name}");
        }
        assert!(text.contains("multi-user.target.wants/a.service -> ../a.service"));
        assert_eq!(show(&["b".to_owned()], Some(&places), 2).code, 1);
        assert_eq!(show(&["c".to_owned()], Some(&places), 2).code, 4);
    }
}
