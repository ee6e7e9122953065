//! `appctl env NAME[@SLOT]`: the environment that a worker was started with, secrets masked.
//!
//! What counts as a secret: a variable in whose name one of [`WORDS`] stands as a word of its own, the password in an
//! address (`scheme://user:password@host`), and a private key in PEM.

use std::collections::BTreeMap;
use std::io;

use clap::Args;

use super::exit::{DONE, Failure, NOT_RUNNING};
use super::ids;
use super::look::look;
use super::names::{self, Asked, Target};
use super::print::Printer;
use super::selector;

/// Instead of a secret.
const MASK: &str = "***";
/// Parts of names, between `_`, `-`, `.` and changes of case, that tell a secret.
const WORDS: [&str; 20] = [
    "AUTH",
    "BEARER",
    "COOKIE",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "DSN",
    "JWT",
    "KEY",
    "KEYS",
    "PASS",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PAT",
    "PRIVATE",
    "SALT",
    "SECRET",
    "SECRETS",
    "TOKEN",
];
/// Names that have such a word in them and are written as one.
const ENDINGS: [&str; 6] = ["APIKEY", "ACCESSKEY", "PASSWORD", "SECRET", "TOKEN", "PASSWD"];

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// NAME (its first worker that runs), NAME@SLOT or an id
    target: String,
    /// Print secrets as they are
    #[arg(long)]
    show_secrets: bool,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    let word = std::slice::from_ref(&arguments.target);
    let targets = selector::targets(word, asked).await?;
    let [(scope, target)] = targets.as_slice() else {
        return Err(Failure::Usage(format!("{} is several apps; name one, or one of its workers", arguments.target)));
    };
    ids::tell(word, &targets, asked, printer);
    let apps = look(&selector::wanted(word, asked).await?).await?;
    let workers = apps.iter().flat_map(|app| &app.workers);
    let meant = |slot: &Option<String>| match target {
        Target::App(_) => true,
        Target::Worker { slot: wanted, .. } => slot.as_ref() == Some(wanted),
    };
    let running = workers.filter(|worker| meant(&worker.slot)).find_map(|worker| Some((worker.pid?, &worker.unit)));
    let Some((pid, unit)) = running else {
        printer.error(&format!(
            "{} does not run: nothing has an environment\n`appctl start {}` starts it; `systemctl show -p Environment -p \
             EnvironmentFiles {}` tells what it would get.",
            arguments.target,
            target.app(),
            names::units(*scope, target.app()).slot(1)
        ));
        return Ok(NOT_RUNNING);
    };
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Denied(format!(
            "no right to see the environment of {unit} (pid {pid})\nUse sudo, or be the user that it runs as."
        )),
        _ => Failure::failed(format!("cannot read the environment of {unit} (pid {pid}): {error}")),
    })?;
    let mut variables = read(&bytes);
    if !arguments.show_secrets {
        variables.iter_mut().for_each(|(name, value)| *value = masked(name, value));
    }
    if printer.json {
        printer.json(&variables);
    } else {
        let lines = variables.iter().map(|(name, value)| format!("{name}: {value}"));
        printer.data(&lines.collect::<Vec<_>>().join("\n"));
    }
    Ok(DONE)
}

/// By the text of /proc/PID/environ.
fn read(environ: &[u8]) -> BTreeMap<String, String> {
    let entries = environ.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    entries.filter_map(|entry| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}

/// A variable's value, or as much of it as everybody may see.
pub(super) fn masked(name: &str, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    if is_secret(name) || value.contains("PRIVATE KEY-----") {
        return MASK.to_owned();
    }
    without_password(value)
}

fn is_secret(name: &str) -> bool {
    let mut words = vec![String::new()];
    let mut small = false;
    for character in name.chars() {
        let boundary = !character.is_alphanumeric() || (small && character.is_uppercase());
        if boundary {
            words.push(String::new());
        }
        if character.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_uppercase());
        }
        small = character.is_lowercase();
    }
    let upper = name.to_uppercase();
    words.iter().any(|word| WORDS.contains(&word.as_str())) || ENDINGS.iter().any(|ending| upper.ends_with(ending))
}

/// Every `scheme://user:password@` with a mask for the password.
pub(super) fn without_password(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        text.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'`,;<>".contains(c)).unwrap_or(after.len());
        let authority = &after[..end];
        match authority.rsplit_once('@').map(|(who, host)| (who.split_once(':'), host)) {
            Some((Some((user, password)), host)) if !password.is_empty() => {
                text.push_str(&format!("{user}:{MASK}@{host}"));
            }
            _ => text.push_str(authority),
        }
        rest = &after[end..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_secret() {
        for secret in [
            "DATABASE_PASSWORD",
            "API_KEY",
            "apiKey",
            "STRIPE_SECRET_KEY",
            "GITHUB_TOKEN",
            "token",
            "JWT_SECRET",
            "PGPASSWORD",
            "NPM_AUTH",
            "AWS_SECRET_ACCESS_KEY",
            "SENTRY_DSN",
            "OPENAI_APIKEY",
            "session.cookie",
            "SSH_PRIVATE_KEY",
        ] {
            assert_eq!(masked(secret, "x1"), MASK, "{secret}");
        }
        for open in
            ["PATH", "PWD", "NODE_ENV", "KEYBOARD", "MONKEY", "AUTHOR", "PASSENGER_APP_ENV", "HOST", "TOKENS_PER_DAY"]
        {
            assert_eq!(masked(open, "x1"), "x1", "{open}");
        }
        assert_eq!(masked("API_KEY", ""), "", "that it is empty may be what is looked for");
        assert_eq!(masked("CERT", "-----BEGIN RSA PRIVATE KEY-----\nabc"), MASK);
    }

    #[test]
    fn passwords_in_addresses() {
        for (value, shown) in [
            ("postgres://shop:s3cret@db:5432/shop?ssl=1", "postgres://shop:***@db:5432/shop?ssl=1"),
            ("redis://:p%40ss@cache", "redis://:***@cache"),
            ("amqp://u:a@b@host/x", "amqp://u:***@host/x"),
            ("https://example.com/a:b@c", "https://example.com/a:b@c"),
            ("https://user@example.com/", "https://user@example.com/"),
            ("a://u:p@x b://v:q@y", "a://u:***@x b://v:***@y"),
            ("no address", "no address"),
        ] {
            assert_eq!(without_password(value), shown);
        }
    }

    #[test]
    fn an_environment() {
        let variables = read(b"A=1\0B=x=y\0C=\0odd\0");
        assert_eq!(
            variables.into_iter().map(|(name, value)| name + ":" + &value).collect::<Vec<_>>(),
            ["A:1", "B:x=y", "C:"]
        );
    }
}
