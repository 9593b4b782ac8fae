use std::time::Duration;

use asyndgan_protocol::SiteId;
use bytes::Bytes;

use crate::Error;

/// An encoded message with its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The sequence number within one connection and direction, from 0.
    pub number: u64,
    /// The message; opaque to the transport.
    pub bytes: Bytes,
}

/// An event from the transport.
#[derive(Debug)]
pub enum Incoming {
    /// A connection was established, for the first time or again. Frames sent from now on use it, and are numbered from
    /// 0. No frame of an earlier connection arrives after this.
    Connected,
    /// A frame of the current connection. Frames may be duplicated and slightly reordered, but none is lost unless the
    /// connection is lost.
    Frame(Frame),
    /// The current connection was lost, with the reason.
    Lost(String),
    /// At a site: the server answers, but serves no run now, with the reason. The link asks again.
    NoRun(String),
}

/// The server's end of a transport. The transport identifies the sites.
///
/// # Writing a carrier
/// A carrier of your own implements this trait and [`SiteLink`]. What the drivers rely on:
/// - Within a connection no frame is lost. Frames may be repeated, and up to 8 may arrive before an earlier one. If a
///   frame is lost, end the connection with [`Incoming::Lost`]: the site's link connects again, and both ends repeat
///   what is missing. A lost frame without `Lost` stalls the round until the timeout of the answer.
/// - [`Incoming::Connected`] may come without [`Incoming::Lost`] before it: the new connection replaces the old one.
///   From then on [`ServerLink::send`] uses the new one, and no frame of the old one may arrive.
/// - After [`ServerLink::close`], an [`Incoming::Lost`] for this connection may come or not. The site may
///   connect again.
/// - Frame numbers start at 0 with every connection, in each direction.
pub trait ServerLink {
    /// Sends a frame to a site. Does nothing if the site is disconnected, which [`Incoming::Lost`] reports.
    fn send(&mut self, site: SiteId, frame: Frame);
    /// Closes the connection of a site after all pending frames are sent.
    fn close(&mut self, site: SiteId);
    /// Waits for the next event from any site. Returns `None` after the timeout, or, without a timeout, when no further
    /// event is possible.
    fn receive(&mut self, wait: Option<Duration>) -> Option<(SiteId, Incoming)>;
    /// Ends all connections because the server stops, with the reason: the sites connect again. A carrier without words
    /// for it does nothing, and the connections end with the link.
    fn stop(&mut self, reason: &str) {
        let _ = reason;
    }
    /// The certificate (DER) that a site presented on its current connection, if the transport uses certificates.
    fn site_certificate(&self, site: SiteId) -> Option<Vec<u8>> {
        let _ = site;
        None
    }
}

/// A site's end of a transport, which reconnects automatically.
pub trait SiteLink {
    /// Sends a frame to the server. Does nothing without a connection; [`Incoming::Lost`] and [`Incoming::Connected`]
    /// report its state.
    fn send(&mut self, frame: Frame);
    /// Waits for the next event from the server. Returns `None` after the timeout, which there may not be.
    ///
    /// # Errors
    /// An error if the link has no connection and cannot reconnect.
    fn receive(&mut self, wait: Option<Duration>) -> Result<Option<Incoming>, Error>;
    /// The certificate (DER) that the server presented on the current connection, if the transport uses certificates.
    fn server_certificate(&self) -> Option<Vec<u8>> {
        None
    }
}

impl<L: ServerLink + ?Sized> ServerLink for Box<L> {
    fn send(&mut self, site: SiteId, frame: Frame) {
        (**self).send(site, frame);
    }
    fn close(&mut self, site: SiteId) {
        (**self).close(site);
    }
    fn receive(&mut self, wait: Option<Duration>) -> Option<(SiteId, Incoming)> {
        (**self).receive(wait)
    }
    fn stop(&mut self, reason: &str) {
        (**self).stop(reason);
    }
    fn site_certificate(&self, site: SiteId) -> Option<Vec<u8>> {
        (**self).site_certificate(site)
    }
}

impl<L: SiteLink + ?Sized> SiteLink for Box<L> {
    fn send(&mut self, frame: Frame) {
        (**self).send(frame);
    }
    fn receive(&mut self, wait: Option<Duration>) -> Result<Option<Incoming>, Error> {
        (**self).receive(wait)
    }
    fn server_certificate(&self) -> Option<Vec<u8>> {
        (**self).server_certificate()
    }
}
