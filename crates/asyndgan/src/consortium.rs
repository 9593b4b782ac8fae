//! Training across several machines: the server and site programs, their configuration, checks and records.

mod approve;
mod certificates;
mod compare;
mod config;
mod dashboard;
mod dates;
mod doctor;
mod events;
mod folder;
mod init;
mod journal;
mod ledger;
mod relay;
mod secret;
mod server;
mod site;

pub use approve::Proposal;
pub use certificates::certificates;
pub use doctor::doctor;
pub use init::{server_template, site_template};
pub use journal::{show_journal, verify_journal};
pub use ledger::ledger;
pub(crate) use secret::secret;
pub use server::server;
pub use site::site;
