//! Whose files are: what root makes in a service's directory is of no use to the service.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, lchown},
    path::Path,
};

use super::{Exit, Failure, OrExit, output::plain};

/// Gives `made`, and what lies in it, to the owner of `home`, where that is another than the one who made it. Only what
/// was just made by this process belongs here: nobody else has had the time to put something in its place.
pub(super) fn hand_over(made: &Path, home: &Path) -> Result<(), Failure> {
    hand(made, home)
        .or_exit(Exit::NotPermitted, format!("cannot give {} to the owner of {}", made.display(), home.display()))
}

fn hand(made: &Path, home: &Path) -> io::Result<()> {
    let (owner, is) = (fs::metadata(home)?, fs::symlink_metadata(made)?);
    if (owner.uid(), owner.gid()) == (is.uid(), is.gid()) {
        return Ok(());
    }
    if is.is_dir() {
        for entry in fs::read_dir(made)? {
            hand(&entry?.path(), home)?;
        }
    }
    lchown(made, Some(owner.uid()), Some(owner.gid()))
}

/// Who runs this, as the machine knows them: who logged in, and as whom they act if that is another.
pub(super) fn whoever_runs_this() -> String {
    let acts_as = rustix::process::getuid().as_raw();
    let login = fs::read_to_string("/proc/self/loginuid").ok().and_then(|uid| uid.trim().parse().ok());
    // The greatest number says that nobody logged in: a unit, a container.
    match login.filter(|uid| ![u32::MAX, acts_as].contains(uid)) {
        Some(login) => format!("{} as {}", name_of(login), name_of(acts_as)),
        None => name_of(acts_as),
    }
}

/// Its name in the file of users, else its number.
fn name_of(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = users.lines().map(|line| line.split(':'));
    let found = users.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| plain(name))
    });
    found.unwrap_or_else(|| format!("user {uid}"))
}
