//! Who else uses a database file: every process holds a shared lock on a file beside it for as long as it lives, so the
//! one that gets an exclusive lock knows that it is alone, and that whoever held jobs before is dead.

use super::StoreError;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A process's lock, given up by the system when the process ends, however it ends.
pub struct Presence {
    lock: File,
    path: PathBuf,
    is_alone: bool,
}

impl Presence {
    /// Looks whether anybody else uses the database in `path`. Who is alone has the door: nobody comes in before
    /// [`Presence::share`]. Who is not waits for the one who has it.
    pub fn look(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let name = PathBuf::from(name);
        let failed = |error| StoreError::Lock {
            path: name.clone(),
            error,
        };
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).open(&name);
        let lock = lock.map_err(failed)?;
        let is_alone = match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                lock.lock_shared().map_err(failed)?;
                false
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        };
        Ok(Self {
            lock,
            path: name,
            is_alone,
        })
    }

    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Lets others in.
    pub fn share(&self) -> Result<(), StoreError> {
        self.lock.lock_shared().map_err(|error| StoreError::Lock {
            path: self.path.clone(),
            error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_is_alone_until_it_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let first = Presence::look(&path).unwrap();
        assert!(first.is_alone());
        first.share().unwrap();
        let second = Presence::look(&path).unwrap();
        assert!(!second.is_alone());
        second.share().unwrap();
        drop(first);
        assert!(!Presence::look(&path).unwrap().is_alone());
        drop(second);
        assert!(Presence::look(&path).unwrap().is_alone());
    }
}
