#![doc = include_str!("../README.md")]

mod lock;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};

pub use lock::Lock;

/// Who can read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only the owner: patients' images, masks, discriminators, keys, journals, ledgers.
    Private,
    /// Everyone whom the umask allows: tables, plots, synthetic images.
    Shared,
}

/// Writes a file atomically.
///
/// # Errors
/// The operating system's error. An existing file stays unchanged.
pub fn write(path: &Path, access: Access, bytes: &[u8]) -> io::Result<()> {
    write_with(path, access, |file| file.write_all(bytes))
}

/// Like [`write()`], for content that `fill` produces.
///
/// # Errors
/// The operating system's error, or that of `fill`. An existing file stays unchanged.
pub fn write_with(path: &Path, access: Access, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let partial = partial(path);
    let written = create(&partial, access).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()
    });
    publish(&partial, path, written)
}

/// Like [`write()`], for libraries that need a path. `fill` writes to the path that it receives, which has the
/// extension of `path`. `io` converts an operating system error to the caller's error type.
///
/// # Errors
/// As [`write_with`].
pub fn write_at_path<E>(
    path: &Path,
    access: Access,
    io: impl Fn(io::Error) -> E,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".partial-{name}"));
    let filled = create(&partial, access).map_err(&io).and_then(|_| fill(&partial));
    if let Err(error) = filled {
        remove(&partial);
        return Err(error);
    }
    let written = File::open(&partial).and_then(|file| file.sync_all());
    publish(&partial, path, written).map_err(io)
}

/// Creates a folder that only its owner can enter, and its parent folders. An existing folder becomes private.
///
/// # Errors
/// The system's error.
pub fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(folder)?;
    #[cfg(unix)]
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// Opens a private file for reading and appending, and creates it if it does not exist.
///
/// # Errors
/// The system's error.
pub fn append_private(path: &Path) -> io::Result<File> {
    private(path, OpenOptions::new().append(true))
}

/// Opens a private file of lines for reading and appending, as [`append_private`]. A last line without its end, which
/// was being written when the machine failed, is removed.
///
/// # Errors
/// The system's error.
pub fn append_private_lines(path: &Path) -> io::Result<File> {
    let mut file = append_private(path)?;
    let mut end = file.metadata()?.len();
    let mut byte = [0];
    let mut at = end;
    while at > 0 {
        file.seek(SeekFrom::Start(at - 1))?;
        file.read_exact(&mut byte)?;
        if byte == *b"\n" {
            break;
        }
        at -= 1;
    }
    if at < end {
        end = at;
        file.set_len(end)?;
    }
    file.seek(SeekFrom::Start(end))?;
    Ok(file)
}

/// Opens a private file for reading and writing at any position, and creates it if it does not exist.
///
/// # Errors
/// The system's error.
pub fn open_private(path: &Path) -> io::Result<File> {
    private(path, OpenOptions::new().write(true))
}

fn private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.create(true).read(true);
    #[cfg(unix)]
    options.mode(0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Whether only the owner can access a file. On systems other than Unix, permissions are not checked.
///
/// # Errors
/// The system's error.
pub fn is_private(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    #[cfg(unix)]
    let of_others = metadata.permissions().mode() & 0o077;
    #[cfg(unix)]
    return Ok(of_others == 0);
    #[cfg(not(unix))]
    return Ok(metadata.is_file());
}

fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

fn create(partial: &Path, access: Access) -> io::Result<File> {
    // One that a killed process left may have another mode.
    remove(partial);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(if access == Access::Private { 0o600 } else { 0o666 });
    options.open(partial)
}

/// Renames a file durably; an existing file of the new name is replaced.
///
/// # Errors
/// The operating system's error, for example across file systems.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to)?;
    sync_folder(from)
}

fn publish(partial: &Path, path: &Path, written: io::Result<()>) -> io::Result<()> {
    let done = written.and_then(|()| fs::rename(partial, path)).and_then(|()| sync_folder(path));
    if done.is_err() {
        remove(partial);
    }
    done
}

/// Flushes the folder of a file to disk. Without this, a power failure can undo the creation or the renaming of the
/// file.
///
/// # Errors
/// The operating system's error.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// A partial file is of no use; the error that matters is the one before.
fn remove(partial: &Path) {
    fs::remove_file(partial).ok();
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn private_files_are_private_also_where_open_ones_lay() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("a/b");
        fs::create_dir_all(&inside).expect("created");
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o755)).expect("set");
        create_private_folder(&inside).expect("created");
        assert_eq!(mode(&inside), 0o700);
        let path = inside.join("file");
        for name in [path.clone(), partial(&path)] {
            fs::write(&name, "open to all").expect("written");
            fs::set_permissions(&name, fs::Permissions::from_mode(0o644)).expect("set");
        }
        assert!(!is_private(&path).expect("there"));
        write(&path, Access::Private, b"secret").expect("written");
        assert_eq!((mode(&path), is_private(&path).expect("there")), (0o600, true));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        append_private(&path).expect("opened").write_all(b", more").expect("written");
        assert_eq!((mode(&path), fs::read(&path).expect("read")), (0o600, b"secret, more".to_vec()));
        write_at_path(&path, Access::Private, |e| e, |p| fs::write(p, "third")).expect("written");
        assert_eq!((mode(&path), fs::read(&path).expect("read")), (0o600, b"third".to_vec()));
    }

    #[test]
    fn a_failure_leaves_the_earlier_file_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        write(&path, Access::Shared, b"first").expect("written");
        let failed = write_with(&path, Access::Shared, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("full"))
        });
        assert!(failed.is_err());
        assert!(write_at_path(&path, Access::Shared, |e| e, |_| Err(io::Error::other("full"))).is_err());
        assert_eq!(fs::read(&path).expect("read"), b"first");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
