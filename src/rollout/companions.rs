//! What a reload does about the companions: starts new ones, stops those that the file has no more, and restarts those
//! whose command line is another now. All others are left alone.

use crate::config::App;
use crate::system::bus::{BusError, Properties, Systemd, Verb};
use crate::system::jobs::{self, Unfinished};
use crate::system::process;
use crate::unit::companions::{companions, wanted};
use crate::unit::plan::Names;

/// Makes the companions of a running app what its file says, when systemd has read the units. Gives what did not work.
pub async fn adapt(systemd: &Systemd, names: &Names, app: &App) -> Result<Vec<Unfinished>, BusError> {
    let units = companions(app, names);
    let wanted = wanted(names, &units);
    let mut jobs = Vec::new();
    for unit in names.companions() {
        let properties = systemd.properties(unit).await?;
        let runs = !["inactive", "failed"].contains(&properties.text("ActiveState").unwrap_or("inactive"));
        let verb = match (wanted.contains(&unit), runs) {
            (true, true) if is_other(&properties) => Verb::Restart,
            (true, false) => Verb::Start,
            (false, true) => Verb::Stop,
            _ => continue,
        };
        let _ = systemd.reset_failed(unit).await;
        jobs.push((verb, unit.to_owned()));
    }
    jobs::run(systemd, &jobs, async |_, _| {}).await
}

/// Whether a service's process was started by another command line than the unit has now. Timers have no process, and
/// systemd takes their new times at its daemon-reload.
fn is_other(unit: &Properties) -> bool {
    let (Some(pid), Some(command)) = (unit.u32("MainPID").filter(|pid| *pid != 0), unit.command()) else {
        return false;
    };
    process::command_line(pid).is_some_and(|running| running != command)
}
