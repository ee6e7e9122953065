//! `[service]` and `[socket]`: systemd's own keys, passed through; those that would break us are refused.

use super::file::Table;
use super::report::Problems;
use super::value;

/// What to do instead of passing a key through; `None`: it may be passed.
pub(super) fn service_key(key: &str) -> Option<&'static str> {
    Some(match key {
        "ExecStart" => "write the command with exec",
        "Type" | "NotifyAccess" | "PIDFile" | "GuessMainPID" | "RemainAfterExit" | "BusName" => {
            "remove it: the worker is ready when its app says so, see [ready]"
        }
        "Sockets" => "remove it: the router has the sockets; write addresses with listen",
        "FileDescriptorStoreMax" | "NonBlocking" | "StandardInput" => {
            "remove it: it would disturb the worker's channel"
        }
        "User" | "DynamicUser" => "write the account with user",
        "Group" => "write the group with group",
        "WorkingDirectory" => "write the directory with directory",
        "Environment" | "PassEnvironment" | "UnsetEnvironment" => "write variables in [environment]",
        "EnvironmentFile" => "write the files with environment_files",
        "KillSignal" | "RestartKillSignal" => "write signal in [stop]",
        "TimeoutStopSec" => "write timeout in [stop], and drain",
        "TimeoutStartSec" => "write timeout in [ready]",
        "TimeoutSec" => "write timeout in [ready] and in [stop]",
        "Restart" => "write policy in [restart]",
        "RestartSec" => "write delay in [restart]",
        "RestartSteps" | "RestartMaxDelaySec" => "write backoff in [restart]",
        "StartLimitInterval" | "StartLimitIntervalSec" => "write interval in [restart]",
        "StartLimitBurst" => "write limit in [restart]",
        "MemoryMax" | "MemoryLimit" => "write memory in [limits]",
        "CPUQuota" => "write cpu in [limits]",
        "TasksMax" => "write tasks in [limits]",
        "LimitNOFILE" => "write files in [limits]",
        "Slice" | "Delegate" => "remove it: the router knows its workers by their place in the slice of the app",
        "WatchdogSec" => "it needs ready.on = \"notify\": the app itself must answer systemd's watchdog",
        "SyslogIdentifier" | "LogNamespace" => "remove it: `appctl logs` could not find the lines",
        _ if UNIT_KEYS.contains(&key) => "that key belongs into [Unit]: use `systemctl edit NAME@.service`",
        _ => return None,
    })
}

pub(super) fn socket_key(key: &str) -> Option<&'static str> {
    Some(match key {
        "ListenStream" => "write addresses with listen",
        "FileDescriptorName" | "Service" | "Accept" => "remove it: the router finds its sockets by it",
        _ if key.starts_with("Listen") => "remove it: an app has stream sockets only; write addresses with listen",
        _ if UNIT_KEYS.contains(&key) => "that key belongs into [Unit]: use `systemctl edit NAME.socket`",
        _ => return None,
    })
}

/// Keys of `[Unit]` that people try to pass.
const UNIT_KEYS: [&str; 14] = [
    "After",
    "Before",
    "Wants",
    "Requires",
    "Requisite",
    "BindsTo",
    "PartOf",
    "Conflicts",
    "Upholds",
    "OnFailure",
    "Description",
    "Documentation",
    "ConditionPathExists",
    "RequiresMountsFor",
];

/// `[service]` and `[socket]`: systemd's own keys, an array is one line an element.
pub(super) fn read_pass_through(
    top: &mut Table<'_>,
    name: &'static str,
    forbidden: impl Fn(&str) -> Option<&'static str>,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for (key, item) in top.take_table(name, problems).take_rest() {
        let shaped = key.text.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && key.text.bytes().next().is_some_and(|first| first.is_ascii_uppercase());
        if !shaped {
            problems.error(
                key.span,
                format!("`{}` is not a key of systemd", key.text),
                format!(
                    "[{name}] takes the keys of systemd.{name}(5), written as they are there, such as {}",
                    if name == "service" { "Nice" } else { "Backlog" }
                ),
            );
            continue;
        }
        if let Some(remedy) = forbidden(&key.text) {
            problems.error(key.span, format!("{} cannot be passed through", key.text), remedy);
            continue;
        }
        for element in item.elements() {
            let Some(text) = element.scalar(["no", "yes"], problems) else { continue };
            if element.check(problems, value::one_line(&text.text)).is_some() {
                lines.push((key.text.clone(), text.text));
            }
        }
    }
    lines
}
