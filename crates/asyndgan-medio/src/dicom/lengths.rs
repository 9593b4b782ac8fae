//! Whether every element of a file declares no more bytes than the file has: the parser makes room for what an element declares before
//! it reads it.

use std::io::Cursor;

use dicom_core::{
    Tag,
    header::{HasLength, Header},
};
use dicom_encoding::{
    decode::{Decode, explicit_le::ExplicitVRLittleEndianDecoder},
    transfer_syntax::TransferSyntaxIndex,
};
use dicom_parser::dataset::{LazyDataToken, lazy_read::LazyDataSetReader};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

/// How deep sequences may nest.
const DEPTH_MAX: u32 = 32;

/// Checks an object that begins with preamble and `DICM`; says what is wrong with it.
///
/// A deflated data set cannot be checked, and is refused.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let (syntax, start) = transfer_syntax(bytes)?;
    let known = TransferSyntaxRegistry.get(&syntax).ok_or_else(|| format!("its transfer syntax {syntax} is not known"))?;
    if known.is_unsupported() || syntax == "1.2.840.10008.1.2.1.99" {
        let name = known.name();
        return Err(format!("its transfer syntax ({name}) is not supported; convert it, for example with gdcmconv --raw"));
    }
    let wrong = |e: &dyn std::fmt::Display| format!("its elements are damaged ({e})");
    // The same reader that the parser uses, but one that lets values be passed over.
    let mut tokens = LazyDataSetReader::new_with_ts(Cursor::new(&bytes[start..]), known).map_err(|e| wrong(&e))?;
    let mut depth = 0;
    let mut left = bytes.len() - start;
    while let Some(token) = tokens.advance() {
        let token = token.map_err(|e| wrong(&e))?;
        let declared = match &token {
            LazyDataToken::SequenceStart { .. } | LazyDataToken::PixelSequenceStart => {
                depth += 1;
                0
            }
            LazyDataToken::SequenceEnd => {
                depth -= 1;
                0
            }
            LazyDataToken::LazyValue { header, .. } => header.length().get().ok_or("a value has no length")?,
            LazyDataToken::LazyItemValue { len, .. } => *len,
            _ => 0,
        };
        if depth > DEPTH_MAX {
            return Err(format!("its sequences nest deeper than {DEPTH_MAX}"));
        }
        let all = left;
        left = left
            .checked_sub(declared as usize)
            .ok_or_else(|| format!("an element declares {declared} bytes, the file has {all} more at most"))?;
        token.skip().map_err(|e| wrong(&e))?;
    }
    Ok(())
}

/// The transfer syntax that the file's first group names, and where the group ends.
fn transfer_syntax(bytes: &[u8]) -> Result<(String, usize), String> {
    const ENDS: &str = "it ends within its first group";
    let rest = bytes.get(132..).ok_or(ENDS)?;
    let mut source = Cursor::new(rest);
    let (mut end, mut syntax) = (None, None);
    while end.is_none_or(|end| source.position() < end) {
        let (header, _) = ExplicitVRLittleEndianDecoder::default().decode_header(&mut source).map_err(|_| ENDS)?;
        let length = header.length().get().ok_or("an element of its first group has no length")?;
        let from = source.position();
        let value = rest.get(from as usize..).and_then(|r| r.get(..length as usize)).ok_or(ENDS)?;
        source.set_position(from + u64::from(length));
        match (header.tag(), end) {
            // The group's length counts from behind the element that holds it.
            (Tag(2, 0), None) => {
                let length = <[u8; 4]>::try_from(value).map_err(|_| "its first group's length is no number")?;
                end = Some(source.position() + u64::from(u32::from_le_bytes(length)));
            }
            (_, None) => return Err("its first group has no length".into()),
            (Tag(2, 0x10), _) => syntax = Some(String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned()),
            _ => {}
        }
    }
    Ok((syntax.ok_or("it names no transfer syntax")?, 132 + source.position() as usize))
}
