use std::collections::BTreeMap;

use asyndgan_protocol::{MessageKind, SiteId};
use serde::{Deserialize, Serialize};

/// Messages of one kind and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// How large together, as encoded.
    pub bytes: u64,
}

/// What travelled between the server and each site, by kind of message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger(BTreeMap<(SiteId, MessageKind), Traffic>);

impl Ledger {
    /// Counts one message.
    pub fn count(&mut self, site: SiteId, kind: MessageKind, bytes: usize) {
        let traffic = self.0.entry((site, kind)).or_default();
        traffic.messages += 1;
        traffic.bytes += bytes as u64;
    }

    /// All entries, by site and kind.
    pub fn entries(&self) -> impl Iterator<Item = (SiteId, MessageKind, Traffic)> {
        self.0.iter().map(|(&(site, kind), &traffic)| (site, kind, traffic))
    }
}
