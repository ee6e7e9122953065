//! `appctl serve`: a directory of files as an app.

use crate::boxed::{Boxed, Options};
use crate::commands::{appctl, done};

fn boot() -> Option<Boxed> {
    Options::default()
        .file("/srv/site/index.html", "<h1>home</h1>")
        .file("/srv/site/app.js", "0123456789")
        .file("/srv/site/sub/index.html", "below")
        .file("/srv/site/.env", "SECRET=1")
        .file("/srv/site/.well-known/x", "known")
        .file("/srv/secret", "no")
        .file("/srv/own/.keep", "")
        .boot()
}

/// Status and body of a request; the path as it is typed.
fn get(machine: &Boxed, port: u16, path: &str, more: &str) -> (String, String) {
    let line =
        format!("curl -s --path-as-is --max-time 20 -w '\n%{{http_code}}' {more} 'http://127.0.0.1:{port}{path}'");
    let answer = machine.ok(&line);
    let (body, status) = answer.rsplit_once('\n').unwrap_or(("", &answer));
    (status.to_owned(), body.to_owned())
}

#[test]
fn a_directory_is_served_and_nothing_beside_it() {
    let Some(machine) = boot() else { return };
    machine
        .ok("ln -s ../secret /srv/site/out && ln -s /etc/passwd /srv/site/absolute && ln -s app.js /srv/site/link.js");
    done(&machine, "serve /srv/site 8080 -i 2");
    let of = |path: &str, more: &str| get(&machine, 8080, path, more);
    let is = |path: &str, status: &str, body: &str| assert_eq!(of(path, ""), (status.into(), body.into()), "{path}");
    is("/", "200", "<h1>home</h1>");
    is("/app.js", "200", "0123456789");
    is("/link.js", "200", "0123456789");
    is("/sub/", "200", "below");
    is("/.well-known/x", "200", "known");
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/sub/../../secret",
        "/..%2fsecret",
        "/out",
        "/absolute",
        "/.env",
        "/%2eenv",
        "/none",
        "//sub",
        "/sub/..%2f..%2fsecret",
    ] {
        let (status, body) = of(path, "");
        assert!(
            ["400", "404"].contains(&status.as_str()) && !body.contains("root:") && body != "no",
            "{path}: {status} {body}"
        );
    }
    assert_eq!(of("/app.js", "-X POST -d x").0, "405");
    assert_eq!(of("/app.js", "-r 2-4"), ("206".into(), "234".into()));
    assert_eq!(of("/app.js", "-r 99-").0, "416");
    let head = of("/app.js", "-I").1.to_lowercase();
    for field in ["etag: ", "last-modified: ", "content-type: text/javascript", "content-length: 10", "nosniff"] {
        assert!(head.contains(field), "{field}: {head}");
    }
    let value = |name: &str| {
        let line = head.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim().to_owned()
    };
    assert_eq!(of("/app.js", &format!("-H 'If-None-Match: {}'", value("etag:"))).0, "304");
    // Another release in the place of the old one, without a gap.
    machine.ok("cp -r /srv/site /srv/next && echo -n second > /srv/next/index.html && mv /srv/site /srv/old && mv /srv/next /srv/site");
    is("/", "200", "<h1>home</h1>");
    done(&machine, "reload site-8080");
    is("/", "200", "second");
    assert_eq!(machine.property("site-8080@1.service", "DynamicUser"), "yes");
    done(&machine, "delete site-8080");
    let (code, _, err) = appctl(&machine, "serve /srv/none 8080");
    assert!(
        code == 1 && err.contains("there is no directory /srv/none") && err.contains("appctl serve ./public"),
        "{err}"
    );
    let (code, _, err) = appctl(&machine, "serve /srv/site/app.js 8080");
    assert!(code == 1 && err.contains("is no directory"), "{err}");
}

#[test]
fn an_application_of_one_page_behind_a_password() {
    let Some(machine) = boot() else { return };
    let password = "pa$$ \"word\\";
    machine.write("/srv/word", password);
    done(
        &machine,
        "serve /srv/site 8080 --spa --name front --basic-auth-username me --basic-auth-password \"$(cat /srv/word)\"",
    );
    assert_eq!(get(&machine, 8080, "/", "").0, "401");
    assert_eq!(get(&machine, 8080, "/", "-u me:wrong").0, "401");
    let with = "-u \"me:$(cat /srv/word)\"";
    let page = ("200".to_owned(), "<h1>home</h1>".to_owned());
    for path in ["/", "/users/7", "/users/7/"] {
        assert_eq!(get(&machine, 8080, path, with), page, "{path}");
    }
    assert_eq!(get(&machine, 8080, "/app.js", with).1, "0123456789");
    for path in ["/none.js", "/.env", "/../secret"] {
        assert_ne!(get(&machine, 8080, path, with).0, "200", "{path}");
    }
    let again = "serve /srv/site 8080 --spa --name front --basic-auth-username me --basic-auth-password";
    done(&machine, &format!("{again} other"));
    assert_eq!(
        (get(&machine, 8080, "/", with).0, get(&machine, 8080, "/", "-u me:other").0),
        ("401".into(), "200".into())
    );
    let pid = machine.main_pid("front@1.service");
    done(&machine, &format!("{again} other"));
    assert_eq!(machine.main_pid("front@1.service"), pid, "nothing is new");
    done(&machine, &format!("{again} \"$(cat /srv/word)\""));
    // Nobody but root finds the password.
    assert_eq!(machine.ok("stat -c %a /etc/appctl/front.auth"), "600");
    for line in [
        "cat /etc/appctl/front.toml",
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
        "appctl env front",
        "appctl cat front",
    ] {
        assert!(!machine.ok(line).contains("word\\"), "{line}");
    }
    done(&machine, "delete front");
    assert_eq!(machine.ok("ls /etc/appctl"), "");
}
