//! The migration guide, made of the tables that the importer itself goes by.

use super::keys::{Fate, KEYS, Key, TOP};
use super::verbs::VERBS;

/// Of PM2's own end-to-end scripts: those that pass here, and those that say something (`tests/system/pm2_suite.txt`).
pub const SCRIPTS: (usize, usize) = (14, 65);

const HEAD: &str = "\
<!-- Generated from src/pm2: BLESS=1 cargo test --locked --test integration migrating -->

# From PM2 to appctl

    pm2 save                              # PM2 writes down what runs
    sudo env PM2_HOME=$HOME/.pm2 appctl import --from-pm2 --dry-run   # what each key becomes, and the files
    sudo env PM2_HOME=$HOME/.pm2 appctl import --from-pm2             # writes /etc/appctl/NAME.toml
    pm2 kill                              # PM2 and its apps end
    sudo appctl start all                 # the same apps, by systemd
    pm2 unstartup                         # PM2 does not come back at boot

With an ecosystem file it is one command: `sudo appctl start ecosystem.config.js --env production`, when PM2's apps have been stopped.
What PM2 wrote in its own name (an app's variables from the shell that started it, its logs, its dump) is not taken over, and the import says so.

What changes for an app:

* systemd starts it, at boot too, and writes its lines into the journal. Its shell's variables are not there; what it needs belongs into `env`.
* It is a worker of a router, which has the port: `listen` in the file. One worker is one too.
* It runs as its file's owner, or, if that is root, as a user of its own. PM2 started by root ran it as root.
* It is told to stop by SIGINT, as by PM2, and has 10 s instead of 1.6 s.
* It is started again for ever, unless `max_restarts` says how often. PM2 gives up after 16 quick ends.
* A reload replaces its workers only by ones that stand.
";

/// The whole guide, as Markdown. `others`: PM2's commands that are none here, and what to do instead.
pub fn text<'a>(others: impl Iterator<Item = (&'a [&'a str], &'a str)>) -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n## Commands\n\n| PM2 | appctl | |\n| --- | --- | --- |\n");
    for verb in VERBS {
        text.push_str(&format!("| `{}` | `{}` | {} |\n", verb.theirs, verb.ours, verb.note));
    }
    text.push_str("\nThese are no commands here; appctl knows them, and says:\n\n| PM2 | |\n| --- | --- |\n");
    for (verbs, answer) in others {
        let verbs: Vec<String> = verbs.iter().map(|verb| format!("`{verb}`")).collect();
        text.push_str(&format!("| {} | {answer} |\n", verbs.join(", ")));
    }
    let (pass, all) = SCRIPTS;
    text.push_str(&format!(
        "\n## PM2's own tests\n\n{pass} of the {all} end-to-end scripts of PM2 7.0.3 that can tell something pass with a `pm2` that calls appctl. The others are about \
         what is another way here: mostly they look into log files, or for PM2's dump, pid files, modules and daemon. \
         `tests/system/pm2_suite.txt` has each script, and why it cannot pass.\n"
    ));
    text.push_str(
        "\n## Keys of an app\n\nEach is known in camelCase, too. The importer goes by this same table, and names keys that are not in it.\n\n",
    );
    text.push_str(&table(KEYS));
    text.push_str("\n## Keys beside the apps\n\n");
    text.push_str(&table(TOP));
    text
}

fn table(keys: &[Key]) -> String {
    let mut text = "| PM2 | Flag | appctl | |\n| --- | --- | --- | --- |\n".to_owned();
    for key in keys {
        let names: Vec<String> =
            std::iter::once(&key.name).chain(key.aliases).map(|name| format!("`{name}`")).collect();
        let flag = if key.flag.is_empty() { String::new() } else { format!("`{}`", key.flag) };
        let becomes = match key.fate {
            Fate::Becomes(ours) => format!("`{ours}`"),
            Fate::Needless => "not needed".to_owned(),
            Fate::Refused => "no counterpart".to_owned(),
        };
        text.push_str(&format!("| {} | {flag} | {becomes} | {} |\n", names.join(", "), key.note));
    }
    text
}
