//! `appctl stopping NAME`, the router's `ExecStop=`: a stop of the router stops the workers, a restart restarts them, and
//! a router that ends by itself leaves them alone.
//!
//! systemd does not tell a service why it is stopped; its own job does. The bus may go away meanwhile (the machine
//! shuts down), so everything here has a bound and no failure stops the stopping.

use std::time::Duration;

use super::apps;
use super::counted;
use super::exit::{DONE, Failure};
use super::names;
use super::print::Printer;
use crate::config::Scope;
use crate::rollout::lock::Lock;
use crate::router::client::Control;
use crate::system::bus::{BusError, Systemd, Verb};
use crate::system::jobs;
use crate::system::place;
use crate::unit::plan::Names;

const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);
/// To ask systemd what is going on.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(name: &str, scope: Scope, printer: &Printer) -> Result<u8, Failure> {
    let names = names::units(scope, name);
    let asking = async {
        let systemd = Systemd::connect(apps::manager(scope)).await?;
        let job = systemd.job_type(&names.router).await?;
        Ok::<_, BusError>((systemd, job))
    };
    let (systemd, job) = match tokio::time::timeout(ASK_TIMEOUT, asking).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(error)) => return Ok(give_up(printer, &error.to_string())),
        Err(_) => return Ok(give_up(printer, "systemd did not answer in time")),
    };
    let restart = match job.as_deref() {
        Some("stop") => false,
        Some("restart" | "try-restart" | "reload-or-start") => true,
        _ => return Ok(DONE),
    };
    let control = place::control(scope == Scope::User, name).map(|socket| Control::new(socket, CONTROL_TIMEOUT));
    if restart {
        settle(name, scope).await;
        counted::add(scope, name, None);
    }
    // No bound on the workers: each has its own TimeoutStopSec=, and this command the router's.
    if let Err(error) = stop_workers(&systemd, &names, restart, control).await {
        return Ok(give_up(printer, &error.to_string()));
    }
    Ok(DONE)
}

async fn stop_workers(
    systemd: &Systemd,
    names: &Names,
    restart: bool,
    control: Option<Control>,
) -> Result<(), BusError> {
    if !restart {
        // Not waited for: these jobs wait for the router's own, which waits for this command. Without them the next
        // connection would start the app again.
        for socket in names::sockets(names) {
            match systemd.enqueue(Verb::Stop, socket).await {
                Ok(_) | Err(BusError::NoSuchUnit(_) | BusError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    // One that was taken out of the file is tied to the router no more.
    for companion in names.companions().into_iter().chain([names.metrics.as_str()]) {
        if systemd.properties(companion).await?.text("LoadState") == Some("not-found") {
            let _ = systemd.enqueue(Verb::Stop, companion).await;
        }
    }
    let mut workers = Vec::new();
    // Twice: a replacement that was under way may have started one more, which it takes back if it can.
    for _ in 0..2 {
        let mut running = systemd.list(&[names.slot("*")]).await?;
        running.retain(|unit| !["inactive", "failed"].contains(&unit.active_state.as_str()));
        let wanted: Vec<_> = running.iter().map(|unit| (Verb::Stop, unit.name.clone())).collect();
        // One that is on its way out has an heir, or had no right to be there.
        workers.extend(running.into_iter().filter(|unit| unit.active_state != "deactivating").map(|unit| unit.name));
        // One that cannot be stopped is systemd's to kill; the others are started again all the same.
        jobs::run(systemd, &wanted, async |_, _| {}).await?;
        if restart {
            break;
        }
    }
    // Not before they have stopped: the router has to let them drain. From here on it lets no worker in, so that the new
    // ones meet its successor. It may be gone, or hang: then it lets none in either.
    let router = systemd.properties(&names.router).await.ok().and_then(|it| it.u32("MainPID")).filter(|pid| *pid != 0);
    if let (Some(control), Some(router)) = (control, router) {
        let _ = control.stopping(router).await;
    }
    if restart {
        for unit in &workers {
            systemd.enqueue(Verb::Start, unit).await?;
        }
    }
    Ok(())
}

/// Gives the replacement of a worker, which has been told to stop, the time to take its new worker back: that must not be
/// among those that are started again.
async fn settle(name: &str, scope: Scope) {
    if let Some(path) = place::lock(scope == Scope::User, name) {
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, Lock::take(&path, || {})).await;
    }
}

/// The router is stopped whatever happens; one line tells what was left undone.
fn give_up(printer: &Printer, reason: &str) -> u8 {
    printer.warning(&format!("the workers are left as they are: {reason}"));
    DONE
}
