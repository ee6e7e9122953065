//! What the services may not do (pure): the lines that `units/*.sandbox` add, as far as the app leaves room for them.

use std::path::Path;

use super::plan::template;
use super::{UnitFile, specifiers, word};
use crate::config::{App, Runtime, Sandbox, Scope};

const WORKER: &str = include_str!("../../units/worker.sandbox");
const WORKER_STRICT: &str = include_str!("../../units/worker-strict.sandbox");
const ROUTER: &str = include_str!("../../units/router.sandbox");

/// What a user's own manager can do on every version from 252 on: no namespaces of files, and no capabilities to take away.
const WITHOUT_ROOT: [&str; 10] = [
    "LockPersonality",
    "NoNewPrivileges",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "UMask",
];

/// What ProtectSystem=full closes.
const SYSTEM: [&str; 4] = ["/usr", "/boot", "/efi", "/etc"];
/// What ProtectHome= closes.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// An app that runs as root on purpose manages something; these it needs for nothing that a web app does.
const NOT_FOR_ROOT: &str = "~CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_BLOCK_SUSPEND CAP_BPF CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN \
                            CAP_MAC_OVERRIDE CAP_PERFMON CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_MODULE CAP_SYS_PACCT \
                            CAP_SYS_PTRACE CAP_SYS_RAWIO CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_SYSLOG CAP_WAKE_ALARM";

/// Lines for the worker's unit, without those keys that the app's file has under `[service]`.
pub(super) fn worker(app: &App) -> UnitFile {
    let mut unit = match app.sandbox {
        Sandbox::Off => return UnitFile::default(),
        Sandbox::Default => template(WORKER),
        Sandbox::Strict => template(WORKER_STRICT),
    };
    let dynamic = app.user.is_none();
    let inside = |places: &[&str]| {
        let paths = app.directory.iter().map(std::path::PathBuf::as_path).chain(app.exec.iter().map(Path::new));
        let mut paths = paths.chain(app.credentials.values().map(std::path::PathBuf::as_path));
        paths.any(|path| places.iter().any(|place| path.starts_with(place)))
    };
    if app.sandbox == Sandbox::Strict {
        unit.set("Service", "ProtectHome", if inside(&HOMES) { "read-only" } else { "yes" });
    } else {
        // Uploads beside the code, wherever that is. A dynamic user may write nowhere but where it is told to.
        let open = app.directory.as_ref().filter(|it| !dynamic && SYSTEM.iter().any(|place| it.starts_with(place)));
        unit.fill("Service", "ReadWritePaths", open.map(|it| word(&format!("-{}", it.display()))));
        if dynamic {
            unit.replace("Service", "ProtectSystem", "strict");
        } else if app.user.as_deref().is_some_and(|user| ["root", "0"].contains(&user)) {
            unit.replace("Service", "CapabilityBoundingSet", NOT_FOR_ROOT);
        }
    }
    let written = |key: &str| app.service.iter().any(|(other, _)| other == key);
    unit.retain("Service", |key| {
        // Else it would have none to give.
        let ambient = key == "CapabilityBoundingSet" && written("AmbientCapabilities");
        !written(key) && !ambient && (app.scope == Scope::System || WITHOUT_ROOT.contains(&key))
    });
    unit
}

/// Lines for the worker's unit that give it its secrets.
pub(super) fn credentials(app: &App, unit: &mut UnitFile) {
    for (name, path) in &app.credentials {
        unit.add("Service", "LoadCredential", format!("{name}:{}", specifiers(&path.display().to_string())));
    }
}

/// Lines for the router's unit in the system scope.
pub(super) fn router(app: &App) -> UnitFile {
    let mut unit = template(ROUTER);
    // It connects to such workers, in the machine's own network; to all others by what they and systemd give it.
    let connects = app.runtime == Runtime::Port;
    unit.fill("Service", "PrivateNetwork", (!connects).then_some("yes"));
    unit.fill("Service", "IPAddressDeny", connects.then_some("any"));
    unit.fill("Service", "IPAddressAllow", connects.then_some("localhost"));
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, scope: Scope) -> UnitFile {
        let report = crate::config::parse("app", Path::new("/etc/appctl/app.toml"), text, scope);
        worker(&report.app.unwrap_or_else(|| panic!("{text}: {:#?}", report.problems)))
    }

    fn system(text: &str) -> UnitFile {
        of(&format!("exec = ['/usr/bin/node', 'app.js']\n{text}"), Scope::System)
    }

    #[test]
    fn templates_are_unit_files() {
        for text in [ROUTER, WORKER, WORKER_STRICT] {
            assert!(!UnitFile::parse(text).unwrap().sections.is_empty());
        }
    }

    #[test]
    fn no_place_of_the_apps_own_is_closed() {
        for (directory, open) in [
            ("/home/deploy/app", None),
            ("/srv/app", None),
            ("/opt/app", None),
            ("/root/app", None),
            ("/var/www/app", None),
            ("/usr/local/my app%", Some("\"-/usr/local/my app%%\"")),
            ("/etc/app", Some("-/etc/app")),
        ] {
            let unit = system(&format!("directory = '{directory}'\nuser = 'deploy'"));
            assert_eq!(unit.get("Service", "ReadWritePaths"), open, "{directory}");
            assert_eq!(unit.get("Service", "ProtectSystem"), Some("full"));
            for key in
                ["ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateUsers", "MemoryDenyWriteExecute", "UMask"]
            {
                assert_eq!(unit.get("Service", key), None, "{key}");
            }
        }
        let unit = system("directory = '/usr/local/app'");
        assert_eq!(unit.get("Service", "ProtectSystem"), Some("strict"), "a dynamic user's is never less");
        assert_eq!(unit.get("Service", "ReadWritePaths"), None);
    }

    #[test]
    fn strict_sees_homes_only_where_the_app_is_in_one() {
        for (text, home) in [
            ("directory = '/srv/app'", "yes"),
            ("directory = '/home/deploy/app'", "read-only"),
            ("directory = '/srv/app'\n[credentials]\nkey = '/root/key'", "read-only"),
        ] {
            let unit = system(&format!("sandbox = 'strict'\nuser = 'deploy'\n{text}"));
            assert_eq!(unit.get("Service", "ProtectHome"), Some(home), "{text}");
        }
    }

    #[test]
    fn what_the_file_says_replaces_ours() {
        let all = system("sandbox = 'strict'\nuser = 'a'");
        let keys: Vec<&str> = all.sections[0].lines.iter().map(|line| line.key.as_str()).collect();
        for sandbox in ["strict", "default"] {
            for key in &keys {
                let unit = system(&format!("sandbox = '{sandbox}'\nuser = 'a'\n[service]\n{key} = 'x'"));
                assert_eq!(unit.get("Service", key), None, "{sandbox} {key}");
            }
        }
        let unit = system("user = 'a'\n[service]\nAmbientCapabilities = 'CAP_NET_ADMIN'");
        assert_eq!(unit.get("Service", "CapabilityBoundingSet"), None);
        assert_eq!(system("sandbox = 'off'").sections, []);
    }

    #[test]
    fn a_users_manager_gets_what_it_can_do() {
        for sandbox in ["strict", "default"] {
            let unit = of(&format!("exec = '/x'\nsandbox = '{sandbox}'"), Scope::User);
            assert!(unit.sections[0].lines.iter().all(|line| WITHOUT_ROOT.contains(&line.key.as_str())), "{unit}");
            assert_eq!(unit.get("Service", "NoNewPrivileges"), Some("yes"));
        }
    }

    #[test]
    fn roots_own_apps_keep_what_they_manage_by() {
        let unit = system("user = 'root'");
        assert!(unit.get("Service", "CapabilityBoundingSet").is_some_and(|set| set.starts_with('~')));
        assert_eq!(system("user = 'root'\nsandbox = 'strict'").get("Service", "CapabilityBoundingSet"), Some(""));
    }
}
