//! When a worker starts, is ready, ends and starts again; what it may use; what becomes of its output.

use std::time::Duration;

use serde_json::Value;

use super::{Became, Reader};
use crate::config::{Restart, value};
use crate::pm2::draft::quote;
use crate::pm2::values;

/// Where PM2's growing pause ends.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// PM2's, when only the other of the two is given.
const MAX_RESTARTS: u64 = 16;
const MIN_UPTIME: u64 = 1000;
/// systemd's timers may be late by that, milliseconds.
const LATE: u64 = 300;
/// `ready.timeout` without a word, milliseconds.
const READY_TIMEOUT: u64 = 60_000;

impl Reader<'_> {
    pub(super) fn restart(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.get("autorestart", values::truth) == Some(false) {
            lines.push("policy = \"no\"".to_owned());
            self.lines("autorestart", "restart.policy = \"no\"");
        }
        let positive = |given: Option<u64>| given.filter(|delay| *delay > 0);
        let fixed = positive(self.get("restart_delay", values::number));
        let growing = positive(self.get("exp_backoff_restart_delay", values::number));
        if let Some(delay) = fixed {
            self.lines("restart_delay", format!("restart.delay = \"{delay}ms\""));
        }
        if let Some(delay) = growing {
            let longest = value::write_span(LONGEST_PAUSE);
            self.lines(
                "exp_backoff_restart_delay",
                format!("restart.delay = \"{delay}ms\", restart.backoff = \"{longest}\""),
            );
        }
        // PM2 looks at the growing one first.
        let backoff = growing.filter(|delay| u128::from(*delay) < LONGEST_PAUSE.as_millis()).map(|_| LONGEST_PAUSE);
        let delay = growing.or(fixed);
        lines.extend(delay.map(|delay| format!("delay = \"{delay}ms\"")));
        lines.extend(backoff.map(|most| format!("backoff = \"{}\"", value::write_span(most))));
        let codes = |value: &Value| match values::words(value)?.iter().map(|code| code.parse::<u8>()).collect() {
            Ok(codes) => Ok::<Vec<u8>, _>(codes),
            Err(_) => Err("exit codes from 0 to 255, such as [0, 3]"),
        };
        if let Some(codes) = self.get("stop_exit_codes", codes).filter(|codes| !codes.is_empty()) {
            lines.push(format!("stop_exit_codes = {codes:?}"));
            self.lines("stop_exit_codes", format!("restart.stop_exit_codes = {codes:?}"));
        }
        let (most, least) = (self.get("max_restarts", values::number), self.get("min_uptime", values::milliseconds));
        if most.is_some() || least.is_some() {
            let limit = u32::try_from(most.unwrap_or(MAX_RESTARTS).max(1)).unwrap_or(u32::MAX);
            // So many lives that are too short, and the pauses after them, fit into the interval.
            let life = least.unwrap_or(MIN_UPTIME).saturating_add(LATE);
            let pauses = Restart { delay: Duration::from_millis(delay.unwrap_or(100)), backoff, ..Restart::default() };
            let interval = pauses.pauses(limit).as_millis().saturating_add(u128::from(life) * u128::from(limit));
            let limit = [format!("limit = {limit}"), format!("interval = \"{}s\"", interval.div_ceil(1000))];
            for key in ["max_restarts", "min_uptime"] {
                self.lines(key, limit.iter().map(|line| format!("restart.{line}")).collect::<Vec<_>>().join(", "));
            }
            lines.extend(limit);
        }
        lines
    }

    pub(super) fn ready(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.is("wait_ready") {
            lines.push("on = \"message\"".to_owned());
            self.lines("wait_ready", "ready.on = \"message\"");
        }
        match self.get("listen_timeout", values::milliseconds) {
            Some(timeout) if self.place.typed || timeout > READY_TIMEOUT => {
                lines.push(format!("timeout = \"{timeout}ms\""));
                self.lines("listen_timeout", format!("ready.timeout = \"{timeout}ms\": a worker that is late has failed"));
            }
            Some(_) => self.became(
                "listen_timeout",
                Became::Needless(
                    "PM2 goes on when it is over, here a worker that is late has failed: so it has the 60 s of the default"
                        .to_owned(),
                ),
            ),
            None => {}
        }
        lines
    }

    pub(super) fn stop(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.place.typed {
            lines.push("signal = \"SIGINT\"".to_owned());
            self.notes.push("stop.signal = \"SIGINT\", which is what PM2 sends".to_owned());
        }
        if self.is("shutdown_with_message") {
            lines.push("message = \"shutdown\"".to_owned());
            self.lines("shutdown_with_message", "stop.message = \"shutdown\"");
        }
        if let Some(timeout) = self.get("kill_timeout", values::milliseconds) {
            lines.push(format!("timeout = \"{timeout}ms\""));
            self.lines("kill_timeout", format!("stop.timeout = \"{timeout}ms\""));
        }
        lines
    }

    pub(super) fn limits(&mut self) -> Vec<String> {
        let Some(bytes) = self.get("max_memory_restart", values::bytes).filter(|bytes| *bytes > 0) else {
            return Vec::new();
        };
        let line = format!("memory_reload = \"{}\"", value::write_size(bytes));
        self.lines("max_memory_restart", format!("limits.{line}"));
        vec![line]
    }

    pub(super) fn schedule(&mut self) -> Vec<String> {
        let time = self.get("cron_restart", values::text);
        let Some(time) = time.filter(|time| !["0", "off", "false", ""].contains(&time.as_str())) else {
            return Vec::new();
        };
        let line = format!("restart = {}", quote(&time));
        self.lines("cron_restart", format!("schedule.{line}"));
        vec![line]
    }

    /// What becomes of the output.
    pub(super) fn service(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let nowhere = |value: &Value| value.as_str().is_some_and(|path| ["NULL", "/dev/null"].contains(&path));
        let all = self.is("disable_logs");
        if all {
            self.lines("disable_logs", "service.StandardOutput = \"null\", service.StandardError = \"null\"");
        }
        for (key, stream) in [("out_file", "StandardOutput"), ("error_file", "StandardError")] {
            let given = self.given(key).is_some_and(|(_, value)| nowhere(value));
            if given {
                self.lines(key, format!("service.{stream} = \"null\""));
            }
            if given || all {
                lines.push(format!("{stream} = \"null\""));
            }
        }
        lines
    }
}
