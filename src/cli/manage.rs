//! What the commands that change something have in common: connecting, waiting for jobs, and saying why one failed.

use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::apps::{self, Loaded};
use super::exit::Failure;
use super::names;
use super::print::{Colour, Printer};
use crate::config::Scope;
use crate::router::client::{Control, Status};
use crate::system::bus::{BusError, Properties, Systemd, Verb};
use crate::system::holder::{self, Holder};
use crate::system::jobs::{self, Unfinished};
use crate::system::journal::{self, Last};
use crate::system::place;
use crate::unit::plan::Names;

/// How long the router may take to answer the operator.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines of a failed worker that are shown.
const LAST_LINES: u32 = 15;

/// One scope's manager.
pub(super) struct Manager {
    pub(super) systemd: Systemd,
    pub(super) scope: Scope,
}

impl Manager {
    pub(super) async fn connect(scope: Scope) -> Result<Self, Failure> {
        let systemd = Systemd::connect(apps::manager(scope)).await.map_err(|error| Failure::of_bus(error, scope))?;
        Ok(Self { systemd, scope })
    }

    pub(super) fn failure(&self, error: BusError) -> Failure {
        Failure::of_bus(error, self.scope)
    }

    pub(super) async fn properties(&self, unit: &str) -> Result<Properties, Failure> {
        self.systemd.properties(unit).await.map_err(|error| self.failure(error))
    }

    /// Reads all files again where systemd has not seen this app's as it is now.
    pub(super) async fn refresh(&self, names: &Names, changed: bool) -> Result<(), Failure> {
        let stale = changed || {
            let router = self.properties(&names.router).await?;
            router.text("LoadState") != Some("loaded") || router.flag("NeedDaemonReload")
        };
        if stale {
            self.systemd.daemon_reload().await.map_err(|error| match error {
                // Whoever may manage apps may not do that: a file says as whom it is run.
                BusError::Denied(_) if self.scope == Scope::System => Failure::Denied(format!(
                    "the file of {} has changed since systemd read it, and you have no right to make it read that\n\
                     Run: sudo systemctl daemon-reload",
                    names.router.trim_end_matches(".service")
                )),
                // A full /run, for one.
                BusError::Refused(reason) | BusError::Other(reason) => Failure::failed(format!(
                    "systemd did not read the files of units again: {reason}\n\
                     Mend that and do the same again; until then {} runs on as it is, whatever its file says.",
                    names.router.trim_end_matches(".service")
                )),
                error => self.failure(error),
            })?;
            self.end_forgotten(names).await?;
        }
        Ok(())
    }

    /// Stops companions that the file has no more: a timer without what it triggers fails when its time has come.
    async fn end_forgotten(&self, names: &Names) -> Result<(), Failure> {
        let mut forgotten = Vec::new();
        for companion in names.companions() {
            let properties = self.properties(companion).await?;
            let runs = properties.text("ActiveState").is_some_and(|state| state != "inactive");
            if properties.text("LoadState") == Some("not-found") && runs {
                forgotten.push((Verb::Stop, companion.to_owned()));
            }
        }
        self.run(&forgotten, async |_, _| {}).await?;
        for (_, companion) in &forgotten {
            let _ = self.systemd.reset_failed(companion).await;
        }
        Ok(())
    }

    /// All workers that systemd knows, whatever their state: unit name and active state. One that ended by itself and is
    /// about to be started again is activating.
    pub(super) async fn workers(&self, names: &Names) -> Result<Vec<(String, String)>, Failure> {
        let listed = self.systemd.list(&[names.slot("*")]).await.map_err(|error| self.failure(error))?;
        let mut workers = Vec::new();
        for unit in listed {
            let comes_back = unit.active_state == "deactivating" && !self.systemd.is_leaving(&unit).await;
            let state = if comes_back { "activating".to_owned() } else { unit.active_state };
            workers.push((unit.name, state));
        }
        workers.sort_by_cached_key(|(unit, _)| slot_order(names::slot(unit).unwrap_or_default()));
        Ok(workers)
    }

    /// Whether an app's router runs, be it in the middle of a reload. One that has died and is just being started again
    /// is waited for: systemd would take a restart for that start.
    pub(super) async fn router_runs(&self, names: &Names) -> Result<bool, Failure> {
        let mut state = self.properties(&names.router).await?;
        if state.text("ActiveState") == Some("activating") {
            // Whatever comes of it is in its state then.
            let _ = self.run(&[(Verb::Start, names.router.clone())], async |_, _| {}).await?;
            state = self.properties(&names.router).await?;
        }
        Ok(matches!(state.text("ActiveState"), Some("active" | "reloading")))
    }

    /// The workers that run, start or restart.
    pub(super) async fn standing(&self, names: &Names) -> Result<Vec<String>, Failure> {
        let workers = self.workers(names).await?.into_iter();
        Ok(workers
            .filter(|(_, state)| ["active", "activating", "reloading"].contains(&state.as_str()))
            .map(|(unit, _)| unit)
            .collect())
    }

    /// The workers that are too many: those that serve nobody first, then the highest indices. The others keep 0…N−1.
    pub(super) async fn surplus(&self, app: &str, wanted: u32) -> Result<Vec<(Verb, String)>, Failure> {
        let status = self.router_status(app).await;
        let mut standing = self.standing(&names::units(self.scope, app)).await?;
        let many = standing.len().saturating_sub(wanted as usize);
        standing.sort_by_cached_key(|unit| {
            let workers = status.as_ref().map(|status| status.workers.as_slice()).unwrap_or_default();
            let index = workers.iter().rfind(|worker| Some(worker.slot.as_str()) == names::slot(unit));
            std::cmp::Reverse(index.map_or(u32::MAX, |worker| worker.index))
        });
        Ok(standing.into_iter().take(many).map(|unit| (Verb::Stop, unit)).collect())
    }

    pub(super) async fn run(
        &self,
        wanted: &[(Verb, String)],
        ended: impl AsyncFnMut(Verb, &str),
    ) -> Result<Vec<Unfinished>, Failure> {
        jobs::run(&self.systemd, wanted, ended).await.map_err(|error| self.failure(error))
    }

    /// What the router says of itself; `None` when it cannot be asked.
    pub(super) async fn router_status(&self, app: &str) -> Option<Status> {
        // Whoever asks a router that does not run would start it.
        let router = self.properties(&names::units(self.scope, app).router).await.ok()?;
        if matches!(router.text("ActiveState"), Some("inactive" | "failed") | None) {
            return None;
        }
        self.control(app)?.status().await.ok()
    }

    /// The index of the worker in a slot, by the router's word.
    pub(super) async fn index_of(&self, app: &str, slot: &str) -> Option<u32> {
        let workers = self.router_status(app).await?.workers;
        workers.into_iter().find(|worker| worker.slot == slot).map(|worker| worker.index)
    }

    pub(super) fn control(&self, app: &str) -> Option<Control> {
        let socket = place::control(self.scope == Scope::User, app)?;
        Some(Control::new(socket, CONTROL_TIMEOUT))
    }

    /// Stops what would start apps again: a scheduled restart that is under way.
    pub(super) async fn end_actions(&self, apps: &[&str]) -> Result<(), Failure> {
        let names = apps.iter().map(|app| names::units(self.scope, app));
        let actions = names.flat_map(|names| names.actions().map(|action| (Verb::Stop, action.to_owned())));
        self.run(&actions.collect::<Vec<_>>(), async |_, _| {}).await?;
        Ok(())
    }

    /// What [`Self::stop`] stops of one app.
    pub(super) async fn to_stop(&self, app: &str) -> Result<Vec<(Verb, String)>, Failure> {
        let names = names::units(self.scope, app);
        let mut wanted: Vec<_> = names.companions().map(|companion| (Verb::Stop, companion.to_owned())).into();
        // The sockets' jobs wait for the router's, and the router's hook for the workers'.
        wanted.push((Verb::Stop, names.router.clone()));
        wanted.extend(names::sockets(&names).map(|socket| (Verb::Stop, socket.to_owned())));
        let running = self.workers(&names).await?;
        let running = running.into_iter().filter(|(_, state)| !["inactive", "failed"].contains(&state.as_str()));
        wanted.extend(running.map(|(unit, _)| (Verb::Stop, unit)));
        Ok(wanted)
    }

    /// Stops sockets, router, companions and workers of apps. What does not run is no failure.
    pub(super) async fn stop(&self, apps: &[&str], printer: &Printer) -> Result<Vec<Unfinished>, Failure> {
        let mut wanted = Vec::new();
        let mut paths = Vec::new();
        for app in apps {
            let status = self.router_status(app).await;
            paths.extend(status.into_iter().flat_map(|status| status.listening.into_iter().chain(status.metrics)));
            wanted.extend(self.to_stop(app).await?);
        }
        let mut unfinished = self
            .run(&wanted, async |_, unit| {
                if let Some(worker) = unit.strip_suffix(".service").filter(|unit| unit.contains('@')) {
                    printer.note(&format!("{worker} stopped"));
                }
            })
            .await?;
        if unfinished.iter().any(|job| job.result == "canceled") {
            // A worker that was just connecting has started the router by its socket. Now no worker is left.
            unfinished = self.run(&wanted, async |_, _| {}).await?;
        }
        if unfinished.is_empty() {
            remove_dead(&paths);
        }
        Ok(unfinished)
    }

    /// Units that failed stay listed until somebody says that he has seen it.
    pub(super) async fn forget_failures(&self, names: &Names) -> Result<(), Failure> {
        let workers = self.workers(names).await?.into_iter().map(|(unit, _)| unit);
        let own = names.all().into_iter().filter(|unit| !unit.contains('@')).map(str::to_owned);
        for unit in workers.chain(own) {
            // Most have not failed, or are not there.
            let _ = self.systemd.reset_failed(&unit).await;
        }
        Ok(())
    }

    /// Prints why jobs failed: the unit's result, and what its process wrote last. Workers that failed alike are told of
    /// together.
    pub(super) async fn explain(&self, unfinished: &[Unfinished], since: SystemTime, printer: &Printer) {
        if unfinished.is_empty() {
            return;
        }
        journal::sync();
        let mut stories: Vec<Story> = Vec::new();
        for Unfinished { verb, unit, reason, invocation, .. } in unfinished {
            if stories.iter().any(|story| story.units.contains(unit)) {
                continue;
            }
            let what = match verb {
                Verb::Start => "did not start",
                Verb::Stop => "did not stop",
                Verb::Restart => "did not restart",
                Verb::Reload => "was not reloaded",
            };
            let happened = format!("{what}: {reason}");
            let last = Last { manager: apps::manager(self.scope), unit, since, lines: LAST_LINES };
            let own = unit.ends_with(".service").then(|| last.of_its_own(invocation.clone()).unwrap_or_default());
            let lines = match own {
                Some(own) if !own.is_empty() => own,
                _ => last.of_the_manager().unwrap_or_default(),
            };
            match stories.iter_mut().find(|story| story.happened == happened && story.lines == lines) {
                Some(story) => story.units.push(unit.clone()),
                None => stories.push(Story { happened, lines, units: vec![unit.clone()] }),
            }
        }
        for Story { happened, lines, mut units } in stories {
            units.sort_by_cached_key(|unit| slot_order(names::slot(unit).unwrap_or_default()));
            printer.error(&format!("{} {happened}", units.join(" and ")));
            for line in &lines {
                printer.detail(&format!("  {} {line}", printer.paint_err("|", Colour::Dim)));
            }
            taken(&lines).iter().for_each(|told| printer.detail(told));
            if let Some(remedy) = remedy(&happened) {
                printer.detail(remedy);
            } else if lines.is_empty() {
                printer.detail(&format!("  journalctl{} -u {} tells more", user_flag(self.scope), units[0]));
            }
        }
    }
}

/// Removes the files of sockets at which nobody listens any more. systemd does so for those that a unit still names when
/// it stops, and does not know the others: addresses that were taken out of the app's file meanwhile. Dead sockets alone, since these are the router's words.
fn remove_dead(addresses: &[String]) {
    for path in addresses.iter().map(Path::new).filter(|path| path.is_absolute()) {
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        let is_dead = || UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        if is_socket && is_dead() {
            // Not ours to remove, perhaps; then somebody else's to be told of.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Who has the ports that lines call taken.
fn taken(lines: &[String]) -> Vec<String> {
    let busy = lines.iter().filter(|line| line.contains("Address already in use") || line.contains("EADDRINUSE"));
    let mut ports: Vec<u16> = busy.filter_map(|line| port(line)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.into_iter().filter_map(holders).collect()
}

/// Who has a port, as far as this user may know.
pub(super) fn holders(port: u16) -> Option<String> {
    let holders = holder::of_port(port);
    let who = holders.iter().map(|Holder { pid, name, unit }| {
        let unit = unit.as_ref().map_or(String::new(), |unit| format!(", of {unit}"));
        format!("{name} (pid {pid}{unit})")
    });
    (!holders.is_empty()).then(|| format!("  {port} is taken by {}", who.collect::<Vec<_>>().join(" and ")))
}

/// The port that a line is about: the last number behind a colon, `([::]:8080)`, `address :::3000`.
fn port(line: &str) -> Option<u16> {
    let mut ends = line.match_indices(':').filter_map(|(at, _)| {
        let digits: String = line[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        let next = line[at + 1 + digits.len()..].chars().next();
        next.is_none_or(|next| !next.is_alphanumeric()).then(|| digits.parse().ok())?
    });
    ends.next_back()
}

/// What to do where systemd could not even begin.
fn remedy(happened: &str) -> Option<&'static str> {
    const REMEDIES: [(&str, &str); 5] = [
        (
            "200/CHDIR",
            "`directory` in the app's file is not there, or its user may not enter it: make it, or name another.",
        ),
        ("203/EXEC", "The program cannot be run: install it, or write its whole path into `exec`."),
        (
            "243/CREDENTIALS",
            "A file under [credentials] is not there, or systemd cannot read it: put it there, or mend its path.",
        ),
        ("216/GROUP", "There is no such group: add it (groupadd --system), or change `group` in the app's file."),
        ("217/USER", "There is no such user: add it (useradd --system), or change `user` in the app's file."),
    ];
    REMEDIES.iter().find(|(status, _)| happened.contains(status)).map(|(_, remedy)| *remedy)
}

/// Units that failed alike.
struct Story {
    happened: String,
    /// What they wrote last.
    lines: Vec<String>,
    units: Vec<String>,
}

/// ` --user` for a command of systemd that is about a user's units.
pub(super) fn user_flag(scope: Scope) -> &'static str {
    if scope == Scope::User { " --user" } else { "" }
}

/// Numbers in their order, before words.
pub(super) fn slot_order(slot: &str) -> (u64, String) {
    (slot.parse().unwrap_or(u64::MAX), slot.to_owned())
}

/// Where an app serves, as one would type it into a browser.
pub(super) fn addresses(app: &Loaded) -> Vec<String> {
    use crate::config::router::Protocol;
    use crate::config::{App, Listen};
    let App { listen, router, .. } = &app.app;
    listen
        .iter()
        .map(|listen| {
            let options = router.listen.0.iter().find(|options| options.address == *listen);
            // What begins with a header of a balancer's is nothing for a browser.
            let behind = options.is_some_and(|options| options.proxy_protocol);
            let scheme = match options {
                _ if router.protocol == Protocol::Tcp || behind => "",
                Some(options) if !options.tls.is_empty() => "https://",
                _ => "http://",
            };
            let address = match listen {
                Listen::Port(port) => format!("{scheme}localhost:{port}"),
                Listen::Address(address) => format!("{scheme}{address}"),
                Listen::Path(path) => path.display().to_string(),
            };
            if behind { format!("{address} (PROXY protocol)") } else { address }
        })
        .collect()
}

/// `1 worker`, `3 workers`.
pub(super) fn count(number: usize) -> String {
    super::print::many(number as u64, "worker")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_is_taken() {
        let line = "shop.socket: Failed to create listening socket ([::]:8080): Address already in use";
        assert_eq!(port(line), Some(8080));
        assert_eq!(port("Error: listen EADDRINUSE: address already in use :::3000"), Some(3000));
        assert_eq!(port("Address already in use"), None);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken(&[format!("({}): Address already in use", listener.local_addr().unwrap())]);
        assert!(taken.len() == 1 && taken[0].contains(&format!("(pid {}", std::process::id())), "{taken:?}");
    }

    #[test]
    fn slots_in_order() {
        let mut slots = ["10", "2", "spare", "1"];
        slots.sort_by_cached_key(|slot| slot_order(slot));
        assert_eq!(slots, ["1", "2", "10", "spare"]);
    }
}
