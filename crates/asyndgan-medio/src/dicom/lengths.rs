//! Whether every element of a file declares no more bytes than the file has: the parser allocates what an element declares, before it
//! reads it.

/// How deep sequences may nest.
const DEPTH_MAX: u32 = 32;
const UNDEFINED: u32 = u32::MAX;

/// The bytes still to come, and how numbers and value representations are written.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [u8],
    explicit: bool,
    big: bool,
}

/// Checks an object that begins with preamble and `DICM`; says what is wrong with it.
///
/// A deflated data set cannot be checked, and is refused.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let rest = bytes.get(132..).ok_or("it ends within its preamble")?;
    let mut meta = Cursor { rest, explicit: true, big: false };
    let mut syntax = String::new();
    while meta.rest.len() >= 8 && meta.u16(0) == 2 {
        let element = meta.u16(2);
        let value = meta.element(0)?;
        if element == 0x10 {
            String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).clone_into(&mut syntax);
        }
    }
    if syntax == "1.2.840.10008.1.2.1.99" {
        return Err("its data set is deflated, which is not supported; convert it, for example with gdcmconv --raw".into());
    }
    let mut data = Cursor { explicit: syntax != "1.2.840.10008.1.2", big: syntax == "1.2.840.10008.1.2.2", ..meta };
    while !data.rest.is_empty() {
        data.element(0)?;
    }
    Ok(())
}

impl<'a> Cursor<'a> {
    fn u16(&self, at: usize) -> u16 {
        let b = [self.rest[at], self.rest[at + 1]];
        if self.big { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
    }

    fn u32(&self, at: usize) -> u32 {
        let b = [self.rest[at], self.rest[at + 1], self.rest[at + 2], self.rest[at + 3]];
        if self.big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (head, tail) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| format!("an element declares {length} bytes, {} are left", self.rest.len()))?;
        self.rest = tail;
        Ok(head)
    }

    /// Steps over one element, into it if its end is marked instead of counted.
    fn element(&mut self, depth: u32) -> Result<&'a [u8], String> {
        if depth > DEPTH_MAX {
            return Err(format!("its sequences nest deeper than {DEPTH_MAX}"));
        }
        if self.rest.len() < 8 {
            return Err("it ends within an element".into());
        }
        let delimiter = self.u16(0) == 0xfffe;
        let long = [*b"OB", *b"OD", *b"OF", *b"OL", *b"OV", *b"OW", *b"SQ", *b"SV", *b"UC", *b"UN", *b"UR", *b"UT", *b"UV"];
        let representation = [self.rest[4], self.rest[5]];
        let (header, length) = if delimiter || !self.explicit {
            (8, self.u32(4))
        } else if long.contains(&representation) {
            if self.rest.len() < 12 {
                return Err("it ends within an element".into());
            }
            (12, self.u32(8))
        } else {
            (8, self.u16(6).into())
        };
        self.take(header)?;
        if length != UNDEFINED {
            return self.take(length as usize);
        }
        // Undefined length: elements or items follow, up to a delimiter of group FFFE.
        let nested = Self { explicit: self.explicit && representation != *b"UN", ..*self };
        let before = std::mem::replace(self, nested);
        loop {
            if self.rest.len() < 8 {
                return Err("a sequence has no end".into());
            }
            let end = self.u16(0) == 0xfffe && matches!(self.u16(2), 0xe00d | 0xe0dd);
            self.element(depth + 1)?;
            if end {
                break;
            }
        }
        self.explicit = before.explicit;
        Ok(&[])
    }
}
