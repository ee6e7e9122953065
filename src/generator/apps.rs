//! All apps of a scope: each file read and judged, alone and beside the others and the system's own units.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::places::Places;
use super::trust;
use crate::config::value::check_name;
use crate::config::{self, Level, Problem, Report, Scope, calendar};
use crate::unit::plan::{MARK, Names, dynamic_user};

/// One file of the configuration directory.
#[derive(Debug, Clone, PartialEq)]
pub struct AppFile {
    /// The file's name without `.toml`; it may be no valid name.
    pub name: String,
    /// As the operator knows it, without the root.
    pub source: PathBuf,
    /// As read; what is not UTF-8 is replaced.
    pub text: String,
    pub report: Report,
    /// Whether `NAME.service` is free for a stub that tells the error.
    pub may_have_stub: bool,
    /// It is in the way of other units, whatever it says.
    pub refused: bool,
}

/// What the configuration directory holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// By name.
    pub files: Vec<AppFile>,
    /// Why the directory could not be read.
    pub failure: Option<String>,
}

/// Reads every `*.toml` of the directory. A missing directory holds nothing.
pub fn load(places: &Places) -> Loaded {
    let directory = places.under(&places.config);
    let mut failure = None;
    let mut names = Vec::new();
    match std::fs::read_dir(&directory) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => names.push(entry.file_name()),
                    Err(error) => failure = Some(format!("cannot read {}: {error}", places.config.display())),
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => failure = Some(format!("cannot read {}: {error}", places.config.display())),
    }
    names.sort_unstable();
    let mut files: Vec<AppFile> = Vec::new();
    for name in names {
        let shown = name.to_string_lossy();
        // Hidden files are editors' own.
        let Some(stem) = shown.strip_suffix(".toml").filter(|stem| !stem.is_empty() && !stem.starts_with('.')) else {
            continue;
        };
        let source = places.config.join(shown.as_ref());
        let mut file = read(stem, source, &directory.join(&name), places.scope);
        if name.to_str().is_none() {
            file.report =
                Report::failed(Problem::whole(Level::Error, "the file's name is not UTF-8", "rename the file"));
            file.may_have_stub = false;
            file.refused = true;
        }
        if let Err(problem) = trust::check(places, &directory.join(&name)) {
            file.report.add(problem);
        }
        files.push(file);
    }
    // By name, not by file name: `a` before `a-channel`, which is the one to be refused.
    files.sort_by(|one, two| one.name.cmp(&two.name));
    files.iter_mut().for_each(|file| refuse_unknown_zones(places, file));
    files.iter_mut().for_each(|file| refuse_others_accounts(places, file));
    refuse_collisions(places, &mut files);
    warn_of_shared_addresses(&mut files);
    Loaded { files, failure }
}

/// Reads one file from `path` by itself. `source` is the path that is shown.
pub fn read(name: &str, source: PathBuf, path: &Path, scope: Scope) -> AppFile {
    let may_have_stub = check_name(name).is_ok();
    let (text, report) = match read_text(path) {
        Ok(text) => {
            let report = config::parse(name, &source, &text, scope);
            (text, report)
        }
        Err((text, problem)) => (text, Report::failed(problem)),
    };
    AppFile { name: name.to_owned(), source, text, report, may_have_stub, refused: false }
}

/// Where systemd looks for time zones.
const ZONES: &str = "/usr/share/zoneinfo";

/// More than any sane file.
const FILE_MAX: u64 = 1 << 20;

/// What an app's file says, if it can be read as one: a FIFO holds nobody up.
pub fn text(path: &Path) -> std::io::Result<String> {
    read_text(path).map_err(|(_, problem)| std::io::Error::other(problem.message))
}

fn read_text(path: &Path) -> Result<String, (String, Problem)> {
    let whole = |message: String, remedy: &str| (String::new(), Problem::whole(Level::Error, message, remedy));
    let unreadable = |error: std::io::Error| {
        let link = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
        let remedy = match error.raw_os_error() {
            Some(libc::ENOENT) if link => "it is a link that leads nowhere: remove it, or put the file there",
            Some(libc::ELOOP) => "the link leads back to itself: remove it",
            Some(libc::EACCES) => "run this as a user who may read it",
            _ => "",
        };
        whole(format!("cannot be read: {error}"), remedy)
    };
    // A FIFO would block the boot.
    let mut file =
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a directory" } else { "not a regular file" };
        return Err(whole(format!("it is {kind}"), "remove it or rename it"));
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(whole("it is larger than 1 MiB".to_owned(), "move variables into environment_files"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let problem = Problem {
            line: good.matches('\n').count() + 1,
            column: good.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
            width: 1,
            level: Level::Error,
            message: "the file is not UTF-8".to_owned(),
            remedy: "save it as UTF-8".to_owned(),
        };
        (String::from_utf8_lossy(error.as_bytes()).into_owned(), problem)
    })
}

/// Refuses apps whose units would hide units of others: the system's, or those of an app before them.
fn refuse_collisions(places: &Places, files: &mut [AppFile]) {
    let mut taken: HashMap<String, String> = HashMap::new();
    for file in files {
        if check_name(&file.name).is_err() {
            continue;
        }
        let names = Names::of(&file.name, places.scope);
        if let Some(foreign) = foreign_unit(places, &names).or_else(|| init_script(places, &file.name)) {
            file.may_have_stub = false;
            file.refused = true;
            file.report.add(Problem::whole(
                Level::Error,
                format!("an app `{}` would hide {}, which is not of appctl", file.name, foreign.display()),
                format!("rename the file, such as to {}-app.toml", file.name),
            ));
            continue;
        }
        match names.all().into_iter().find_map(|unit| Some((unit, taken.get(unit)?))) {
            Some((unit, owner)) => {
                file.refused = true;
                file.may_have_stub &= !taken.contains_key(&names.router);
                file.report.add(Problem::whole(
                    Level::Error,
                    format!("the app `{owner}` has a unit {unit} as well"),
                    format!("rename this file or {owner}.toml"),
                ));
            }
            None => taken.extend(names.all().into_iter().map(|unit| (unit.to_owned(), file.name.clone()))),
        }
    }
}

/// systemd does not load a timer whose time zone this machine does not know.
fn refuse_unknown_zones(places: &Places, file: &mut AppFile) {
    let Some(app) = &file.report.app else { return };
    let zones = app.schedule.reload.iter().chain(&app.schedule.restart).filter_map(|it| calendar::zone(it));
    let unknown = zones.into_iter().find(|zone| !places.under(&Path::new(ZONES).join(zone)).is_file());
    if let Some(zone) = unknown.map(str::to_owned) {
        file.report.add(Problem::whole(
            Level::Error,
            format!("schedule: this machine knows no time zone {zone}"),
            format!("choose one of `timedatectl list-timezones`; if {zone} should be there, install tzdata"),
        ));
    }
}

/// What is called a dynamic user would be the account of that name, systemd.exec(5).
fn refuse_others_accounts(places: &Places, file: &mut AppFile) {
    let user = file.report.app.as_ref().and_then(dynamic_user);
    if let Some(user) = user.filter(|user| places.has_user(user)) {
        // Not even as it was before.
        file.refused = true;
        file.report.add(Problem::whole(
            Level::Error,
            format!("there is an account {user}: the app would run as that one, not as a user of its own"),
            format!(
                "write user = \"{user}\" if it is to run so; or rename the file, such as to {}-app.toml",
                file.name
            ),
        ));
    }
}

/// The first unit of the system that has one of these names and is neither a mask nor an override of ours.
fn foreign_unit(places: &Places, names: &Names) -> Option<PathBuf> {
    let candidates = places.units.iter().flat_map(|directory| names.all().into_iter().map(|unit| directory.join(unit)));
    candidates.into_iter().find(|path| {
        let here = places.under(path);
        let Ok(metadata) = std::fs::symlink_metadata(&here) else { return false };
        let masked = if metadata.is_symlink() {
            std::fs::read_link(&here).is_ok_and(|target| target == Path::new("/dev/null"))
        } else {
            metadata.len() == 0
        };
        !masked && !is_ours(&here)
    })
}

/// A script of System V's, of which systemd makes a unit that ours would hide (systemd-sysv-generator(8)).
fn init_script(places: &Places, name: &str) -> Option<PathBuf> {
    let path = Path::new("/etc/init.d").join(name);
    (places.scope == Scope::System && places.under(&path).is_file()).then_some(path)
}

/// Whether a unit was made from one of ours (`systemctl edit --full`): our mark is near its top.
fn is_ours(path: &Path) -> bool {
    let mut top = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut top));
    read.is_ok() && String::from_utf8_lossy(&top).lines().any(|line| line.starts_with(MARK))
}

/// Whichever of the two somebody looks at, it tells of the other one.
fn warn_of_shared_addresses(files: &mut [AppFile]) {
    let warnings: Vec<_> = files.iter().map(|file| shared_address(file, files)).collect();
    for (file, warning) in files.iter_mut().zip(warnings) {
        if let Some(warning) = warning {
            file.report.add(warning);
        }
    }
}

/// The first address that an app shares with one of `others`.
fn shared_address(file: &AppFile, others: &[AppFile]) -> Option<Problem> {
    let app = file.report.app.as_ref()?;
    let others = others.iter().filter(|other| other.name != file.name).filter_map(|other| other.report.app.as_ref());
    let (address, other) = others.into_iter().find_map(|other| {
        let mut here = app.addresses();
        Some((here.find(|one| other.addresses().any(|two| one.overlaps(two)))?, &other.name))
    })?;
    Some(Problem::whole(
        Level::Warning,
        format!("the app `{other}` listens on {address} too: only one of them can run"),
        "give one of them another address in listen (or router.metrics)",
    ))
}

/// Tells of an address that a file, which is not among the others yet, would share with one of them.
pub fn judge_beside(file: &mut AppFile, others: &[AppFile]) {
    if let Some(warning) = shared_address(file, others) {
        file.report.add(warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// systemd waits for its generators: a FIFO must not be waited for.
    #[test]
    fn a_fifo_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || drop(sender.send(read("a", "a.toml".into(), &path, Scope::System))));
        let file = receiver.recv_timeout(std::time::Duration::from_secs(30)).expect("reading does not block");
        assert_eq!(file.report.error().map(|problem| problem.message.as_str()), Some("it is not a regular file"));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let file = read("a", path.clone(), &path, Scope::System);
        assert!(file.report.error().unwrap().message.contains("larger than 1 MiB"));
    }
}
