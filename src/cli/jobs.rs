//! Queueing jobs with systemd and waiting until they are done.

use std::collections::HashMap;

use zbus::OwnedObjectPath;

use crate::system::bus::{BusError, Finished, Systemd, Verb};

/// One job that did not end as wished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub(super) verb: Verb,
    pub(super) unit: String,
    /// JobRemoved's result, or why there was no job at all.
    pub(super) result: String,
}

/// Queues all jobs in order, then waits for all of them. `ended` is told of each as it ends well.
///
/// Stopping or restarting what is not there is no failure.
pub(super) async fn run(
    systemd: &Systemd,
    wanted: &[(Verb, String)],
    mut ended: impl AsyncFnMut(Verb, &str),
) -> Result<Vec<Unfinished>, BusError> {
    let mut jobs = systemd.watch_jobs().await?;
    let mut waiting: HashMap<OwnedObjectPath, Vec<(Verb, String)>> = HashMap::new();
    let mut unfinished = Vec::new();
    for (verb, unit) in wanted {
        match systemd.enqueue(*verb, unit).await {
            // Two requests may have become one job.
            Ok(job) => waiting.entry(job).or_default().push((*verb, unit.clone())),
            Err(BusError::NoSuchUnit(_)) if *verb == Verb::Stop => {}
            Err(BusError::NoSuchUnit(reason) | BusError::Refused(reason)) => {
                unfinished.push(Unfinished { verb: *verb, unit: unit.clone(), result: reason });
            }
            Err(error) => return Err(error),
        }
    }
    while !waiting.is_empty() {
        let Some(Finished { job, result, .. }) = jobs.next().await else {
            return Err(BusError::Unreachable("the connection was closed".into()));
        };
        for (verb, unit) in waiting.remove(&job).unwrap_or_default() {
            match result.as_str() {
                "done" | "skipped" => ended(verb, &unit).await,
                _ => unfinished.push(Unfinished { verb, unit, result: result.clone() }),
            }
        }
    }
    Ok(unfinished)
}
