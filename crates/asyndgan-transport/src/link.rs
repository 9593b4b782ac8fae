use std::time::Duration;

use asyndgan_protocol::SiteId;

use crate::Error;

/// What a carrier brings to the server.
#[derive(Debug)]
pub enum Incoming {
    /// An encoded message.
    Frame(Vec<u8>),
    /// The site is gone.
    Lost(String),
}

/// The server's end of a carrier of opaque frames.
pub trait ServerLink {
    /// Sends a frame to a site.
    ///
    /// # Errors
    /// [`Error::Disconnected`].
    fn send(&mut self, site: SiteId, frame: Vec<u8>) -> Result<(), Error>;
    /// The next frame of any site; none when the time is up.
    fn receive(&mut self, wait: Option<Duration>) -> Option<(SiteId, Incoming)>;
}

/// A site's end of a carrier of opaque frames.
pub trait SiteLink {
    /// Sends a frame to the server.
    ///
    /// # Errors
    /// [`Error::Disconnected`].
    fn send(&mut self, frame: Vec<u8>) -> Result<(), Error>;
    /// The next frame of the server.
    ///
    /// # Errors
    /// [`Error::Disconnected`].
    fn receive(&mut self) -> Result<Vec<u8>, Error>;
}
