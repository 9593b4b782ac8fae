use std::time::Duration;

use asyndgan_protocol::SiteId;
use bytes::Bytes;

use crate::Error;

/// An encoded message with its number within one connection and direction, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which one.
    pub number: u64,
    /// The message; opaque to whoever carries it.
    pub bytes: Bytes,
}

/// What a carrier brings.
#[derive(Debug)]
pub enum Incoming {
    /// There is a connection, for the first time or again. What is sent from now on goes there, numbered from 0; nothing of an
    /// earlier connection comes after this.
    Connected,
    /// A frame of the present connection. It may come twice, and a few may change places; none may be lost before the connection is.
    Frame(Frame),
    /// The present connection is gone.
    Lost(String),
}

/// The server's end of a carrier: who a site is, the carrier knows.
pub trait ServerLink {
    /// Sends a frame to a site. If it is gone, nothing happens: [`Incoming::Lost`] tells.
    fn send(&mut self, site: SiteId, frame: Frame);
    /// Closes the connection of a site once it has been sent what was to be sent.
    fn close(&mut self, site: SiteId);
    /// What comes next from any site; none when the time is up, or without a time when nothing can come any more.
    fn receive(&mut self, wait: Option<Duration>) -> Option<(SiteId, Incoming)>;
    /// The certificate (DER) that a site showed on its present connection, where the carrier has certificates.
    fn site_certificate(&self, site: SiteId) -> Option<Vec<u8>> {
        let _ = site;
        None
    }
}

/// A site's end of a carrier, which connects again by itself.
pub trait SiteLink {
    /// Sends a frame to the server. If it is gone, nothing happens: [`Incoming::Lost`] and [`Incoming::Connected`] tell.
    fn send(&mut self, frame: Frame);
    /// What comes next from the server.
    ///
    /// # Errors
    /// Why there is no connection, and will be none.
    fn receive(&mut self) -> Result<Incoming, Error>;
    /// The certificate (DER) that the server showed on the present connection, where the carrier has certificates.
    fn server_certificate(&self) -> Option<Vec<u8>> {
        None
    }
}
