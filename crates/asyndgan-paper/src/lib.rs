#![doc = include_str!("../README.md")]

mod audit;
mod experiment;
mod published;
mod record;
mod render;
mod run;
mod settings;
mod trade_off;

pub use audit::{AttributeRecord, AuditRecord, CopiesRecord, MembershipRecord, ReconstructionRecord};
pub use experiment::{Arm, Experiment, Profile, UnknownName};
pub use published::{Published, results_summary, results_table};
pub use record::{
    ArmScores, CaseScores, Claim, Comparison, Data, DataKind, GroupTable, ImageQuality, KindTraffic, MetricSummary, PerSlice, Prepared,
    PreparedSite, Row, SiteTraffic, Table, TrainRecord, Verdict,
};
pub use render::PER_SLICE;
pub use run::{Run, SPENT, STEP_ENVIRONMENT, Step, TableColumn};
pub use settings::{
    ComputeSettings, DataSettings, DiscriminatorSettings, FederatedSettings, GanLossSetting, GeneratorSettings, InvalidSetting,
    MaskSetting, OptimiserSettings, PrivacySettings, ProtocolSettings, SegmenterSettings, Settings, SynthesisSettings,
};
pub use trade_off::{TradeOffPoint, TradeOffRecord};
