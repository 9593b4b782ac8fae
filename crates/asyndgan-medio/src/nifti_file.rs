//! NIfTI-1 and NIfTI-2, as one file or as a pair of `.hdr` and `.img`.

mod header;
mod write;

use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
};

use header::Header;
use ndarray::Array3;

pub use self::write::{write_labels, write_volume};
use crate::{Error, Grid, Volume, files, gzip};

/// Reads where a volume's voxels lie, without the voxels.
pub(crate) fn read_grid(path: &Path) -> Result<Grid, Error> {
    let path = header_path(path);
    let (mut start, file) = (Vec::new(), std::fs::File::open(&path).map_err(Error::io(&path))?);
    // More than a header takes, compressed or not.
    file.take(1 << 16).read_to_end(&mut start).map_err(Error::io(&path))?;
    let Header { shape: [i, j, k], affine, .. } = Header::parse(&path, &gzip::beginning(&path, &start, header::BYTES_MAX)?)?;
    Ok(Grid { affine, shape: (k, j, i) })
}

/// The `.hdr` file that belongs to an `.img` file; any other path is returned unchanged.
pub(crate) fn header_path(path: &Path) -> PathBuf {
    sibling(path, [(".img", ".hdr"), (".img.gz", ".hdr.gz"), (".img.gz", ".hdr")])
}

/// The `.img` file that belongs to a `.hdr` file.
pub(crate) fn image_path(path: &Path) -> Option<PathBuf> {
    Some(sibling(path, [(".hdr", ".img"), (".hdr.gz", ".img.gz"), (".hdr", ".img.gz")])).filter(|found| found != path)
}

fn images_of_pair(path: &Path) -> Result<(PathBuf, Vec<u8>), Error> {
    let fact = "it is the header of a .hdr/.img pair, but the .img file is not in the same folder; put it there";
    let images = image_path(path).ok_or_else(|| Error::unsupported(path, fact))?;
    let bytes = files::read(&images)?;
    Ok((images, bytes))
}

/// The first file beside `path` whose name has another ending; `path` itself if there is none.
fn sibling<const N: usize>(path: &Path, endings: [(&str, &str); N]) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for (from, to) in endings {
        if let Some(stem) = name.len().checked_sub(from.len()).and_then(|end| name.split_at_checked(end))
            && stem.1.eq_ignore_ascii_case(from)
        {
            for to in [to.to_owned(), to.to_uppercase()] {
                let beside = path.with_file_name(OsString::from(format!("{}{to}", stem.0)));
                if beside.is_file() {
                    return beside;
                }
            }
        }
    }
    path.into()
}

/// Reads a volume; of a pair, `path` and `bytes` are of the header.
pub(crate) fn parse<T>(path: &Path, bytes: &[u8], value: impl Fn(f64) -> T) -> Result<Volume<T>, Error> {
    let header = Header::parse(path, &gzip::beginning(path, bytes, header::BYTES_MAX)?)?;
    let voxels = if header.is_pair {
        let (path, bytes) = images_of_pair(path)?;
        convert(&path, &header, &bytes, value)?
    } else {
        convert(path, &header, bytes, value)?
    };
    let [i, j, k] = header.shape;
    let voxels = Array3::from_shape_vec((k, j, i), voxels).expect("as many values as the header promises");
    Ok(Volume { voxels, affine: header.affine })
}

/// The voxels in a file, which may be compressed.
fn convert<T>(path: &Path, header: &Header, bytes: &[u8], value: impl Fn(f64) -> T) -> Result<Vec<T>, Error> {
    let inflated;
    let content = if gzip::is_gzip(bytes) {
        inflated = gzip::inflate(path, bytes, header.end())?;
        &inflated[..]
    } else {
        bytes
    };
    let raw = content.get(header.offset..header.end());
    let raw = raw.ok_or_else(|| Error::unreadable(path, format!("it ends early: its header declares {} bytes", header.end())))?;
    Ok(header.storage.convert(raw, value))
}
