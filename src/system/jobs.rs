//! Queueing jobs with systemd and waiting until they are done.

use std::collections::HashMap;

use zbus::OwnedObjectPath;

use super::bus::{BusError, Finished, Properties, Systemd, Verb};
use super::ended::How;

/// One job that did not end as wished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub verb: Verb,
    pub unit: String,
    /// JobRemoved's result, or why there was no job at all.
    pub result: String,
    /// The same in words, of the instant when the job ended: systemd may start the unit again soon.
    pub reason: String,
    /// That run's id.
    pub invocation: Option<String>,
}

impl Unfinished {
    /// A unit that failed just now, whatever its job said.
    pub async fn now(systemd: &Systemd, verb: Verb, unit: &str) -> Self {
        Self::of(systemd, verb, unit.to_owned(), "failed".to_owned()).await
    }

    async fn of(systemd: &Systemd, verb: Verb, unit: String, result: String) -> Self {
        let properties = systemd.properties(&unit).await.unwrap_or_default();
        let reason = reason(&unit, &result, &properties);
        Self { verb, unit, result, reason, invocation: properties.invocation() }
    }
}

/// Queues all jobs in order, then waits for all of them. `ended` is told of each as it ends well.
///
/// Stopping or restarting what is not there is no failure.
pub async fn run(
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
                unfinished.push(Unfinished::of(systemd, *verb, unit.clone(), reason).await);
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
                _ => unfinished.push(Unfinished::of(systemd, verb, unit, result.clone()).await),
            }
        }
    }
    Ok(unfinished)
}

/// The reason that a job failed, in words.
fn reason(unit: &str, result: &str, properties: &Properties) -> String {
    let (how, ready) = How::of_unit(properties);
    match result {
        "failed" if how.result == "resources" && unit.ends_with(".socket") => {
            "its address cannot be opened; is another program using it?".to_owned()
        }
        "failed" if how.exit.is_none() && !how.failed() => "it failed".to_owned(),
        "failed" => how.reason(ready),
        "timeout" => "it took too long".to_owned(),
        "dependency" => "a unit that it needs did not start".to_owned(),
        "canceled" => "another command cancelled it".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_in_words() {
        assert_eq!(reason("shop@1.service", "failed", &Properties::default()), "it failed");
        let dependency = reason("shop@1.service", "dependency", &Properties::default());
        assert_eq!(dependency, "a unit that it needs did not start");
    }
}
