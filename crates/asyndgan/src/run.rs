//! The steps of a run, each in the folder of the run. [`experiment`](crate::experiment) does all of them in order.
//!
//! A folder has `run.json`, which is everything that determines the result ([`Run`](asyndgan_paper::Run)). Every step
//! writes a file that marks it as done ([`Step::proof`](asyndgan_paper::Step::proof)); a step that was interrupted
//! resumes.

pub(crate) mod evaluate;
mod export;
mod folder;
mod prepare;
mod provenance;
mod report;
pub(crate) mod synthesize;
pub(crate) mod train;

pub use evaluate::{curve, evaluate};
pub use export::{ExportLayout, export};
pub use folder::RunFolder;
pub(crate) use folder::write_description;
pub use prepare::prepare;
pub(crate) use report::html_page;
pub use report::report;
pub(crate) use synthesize::made;
pub use synthesize::synthesize;
pub use train::{estimate, train};
