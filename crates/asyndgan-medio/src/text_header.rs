//! Common parts of NRRD and MetaImage: a header of text lines, and voxels after it or in a separate file.

use std::path::{Component, Path, PathBuf};

use nalgebra::Vector3;

use crate::{
    Affine, Error, Grid, Volume, files,
    voxels::{Storage, VOXELS_MAX},
};

/// Headers beyond this are refused.
pub(crate) const HEADER_BYTES_MAX: usize = 1 << 20;

/// What a header declares, checked.
pub(crate) struct Declared {
    pub(crate) shape: [usize; 3],
    pub(crate) affine: Affine,
    pub(crate) storage: Storage,
}

impl Declared {
    /// Bytes of the voxels, not compressed.
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.storage.kind.bytes()
    }

    pub(crate) fn grid(&self) -> Grid {
        let [i, j, k] = self.shape;
        Grid { affine: self.affine, shape: (k, j, i) }
    }

    pub(crate) fn volume<T>(&self, path: &Path, raw: &[u8], value: impl Fn(f64) -> T) -> Result<Volume<T>, Error> {
        let (found, declared) = (raw.len(), self.bytes());
        if found < declared {
            return Err(Error::unreadable(path, format!("its voxels end early: {found} bytes, but its header declares {declared}")));
        }
        if found > declared {
            let fact = format!("its voxels have {found} bytes, but its header declares {declared}; correct the type or the sizes");
            return Err(Error::unsupported(path, fact));
        }
        let [i, j, k] = self.shape;
        let voxels = ndarray::Array3::from_shape_vec((k, j, i), self.storage.convert(raw, value)).expect("as many as the header promises");
        Ok(Volume { voxels, affine: self.affine })
    }
}

/// Sizes along i, j and k: of two or three axes, and no more than are read.
pub(crate) fn shape(path: &Path, sizes: &[u64]) -> Result<[usize; 3], Error> {
    let count = sizes.iter().try_fold(1_u64, |n, &d| n.checked_mul(d)).unwrap_or(u64::MAX);
    if sizes.len() < 2 || sizes.iter().skip(3).any(|&d| d > 1) {
        return Err(Error::unsupported(
            path,
            format!("it has shape {sizes:?}; only one image with two or three dimensions is supported, so split it"),
        ));
    }
    if count == 0 || count > VOXELS_MAX {
        return Err(Error::unsupported(
            path,
            format!("its header declares {sizes:?} voxels, but only 1 to {VOXELS_MAX} in total are supported, so crop it"),
        ));
    }
    Ok(std::array::from_fn(|axis| sizes.get(axis).map_or(1, |&d| d as usize)))
}

/// An affine from the steps along each axis and the first voxel's place, in a frame that counts to the left and to the
/// back as ITK's does; a third axis that is not given is at right angles, with a step of 1.
pub(crate) fn affine_of_lps(path: &Path, steps: &[[f64; 3]], origin: [f64; 3]) -> Result<Affine, Error> {
    let third = || {
        let normal = Vector3::from(steps[0]).cross(&Vector3::from(steps[1]));
        let length = normal.norm();
        <[f64; 3]>::from(normal / if length > 0.0 { length } else { 1.0 })
    };
    let columns = [steps[0], steps[1], steps.get(2).copied().unwrap_or_else(third), origin];
    let affine = Affine([0, 1, 2].map(|row| columns.map(|column| if row < 2 { -column[row] } else { column[row] })));
    if affine.is_usable() {
        Ok(affine)
    } else {
        Err(Error::unsupported(path, format!("its geometry is invalid: affine {:?}; correct its header", affine.0)))
    }
}

/// The file beside a header in which the voxels are; it must lie in the header's folder.
pub(crate) fn place_beside(path: &Path, name: &str) -> Result<PathBuf, Error> {
    let relative = Path::new(name);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::unsupported(path, format!("its voxels are in {name:?}, outside of its folder; put both into one folder")));
    }
    Ok(path.with_file_name("").join(relative))
}

/// That file's place and bytes.
pub(crate) fn beside(path: &Path, name: &str) -> Result<(PathBuf, Vec<u8>), Error> {
    let place = place_beside(path, name)?;
    let bytes = files::read(&place)?;
    Ok((place, bytes))
}

/// Numbers separated by white space.
pub(crate) fn numbers<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}
