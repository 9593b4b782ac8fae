//! Parses only the elements that are needed. Elements that name a patient, a physician or an institution are skipped.
//!
//! The parser of `dicom-object` allocates the size that an element declares before it reads the element. Here, an
//! element must not declare more bytes than the file has left.

use std::io::{Cursor, Read as _};

use dicom_core::{
    DataElement, Tag, VR,
    header::{HasLength, Header},
    value::{C, DataSetSequence, PixelFragmentSequence},
};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::{
    decode::{Decode, explicit_le::ExplicitVRLittleEndianDecoder},
    transfer_syntax::TransferSyntaxIndex,
};
use dicom_object::{DefaultDicomObject, FileMetaTable, InMemDicomObject};
use dicom_parser::{
    DynStatefulDecoder,
    dataset::{LazyDataToken, lazy_read::LazyDataSetReader},
};
use dicom_transfer_syntax_registry::{TransferSyntaxRegistry, entries::EXPLICIT_VR_LITTLE_ENDIAN};
use flate2::bufread::DeflateDecoder;

use crate::gzip::DEFLATE_RATIO_MAX;

/// How deep sequences may nest.
const DEPTH_MAX: u32 = 32;

/// What is kept: geometry, how pixels are stored, and what segments are called (and in which characters).
const KEPT: [Tag; 34] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::SOP_CLASS_UID,
    tags::SERIES_INSTANCE_UID,
    tags::IMAGE_ORIENTATION_PATIENT,
    tags::IMAGE_POSITION_PATIENT,
    tags::PIXEL_SPACING,
    tags::SPACING_BETWEEN_SLICES,
    tags::SLICE_THICKNESS,
    tags::RESCALE_SLOPE,
    tags::RESCALE_INTERCEPT,
    tags::MODALITY_LUT_SEQUENCE,
    tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
    tags::ROWS,
    tags::COLUMNS,
    tags::NUMBER_OF_FRAMES,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::PLANAR_CONFIGURATION,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::PIXEL_DATA,
    tags::SEGMENTATION_TYPE,
    tags::SEGMENT_SEQUENCE,
    tags::SEGMENT_NUMBER,
    tags::SEGMENT_LABEL,
    tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PLANE_ORIENTATION_SEQUENCE,
    tags::PIXEL_MEASURES_SEQUENCE,
    tags::PLANE_POSITION_SEQUENCE,
    tags::SEGMENT_IDENTIFICATION_SEQUENCE,
    tags::REFERENCED_SEGMENT_NUMBER,
];

/// What is wrong with an object.
pub(super) enum Wrong {
    /// The file is damaged.
    Damaged(String),
    /// It may be whole, and is not read.
    Unsupported(String),
}

impl From<String> for Wrong {
    fn from(fact: String) -> Self {
        Self::Damaged(fact)
    }
}

/// A deflated data set is inflated to no more.
const INFLATED_BYTES_MAX: u64 = 1 << 30;

/// Reads an object that begins with preamble and `DICM`; else what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<DefaultDicomObject, Wrong> {
    let (syntax, start) = transfer_syntax(bytes)?;
    let known =
        TransferSyntaxRegistry.get(&syntax).ok_or_else(|| Wrong::Unsupported(format!("its transfer syntax {syntax} is not known")))?;
    let meta = FileMetaTable::from_reader(&bytes[128..]).map_err(|e| format!("its first group is damaged ({e})"))?;
    let inflated;
    let (content, known) = if syntax == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
        inflated = inflate(&bytes[start..])?;
        (&inflated[..], &EXPLICIT_VR_LITTLE_ENDIAN.erased())
    } else {
        (&bytes[start..], known)
    };
    let tokens = LazyDataSetReader::new_with_ts(Cursor::new(content), known).map_err(damaged)?;
    let object = Elements { tokens, left: content.len() }.object(0)?;
    Ok(object.with_exact_meta(meta))
}

/// The content of a deflated data set.
fn inflate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let most = (bytes.len() as u64).saturating_mul(DEFLATE_RATIO_MAX).min(INFLATED_BYTES_MAX);
    let mut content = Vec::new();
    let read = DeflateDecoder::new(bytes).take(most + 1).read_to_end(&mut content);
    read.map_err(|e| format!("its deflated elements are damaged ({e})"))?;
    if content.len() as u64 > most {
        return Err(format!("its deflated elements decompress to more than {most} bytes"));
    }
    Ok(content)
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("its elements are damaged ({error})")
}

/// The data set's tokens, and how many bytes values may still have.
struct Elements<'a> {
    tokens: LazyDataSetReader<DynStatefulDecoder<Cursor<&'a [u8]>>>,
    left: usize,
}

impl Elements<'_> {
    /// The elements up to the end of the file, or, inside of a sequence, of the item.
    fn object(&mut self, depth: u32) -> Result<InMemDicomObject, String> {
        if depth > DEPTH_MAX {
            return Err(format!("its sequences are nested more than {DEPTH_MAX} levels deep"));
        }
        let mut kept = Vec::new();
        loop {
            let Some(token) = self.tokens.advance() else {
                return if depth == 0 { Ok(InMemDicomObject::from_element_iter(kept)) } else { Err("it ends within a sequence".into()) };
            };
            match token.map_err(damaged)? {
                // Zeros behind the data set fill up a block.
                LazyDataToken::ElementHeader(header) if header.tag == Tag(0, 0) && depth == 0 => {
                    return Ok(InMemDicomObject::from_element_iter(kept));
                }
                LazyDataToken::ElementHeader(header) => {
                    let value = self.tokens.advance().ok_or("an element has no value")?.map_err(damaged)?;
                    let declared = header.length().get().ok_or("an element has no length")?;
                    self.left = less(self.left, declared)?;
                    if KEPT.contains(&header.tag) {
                        kept.push(DataElement::new(header.tag, header.vr, value.into_value().map_err(damaged)?));
                    } else {
                        value.skip().map_err(damaged)?;
                    }
                }
                LazyDataToken::SequenceStart { tag, .. } => {
                    let items = self.items(depth)?;
                    if KEPT.contains(&tag) {
                        kept.push(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
                    }
                }
                LazyDataToken::PixelSequenceStart => kept.push(DataElement::new(tags::PIXEL_DATA, VR::OB, self.fragments()?)),
                LazyDataToken::ItemEnd if depth > 0 => return Ok(InMemDicomObject::from_element_iter(kept)),
                _ => return Err("its sequences and items are not in order".into()),
            }
        }
    }

    fn items(&mut self, depth: u32) -> Result<Vec<InMemDicomObject>, String> {
        let mut items = Vec::new();
        loop {
            match self.tokens.advance().ok_or("it ends within a sequence")?.map_err(damaged)? {
                LazyDataToken::ItemStart { .. } => items.push(self.object(depth + 1)?),
                LazyDataToken::SequenceEnd => return Ok(items),
                _ => return Err("its sequences and items are not in order".into()),
            }
        }
    }

    /// The pieces of compressed pixels; the table of their offsets, which comes first, is passed over.
    fn fragments(&mut self) -> Result<PixelFragmentSequence<Vec<u8>>, String> {
        let (mut fragments, mut item) = (C::new(), Vec::new());
        let mut offsets = true;
        loop {
            match self.tokens.advance().ok_or("it ends within its pixels")?.map_err(damaged)? {
                LazyDataToken::ItemStart { .. } => item = Vec::new(),
                LazyDataToken::LazyItemValue { len, mut decoder } => {
                    self.left = less(self.left, len)?;
                    dicom_parser::StatefulDecode::read_to_vec(&mut decoder, len, &mut item).map_err(damaged)?;
                }
                LazyDataToken::ItemEnd => {
                    if !std::mem::take(&mut offsets) {
                        fragments.push(std::mem::take(&mut item));
                    }
                }
                LazyDataToken::SequenceEnd => return Ok(PixelFragmentSequence::new(Vec::<u32>::new(), fragments)),
                _ => return Err("its pixels are not in order".into()),
            }
        }
    }
}

fn less(left: usize, declared: u32) -> Result<usize, String> {
    left.checked_sub(declared as usize).ok_or_else(|| format!("an element declares {declared} bytes, but the file has at most {left} more"))
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
                let length = <[u8; 4]>::try_from(value).map_err(|_| "its first group's length is not a number")?;
                end = Some(source.position() + u64::from(u32::from_le_bytes(length)));
            }
            (_, None) => return Err("its first group has no length".into()),
            (Tag(2, 0x10), _) => syntax = Some(String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned()),
            _ => {}
        }
    }
    Ok((syntax.ok_or("it does not specify a transfer syntax")?, 132 + source.position() as usize))
}
