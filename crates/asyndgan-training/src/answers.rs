use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use asyndgan_files::open_private;
use asyndgan_protocol::FEEDBACK_ROUNDS_KEPT;

use crate::Error;

/// The answers of the sites in every round, one row of 32-bit floats per round, in a file. Only the last rows are in
/// memory, so that neither memory nor checkpoints grow with the number of rounds.
#[derive(Debug)]
pub(crate) struct Answers {
    path: PathBuf,
    file: File,
    /// Values of a row.
    width: usize,
    rounds: u64,
    last: VecDeque<Vec<f32>>,
}

impl Answers {
    pub(crate) fn open(path: &Path, width: usize) -> Result<Self, Error> {
        let file = open_private(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Ok(Self { path: path.into(), file, width, rounds: 0, last: VecDeque::new() })
    }

    fn io(&self) -> impl Fn(io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Io { path: path.clone(), source }
    }

    fn row_bytes(&self) -> u64 {
        self.width as u64 * 4
    }

    /// Continues after `rounds` rounds, of which `last` are the last. Rows of later rounds are overwritten.
    pub(crate) fn resume(&mut self, rounds: u64, last: Vec<Vec<f32>>) -> Result<(), Error> {
        let found = self.file.metadata().map_err(self.io())?.len() / self.row_bytes();
        if found < rounds {
            let fact = format!("it has {found} of {rounds} rounds: restore it, or delete the folder's checkpoints to start again");
            return Err(self.io()(io::Error::new(io::ErrorKind::UnexpectedEof, fact)));
        }
        self.rounds = rounds - last.len() as u64;
        self.last.clear();
        last.into_iter().try_for_each(|row| self.push(row))
    }

    /// Adds the row of a round.
    pub(crate) fn push(&mut self, row: Vec<f32>) -> Result<(), Error> {
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        let at = SeekFrom::Start(self.rounds * self.row_bytes());
        self.file.seek(at).and_then(|_| self.file.write_all(&bytes)).map_err(self.io())?;
        self.rounds += 1;
        self.last.push_back(row);
        if self.last.len() > FEEDBACK_ROUNDS_KEPT {
            self.last.pop_front();
        }
        Ok(())
    }

    /// Flushes the rows to disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(self.io())
    }

    /// The rows of the last rounds, at most [`FEEDBACK_ROUNDS_KEPT`].
    pub(crate) fn last(&self) -> &VecDeque<Vec<f32>> {
        &self.last
    }

    /// All rows, read from the file.
    pub(crate) fn all(&self) -> Result<impl Iterator<Item = Result<Vec<f32>, Error>> + use<>, Error> {
        let io = self.io();
        let mut file = BufReader::new(File::open(&self.path).map_err(&io)?);
        let mut bytes = vec![0; self.width * 4];
        Ok((0..self.rounds).map(move |_| {
            file.read_exact(&mut bytes).map_err(&io)?;
            Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(round: u64) -> Vec<f32> {
        vec![round as f32, f32::NAN]
    }

    fn first_values(answers: &Answers) -> Vec<f32> {
        answers.all().expect("a file").map(|row| row.expect("a row")[0]).collect()
    }

    #[test]
    fn rows_survive_and_those_after_a_checkpoint_are_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("answers.f32");
        let mut answers = Answers::open(&path, 2).expect("opened");
        (0..200).for_each(|round| answers.push(row(round)).expect("written"));
        assert_eq!((answers.last().len(), answers.last()[0][0]), (FEEDBACK_ROUNDS_KEPT, 136.0));
        let mut resumed = Answers::open(&path, 2).expect("opened");
        resumed.resume(150, (86..150).map(row).collect()).expect("resumed");
        resumed.push(row(1_000)).expect("written");
        let expected: Vec<f32> = (0..150).map(|round| round as f32).chain([1_000.0]).collect();
        assert_eq!(first_values(&resumed), expected);
    }

    #[test]
    fn a_file_that_lacks_rounds_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut answers = Answers::open(&folder.path().join("answers.f32"), 2).expect("opened");
        (0..100).for_each(|round| answers.push(row(round)).expect("written"));
        let error = answers.resume(150, (86..150).map(row).collect()).expect_err("rounds are missing");
        assert!(std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("it has 100 of 150 rounds")), "{error}");
    }
}
