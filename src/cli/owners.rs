//! Files that root reads and that somebody else wrote: what is in them runs as nobody but their owner.
//!
//! Without this, whoever gets an administrator to start a file of theirs could name any account in it.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Group, Uid, User, getgrouplist};

use super::exit::Failure;
use crate::config::Scope;
use crate::pm2::Draft;

/// Whose a file is, if it is neither root's nor of the one who became root by sudo; and if it is root who reads it.
fn stranger(path: &Path, scope: Scope) -> Option<u32> {
    if scope == Scope::User || !Uid::effective().is_root() {
        return None;
    }
    let owner = std::fs::metadata(path).ok()?.uid();
    let himself = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    (owner != 0 && Some(owner) != himself).then_some(owner)
}

fn called(uid: u32) -> String {
    User::from_uid(uid.into()).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Makes an app of somebody else's file run as its owner, or says why not. `named`: the file itself says as whom it runs.
/// (Else that is the script's owner, who has no say in its arguments and variables.)
pub(super) fn restrain(draft: &mut Draft, named: bool, source: &Path, scope: Scope) -> Result<(), String> {
    let Some(owner) = stranger(source, scope) else { return Ok(()) };
    let user = User::from_uid(owner.into()).ok().flatten();
    let name = called(owner);
    let remedy = format!("if that is meant, give the file to root (chown root {})", source.display());
    let same = |account: &str| account == name || account.parse() == Ok(owner);
    match &draft.user {
        Some(other) if named && !same(other) => {
            return Err(format!("the file is {name}'s, and would run this app as {other}: {remedy}"));
        }
        _ => draft.user = Some(name.clone()),
    }
    let Some(group) = &draft.group else { return Ok(()) };
    let wanted = Group::from_name(group).ok().flatten().map(|group| group.gid);
    let wanted = wanted.or_else(|| group.parse::<u32>().ok().map(Into::into));
    let has = user.is_some_and(|user| {
        let groups = CString::new(user.name).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
        wanted.is_some_and(|wanted| groups.unwrap_or_default().contains(&wanted))
    });
    if has { Ok(()) } else { Err(format!("the file is {name}'s, who is not in its group {group}: {remedy}")) }
}

/// Refuses a whole file of an app that somebody else wrote: it may name any account, and commands that run as root.
pub(super) fn refuse(path: &Path, scope: Scope) -> Result<(), Failure> {
    match stranger(path, scope) {
        None => Ok(()),
        Some(owner) => Err(Failure::failed(format!(
            "{0} is {1}'s, who could have written anything into it, such as user = \"root\"\n\
             Look at it, then: chown root {0}; or run it as {1}'s own, by `appctl --user start` of theirs.",
            path.display(),
            called(owner)
        ))),
    }
}
