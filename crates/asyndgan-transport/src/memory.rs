use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use asyndgan_protocol::SiteId;

use crate::{Error, Incoming, ServerLink, SiteLink};

/// The server's end of an in-memory carrier.
#[derive(Debug)]
pub struct MemoryServerLink {
    sites: Vec<Sender<Vec<u8>>>,
    inbox: Receiver<(SiteId, Incoming)>,
}

/// A site's end of an in-memory carrier; dropping it tells the server that the site is gone.
#[derive(Debug)]
pub struct MemorySiteLink {
    site: SiteId,
    server: Sender<(SiteId, Incoming)>,
    inbox: Receiver<Vec<u8>>,
}

/// Joins a server and so many sites of one process.
pub fn in_memory(sites: u32) -> (MemoryServerLink, Vec<MemorySiteLink>) {
    let (server, inbox) = channel();
    let (outboxes, links) = (0..sites)
        .map(|site| {
            let (outbox, inbox) = channel();
            (outbox, MemorySiteLink { site: SiteId(site), server: server.clone(), inbox })
        })
        .unzip();
    (MemoryServerLink { sites: outboxes, inbox }, links)
}

impl ServerLink for MemoryServerLink {
    fn send(&mut self, site: SiteId, frame: Vec<u8>) -> Result<(), Error> {
        let outbox = self.sites.get(site.0 as usize);
        outbox.and_then(|o| o.send(frame).ok()).ok_or_else(|| Error::Disconnected { peer: site.to_string() })
    }

    fn receive(&mut self, wait: Option<Duration>) -> Option<(SiteId, Incoming)> {
        match wait {
            Some(wait) => self.inbox.recv_timeout(wait).ok(),
            None => self.inbox.recv().ok(),
        }
    }
}

impl SiteLink for MemorySiteLink {
    fn send(&mut self, frame: Vec<u8>) -> Result<(), Error> {
        self.server.send((self.site, Incoming::Frame(frame))).map_err(|_| Error::Disconnected { peer: "server".into() })
    }

    fn receive(&mut self) -> Result<Vec<u8>, Error> {
        self.inbox.recv().map_err(|_| Error::Disconnected { peer: "server".into() })
    }
}

impl Drop for MemorySiteLink {
    fn drop(&mut self) {
        // The server may be gone already; then there is nobody to tell.
        let _ = self.server.send((self.site, Incoming::Lost("its thread ended".into())));
    }
}
