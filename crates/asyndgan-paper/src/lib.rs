//! The paper as data: experiments, arms, profiles, the steps of a run, its records, and the table they make.
//!
//! Knows nothing of files' content, networks or processes. The most important types are [`Run`], everything that decides a
//! run's result; [`Step`], one thing to do with the file that proves it done; and [`Table`], the record that is printed.
//!
//! ```
//! use asyndgan_paper::{Arm, Experiment};
//! assert_eq!(Experiment::Table2.arms(2), [Arm::RealAll, Arm::RealSubset(1), Arm::RealSubset(2), Arm::SynAll, Arm::AsynDgan]);
//! assert_eq!("RealSubset-2".parse(), Ok(Arm::RealSubset(2)));
//! ```
//!
//! **Invariant:** no number of a result is written here: tables are made of records alone.

mod experiment;
mod profile;
mod record;
mod render;
mod run;

pub use experiment::{Arm, Experiment, Profile, UnknownName};
pub use profile::{GanLoss, Settings, UnfitSetting};
pub use record::{
    ArmScores, CaseScores, Claim, Comparison, Data, DataKind, ImageQuality, KindTraffic, MetricSummary, PerSlice, Prepared, PreparedSite,
    Row, SiteTraffic, Table, TrainRecord, Verdict,
};
pub use render::{PER_SLICE, heading};
pub use run::{Run, SPENT, Step};
