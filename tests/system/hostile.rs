//! What others could do with what root reads and listens to, tried on a booted machine.

use crate::boxed::{Boxed, Options};

/// Answers with who it is, its arguments and its variables.
const SCRIPT: &str = "const told = { uid: process.getuid(), argv: process.argv.slice(2), env: process.env };\n\
    require('http').createServer((_, answer) => answer.end(JSON.stringify(told))).listen(80)\n";

fn ask(machine: &Boxed, port: u16) -> serde_json::Value {
    serde_json::from_str(&machine.ok(&format!("curl -sS --max-time 60 http://127.0.0.1:{port}/"))).unwrap()
}

/// What a command says that must fail.
#[track_caller]
fn fails(machine: &Boxed, line: &str) -> String {
    let output = machine.shell(line);
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{line}: {told}");
    told
}

#[test]
fn values_reach_the_program_as_they_are_and_nothing_else_runs() {
    let words = [
        "%H %i %% %n",
        "$HOME ${PATH} $$",
        "$(touch /pwned) `touch /pwned`",
        "\" ; /bin/touch /pwned ; \"",
        "' ; touch /pwned #",
        ";",
        "+/bin/touch",
        "x\\",
        "\\x41\\n",
        "a\nExecStartPre=+/bin/touch /pwned\n",
        "--",
        "",
        " ",
        "größe\u{2028}",
    ];
    let toml = |text: &str| serde_json::to_string(text).unwrap();
    let list: Vec<String> = words.iter().map(|word| toml(word)).collect();
    let variables: String = words.iter().enumerate().map(|(at, word)| format!("V{at} = {}\n", toml(word))).collect();
    let text = format!(
        "exec = ['node', '/srv/a %H $HOME/app.js', {}]\ndirectory = '/srv/a %H $HOME'\nlisten = '8080'\n\
         environment_files = ['-/etc/%H $HOME;x.env']\n[environment]\n{variables}",
        list.join(", ")
    );
    let options = Options::default().file("/etc/appctl/app.toml", &text).file("/srv/a %H $HOME/app.js", SCRIPT);
    let Some(machine) = options.boot() else { return };
    machine.ok("appctl check app && appctl start app");
    let told = ask(&machine, 8080);
    assert_eq!(told["argv"], serde_json::json!(words));
    for (at, word) in words.iter().enumerate() {
        assert_eq!(told["env"][format!("V{at}")], **word, "V{at}");
    }
    assert_eq!(told["env"]["pm_cwd"], "/srv/a %H $HOME");
    assert!(!machine.path("/pwned").exists());
}

#[test]
fn a_file_that_is_not_roots_is_no_app() {
    let fine = "exec = ['/bin/sh', '-c', 'id -u >>/ran; exec sleep infinity']\nuser = 'root'\nruntime = 'none'\n";
    let Some(machine) = Options::default().file("/etc/appctl/fine.toml", fine).boot() else { return };
    machine.ok("useradd -m bob");
    let evil = "exec = ['/bin/touch', '/pwned']\nuser = 'root'\nruntime = 'none'\n";
    machine.write("/home/bob/evil.toml", evil);
    machine.write("/srv/shared/evil.toml", evil);
    machine.ok(
        "cd /etc/appctl && cp /home/bob/evil.toml owned.toml && chown bob owned.toml && cp /home/bob/evil.toml open.toml && \
         chmod 666 open.toml && chmod 1777 /srv/shared && chmod 777 /srv/shared && ln -s /home/bob/evil.toml link.toml && \
         ln -s /srv/shared/evil.toml shared.toml && ln -s /etc/shadow shadow.toml && mkfifo fifo.toml && ln -s /dev/zero zero.toml && \
         systemctl daemon-reload",
    );
    for (name, told) in [
        ("owned", "/etc/appctl/owned.toml is bob's"),
        ("open", "everybody may write /etc/appctl/open.toml"),
        ("link", "/home/bob is bob's"),
        ("shared", "everybody may write /srv/shared"),
        ("fifo", "not a regular file"),
        ("zero", "not a regular file"),
    ] {
        let description = machine.property(&format!("{name}.service"), "Description");
        assert!(description.contains(told), "{name}: {description}");
        // To `start` what is no regular file is no app at all.
        let said = fails(&machine, &format!("appctl start {name}"));
        let wanted = if told == "not a regular file" { "no app" } else { told };
        assert!(said.contains(wanted), "{name}: {said}");
        assert!(!machine.shell(&format!("systemctl start {name}.service")).status.success(), "{name}");
        assert!(!machine.path(&format!("/run/systemd/generator/{name}@.service")).exists(), "{name}");
    }
    // What cannot be read as an app says nothing to others of what is in it.
    let everybody =
        "cat /run/systemd/generator/*; systemctl show shadow.service; systemctl status shadow.service; true";
    let told = machine.ok(&format!("runuser -u bob -- bash -c '{everybody}' 2>&1"));
    let secret = machine.ok("head -1 /etc/shadow");
    assert!(told.contains("/etc/appctl/shadow.toml:1:") && !told.contains(&secret), "{told}");
    assert!(!machine.path("/pwned").exists());
    machine.ok("appctl start fine");

    // A directory that is somebody else's, whose files could be changed for others at any time.
    machine.ok("chown bob /etc/appctl && systemctl daemon-reload");
    assert!(machine.ok("appctl check || true").contains("/etc/appctl is bob's"));
    machine.ok("chown root /etc/appctl && chmod 777 /etc/appctl && systemctl daemon-reload");
    assert!(machine.ok("appctl check || true").contains("everybody may write /etc/appctl"));
    // What ran goes on, by what root had said.
    assert!(machine.is_active("fine@1.service"));
    assert!(machine.ok("cat /run/systemd/generator/fine@.service").contains("id -u"));
    machine.ok("chmod 755 /etc/appctl");

    // What was kept of files belongs to root, too; where it does not, it was never kept.
    machine.ok(
        "chown -R bob /run/appctl/.good && printf 'nonsense = [' >/etc/appctl/fine.toml && systemctl daemon-reload",
    );
    assert!(!machine.path("/run/systemd/generator/fine@.service").exists());
}

#[test]
fn a_name_that_is_taken_stays_whose_it_is() {
    let program = "exec = ['/bin/touch', '/pwned']\nuser = 'root'\n";
    let names =
        ["dbus", "systemd-journald", "getty", "user", "systemd-tmpfiles-setup", "init", "system", "daemon", "root"];
    let mut options = Options::default();
    for name in names {
        options = options.file(&format!("/etc/appctl/{name}.toml"), program);
    }
    let Some(machine) = options.file("/etc/appctl/alice.toml", "exec = '/bin/sleep infinity'\n").boot() else { return };
    machine.ok("useradd -m alice && systemctl daemon-reload");
    for name in ["dbus", "systemd-journald", "getty", "user", "systemd-tmpfiles-setup", "init", "system"] {
        let wrote = machine.ok(&format!(
            "ls /run/systemd/generator | grep -E '^{name}(@|-[a-z]+)?[.](service|socket|slice|timer)$' || true"
        ));
        assert_eq!(wrote, "", "{name}");
        assert!(!machine.shell(&format!("appctl start {name}")).status.success(), "{name}");
    }
    for unit in ["dbus.service", "systemd-journald.service", "getty@1.service", "user@7.service"] {
        let path = machine.property(unit, "FragmentPath");
        assert!(path.contains("/lib/systemd/system/"), "{unit}: {path}");
    }
    // An account of that name would be who runs it.
    let told = fails(&machine, "appctl start alice");
    assert!(told.contains("there is an account alice") && told.contains("user = \"alice\""), "{told}");
    assert!(!machine.path("/pwned").exists());
}

#[test]
fn root_runs_nobodys_file_as_somebody_else() {
    let Some(machine) = Options::default().file("/srv/tool.js", SCRIPT).boot() else { return };
    machine.ok("useradd -m bob && useradd -m alice && mkdir /srv/bob && chown bob /srv/bob && groupadd wheel");
    machine.write("/srv/bob/app.js", SCRIPT);
    machine.write("/srv/alice.js", SCRIPT);
    machine.ok("chown bob /srv/bob/app.js && chown alice /srv/alice.js");
    let put = |name: &str, text: &str| {
        machine.write(&format!("/srv/bob/{name}"), text);
        machine.ok(&format!("chown bob /srv/bob/{name}"));
    };
    let json = |more: &str| format!("{{\"apps\": [{{\"name\": \"theirs\", \"env\": {{\"PORT\": 8090}}, {more}}}]}}");
    for (more, told) in [
        ("\"script\": \"/srv/bob/app.js\", \"uid\": \"root\"", "the file is bob's, and would run this app as root"),
        ("\"script\": \"/srv/bob/app.js\", \"uid\": 0", "would run this app as 0"),
        ("\"script\": \"/srv/bob/app.js\", \"user\": \"alice\"", "would run this app as alice"),
        ("\"script\": \"/srv/alice.js\", \"uid\": \"alice\"", "would run this app as alice"),
        ("\"script\": \"/srv/bob/app.js\", \"gid\": \"wheel\"", "bob's, who is not in its group wheel"),
    ] {
        put("ecosystem.json", &json(more));
        for line in ["appctl start /srv/bob/ecosystem.json", "appctl import /srv/bob/ecosystem.json"] {
            let said = fails(&machine, line);
            assert!(said.contains(told) && said.contains("chown root"), "{line} {more}: {said}");
        }
        assert_eq!(machine.ok("ls /etc/appctl 2>/dev/null || true"), "");
    }
    // Scripts of root's and of others run as the one who says with which arguments and variables.
    for script in ["/srv/tool.js", "/srv/alice.js"] {
        put("ecosystem.json", &json(&format!("\"script\": \"{script}\"")));
        machine.ok("appctl start /srv/bob/ecosystem.json");
        assert_eq!(ask(&machine, 8090)["uid"].to_string(), machine.ok("id -u bob"), "{script}");
        machine.ok("appctl delete theirs");
    }
    // A file that is evaluated, too.
    put(
        "ecosystem.config.js",
        "require('fs').appendFileSync('/tmp/by', process.getuid() + '\\n'); module.exports = { apps: [{ name: 'theirs', script: '/srv/tool.js', uid: 'root' }] }",
    );
    fails(&machine, "appctl start /srv/bob/ecosystem.config.js");
    assert_eq!(machine.ok("sort -u /tmp/by"), machine.ok("id -u bob"));

    put("app.toml", "exec = '/bin/touch /pwned'\nuser = 'root'\n");
    let told = fails(&machine, "appctl start /srv/bob/app.toml");
    assert!(told.contains("/srv/bob/app.toml is bob's") && told.contains("chown root"), "{told}");
    assert!(!machine.path("/pwned").exists() && machine.ok("ls /etc/appctl").is_empty());
    // His own, by sudo: he is root anyway.
    put("app.toml", "exec = ['node', '/srv/bob/app.js']\nuser = 'alice'\nlisten = '8091'\n");
    machine.ok("SUDO_UID=$(id -u bob) appctl start /srv/bob/app.toml");
    assert_eq!(ask(&machine, 8091)["uid"].to_string(), machine.ok("id -u alice"));
}

/// A user's own manager has units of the same names; they are in that user's slice.
#[test]
fn a_users_unit_is_no_worker_of_the_systems() {
    let options = Options::default().file("/srv/app.js", SCRIPT);
    let Some(machine) =
        options.file("/etc/appctl/web.toml", "exec = ['node', '/srv/app.js']\nlisten = '8080'\n").boot()
    else {
        return;
    };
    machine.ok("useradd -m bob && appctl start web");
    if !machine.shell("systemctl start user@$(id -u bob).service").status.success() {
        crate::boxed::skipped("user@.service does not start in the box; install libpam-systemd and dbus-user-session");
        return;
    }
    let before = machine.main_pid("web@1.service");
    let by_bob = |line: &str| {
        machine.ok(&format!("cd / && runuser -u bob -- env XDG_RUNTIME_DIR=/run/user/$(id -u bob) bash -c '{line}'"))
    };
    let says = |hello: &str| {
        machine.write("/srv/says.js", &format!(
            "const socket = require('net').connect('/run/appctl/web/channel', () => socket.write('{hello}\\n'));\n\
             socket.on('data', (data) => {{ process.stdout.write(data); socket.end(); }}).on('error', (error) => console.log(error.code));"
        ));
    };
    for hello in [
        r#"{"verb":"attach","slot":"1","encoding":"json"}"#,
        r#"{"verb":"drain","slot":"1","within":1000}"#,
        r#"{"verb":"guard","slot":"1"}"#,
        r#"{"verb":"attach","slot":"../web@1","encoding":"json"}"#,
        r#"{"verb":"attach","slot":"1.service/../web@1","encoding":"json"}"#,
        "GET / HTTP/1.1",
    ] {
        says(hello);
        for unit in ["web@1", "web"] {
            let answer = by_bob(&format!(
                "systemd-run --user -q --pipe --wait --unit={unit} --slice=web.slice timeout 20 node /srv/says.js"
            ));
            assert!(answer.contains("refused"), "{unit}: {hello}: {answer}");
        }
    }
    // The control socket is closed to him, whatever he would say.
    let answer =
        by_bob("curl -sS --unix-socket /run/appctl/web/control -X POST http://x/v1/workers/1/drain 2>&1 || true");
    assert!(
        answer.contains("Couldn't connect") || answer.contains("Permission denied") || answer.contains("(7)"),
        "{answer}"
    );
    assert_eq!(machine.main_pid("web@1.service"), before);
    assert!(machine.ok("appctl list web").contains("ready"));
}
