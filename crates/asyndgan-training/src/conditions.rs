use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use asyndgan_models::{read_tensors, write_tensors};
use asyndgan_protocol::{Payload, SiteId, SiteSummary};
use tch::{Device, Tensor};

use crate::{
    Error,
    tensors::{payload_of, tensor_of},
};

/// The masks that sites handed out, each site's in a file: they travel once a run, whatever happens to the server.
#[derive(Debug)]
pub(crate) struct Conditions {
    folder: PathBuf,
    device: Device,
    sites: BTreeMap<SiteId, (SiteSummary, Tensor)>,
}

impl Conditions {
    /// Opens the folder; a damaged file is as good as none, for its site can send its masks again.
    pub(crate) fn open(folder: &Path, sites: u32, device: Device) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|cause| Error::Io { path: folder.into(), cause })?;
        let mut conditions = Self { folder: folder.into(), device, sites: BTreeMap::new() };
        for site in (0..sites).map(SiteId) {
            let Ok(tensors) = read_tensors(&conditions.path(site)) else { continue };
            let (Some(codes), Some(dims)) = (tensors.get("codes"), tensors.get("image_dims")) else { continue };
            let mut image_dims = vec![0_i64; dims.numel()];
            dims.copy_data(&mut image_dims, dims.numel());
            let summary = SiteSummary {
                cases: codes.size()[0] as u32,
                image_dims: image_dims.into_iter().map(|d| d as u32).collect(),
                conditions_sha256: payload_of(codes).sha256(),
            };
            conditions.sites.insert(site, (summary, codes.unsqueeze(1).to_device(device)));
        }
        Ok(conditions)
    }

    pub(crate) fn keep(&mut self, site: SiteId, summary: &SiteSummary, payload: &Payload) -> Result<(), Error> {
        let codes = tensor_of(payload, Device::Cpu)?;
        let image_dims: Vec<i64> = summary.image_dims.iter().map(|&d| d.into()).collect();
        let tensors = [("codes".to_owned(), codes.shallow_clone()), ("image_dims".to_owned(), Tensor::from_slice(&image_dims))];
        write_tensors(&self.path(site), &tensors.into())?;
        self.sites.insert(site, (summary.clone(), codes.unsqueeze(1).to_device(self.device)));
        Ok(())
    }

    pub(crate) fn known(&self) -> Vec<(SiteId, SiteSummary)> {
        self.sites.iter().map(|(&site, (summary, _))| (site, summary.clone())).collect()
    }

    /// A site's codes, `[cases, 1, rows, columns]`.
    pub(crate) fn of(&self, site: SiteId) -> Result<&Tensor, Error> {
        self.sites.get(&site).map(|s| &s.1).ok_or(Error::NotBegun)
    }

    /// Every site's codes, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (SiteId, &Tensor)> {
        self.sites.iter().map(|(&site, (_, codes))| (site, codes))
    }

    fn path(&self, site: SiteId) -> PathBuf {
        self.folder.join(format!("conditions-{}.safetensors", site.0 + 1))
    }
}
