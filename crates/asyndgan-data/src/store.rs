//! Prepared cases on disk: safetensors files that are read one case at a time.

mod stored;
mod write;

use std::path::{Path, PathBuf};

use asyndgan_task::ImageDescription;
use safetensors::Dtype;

use self::stored::{Name, Stored, listed};
pub use self::write::{CaseOrigin, write_cases, write_test_case};
use crate::{Case, Error, TestCase};

/// The notes in a file's header with the channels and classes that its cases do not have.
const ABSENT_CHANNELS: &str = "absent_channels";
const ABSENT_CLASSES: &str = "absent_classes";
/// The note with the rows and columns of slices before they were cropped.
const SIZE: &str = "size";

/// Cases of the same shape in one or more files, in the order of the file names. Cases are read into memory on demand.
#[derive(Debug)]
pub struct CaseSet {
    images: Option<ImageDescription>,
    files: Vec<Stored>,
    /// For each case: its file and its number there.
    cases: Vec<(usize, usize)>,
}

impl CaseSet {
    /// Opens files written by [`write_cases`], or folders of such files.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Unreadable`] if a file is not such a set, or [`Error::Unsupported`] if images differ in
    /// shape from those of the first file.
    pub fn open(places: &[PathBuf]) -> Result<Self, Error> {
        let (mut opened, mut cases, mut described) = (Vec::<Stored>::new(), Vec::new(), None::<ImageDescription>);
        for path in listed(places)? {
            let stored = Stored::open(&path)?;
            let (images, conditions) = (stored.shape("images", Dtype::F32, 4)?, stored.shape("conditions", Dtype::U8, 3)?);
            let grid = [images[0], images[2], images[3]];
            if images[0] != stored.names.len() || conditions != grid {
                return Err(Error::unreadable(&path, "its images, conditions and names differ in number or shape"));
            }
            if let Some(first) = opened.first() {
                let expected = first.shape("images", Dtype::F32, 4)?;
                if images[1..] != expected[1..] {
                    let (found, expected, first) = (&images[1..], &expected[1..], first.path.display());
                    let fact = format!("its images are {found:?}, but those of {first} are {expected:?}; all must have the same size");
                    return Err(Error::unsupported(&path, fact));
                }
            }
            if let Some(first) = opened.first()
                && first.size != stored.size
            {
                let of = |size: Option<usize>| size.map_or("whole".to_owned(), |size| format!("crops of {size} x {size}"));
                let fact = format!("its images are {}, but those of {} are {}", of(stored.size), first.path.display(), of(first.size));
                return Err(Error::unsupported(&path, fact));
            }
            if let Some(channel) = stored.absent_channels.iter().find(|&&channel| channel >= images[1]) {
                return Err(Error::unreadable(&path, format!("it lacks channel {channel}, but its images have {}", images[1])));
            }
            if let Some(own) = stored.description()? {
                match described.as_ref().and_then(|first| first.mismatch(&own)) {
                    Some(mismatch) => return Err(Error::unsupported(&path, format!("it was prepared for other images; {mismatch}"))),
                    None => described = described.or(Some(own)),
                }
            }
            cases.extend((0..stored.names.len()).map(|n| (opened.len(), n)));
            opened.push(stored);
        }
        Ok(Self { images: described, files: opened, cases })
    }

    /// The task and scale of the images, if their files name them.
    pub fn images(&self) -> Option<&ImageDescription> {
        self.images.as_ref()
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Channels, rows and columns of every image; none if the set is empty.
    pub fn image_shape(&self) -> Option<[usize; 3]> {
        let shape = self.files.first()?.shape("images", Dtype::F32, 4).ok()?;
        Some([shape[1], shape[2], shape[3]])
    }

    /// A case's name.
    ///
    /// # Panics
    /// If there is no such case.
    pub fn id(&self, case: usize) -> &str {
        &self.name(case).id
    }

    /// Rows and columns that slices were resized to, if the images are crops of them.
    pub fn size(&self) -> Option<usize> {
        self.files.first().and_then(|file| file.size)
    }

    /// The patient of a case; none if its file does not specify one, as for synthetic cases.
    ///
    /// # Panics
    /// If there is no such case.
    pub fn patient(&self, case: usize) -> Option<&str> {
        self.name(case).patient.as_deref()
    }

    /// Indices of the channels that a case does not have; they are 0.
    ///
    /// # Panics
    /// If there is no such case.
    pub fn absent_channels(&self, case: usize) -> &[usize] {
        &self.files[self.cases[case].0].absent_channels
    }

    /// Indices of the classes that the site of a case does not mark; where known, they may be at pixels of the code
    /// [`UNMARKED`](asyndgan_task::UNMARKED).
    ///
    /// # Panics
    /// If there is no such case.
    pub fn absent_classes(&self, case: usize) -> &[usize] {
        &self.files[self.cases[case].0].absent_classes
    }

    /// Indices of the channels that no case has.
    pub fn channels_absent_everywhere(&self) -> Vec<usize> {
        let channels = self.image_shape().map_or(0, |shape| shape[0]);
        (0..channels).filter(|channel| self.files.iter().all(|file| file.absent_channels.contains(channel))).collect()
    }

    fn name(&self, case: usize) -> &Name {
        let (file, number) = self.cases[case];
        &self.files[file].names[number]
    }

    /// Reads one case.
    ///
    /// # Panics
    /// If there is no such case.
    ///
    /// # Errors
    /// [`Error::Io`] if the file can no longer be read.
    pub fn read(&self, case: usize) -> Result<Case, Error> {
        let (file, number) = self.cases[case];
        let image = self.files[file].part("images", number, 4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))?;
        Ok(Case { id: self.id(case).into(), image, condition: self.condition(case)? })
    }

    /// Reads only the condition of one case.
    ///
    /// # Panics
    /// If there is no such case.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn condition(&self, case: usize) -> Result<ndarray::Array2<u8>, Error> {
        let (file, number) = self.cases[case];
        self.files[file].part("conditions", number, 1, |b| b[0])
    }
}

/// Held-out cases, one per file, in the order of the file names. Cases are read into memory on demand.
#[derive(Debug, Clone)]
pub struct TestSet(Vec<PathBuf>);

impl TestSet {
    /// Lists a folder's cases.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self(listed(&[folder.into()])?))
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads one case.
    ///
    /// # Panics
    /// If there is no such case.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Unreadable`].
    pub fn read(&self, case: usize) -> Result<TestCase, Error> {
        let stored = Stored::open(&self.0[case])?;
        let id = stored.names.first().map(|name| name.id.clone()).ok_or_else(|| Error::unreadable(&self.0[case], "it lists no case"))?;
        let whole = |b: &[u8]| [b[0], b[1], b[2], b[3]];
        stored.shape("images", Dtype::F32, 5)?;
        stored.shape("truth", Dtype::U32, 4)?;
        let images = stored.part("images", 0, 4, |b| f32::from_le_bytes(whole(b)))?;
        let truth = stored.part("truth", 0, 4, |b| u32::from_le_bytes(whole(b)))?;
        stored.shape("spacing_mm", Dtype::F64, 2)?;
        let spacing: ndarray::Array1<f64> = stored.part("spacing_mm", 0, 8, |b| f64::from_le_bytes(std::array::from_fn(|k| b[k])))?;
        let spacing_mm = spacing.to_vec().try_into().map_err(|_| Error::unreadable(&self.0[case], "its spacing must have three values"))?;
        let content = stored.content(images.dim())?;
        Ok(TestCase { id, images, content, truth, spacing_mm })
    }
}
