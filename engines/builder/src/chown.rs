//! `--chown` and `--chmod` of a COPY.
//!
//! In: their text, and the image's own `/etc/passwd` and `/etc/group`. Out: numbers.
//! Never: the users of this machine.

use crate::copy::Attributes;
use crate::error::{BuildError, Position, Problem};
use crate::spool::Spool;
use crate::tree::Tree;

/// `owner` and `mode` are texts with their variables replaced.
pub(crate) fn attributes(
    owner: Option<(&str, Position)>,
    mode: Option<(&str, Position)>,
    tree: &Tree,
    spool: &mut Spool<'_>,
) -> Result<Attributes, BuildError> {
    let owner = owner.map(|(text, at)| read_owner(text, at, tree, spool)).transpose()?;
    let mode = mode.map(|(text, at)| read_mode(text, at)).transpose()?;
    Ok(Attributes { owner, mode })
}

fn read_mode(text: &str, at: Position) -> Result<u32, Problem> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => Err(Problem::new(at, format!("`{text}` is not an octal mode")).hint("write for example `--chmod=755`")),
    }
}

fn read_owner(text: &str, at: Position, tree: &Tree, spool: &mut Spool<'_>) -> Result<(u32, u32), BuildError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let unknown = |what: &str, name: &str, file: &str| {
        Problem::new(at, format!("{what} `{name}` is not in `/{file}` of the image"))
            .hint("use numbers, for example `--chown=1000:1000`")
    };
    let (uid, own_gid) = match number(user) {
        // As the Dockerfile reference has it: without a group, the number of the user.
        Some(uid) => (uid, uid),
        None => {
            let passwd = spool.read_text(tree, "etc/passwd")?.unwrap_or_default();
            let found =
                lookup(&passwd, user).and_then(|fields| Some((number(fields.get(2)?)?, number(fields.get(3)?)?)));
            found.ok_or_else(|| unknown("user", user, "etc/passwd"))?
        }
    };
    let gid = match group {
        None | Some("") => own_gid,
        Some(group) => match number(group) {
            Some(gid) => gid,
            None => {
                let groups = spool.read_text(tree, "etc/group")?.unwrap_or_default();
                let found = lookup(&groups, group).and_then(|fields| number(fields.get(2)?));
                found.ok_or_else(|| unknown("group", group, "etc/group"))?
            }
        },
    };
    Ok((uid, gid))
}

/// The home folder of a `user[:group]`, as the image says it.
pub(crate) fn home(user: &str, tree: &Tree, spool: &mut Spool<'_>) -> Result<Option<String>, BuildError> {
    let user = match user.split(':').next() {
        None | Some("") => "0",
        Some(user) => user,
    };
    let passwd = spool.read_text(tree, "etc/passwd")?.unwrap_or_default();
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = users.find(|fields| fields.first() == Some(&user) || fields.get(2) == Some(&user));
    Ok(found.and_then(|fields| fields.get(5).filter(|home| home.starts_with('/')).map(|home| (*home).to_owned())))
}

fn number(text: &str) -> Option<u32> {
    match text {
        "root" => Some(0),
        text if text.starts_with('+') => None,
        text => text.parse().ok(),
    }
}

fn lookup<'a>(file: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = file.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.first() == Some(&name))
}
