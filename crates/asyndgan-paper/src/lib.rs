//! The paper as data: experiments with their tasks, arms, profiles, the steps of a run, its records, and the resulting table.
//!
//! Independent of data files, networks and processes. The main types are [`Run`], everything that determines the result of a
//! run; [`Step`], a unit of work with the file that marks it as done; and [`Table`], the record that is printed.
//!
//! ```
//! use asyndgan_paper::{Arm, Experiment};
//! assert_eq!(Experiment::Table2.arms(2), [Arm::RealAll, Arm::RealSubset(1), Arm::RealSubset(2), Arm::SynAll, Arm::AsynDgan]);
//! assert_eq!("RealSubset-2".parse(), Ok(Arm::RealSubset(2)));
//! ```
//!
//! **Invariant:** no result is hard-coded here: tables are built from records only.

mod experiment;
mod profile;
mod published;
mod record;
mod render;
mod run;

pub use experiment::{Arm, Experiment, Profile, UnknownName};
pub use profile::{GanLoss, Settings, UnfitSetting};
pub use published::{Published, results_table};
pub use record::{
    ArmScores, CaseScores, Claim, Comparison, Data, DataKind, ImageQuality, KindTraffic, MetricSummary, PerSlice, Prepared, PreparedSite,
    Row, SiteTraffic, Table, TrainRecord, Verdict,
};
pub use render::PER_SLICE;
pub use run::{Run, SPENT, STEP_ENVIRONMENT, Step, TableColumn};
