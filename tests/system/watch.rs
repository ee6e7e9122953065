//! `watch`: an app that is reloaded when its files change.
//!
//! That something does not reload is proven by the number of reloads when a later change has led to one.

use crate::boxed::{Boxed, Options};

const WORKER: &str = "require('http').createServer((_, answer) => answer.end(require('fs').readFileSync(__dirname + '/lib/version.txt'))).listen(8080)\n";

fn file(directory: &str, port: u16, more: &str) -> String {
    format!(
        "exec = [\"node\", \"server.js\"]\ndirectory = \"{directory}\"\nuser = \"root\"\nworkers = 1\nlisten = [\"{port}\"]\n\
         drain = \"0\"\n{more}\n[reload]\nsettle = \"100ms\"\n"
    )
}

fn start(more: &str) -> Option<Boxed> {
    let machine = Options::default()
        .file("/srv/shop/server.js", WORKER)
        .file("/srv/shop/lib/version.txt", "1\n")
        .file("/etc/appctl/shop.toml", &file("/srv/shop", 8080, more))
        // Masked: not every machine has polkit, which would help root.
        .file("/etc/systemd/system/polkit.service", "")
        .boot()?;
    machine.ok("appctl start shop");
    watching(&machine, "shop");
    Some(machine)
}

fn watching(machine: &Boxed, app: &str) {
    let unit = format!("{app}-watch.service");
    machine.until(&format!("{unit} watches"), || machine.is_active(&unit).then_some(()));
}

/// What was told of changes, and what came of them, in order.
fn told(machine: &Boxed, app: &str) -> Vec<String> {
    let journal = machine.journal(&format!("-u {app}-watch.service"));
    let wanted = |line: &&str| line.ends_with(": reloading") || line.contains("reloaded");
    journal.lines().filter(wanted).map(str::to_owned).collect()
}

/// Waits for the end of the reload that a change of `path` has led to. Gives all lines until then.
#[track_caller]
fn until_reloaded(machine: &Boxed, app: &str, path: &str) -> Vec<String> {
    machine.until(&format!("a reload for {path}"), || {
        let lines = told(machine, app);
        let at = lines.iter().rposition(|line| line.starts_with(path) && line.ends_with(": reloading"))?;
        (lines.len() > at + 1).then_some(lines)
    })
}

#[test]
fn a_change_reloads_once_and_what_is_ignored_does_not() {
    let Some(machine) = start("watch = true\nignore = [\"uploads/\"]\n") else { return };
    let router = machine.main_pid("shop.service");
    machine.write("/srv/shop/lib/version.txt", "2\n");
    let lines = until_reloaded(&machine, "shop", "lib/version.txt");
    assert_eq!(lines, ["lib/version.txt changed: reloading", "shop reloaded"]);
    assert_eq!(machine.ok("curl -sS http://127.0.0.1:8080/"), "2");

    // Nothing of this counts, and a burst is one reload: the watcher sleeps while it happens, however slow the machine is.
    // (More of them than one read(2) of the kernel's queue gives.)
    let watcher = machine.main_pid("shop-watch.service").unwrap();
    machine.ok(&format!(
        "kill -STOP {watcher}; cd /srv/shop; mkdir uploads; echo x >uploads/a.js; echo x >.env; echo x >out.log; \
         mkdir -p node_modules/m; echo x >node_modules/m/i.js; mkdir -p new/deep; \
         for i in $(seq 90); do echo $i >lib/$i.js; done; kill -CONT {watcher}"
    ));
    let lines = until_reloaded(&machine, "shop", "lib/1.js");
    assert_eq!(lines[2..], ["lib/1.js and 89 more changed: reloading", "shop reloaded"], "{lines:?}");
    // Below directories that are new.
    machine.write("/srv/shop/new/deep/file.js", "");
    let lines = until_reloaded(&machine, "shop", "new/deep/file.js");
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(machine.main_pid("shop.service"), router, "the router stays");
    let done = machine.journal("APP=shop ROLLOUT=done").lines().count();
    assert_eq!(done, 3, "what the watcher tells is so");
}

#[test]
fn a_change_that_breaks_the_app_leaves_it_as_it_is_and_the_next_one_gets_in() {
    let Some(machine) = start("watch = true\n") else { return };
    let worker = machine.main_pid("shop@1.service");
    machine.write("/srv/shop/server.js", "throw new Error('half a thought')\n");
    let lines = until_reloaded(&machine, "shop", "server.js");
    assert!(lines[1].starts_with("shop not reloaded: ") && lines[1].ends_with("watching on"), "{lines:?}");
    assert_eq!(machine.main_pid("shop@1.service"), worker, "the old worker serves on");
    assert_eq!(machine.ok("curl -sS http://127.0.0.1:8080/"), "1");

    machine.write("/srv/shop/server.js", &WORKER.replace(".listen", ".on('x', () => {}).listen"));
    let lines = machine.until("the next reload", || Some(told(&machine, "shop")).filter(|it| it.len() == 4));
    assert_eq!(lines[2..], ["server.js changed: reloading", "shop reloaded"]);
    assert_ne!(machine.main_pid("shop@1.service"), worker);
}

/// The file's word on watching holds from a reload on; a stop ends it, however it comes.
#[test]
fn the_watcher_is_what_the_file_says() {
    // Signs that mean something in units and in command lines.
    let Some(machine) = start("watch = [\"lib\"]\nignore = [\"100%\", \"$HOME\", \"a b\"]\n") else { return };
    let (first, worker) = (machine.main_pid("shop-watch.service").unwrap(), machine.main_pid("shop.service"));
    let write = |more: &str| machine.write("/etc/appctl/shop.toml", &file("/srv/shop", 8080, more));
    // Of no concern to the watcher: it stays.
    write("watch = [\"lib\"]\nignore = [\"100%\", \"$HOME\", \"a b\"]\nstart = \"manual\"\n");
    machine.ok("appctl reload shop");
    assert_eq!(machine.main_pid("shop-watch.service"), Some(first));
    write("watch = [\"lib\", \"server.js\"]\n");
    // By somebody else, before the reload.
    machine.ok("systemctl daemon-reload; appctl reload shop");
    let second = machine.main_pid("shop-watch.service").unwrap();
    assert_ne!(second, first, "other paths are another command line");
    machine.ok("touch /srv/shop/server.js");
    until_reloaded(&machine, "shop", "/srv/shop/server.js");
    write("");
    machine.ok("appctl reload shop");
    assert_eq!(machine.main_pid("shop-watch.service"), None);
    assert_eq!(machine.main_pid("shop.service"), worker);
    write("watch = true\n");
    machine.ok("appctl reload shop");
    watching(&machine, "shop");
    // Taken out of the file, and systemd has read it: only the router's own hook knows of it now.
    write("");
    machine.ok("systemctl daemon-reload; systemctl restart shop");
    machine.until("no watcher is left", || machine.main_pid("shop-watch.service").is_none().then_some(()));
    write("watch = true\n");
    machine.ok("appctl restart shop");
    watching(&machine, "shop");
    machine.ok("appctl stop shop");
    assert!(!machine.is_active("shop-watch.service"));
}

/// The router's death takes the watcher along, and what changes just then is not lost.
#[test]
fn what_changes_while_nobody_watches_gets_in() {
    let Some(machine) = start("watch = true\n") else { return };
    let kill = || {
        let (router, watcher) = (machine.main_pid("shop.service").unwrap(), machine.main_pid("shop-watch.service"));
        machine.ok(&format!("kill -KILL {router}"));
        machine.until("another router", || machine.main_pid("shop.service").filter(|pid| *pid != router));
        machine.until("another watcher", || machine.main_pid("shop-watch.service").filter(|pid| Some(*pid) != watcher));
        watching(&machine, "shop");
    };
    let worker = machine.main_pid("shop@1.service");
    kill();
    machine.ok("systemctl stop shop-watch");
    machine.write("/srv/shop/lib/version.txt", "2\n");
    kill();
    let lines = until_reloaded(&machine, "shop", "lib/version.txt");
    assert_eq!(
        lines,
        ["lib/version.txt changed: reloading", "shop reloaded"],
        "and the first time nothing had changed"
    );
    assert_ne!(machine.main_pid("shop@2.service"), worker);
    assert_eq!(machine.ok("curl -sS http://127.0.0.1:8080/"), "2");
}

/// A deployment that turns a link, and one that puts another directory in the place; two apps, of which one changes.
#[test]
fn a_release_that_is_put_in_place_is_seen_and_no_other_app_is_touched() {
    let boxed = Options::default()
        .file("/srv/shop/releases/1/server.js", WORKER)
        .file("/srv/shop/releases/1/lib/version.txt", "1\n")
        .file("/srv/chat/server.js", "require('http').createServer((_, answer) => answer.end('chat')).listen(8081)\n")
        .file("/etc/appctl/shop.toml", &file("/srv/shop/current", 8080, "watch = true\n"))
        .file("/etc/appctl/chat.toml", &file("/srv/chat", 8081, "watch = true\n"))
        .boot();
    let Some(machine) = boxed else { return };
    machine.ok("ln -s releases/1 /srv/shop/current; appctl start shop chat");
    watching(&machine, "shop");
    watching(&machine, "chat");
    let release = |number: u32, then: &str| {
        machine.ok(&format!(
            "cd /srv/shop/releases; cp -a 1 {number}; echo {number} >{number}/lib/version.txt; cd ..; {then}"
        ));
        machine.until(&format!("release {number} serves"), || {
            (machine.ok("curl -sS --max-time 60 http://127.0.0.1:8080/") == number.to_string()).then_some(())
        });
    };
    release(2, "ln -s releases/2 next; mv -T next current");
    // Now that directory is watched.
    machine.write("/srv/shop/releases/2/lib/version.txt", "22\n");
    until_reloaded(&machine, "shop", "lib/version.txt");
    release(3, "rm current; ln -s releases/3 current");
    release(4, "rm current; mv releases/4 current");
    let before = told(&machine, "shop").len();
    machine.write("/srv/shop/current/server.js", WORKER);
    machine.until("a reload in the directory that was put there", || {
        let lines = told(&machine, "shop");
        (lines.len() >= before + 2 && lines[before..].contains(&"server.js changed: reloading".to_owned()))
            .then_some(())
    });
    assert_eq!(told(&machine, "chat"), [""; 0], "another app has nothing to do with it");
    machine.ok("touch /srv/chat/server.js");
    let lines = until_reloaded(&machine, "chat", "server.js");
    assert_eq!(lines, ["server.js changed: reloading", "chat reloaded"]);
}

/// By the user's own manager: changes, and times.
#[test]
fn a_users_app_is_reloaded_by_changes_and_by_the_clock() {
    let more = "watch = true\n[schedule]\nreload = '2099-01-01'\n";
    let app = file("/root/shop", 8080, more).replace("user = \"root\"\n", "");
    let boxed = Options::default()
        .file("/root/shop/server.js", WORKER)
        .file("/root/shop/lib/version.txt", "1\n")
        .file("/root/.config/appctl/shop.toml", &app)
        .boot();
    let Some(machine) = boxed else { return };
    if !machine.shell("systemctl start user@0.service").status.success() {
        crate::boxed::skipped("user@0.service does not start in the box; install libpam-systemd and dbus-user-session");
        return;
    }
    let user = |line: &str| machine.ok(&format!("export XDG_RUNTIME_DIR=/run/user/0; {line}"));
    user("appctl --user start shop");
    machine.until("it watches", || {
        (user("systemctl --user is-active shop-watch.service || true") == "active").then_some(())
    });
    let reloaded = || machine.journal("APP=shop ROLLOUT=done").lines().count();
    machine.write("/root/shop/lib/version.txt", "2\n");
    machine.until("a reload for that", || (reloaded() == 1).then_some(()));
    user("systemctl --user start shop-reload.service");
    assert_eq!(reloaded(), 2);
    user("appctl --user stop shop");
    assert_eq!(user("systemctl --user is-active shop-watch.service shop-reload.timer || true"), "inactive\ninactive");
}
