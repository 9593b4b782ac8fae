//! Connections through a relay that carries requests and their replies alone, such as NVIDIA FLARE.
//!
//! The relay keeps no state. Both ends number the parts of a connection, and repeat what the other end has not taken,
//! so the relay may lose or repeat any request.

mod server;
mod site;
mod window;

use std::{fmt, fs, path::Path, time::Duration};

use asyndgan_files::is_private;
pub use server::{RelayServer, RelayServerLink};
use sha2::{Digest as _, Sha256};
pub use site::{RelaySite, RelaySiteLink};

use super::chunks::CHUNK_BYTES_MAX;
use crate::Error;

/// How long a site's request waits for the server's parts.
const POLL_WAIT: Duration = Duration::from_secs(10);
/// A site without any request for so long is lost.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// Maximum size of a request or reply: its parts, and their numbers.
const EXCHANGE_BYTES_MAX: usize = CHUNK_BYTES_MAX + (64 << 10);
/// Parts of one request or reply: most frames are much smaller than a part.
const PARTS_MAX: usize = 256;
/// Whole frames that may wait for the program at one end. Further parts are not taken until it has received one.
const FRAMES_WAITING: usize = 4;
/// Minimum length of a token: 128 bits in hexadecimal.
const TOKEN_CHARACTERS_MIN: usize = 32;

/// The secret by which a relay and the program beside it know each other.
#[derive(Clone)]
pub struct RelayToken(String);

impl RelayToken {
    /// A token of at least 32 visible ASCII characters.
    ///
    /// # Errors
    /// [`Error::Keys`] for any other text.
    pub fn new(token: &str) -> Result<Self, Error> {
        let token = token.trim();
        if token.len() < TOKEN_CHARACTERS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Keys { fact: format!("the relay's token needs {TOKEN_CHARACTERS_MIN} visible ASCII characters or more") });
        }
        Ok(Self(token.to_owned()))
    }

    /// Reads a token from a file that only its owner can read.
    ///
    /// # Errors
    /// [`Error::Record`], [`Error::NotPrivate`], [`Error::Keys`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Record { path: path.into(), source };
        let token = fs::read_to_string(path).map_err(io)?;
        if !is_private(path).map_err(io)? {
            return Err(Error::NotPrivate { path: path.into() });
        }
        Self::new(&token)
    }

    fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Compares digests, so that the time reveals nothing about the token.
    fn is_header(&self, header: &str) -> bool {
        Sha256::digest(header) == Sha256::digest(self.header())
    }
}

impl fmt::Debug for RelayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayToken")
    }
}
