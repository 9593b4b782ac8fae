use std::{fmt, str::FromStr, sync::LazyLock};

use asyndgan_task::{SiteLists, Task};
use serde::{Deserialize, Serialize};

/// An experiment: one of the paper, or the table of a task of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Experiment {
    /// Figure 5: three Gaussians, one per site.
    Fig5,
    /// Table 1: brain tumours in T2 slices, ten sites.
    Table1,
    /// Table 2: nuclei, four sites by organ.
    Table2,
    /// The table of a task that is not in the paper.
    Custom,
}

/// The two tasks of the paper.
static BRAIN_TUMOUR: LazyLock<Task> = LazyLock::new(|| parsed(include_str!("../tasks/brain-tumour.toml")));
static NUCLEI: LazyLock<Task> = LazyLock::new(|| parsed(include_str!("../tasks/nuclei.toml")));

fn parsed(text: &str) -> Task {
    Task::parse(text).expect("a test reads the tasks of the paper")
}

/// The size of the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Runs every step once with tiny settings: shows that everything works, nothing more.
    Smoke,
    /// For a desktop computer.
    Desk,
    /// The published settings; intended for a GPU.
    Paper,
}

/// A row of the comparison: the data that the segmenter is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arm {
    /// All sites' real images together, which no hospital could have.
    RealAll,
    /// Real images of one site; sites count from 1.
    RealSubset(u32),
    /// Synthetic images of one regular GAN on all data.
    SynAll,
    /// Synthetic images of one regular GAN on the data of one site; sites count from 1.
    SynSubset(u32),
    /// Synthetic images of the generator that learnt from all sites' discriminators.
    AsynDgan,
    /// Real images of one site together with the synthetic images of [`Arm::AsynDgan`], as a hospital would use them;
    /// sites count from 1.
    OwnPlusSyn(u32),
    /// Real images of every site, by federated averaging of the segmenter: no image leaves a site, its weights do.
    FedAvg,
    /// Synthetic images of the averaged generator of GANs that every site trains, see
    /// [`Experiment::further_arms`].
    FedGan,
    /// As [`Arm::AsynDgan`], with discriminators that move from site to site, see [`Experiment::further_arms`].
    MdGan,
    /// As [`Arm::AsynDgan`], with sites that all have the same conditions but different data for them; the generator
    /// then does not learn the mixture.
    AsynDganOverlap,
}

/// An unknown name of an arm, experiment, profile or choice of masks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    name: String,
    known: &'static str,
}

impl UnknownName {
    /// A name, and those that are known.
    pub(crate) fn new(name: impl Into<String>, known: &'static str) -> Self {
        Self { name: name.into(), known }
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown name {}; use one of {}", self.name, self.known)
    }
}

impl std::error::Error for UnknownName {}

impl Experiment {
    /// The experiment's name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Experiment::Fig5 => "fig5",
            Experiment::Table1 => "table1",
            Experiment::Table2 => "table2",
            Experiment::Custom => "table",
        }
    }

    /// The task of an experiment of the paper; `None` for the toy, and for a task of one's own.
    ///
    /// # Panics
    /// Never: the tasks are part of the program.
    pub fn task(self) -> Option<&'static Task> {
        match self {
            Experiment::Table1 => Some(&BRAIN_TUMOUR),
            Experiment::Table2 => Some(&NUCLEI),
            Experiment::Fig5 | Experiment::Custom => None,
        }
    }

    /// The published lists of an experiment's data set: the authors' lists for `BraTS` 2018, and those for the 30 tiles
    /// of Kumar et al.; `None` if there are none.
    ///
    /// # Panics
    /// Never: the lists are part of the program.
    pub fn lists(self) -> Option<SiteLists> {
        let text = match self {
            Experiment::Table1 => include_str!("../lists/brats2018-split.toml"),
            Experiment::Table2 => include_str!("../lists/monuseg-split.toml"),
            Experiment::Fig5 | Experiment::Custom => return None,
        };
        Some(SiteLists::parse(text).expect("a test reads the published lists"))
    }

    /// The arms of the experiment for the given number of sites, in table order.
    pub fn arms(self, sites: u32) -> Vec<Arm> {
        let subsets = 1..=sites;
        match self {
            Experiment::Fig5 => {
                std::iter::once(Arm::SynAll).chain(subsets.map(Arm::SynSubset)).chain([Arm::AsynDgan, Arm::AsynDganOverlap]).collect()
            }
            _ => std::iter::once(Arm::RealAll)
                .chain(subsets.map(Arm::RealSubset))
                .chain([Arm::SynAll, Arm::AsynDgan])
                .chain((1..=sites).map(Arm::OwnPlusSyn))
                .chain([Arm::FedAvg])
                .collect(),
        }
    }

    /// Arms that are computed on request only, because each trains another GAN: the other distributed GANs that
    /// `AsynDGAN` is compared with.
    pub fn further_arms(self) -> &'static [Arm] {
        if self == Experiment::Fig5 { &[] } else { &[Arm::FedGan, Arm::MdGan] }
    }
}

impl Profile {
    /// The profile's name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Smoke => "smoke",
            Profile::Desk => "desk",
            Profile::Paper => "paper",
        }
    }
}

impl Arm {
    /// Whether a generator is trained for it.
    pub fn is_synthetic(self) -> bool {
        !matches!(self, Arm::RealAll | Arm::RealSubset(_) | Arm::OwnPlusSyn(_) | Arm::FedAvg)
    }

    /// Whether it learns from all sites without collecting their images in one place.
    pub fn is_distributed(self) -> bool {
        matches!(self, Arm::AsynDgan | Arm::AsynDganOverlap | Arm::FedAvg | Arm::FedGan | Arm::MdGan)
    }

    /// Whether the paper's tables and figures have it.
    pub fn is_of_paper(self) -> bool {
        !matches!(self, Arm::OwnPlusSyn(_) | Arm::FedAvg | Arm::FedGan | Arm::MdGan)
    }

    /// The arm whose synthetic images it uses besides its own images.
    pub fn uses(self) -> Option<Arm> {
        matches!(self, Arm::OwnPlusSyn(_)).then_some(Arm::AsynDgan)
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arm::RealAll => f.pad("RealAll"),
            Arm::RealSubset(n) => f.pad(&format!("RealSubset-{n}")),
            Arm::SynAll => f.pad("SynAll"),
            Arm::SynSubset(n) => f.pad(&format!("SynSubset-{n}")),
            Arm::AsynDgan => f.pad("AsynDgan"),
            Arm::OwnPlusSyn(n) => f.pad(&format!("OwnPlusSyn-{n}")),
            Arm::FedAvg => f.pad("FedAvg"),
            Arm::FedGan => f.pad("FedGan"),
            Arm::MdGan => f.pad("MdGan"),
            Arm::AsynDganOverlap => f.pad("AsynDgan-Overlap"),
        }
    }
}

impl FromStr for Arm {
    type Err = UnknownName;

    fn from_str(s: &str) -> Result<Self, UnknownName> {
        const KNOWN: &str = "RealAll, RealSubset-N, SynAll, SynSubset-N, AsynDgan, OwnPlusSyn-N, FedAvg, FedGan, MdGan, AsynDgan-Overlap";
        let unknown = || UnknownName::new(s, KNOWN);
        let number = |n: &str| n.parse().map_err(|_| unknown());
        match s.split_once('-') {
            None if s == "RealAll" => Ok(Arm::RealAll),
            None if s == "SynAll" => Ok(Arm::SynAll),
            None if s == "AsynDgan" => Ok(Arm::AsynDgan),
            None if s == "FedAvg" => Ok(Arm::FedAvg),
            None if s == "FedGan" => Ok(Arm::FedGan),
            None if s == "MdGan" => Ok(Arm::MdGan),
            Some(("RealSubset", n)) => Ok(Arm::RealSubset(number(n)?)),
            Some(("AsynDgan", "Overlap")) => Ok(Arm::AsynDganOverlap),
            Some(("OwnPlusSyn", n)) => Ok(Arm::OwnPlusSyn(number(n)?)),
            Some(("SynSubset", n)) => Ok(Arm::SynSubset(number(n)?)),
            _ => Err(unknown()),
        }
    }
}

impl FromStr for Experiment {
    type Err = UnknownName;

    fn from_str(s: &str) -> Result<Self, UnknownName> {
        let all = [Self::Fig5, Self::Table1, Self::Table2];
        all.into_iter().find(|e| e.name() == s).ok_or_else(|| UnknownName::new(s, "fig5, table1, table2"))
    }
}

impl FromStr for Profile {
    type Err = UnknownName;

    fn from_str(s: &str) -> Result<Self, UnknownName> {
        let all = [Self::Smoke, Self::Desk, Self::Paper];
        all.into_iter().find(|p| p.name() == s).ok_or_else(|| UnknownName::new(s, "smoke, desk, paper"))
    }
}

impl Serialize for Arm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Arm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tasks_of_the_paper_are_consistent() {
        let [brain, nuclei] = [Experiment::Table1, Experiment::Table2].map(|e| e.task().expect("a task"));
        assert_eq!((brain.condition_classes(), brain.targets().len(), brain.columns().len()), (4, 1, 4));
        assert_eq!((nuclei.condition_classes(), nuclei.columns().len()), (1, 2));
        assert!(nuclei.is_stained());
    }
}
