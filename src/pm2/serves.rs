//! Where an app serves: PM2's files do not say it, their scripts do.

use super::Circumstances;
use super::Machine;
use super::draft::Draft;
use super::program::Kind;
use crate::config::{Listen, Workers};
use std::path::Path;

/// What @socket.io/pm2 listens on, unless told otherwise.
const SOCKET_IO: &str = "8080";

/// Addresses, and where they come from.
pub(super) struct Serves {
    pub(super) listen: Vec<String>,
    pub(super) why: String,
}

/// `None`: nobody says it.
pub(super) fn serves(
    draft: &Draft,
    place: &Circumstances<'_>,
    kind: Kind,
    script: &Path,
    machine: &dyn Machine,
) -> Option<Serves> {
    if let Some(port) = draft.variable("PORT").filter(|port| Listen::read(port).is_ok()) {
        let many = match draft.workers {
            _ if draft.increment_variable.as_deref() != Some("PORT") => 1,
            Workers::Count(number) => number,
            most => most.resolve(machine.processors()),
        };
        let first: Option<u16> = port.parse().ok();
        let listen =
            match first.and_then(|first| Some(first..=first.checked_add(u16::try_from(many).ok()?.checked_sub(1)?)?)) {
                Some(ports) => ports.map(|port| port.to_string()).collect(),
                None => vec![port.to_owned()],
            };
        return Some(Serves { listen, why: "PORT".to_owned() });
    }
    if kind == Kind::Other || place.typed {
        return None;
    }
    let source = machine.read(script).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
    let name = script.file_name().unwrap_or_default().to_string_lossy();
    if let Some((port, words)) = port_in(&source) {
        return Some(Serves { listen: vec![port.to_string()], why: format!("`{words}` in {name}") });
    }
    if source.contains("setupWorker") {
        let port = machine.variable("PM2_PORT").unwrap_or_else(|| SOCKET_IO.to_owned());
        return Some(Serves { listen: vec![port], why: format!("@socket.io/pm2's port, for `setupWorker` in {name}") });
    }
    None
}

/// The port that a script says it serves on.
pub fn port_named_in(source: &str) -> Option<u16> {
    port_in(source).map(|(port, _)| port)
}

/// A port that a script names: `PORT || 3000`, `listen(3000`. With the words that say it.
fn port_in(source: &str) -> Option<(u16, String)> {
    let code = || source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let named = |after: &[&str]| {
        code().find_map(|line| {
            after.iter().find_map(|mark| {
                line.match_indices(mark).find_map(|(at, _)| {
                    let rest = line[at + mark.len()..].trim_start().trim_start_matches(['"', '\'']);
                    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    let port = digits.parse::<u16>().ok().filter(|port| *port > 0)?;
                    // `listen(3000 + index)`
                    let next = rest[digits.len()..].trim_start().chars().next();
                    if next.is_some_and(|next| next.is_alphanumeric() || "+-*/%.<>&|?".contains(next)) {
                        return None;
                    }
                    Some((port, format!("{mark}{}{digits}", if mark.ends_with('(') { "" } else { " " })))
                })
            })
        })
    };
    named(&["PORT ||", "PORT ??", "port ||", "PORT||", "port ??"]).or_else(|| named(&[".listen("]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_scripts() {
        for (source, port) in [
            ("const port = process.env.PORT || 3000;\napp.listen(port)", Some(3000)),
            ("app.listen(process.env.PORT ?? '4000', cb)", Some(4000)),
            ("http.createServer().listen(8081, '0.0.0.0')", Some(8081)),
            ("// app.listen(1)\nserver.listen(port)", None),
            ("server.listen(4000 + index)", None),
            ("server.listen(0)", None),
            ("server.listen(99999)", None),
            ("", None),
        ] {
            assert_eq!(port_in(source).map(|(port, _)| port), port, "{source}");
        }
    }
}
