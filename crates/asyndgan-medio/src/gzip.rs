//! Gzip and zlib streams inflated within bounds.

use std::{
    io::{self, Read},
    path::Path,
};

use flate2::bufread::{GzDecoder, ZlibDecoder};

use crate::Error;

/// No deflate stream is smaller than its content by more than this.
pub(crate) const DEFLATE_RATIO_MAX: u64 = 1032;

pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The first bytes of what a file holds, inflated if they are compressed, at most `length`.
pub(crate) fn beginning(path: &Path, bytes: &[u8], length: usize) -> Result<Vec<u8>, Error> {
    if !is_gzip(bytes) {
        return Ok(bytes[..bytes.len().min(length)].into());
    }
    let mut start = Vec::with_capacity(length);
    let read = Members { rest: bytes, member: None }.take(length as u64).read_to_end(&mut start);
    read.map_err(|e| Error::unreadable(path, format!("its gzip stream is damaged ({e})")))?;
    Ok(start)
}

/// The first `length` bytes of a gzip file: in one call if it is a single stream of exactly this content, else by
/// members.
pub(crate) fn inflate(path: &Path, bytes: &[u8], length: usize) -> Result<Vec<u8>, Error> {
    let mut content = room(path, bytes, length)?;
    if libdeflater::Decompressor::new().gzip_decompress(bytes, &mut content).is_ok_and(|n| n == length) {
        return Ok(content);
    }
    let fact = |e: io::Error| Error::unreadable(path, format!("its gzip stream is damaged or ends early ({e})"));
    let mut members = Members { rest: bytes, member: None };
    members.read_exact(&mut content).map_err(fact)?;
    // To the end, so that the checksum is looked at.
    io::copy(&mut members.take(length as u64), &mut io::sink()).map_err(fact)?;
    Ok(content)
}

/// The first `length` bytes of a zlib stream.
pub(crate) fn inflate_zlib(path: &Path, bytes: &[u8], length: usize) -> Result<Vec<u8>, Error> {
    let mut content = room(path, bytes, length)?;
    let fact = |e: io::Error| Error::unreadable(path, format!("its zlib stream is damaged or ends early ({e})"));
    let mut decoder = ZlibDecoder::new(bytes);
    decoder.read_exact(&mut content).map_err(fact)?;
    io::copy(&mut decoder.take(length as u64), &mut io::sink()).map_err(fact)?;
    Ok(content)
}

/// A zeroed buffer of `length` bytes, unless the compressed bytes cannot expand to that length.
fn room(path: &Path, bytes: &[u8], length: usize) -> Result<Vec<u8>, Error> {
    if (bytes.len() as u64).saturating_mul(DEFLATE_RATIO_MAX) < length as u64 {
        return Err(Error::unreadable(path, format!("it ends early: its header declares {length} bytes")));
    }
    Ok(vec![0; length])
}

/// The contents of gzip members one after the other. Zeros between and behind them are skipped, as tapes and archives
/// leave them, and any other data after the last one.
struct Members<'a> {
    rest: &'a [u8],
    member: Option<GzDecoder<&'a [u8]>>,
}

impl Read for Members<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(member) = &mut self.member {
                let read = member.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
                self.rest = member.get_ref();
            }
            let zeros = self.rest.iter().take_while(|b| **b == 0).count();
            self.rest = &self.rest[zeros..];
            if !is_gzip(self.rest) {
                return Ok(0);
            }
            self.member = Some(GzDecoder::new(self.rest));
        }
    }
}
