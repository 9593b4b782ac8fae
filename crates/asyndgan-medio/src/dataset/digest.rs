use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::CaseFiles;
use crate::{Error, files, format::companions};

impl CaseFiles {
    /// The first half of a SHA-256 over `about` (the preparation settings), the files of some channels and of the
    /// case's labels: 32 hexadecimal digits that change if any input of the prepared case changes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn digest(&self, channels: &[usize], about: &str) -> Result<String, Error> {
        let mut hash = Sha256::new_with_prefix(about);
        let images = channels.iter().filter_map(|&channel| self.images.get(channel).or(self.images.first()));
        for path in images.chain(&self.labels) {
            if path.is_dir() {
                files::entries(path)?.iter().filter(|p| p.is_file()).try_for_each(|p| add(&mut hash, p))?;
            } else {
                add(&mut hash, path)?;
                companions(path)?.iter().try_for_each(|p| add(&mut hash, p))?;
            }
        }
        let digest = hash.finalize();
        let half: [u8; 16] = std::array::from_fn(|k| digest[k]);
        Ok(format!("{:032x}", u128::from_be_bytes(half)))
    }
}

fn add(hash: &mut Sha256, path: &Path) -> Result<(), Error> {
    let bytes = files::read(path)?;
    // The length keeps one file's end apart from the next one's beginning.
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
    Ok(())
}
