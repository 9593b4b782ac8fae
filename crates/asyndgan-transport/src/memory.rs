use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use asyndgan_protocol::SiteId;

use crate::{Error, Frame, Incoming, ServerLink, SiteLink};

/// The server's end of an in-memory transport.
#[derive(Debug)]
pub struct MemoryServerLink {
    sites: Vec<Option<Sender<Frame>>>,
    inbox: Receiver<(SiteId, Incoming)>,
}

/// A site's end of an in-memory transport. Dropping it disconnects the site.
#[derive(Debug)]
pub struct MemorySiteLink {
    site: SiteId,
    connected: bool,
    server: Sender<(SiteId, Incoming)>,
    inbox: Receiver<Frame>,
}

/// Connects a server and this many sites within one process.
pub fn in_memory(sites: u32) -> (MemoryServerLink, Vec<MemorySiteLink>) {
    let (server, inbox) = channel();
    let (outboxes, links) = (0..sites)
        .map(|site| {
            let (outbox, inbox) = channel();
            (Some(outbox), MemorySiteLink { site: SiteId(site), connected: false, server: server.clone(), inbox })
        })
        .unzip();
    (MemoryServerLink { sites: outboxes, inbox }, links)
}

impl ServerLink for MemoryServerLink {
    fn send(&mut self, site: SiteId, frame: Frame) {
        if let Some(Some(outbox)) = self.sites.get(site.0 as usize) {
            // A site that is gone has said so.
            let _ = outbox.send(frame);
        }
    }

    fn close(&mut self, site: SiteId) {
        if let Some(outbox) = self.sites.get_mut(site.0 as usize) {
            *outbox = None;
        }
    }

    fn receive(&mut self, wait: Option<Duration>) -> Option<(SiteId, Incoming)> {
        match wait {
            Some(wait) => received(&self.inbox, Some(wait)).unwrap_or_else(|()| {
                // Nothing comes any more; the time passes all the same.
                thread::sleep(wait);
                None
            }),
            None => self.inbox.recv().ok(),
        }
    }
}

impl SiteLink for MemorySiteLink {
    fn send(&mut self, frame: Frame) {
        // If the server has ended, the next receive returns an error.
        let _ = self.server.send((self.site, Incoming::Frame(frame)));
    }

    fn receive(&mut self, wait: Option<Duration>) -> Result<Option<Incoming>, Error> {
        if !std::mem::replace(&mut self.connected, true) {
            let _ = self.server.send((self.site, Incoming::Connected));
            return Ok(Some(Incoming::Connected));
        }
        let frame = received(&self.inbox, wait).map_err(|()| Error::Disconnected { peer: "server".into() })?;
        Ok(frame.map(Incoming::Frame))
    }
}

/// The next value, or `None` after the timeout. An error if no value can come any more.
pub(crate) fn received<T>(inbox: &Receiver<T>, wait: Option<Duration>) -> Result<Option<T>, ()> {
    match wait {
        None => inbox.recv().map(Some).map_err(drop),
        Some(wait) => match inbox.recv_timeout(wait) {
            Ok(value) => Ok(Some(value)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        },
    }
}

impl Drop for MemorySiteLink {
    fn drop(&mut self) {
        // The server may be gone already; then there is nobody to tell.
        let _ = self.server.send((self.site, Incoming::Lost("its thread ended".into())));
    }
}
