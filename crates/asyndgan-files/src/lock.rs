use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
};

#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt as _;

/// A lock between processes, held until it is dropped or the process ends.
///
/// The lock is advisory, and belongs to a file that stays when the lock ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock if nothing has it, in this process or in another one. The file is private, and is created if it
    /// does not exist.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if the lock is taken, or the operating system's error.
    ///
    /// # Example
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// use asyndgan_files::Lock;
    /// let path = folder.path().join("run.lock");
    /// let lock = Lock::try_exclusive(&path)?;
    /// assert!(Lock::is_held(&path));
    /// assert!(Lock::try_exclusive(&path).is_err());
    /// drop(lock);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_exclusive(path: &Path) -> Result<Self, TryLockError> {
        let file = open(path).map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(Self { _file: file })
    }

    /// Like [`Lock::try_exclusive`], shared with other processes that also share it.
    ///
    /// # Errors
    /// As [`Lock::try_exclusive`].
    pub fn try_shared(path: &Path) -> Result<Self, TryLockError> {
        let file = open(path).map_err(TryLockError::Error)?;
        file.try_lock_shared()?;
        Ok(Self { _file: file })
    }

    /// Like [`Lock::try_exclusive`], but waits until other processes have released the lock.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn wait_exclusive(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        file.lock()?;
        Ok(Self { _file: file })
    }

    /// Whether a process has the exclusive lock. `false` if the file does not exist or cannot be opened.
    pub fn is_held(path: &Path) -> bool {
        File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// Opens a lock's file. Its content stays as it is.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Also for reading: some network file systems refuse a shared lock of a file that is opened for writing only.
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusive_and_shared_locks_exclude_each_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.lock");
        assert!(!Lock::is_held(&path));
        let shared = [Lock::try_shared(&path).expect("free"), Lock::try_shared(&path).expect("shared")];
        assert!(!Lock::is_held(&path), "shared only");
        assert!(matches!(Lock::try_exclusive(&path), Err(TryLockError::WouldBlock)));
        drop(shared);
        let exclusive = Lock::wait_exclusive(&path).expect("free");
        assert!(Lock::is_held(&path));
        assert!(matches!(Lock::try_shared(&path), Err(TryLockError::WouldBlock)));
        drop(exclusive);
        assert!(!Lock::is_held(&path));
    }

    #[test]
    fn the_content_of_the_file_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.jsonl");
        std::fs::write(&path, "one line\n").expect("written");
        drop(Lock::try_exclusive(&path).expect("free"));
        assert_eq!(std::fs::read(&path).expect("read"), b"one line\n");
    }

    #[test]
    fn a_folder_that_does_not_exist_is_an_error_of_the_system() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("none/run.lock");
        let error = Lock::try_exclusive(&missing).expect_err("no folder");
        assert!(matches!(error, TryLockError::Error(e) if e.kind() == io::ErrorKind::NotFound));
        assert!(Lock::wait_exclusive(&missing).is_err());
        assert!(!Lock::is_held(&missing));
    }
}
