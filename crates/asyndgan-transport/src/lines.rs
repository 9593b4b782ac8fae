use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use crate::Error;

/// The complete lines of a record file, one at a time. A last line without an end was being written when its process
/// was killed, and is left out.
pub(crate) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    bytes: u64,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Record { path: path.into(), source })?;
        Ok(Self { path: path.into(), file: BufReader::new(file), line: Vec::new(), bytes: 0 })
    }

    /// The next line, without its end.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, Error> {
        self.line.clear();
        let io = |source| Error::Record { path: self.path.clone(), source };
        let read = self.file.read_until(b'\n', &mut self.line).map_err(io)?;
        let line = self.line.strip_suffix(b"\n");
        if line.is_some() {
            self.bytes += read as u64;
        }
        Ok(line)
    }

    /// The length of the lines so far, with their ends.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
