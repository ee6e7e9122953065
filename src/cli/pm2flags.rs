//! PM2's flags that mean nothing here: they are in everybody's scripts, so they are taken, and each is told of.

use clap::Args;

use crate::pm2::keys::{Fate, find};

/// Those of `start`.
#[derive(Debug, Clone, Default, Args)]
pub struct WithoutEffect {
    #[arg(short = 'x', long, hide = true)]
    pub execute_command: bool,
    #[arg(short, long, hide = true, value_name = "FILE")]
    pub output: Option<String>,
    #[arg(short, long, hide = true, value_name = "FILE")]
    pub error: Option<String>,
    #[arg(short, long, hide = true, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    pub log: Option<String>,
    #[arg(long, hide = true, value_name = "TYPE")]
    pub log_type: Option<String>,
    #[arg(long, hide = true, value_name = "FORMAT")]
    pub log_date_format: Option<String>,
    #[arg(long, hide = true)]
    pub merge_logs: bool,
    #[arg(short, long, hide = true, value_name = "FILE")]
    pub pid: Option<String>,
    #[arg(long, hide = true, value_name = "NAME")]
    pub namespace: Option<String>,
    #[arg(long, hide = true, value_name = "NAMES", num_args = 0.., require_equals = true, value_delimiter = ',')]
    pub filter_env: Option<Vec<String>>,
    #[arg(long, hide = true)]
    pub disable_source_map_support: bool,
    #[arg(long, hide = true)]
    pub no_treekill: bool,
    #[arg(long, hide = true)]
    pub no_vizion: bool,
    #[arg(long, hide = true)]
    pub no_pmx: bool,
    #[arg(long, hide = true)]
    pub no_automation: bool,
    #[arg(long, hide = true)]
    pub trace: bool,
    #[arg(long, hide = true)]
    pub disable_trace: bool,
    #[arg(long, hide = true)]
    pub v8: bool,
    #[arg(long, hide = true)]
    pub event_loop_inspector: bool,
    #[arg(long, hide = true)]
    pub deep_monitoring: bool,
    #[arg(long, hide = true, value_name = "MS")]
    pub watch_delay: Option<String>,
}

impl WithoutEffect {
    /// Each flag that is given, and why it does nothing, by the table of keys.
    pub fn told(&self) -> Vec<String> {
        let given = [
            (self.execute_command, "--execute-command", "exec_mode"),
            (self.output.is_some(), "--output", "out_file"),
            (self.error.is_some(), "--error", "error_file"),
            (self.log.is_some(), "--log", "log_file"),
            (self.log_type.is_some(), "--log-type", "log_type"),
            (self.log_date_format.is_some(), "--log-date-format", "log_date_format"),
            (self.merge_logs, "--merge-logs", "merge_logs"),
            (self.pid.is_some(), "--pid", "pid_file"),
            (self.namespace.is_some(), "--namespace", "namespace"),
            (self.filter_env.is_some(), "--filter-env", "filter_env"),
            (self.disable_source_map_support, "--disable-source-map-support", "disable_source_map_support"),
            (self.no_treekill, "--no-treekill", "treekill"),
            (self.no_vizion, "--no-vizion", "vizion"),
            (self.no_pmx, "--no-pmx", "pmx"),
            (self.no_automation, "--no-automation", "automation"),
            (self.trace, "--trace", "trace"),
            (self.disable_trace, "--disable-trace", "disable_trace"),
            (self.v8, "--v8", "v8"),
            (self.event_loop_inspector, "--event-loop-inspector", "event_loop_inspector"),
            (self.deep_monitoring, "--deep-monitoring", "deep_monitoring"),
            (self.watch_delay.is_some(), "--watch-delay", "watch_delay"),
        ];
        let given = given.into_iter().filter(|(given, ..)| *given);
        given
            .filter_map(|(_, flag, key)| {
                let key = find(key)?;
                let fate = if key.fate == Fate::Refused { "no counterpart" } else { "not needed" };
                Some(format!("{flag}: {fate}: {}", key.note))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: WithoutEffect,
    }

    #[test]
    fn every_flag_says_why_it_does_nothing() {
        let line = "pm2 -x -o a -e b -l --log-type json --log-date-format YYYY --merge-logs -p c --namespace d --filter-env=e \
                    --disable-source-map-support --no-treekill --no-vizion --no-pmx --no-automation --trace \
                    --disable-trace --v8 --event-loop-inspector --deep-monitoring --watch-delay 1";
        let command = Line::command();
        let many = command.get_arguments().filter(|argument| argument.get_id() != "help").count();
        let read = Line::from_arg_matches(&command.get_matches_from(line.split_whitespace())).unwrap();
        let told = read.flags.told();
        assert_eq!(told.len(), many, "{told:#?}");
        for text in &told {
            assert!(text.len() > 30, "{text}");
        }
        assert!(told.contains(&"--no-vizion: not needed: no version control is looked at".to_owned()), "{told:#?}");
        assert!(told.iter().any(|it| it.starts_with("--namespace: no counterpart: apps have no groups")), "{told:#?}");
    }
}
