//! Whose files are: what root makes in a service's directory is of no use to the service.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, lchown},
    path::Path,
};

use super::{Exit, Failure, OrExit};

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
