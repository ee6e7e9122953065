//! The notations of systemd: sizes, time spans, listen addresses, signals, app names.
//!
//! Every reader gives either the value or a [`Wrong`]: what is wrong and what to write instead.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A value that cannot be used: the reason, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Wrong {
    pub reason: String,
    pub remedy: String,
}

impl Wrong {
    pub fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// One `ListenStream=` of systemd.socket(5), as far as a stream socket of an app goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listen {
    /// `8080`: all addresses, both families.
    Port(u16),
    /// `127.0.0.1:8080`, `[::1]:8080`
    Address(SocketAddr),
    /// `/run/app.sock`
    Path(PathBuf),
}

impl Listen {
    /// Whether this is the socket that the kernel names so: `[::]:8080`, `127.0.0.1:80`, a path.
    pub fn is_at(&self, bound: &str) -> bool {
        match self {
            Self::Port(port) => {
                bound.parse::<SocketAddr>().is_ok_and(|it| it.ip().is_unspecified() && it.port() == *port)
            }
            Self::Address(address) => bound.parse() == Ok(*address),
            Self::Path(path) => path.as_os_str() == bound,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `sun_path` holds 108 bytes with its NUL, unix(7).
const UNIX_PATH_MAX: usize = 107;

impl Listen {
    /// Reads one address as `ListenStream=` has it.
    pub fn read(text: &str) -> Result<Self, Wrong> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) {
            let address = rest.trim_end_matches('/');
            return Err(Wrong::new(
                format!("`{text}` is a URL, not an address"),
                format!("write the address alone, such as \"{address}\""),
            ));
        }
        if text.starts_with('/') {
            return Self::read_path(text);
        }
        if text.starts_with('@') {
            return Err(Wrong::new(
                format!("abstract Unix sockets such as `{text}` are not supported: anybody may connect to them"),
                "write a path, such as \"/run/app.sock\"",
            ));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return read_port(text).map(Self::Port);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            if address.port() == 0 {
                return Err(port_zero());
            }
            return Ok(Self::Address(address));
        }
        Err(Self::explain(text))
    }

    /// Whether the kernel would refuse the second of the two. An IPv6 wildcard takes IPv4 too, as is Linux' default.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(one), Self::Path(two)) => one == two,
            (Self::Path(_), _) | (_, Self::Path(_)) => false,
            (one, two) => {
                let part = |it: &Self| match it {
                    Self::Address(address) => (Some(address.ip()), address.port()),
                    Self::Port(port) => (None, *port),
                    Self::Path(_) => (None, 0),
                };
                let ((one, one_port), (two, two_port)) = (part(one), part(two));
                let everything = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                one_port == two_port
                    && (everything(one)
                        || everything(two)
                        || one == two
                        || one.zip(two).is_some_and(|(one, two)| {
                            one.is_ipv4() == two.is_ipv4() && (one.is_unspecified() || two.is_unspecified())
                        }))
            }
        }
    }

    fn read_path(text: &str) -> Result<Self, Wrong> {
        if text.len() > UNIX_PATH_MAX {
            return Err(Wrong::new(
                format!("the path has {} bytes; a Unix socket's may have {UNIX_PATH_MAX}", text.len()),
                "choose a shorter path, such as one in /run",
            ));
        }
        // Components drop doubled slashes, `.` and a slash at the end; `..` stays and is refused.
        let path: PathBuf = PathBuf::from(text).components().collect();
        // As systemd reads it (patch_var_run), so that what it says of its sockets is known again.
        let path = path.strip_prefix("/var/run").map(|rest| Path::new("/run").join(rest)).unwrap_or(path);
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(Wrong::new(format!("`{text}` contains `..`"), "write the path without `..`"));
        }
        if path.parent().is_none() {
            return Err(Wrong::new("`/` is not a socket", "write a path such as \"/run/app.sock\""));
        }
        one_line(text)?;
        Ok(Self::Path(path))
    }

    /// Why `text` is not an address. It is known to be neither path nor number.
    fn explain(text: &str) -> Wrong {
        if text.is_empty() {
            return Wrong::new("an empty address", "write a port such as \"8080\", an address or a path");
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port))
                if port.parse::<u16>().is_ok_and(|port| port != 0)
                    && (host.parse::<Ipv6Addr>().is_ok() || text.parse::<IpAddr>().is_err()) =>
            {
                (host, port)
            }
            _ if text.parse::<IpAddr>().is_ok() => {
                let bracketed = if text.contains(':') { format!("[{text}]:8080") } else { format!("{text}:8080") };
                return Wrong::new(format!("`{text}` has no port"), format!("write \"{bracketed}\""));
            }
            _ if text.starts_with('.') || text.contains('/') => {
                return Wrong::new(
                    format!("`{text}` is not an absolute path"),
                    "write the whole path, such as \"/run/app.sock\"",
                );
            }
            _ => {
                return Wrong::new(
                    format!("`{text}` is not an address"),
                    "write a port \"8080\", an address \"127.0.0.1:8080\" or \"[::1]:8080\", or a path \"/run/app.sock\"",
                );
            }
        };
        match host {
            "" | "*" => Wrong::new(
                format!("`{text}` is not how systemd writes all addresses"),
                format!("write \"{port}\" for all addresses of both families, or \"0.0.0.0:{port}\" for IPv4 only"),
            ),
            "localhost" => Wrong::new(
                "`localhost` is a name; systemd listens on addresses",
                format!("write \"127.0.0.1:{port}\", \"[::1]:{port}\", or both in an array"),
            ),
            host if host.parse::<Ipv6Addr>().is_ok() => {
                Wrong::new("an IPv6 address needs brackets", format!("write \"[{host}]:{port}\""))
            }
            host => Wrong::new(
                format!("`{host}` is not an IP address; names are not looked up"),
                format!("write the address that it stands for, or \"{port}\" for all addresses"),
            ),
        }
    }
}

fn port_zero() -> Wrong {
    Wrong::new("port 0 means \"any free port\", which no client could find", "write a port from 1 to 65535")
}

fn read_port(text: &str) -> Result<u16, Wrong> {
    match text.parse::<u16>() {
        Ok(0) => Err(port_zero()),
        Ok(port) => Ok(port),
        Err(_) => Err(Wrong::new(format!("there is no port {text}"), "write a port from 1 to 65535")),
    }
}

/// Units of systemd.time(7) in microseconds, the long names included.
fn unit_of_time(unit: &str) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    Some(match unit {
        "usec" | "us" | "µs" | "μs" => 1,
        "msec" | "ms" => 1_000,
        "" | "seconds" | "second" | "sec" | "s" => SECOND,
        "minutes" | "minute" | "min" | "m" => 60 * SECOND,
        "hours" | "hour" | "hr" | "h" => 3_600 * SECOND,
        "days" | "day" | "d" => 86_400 * SECOND,
        "weeks" | "week" | "w" => 7 * 86_400 * SECOND,
        "months" | "month" | "M" => 2_629_800 * SECOND,
        "years" | "year" | "y" => 31_557_600 * SECOND,
        _ => return None,
    })
}

/// A span as systemd.time(7) writes it: `1min 30s`, `500ms`, `5` (seconds), `infinity` (as [`Duration::MAX`]).
/// The resolution is a microsecond.
pub fn read_span(text: &str) -> Result<Duration, Wrong> {
    const REMEDY: &str = "write it as systemd does: \"500ms\", \"30s\", \"1min 30s\", \"infinity\"";
    let text = text.trim();
    if text == "infinity" {
        return Ok(Duration::MAX);
    }
    if text.starts_with('-') {
        return Err(Wrong::new(format!("`{text}` is negative"), REMEDY));
    }
    let no_span = || Wrong::new(format!("`{text}` is not a time span"), REMEDY);
    let mut rest = text;
    let mut total: u128 = 0;
    if rest.is_empty() {
        return Err(no_span());
    }
    while !rest.is_empty() {
        let (whole, fraction, after) = read_decimal(rest).ok_or_else(no_span)?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = unit_of_time(unit).ok_or_else(|| {
            Wrong::new(
                format!("`{unit}` is not a unit of time"),
                "use us, ms, s, min, h, d or w, such as \"500ms\" or \"1min 30s\"",
            )
        })?;
        total = total.saturating_add(scale(whole, fraction, u128::from(unit)));
        rest = after.trim_start();
    }
    // Far less than what systemd takes for infinity, far more than anyone waits.
    match u64::try_from(total) {
        Ok(micros) if micros < u64::MAX / 2 => Ok(Duration::from_micros(micros)),
        _ => Err(Wrong::new(format!("`{text}` is too long"), "write \"infinity\" for no limit")),
    }
}

/// A span that is not 0: systemd takes 0 for "no limit" where a limit of 0 makes no sense.
pub fn positive_span(text: &str) -> Result<Duration, Wrong> {
    let span = read_span(text)?;
    if span.is_zero() {
        return Err(Wrong::new("it must be longer than 0", "write \"infinity\" for no limit"));
    }
    Ok(span)
}

/// Splits off `12` or `12.5`: the whole part, the fraction's digits, and what follows.
fn read_decimal(text: &str) -> Option<(u64, &str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(end);
    let whole = whole.parse().ok()?;
    let Some(tail) = rest.strip_prefix('.') else { return Some((whole, "", rest)) };
    let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
    if end == 0 {
        return None;
    }
    let (fraction, rest) = tail.split_at(end);
    Some((whole, fraction, rest))
}

/// `whole.fraction × unit`, rounded down; digits past the ninth do not count.
fn scale(whole: u64, fraction: &str, unit: u128) -> u128 {
    let digits = &fraction[..fraction.len().min(9)];
    let parts = digits.bytes().fold(0_u128, |number, digit| number * 10 + u128::from(digit - b'0'));
    let ten = 10_u128.pow(digits.len() as u32);
    u128::from(whole).saturating_mul(unit).saturating_add(parts * unit / ten)
}

/// Writes a span so that systemd and [`read_span`] read it back: `1min30s`, without blanks (it may stand in a command
/// line). Parts below a microsecond are lost.
pub fn write_span(span: Duration) -> String {
    if span == Duration::MAX {
        return "infinity".to_owned();
    }
    let mut micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 2 - 1);
    if micros == 0 {
        return "0".to_owned();
    }
    let mut text = String::new();
    for unit in ["d", "h", "min", "s", "ms", "us"] {
        let size = unit_of_time(unit).unwrap_or(1);
        if micros >= size {
            text.push_str(&format!("{}{unit}", micros / size));
            micros %= size;
        }
    }
    text
}

/// A size in bytes as systemd writes it, base 1024: `512M`, `1.5G`, `4096`.
pub fn read_size(text: &str) -> Result<u64, Wrong> {
    const REMEDY: &str = "write a number with K, M, G or T (base 1024), such as \"512M\"";
    let trimmed = text.trim();
    let no_size = || Wrong::new(format!("`{trimmed}` is not a size"), REMEDY);
    let (whole, fraction, suffix) = read_decimal(trimmed).ok_or_else(no_size)?;
    let unit: u128 = match suffix.trim_start() {
        "" | "B" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        "P" => 1 << 50,
        other => {
            let upper = other.trim_end_matches(['b', 'B', 'i']).to_uppercase();
            return Err(match upper.as_str() {
                "K" | "M" | "G" | "T" | "P" => Wrong::new(
                    format!("systemd does not know the unit `{other}`"),
                    format!("write \"{}{upper}\"", &trimmed[..trimmed.len() - suffix.len()]),
                ),
                _ => no_size(),
            });
        }
    };
    u64::try_from(scale(whole, fraction, unit)).map_err(|_| Wrong::new(format!("`{trimmed}` is too large"), REMEDY))
}

/// Writes a size so that [`read_size`] reads it back, with the largest unit that leaves it whole.
pub fn write_size(bytes: u64) -> String {
    for (shift, unit) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Signals that end a process (or that it may take as the wish to end).
const SIGNALS: [&str; 21] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "XCPU", "XFSZ", "VTALRM", "PROF", "IO", "SYS",
];

/// A signal's name, with or without `SIG`, in any case; the answer has `SIG`.
pub fn read_signal(text: &str) -> Result<String, Wrong> {
    let upper = text.trim().to_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if SIGNALS.contains(&bare) {
        return Ok(format!("SIG{bare}"));
    }
    if ["STOP", "CONT", "CHLD", "TSTP", "TTIN", "TTOU", "URG", "WINCH"].contains(&bare) {
        return Err(Wrong::new(format!("SIG{bare} does not end a process"), "write \"SIGTERM\" or \"SIGINT\""));
    }
    Err(Wrong::new(
        format!("there is no signal `{text}`"),
        "write a name such as \"SIGTERM\", \"SIGINT\" or \"SIGUSR2\"",
    ))
}

/// `Ok` when the text can stand as the value of one line of a unit file: no control characters, no blank at an end, no
/// backslash at the end (which would join the next line to it).
pub fn one_line(text: &str) -> Result<(), Wrong> {
    if let Some(bad) = text.chars().find(|c| c.is_control()) {
        return Err(Wrong::new(
            format!("it contains the control character U+{:04X}", u32::from(bad)),
            "remove the character; a unit file has one value a line",
        ));
    }
    if text.trim() != text {
        return Err(Wrong::new("it begins or ends with a blank, which systemd would drop", "remove the blank"));
    }
    if text.ends_with('\\') {
        return Err(Wrong::new("a backslash at the end joins the next line to this one", "remove the backslash"));
    }
    Ok(())
}

/// `"a", "b" or "c"`, for remedies.
pub fn one_of(choices: &[&str]) -> String {
    let quoted: Vec<String> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// A user's or group's name as systemd accepts it ("strict", at most 31 bytes), systemd.exec(5).
pub fn is_user_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 31
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// The longest app name, bytes.
pub const NAME_MAX: usize = 64;

/// Suffixes of unit files, systemd.unit(5); a name that ends in one reads like a unit.
pub const UNIT_TYPES: [&str; 11] = [
    ".service",
    ".socket",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".path",
    ".timer",
    ".slice",
    ".scope",
];

/// `Ok` when an app may be called so: `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`, no unit's suffix, no name of systemd's own.
pub fn check_name(name: &str) -> Result<(), Wrong> {
    let what = || format!("`{name}` cannot be the name of an app");
    if name.is_empty() {
        return Err(Wrong::new("an app needs a name", "name its file NAME.toml"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Err(Wrong::new(
            format!("{}: only ASCII letters, digits, `_`, `.` and `-` are allowed", what()),
            "rename the file",
        ));
    }
    if !name.as_bytes()[0].is_ascii_alphanumeric() {
        return Err(Wrong::new(format!("{}: it must begin with a letter or a digit", what()), "rename the file"));
    }
    if name.len() > NAME_MAX {
        return Err(Wrong::new(
            format!("{}: it has {} characters, {NAME_MAX} are allowed", what(), name.len()),
            "rename the file",
        ));
    }
    if let Some(suffix) = UNIT_TYPES.iter().find(|suffix| name.ends_with(*suffix)) {
        return Err(Wrong::new(
            format!("{}: `{suffix}` is the ending of a systemd unit", what()),
            format!("rename the file to {}.toml", name.trim_end_matches(suffix)),
        ));
    }
    // Slices and the scope that every manager has. (The user manager's app.slice, session.slice and background.slice are
    // no matter: an app's slice there is called app-NAME.slice.)
    if ["system", "user", "machine", "init"].contains(&name) {
        return Err(Wrong::new(format!("{}: systemd has a unit of that name", what()), "rename the file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn listens() {
        for (text, normal) in [
            ("8080", "8080"),
            (" 80 ", "80"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:80", "[::1]:80"),
            ("[0:0::1]:80", "[::1]:80"),
            ("/run//app.sock", "/run/app.sock"),
            ("/run/./a b%.sock/", "/run/a b%.sock"),
            ("/var//run/app.sock", "/run/app.sock"),
            ("/var/runs/app.sock", "/var/runs/app.sock"),
        ] {
            assert_eq!(Listen::read(text).map(|listen| listen.to_string()), Ok(normal.to_owned()), "{text}");
        }
        for (text, remedy) in [
            ("0", "from 1"),
            ("70000", "from 1"),
            ("127.0.0.1:0", "from 1"),
            ("localhost:3000", "127.0.0.1:3000"),
            (":3000", "\"3000\""),
            ("*:3000", "\"3000\""),
            ("::1:3000", "[::1]:3000"),
            ("127.0.0.1", "127.0.0.1:8080"),
            ("::1", "[::1]:8080"),
            ("example.org:80", "\"80\""),
            ("http://127.0.0.1:80/", "\"127.0.0.1:80\""),
            ("@abstract", "/run/app.sock"),
            ("./x.sock", "whole path"),
            ("/a/../b", "without `..`"),
            ("/", "/run/app.sock"),
            ("", "8080"),
            ("eighty", "8080"),
        ] {
            let wrong = Listen::read(text).unwrap_err();
            assert!(wrong.remedy.contains(remedy), "{text}: {wrong:?}");
        }
        assert!(Listen::read(&format!("/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn overlaps() {
        let overlap = |one, two| Listen::read(one).unwrap().overlaps(&Listen::read(two).unwrap());
        for (one, two) in [
            ("80", "80"),
            ("80", "127.0.0.1:80"),
            ("80", "[::]:80"),
            ("[::]:80", "0.0.0.0:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("/run/a", "/run/a"),
        ] {
            assert!(overlap(one, two) && overlap(two, one), "{one} {two}");
        }
        for (one, two) in [
            ("80", "81"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("/run/a", "/run/b"),
            ("80", "/80"),
        ] {
            assert!(!overlap(one, two) && !overlap(two, one), "{one} {two}");
        }
    }

    #[test]
    fn spans() {
        for (text, micros) in [
            ("5", 5_000_000),
            ("0", 0),
            ("1.5", 1_500_000),
            ("100ms", 100_000),
            ("1min 30s", 90_000_000),
            ("1min30s", 90_000_000),
            ("2 h", 7_200_000_000),
            ("1.5h", 5_400_000_000),
            ("3us", 3),
            ("1week 1day", 691_200_000_000),
        ] {
            assert_eq!(read_span(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        assert_eq!(read_span("infinity"), Ok(Duration::MAX));
        for text in ["", "fast", "-5", "5 parsecs", "5s x", "1.s", ".5s", "99999999999999y", "s"] {
            assert!(read_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("512M", 512 << 20), ("1.5G", 1536 << 20), ("4096", 4096), ("64K", 65536), ("1 G", 1 << 30)]
        {
            assert_eq!(read_size(text), Ok(bytes), "{text}");
        }
        assert!(read_size("512MB").unwrap_err().remedy.contains("512M"));
        assert!(read_size("512m").unwrap_err().remedy.contains("512M"));
        assert!(read_size("2GiB").unwrap_err().remedy.contains("2G"));
        for text in ["", "M", "lots", "-1", "99999999P"] {
            assert!(read_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn signals() {
        assert_eq!(read_signal("SIGINT"), Ok("SIGINT".to_owned()));
        assert_eq!(read_signal("term"), Ok("SIGTERM".to_owned()));
        assert!(read_signal("SIGSTOP").is_err());
        assert!(read_signal("SIGNAL").is_err());
    }

    #[test]
    fn names() {
        for name in ["app", "a", "0", "my-app_2.test", &"x".repeat(64)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in
            ["", "-a", ".a", "_a", "a@b", "a b", "ä", "a.service", "x.slice", "system", "user", "init", &"x".repeat(65)]
        {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(is_user_name("app") && is_user_name("_a-b_9") && !is_user_name("a.b") && !is_user_name("9a"));
        assert!(!is_user_name(&"x".repeat(32)) && !is_user_name(""));
    }

    proptest! {
        #[test]
        fn spans_round_trip(micros in 0..u64::MAX / 4) {
            let span = Duration::from_micros(micros);
            prop_assert_eq!(read_span(&write_span(span)), Ok(span));
        }

        #[test]
        fn sizes_round_trip(bytes: u64) {
            prop_assert_eq!(read_size(&write_size(bytes)), Ok(bytes));
        }

        #[test]
        fn listens_round_trip(text in "([0-9]{1,5}|[0-9a-f:.\\[\\]]{1,20}:[0-9]{1,5}|/[a-z/.]{0,20}|.{0,10})") {
            if let Ok(listen) = Listen::read(&text) {
                prop_assert_eq!(Listen::read(&listen.to_string()), Ok(listen));
            }
        }

        #[test]
        fn no_reader_panics(text in ".{0,40}") {
            let _ = (read_span(&text), read_size(&text), read_signal(&text), check_name(&text), one_line(&text));
        }
    }
}
