use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use asyndgan_files::{Access, create_private_folder, write, write_with};
use asyndgan_protocol::{Dtype, Payload, SiteId, SiteSummary};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::Error;

/// The masks of all sites. They are sent once per run, even if the server is restarted. Each site has its own file,
/// which is memory-mapped, so that only the masks in use are read.
#[derive(Debug)]
pub(crate) struct Conditions {
    folder: PathBuf,
    sites: BTreeMap<SiteId, (SiteSummary, Tensor)>,
}

/// Description of a site's file.
#[derive(Serialize, Deserialize)]
struct Header {
    summary: SiteSummary,
    dims: Vec<u32>,
}

impl Conditions {
    /// Opens the folder. Damaged files are ignored, because the site can send its masks again.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read for other reasons.
    pub(crate) fn open(folder: &Path, sites: u32) -> Result<Self, Error> {
        create_private_folder(folder).map_err(|source| Error::Io { path: folder.into(), source })?;
        let mut conditions = Self { folder: folder.into(), sites: BTreeMap::new() };
        for site in (0..sites).map(SiteId) {
            let path = conditions.header_path(site);
            let text = match fs::read(&path) {
                Ok(text) => text,
                Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::Io { path, source }),
            };
            let Ok(header) = serde_json::from_slice::<Header>(&text) else { continue };
            if conditions.is_sound(site, &header)? {
                let codes = conditions.mapped(site, &header.dims)?;
                conditions.sites.insert(site, (header.summary, codes));
            }
        }
        Ok(conditions)
    }

    /// Decompresses a site's masks into their file. If they are invalid, returns the reason and keeps nothing.
    pub(crate) fn store_conditions(&mut self, site: SiteId, summary: &SiteSummary, payload: &Payload) -> Result<Option<String>, Error> {
        let path = self.path(site);
        // An earlier file must not be taken for these masks.
        remove_if_there(&self.header_path(site))?;
        let mut fault = None;
        let written = write_with(&path, Access::Private, |file| {
            match payload.decompress_into(file) {
                Ok(Some(found)) if found == summary.conditions_sha256 => return Ok(()),
                Ok(Some(_)) => fault = Some("masks that do not match its summary".to_owned()),
                Ok(None) => fault = Some("masks of a different size than its summary states".to_owned()),
                // The disk's fault has a number; the decoder's has none.
                Err(error) if error.raw_os_error().is_none() => fault = Some(format!("masks that cannot be decompressed: {error}")),
                Err(error) => return Err(error),
            }
            Err(io::Error::other("refused"))
        });
        match (written, fault) {
            (_, Some(fault)) => return Ok(Some(fault)),
            (Err(source), None) => return Err(Error::Io { path, source }),
            (Ok(()), None) => {}
        }
        let header = Header { summary: summary.clone(), dims: payload.dims.clone() };
        let header_path = self.header_path(site);
        let text = serde_json::to_vec(&header).expect("plain data");
        write(&header_path, Access::Private, &text).map_err(|source| Error::Io { path: header_path, source })?;
        let codes = self.mapped(site, &header.dims)?;
        self.sites.insert(site, (header.summary, codes));
        Ok(None)
    }

    /// Deletes a site's masks.
    pub(crate) fn remove(&mut self, site: SiteId) -> Result<(), Error> {
        self.sites.remove(&site);
        remove_if_there(&self.header_path(site))?;
        remove_if_there(&self.path(site))
    }

    /// Whether a site's file is the one that its header describes. The file is read in chunks.
    fn is_sound(&self, site: SiteId, header: &Header) -> Result<bool, Error> {
        let path = self.path(site);
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let found = Payload::digest_of(&header.dims, Dtype::U8, &mut file).map_err(|source| Error::Io { path, source })?;
        Ok(found == Some(header.summary.conditions_sha256))
    }

    /// A site's file as a tensor, `[cases, 1, rows, columns]`.
    fn mapped(&self, site: SiteId, dims: &[u32]) -> Result<Tensor, Error> {
        let path = self.path(site);
        let mut dims: Vec<i64> = dims.iter().map(|&d| d.into()).collect();
        let name = path
            .to_str()
            .ok_or_else(|| Error::Io { path: path.clone(), source: io::Error::other("its name is not UTF-8; choose another folder") })?;
        let bytes = Tensor::f_from_file(name, false, dims.iter().product::<i64>(), (Kind::Uint8, Device::Cpu))?;
        dims.insert(1, 1);
        Ok(bytes.view(&dims[..]))
    }

    pub(crate) fn stored_conditions(&self) -> Vec<(SiteId, SiteSummary)> {
        self.sites.iter().map(|(&site, (summary, _))| (site, summary.clone())).collect()
    }

    /// A site's label maps, `[cases, 1, rows, columns]`.
    pub(crate) fn label_maps(&self, site: SiteId) -> Result<&Tensor, Error> {
        self.sites.get(&site).map(|s| &s.1).ok_or(Error::NotBegun)
    }

    /// Every site's label maps, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (SiteId, &Tensor)> {
        self.sites.iter().map(|(&site, (_, codes))| (site, codes))
    }

    fn path(&self, site: SiteId) -> PathBuf {
        self.folder.join(format!("conditions-{}.u8", site.0 + 1))
    }

    fn header_path(&self, site: SiteId) -> PathBuf {
        self.folder.join(format!("conditions-{}.json", site.0 + 1))
    }
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io { path: path.into(), source }),
        _ => Ok(()),
    }
}
