//! Training across several machines: the server and site programs, their configuration, checks and records.

mod amend;
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
mod notify;
mod observer;
mod relay;
mod runs;
mod secret;
mod serve;
mod server;
mod site;
mod stay;

pub use amend::Amendment;
pub use approve::Proposal;
pub use certificates::certificates;
pub use doctor::doctor;
pub use events::show_events;
pub use init::{runs_template, server_template, site_template};
pub use journal::{show_journal, verify_journal};
pub use ledger::ledger;
pub use runs::{QueuedRun, RoundCount, RunState, Runs, StateChange};
pub(crate) use secret::secret;
pub use serve::serve_runs;
pub use server::server;
pub use site::site;
