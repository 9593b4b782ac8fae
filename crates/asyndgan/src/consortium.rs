//! Training across several machines: the server and site programs, their configuration, keys, checks and records.

mod approve;
mod compare;
mod config;
mod dashboard;
mod doctor;
mod events;
mod folder;
mod init;
mod keys;
mod ledger;
mod secret;
mod server;
mod site;

pub(crate) use approve::approve;
pub(crate) use doctor::doctor;
pub(crate) use init::{InitCommand, init};
pub(crate) use keys::{KeysCommand, keys};
pub(crate) use ledger::{JournalCommand, journal, ledger};
pub(crate) use server::server;
pub(crate) use site::site;
