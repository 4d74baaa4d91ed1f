//! The jute binary encoding: big-endian numbers, strings, buffers and vectors led by a 32-bit length, of
//! which -1 means null (client spec, section 1.2; storage spec, section 2).

use std::borrow::Cow;
use std::fmt;

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the value does.
    Short {
        /// How many bytes were needed.
        needed: usize,
        /// How many there were.
        left: usize,
    },
    /// A string or buffer claims a negative length (other than -1, null) or one over the limit.
    BadLength(i32),
    /// A null stands where the format needs a value.
    UnexpectedNull(&'static str),
    /// A number has no meaning where it stands.
    BadValue {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: i64,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Short { needed, left } => write!(f, "{needed} bytes needed, {left} left"),
            DecodeError::BadLength(length) => write!(f, "the length {length} is not possible"),
            DecodeError::UnexpectedNull(what) => write!(f, "{what} is null"),
            DecodeError::BadValue { what, value } => write!(f, "{what} cannot be {value}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads values from the front of a slice.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// A decoder of all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { bytes }
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.bytes.split_at_checked(n) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(DecodeError::Short {
                needed: n,
                left: self.bytes.len(),
            }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(*taken)
            }
            None => Err(DecodeError::Short {
                needed: N,
                left: self.bytes.len(),
            }),
        }
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A boolean: any byte but 0 is true.
    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        Ok(self.byte()? != 0)
    }

    /// A 32-bit number.
    pub fn int(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A 64-bit number.
    pub fn long(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A buffer, or null. It is a part of the input, so a claimed length takes no memory.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.int()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| DecodeError::BadLength(length))?;
                Ok(Some(self.take(length)?))
            }
        }
    }

    /// A string, or null. Malformed UTF-8 becomes U+FFFD, as Java reads it.
    pub fn string(&mut self) -> Result<Option<Cow<'a, str>>, DecodeError> {
        Ok(self.buffer()?.map(|bytes| match str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(text_as_java_reads_it(bytes)),
        }))
    }

    /// A string that must not be null; `what` names it in the error.
    pub fn required_string(&mut self, what: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        self.string()?.ok_or(DecodeError::UnexpectedNull(what))
    }

    /// A vector, or null. Any negative count but -1 reads as an empty vector. Memory grows with the elements
    /// that are really there, not with the count.
    pub fn vector<T>(
        &mut self,
        mut element: impl FnMut(&mut Decoder<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let count = self.int()?;
        if count == -1 {
            return Ok(None);
        }
        let mut elements = Vec::new();
        for _ in 0..count {
            if self.bytes.is_empty() {
                // No element is encoded in 0 bytes, so a count that outlives the bytes is a lie.
                return Err(DecodeError::Short { needed: 1, left: 0 });
            }
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }
}

/// Text of bytes that are not UTF-8. Like [`String::from_utf8_lossy`], but half of a surrogate pair becomes one
/// U+FFFD and not three: Java clients write characters beyond U+FFFF as two such halves.
fn text_as_java_reads_it(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(chunk) = rest.utf8_chunks().next() {
        text.push_str(chunk.valid());
        let malformed = &rest[chunk.valid().len()..];
        let skipped = match malformed {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            _ => chunk.invalid().len(),
        };
        if skipped > 0 {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        rest = &malformed[skipped..];
    }
    text
}

/// Appends values to a byte vector.
pub struct Encoder<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// An encoder that appends to `bytes`.
    pub fn new(bytes: &'a mut Vec<u8>) -> Encoder<'a> {
        Encoder { bytes }
    }

    /// Raw bytes, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A boolean, as 0 or 1.
    pub fn boolean(&mut self, value: bool) {
        self.byte(u8::from(value));
    }

    /// A 32-bit number.
    pub fn int(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// A 64-bit number.
    pub fn long(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// A length or a count.
    ///
    /// # Panics
    /// When it does not fit 31 bits: nothing that large is ever held, every input is bounded by a frame.
    pub fn length(&mut self, length: usize) {
        self.int(i32::try_from(length).expect("lengths are bounded by the size of a frame"));
    }

    /// A buffer, or null.
    pub fn buffer(&mut self, value: Option<&[u8]>) {
        match value {
            Some(bytes) => {
                self.length(bytes.len());
                self.raw(bytes);
            }
            None => self.int(-1),
        }
    }

    /// A buffer of what `content` writes.
    pub fn nested(&mut self, content: impl FnOnce(&mut Encoder<'_>)) {
        let start = self.bytes.len();
        self.length(0);
        let content_start = self.bytes.len();
        content(&mut Encoder::new(self.bytes));
        let length = i32::try_from(self.bytes.len() - content_start);
        let length = length.expect("lengths are bounded by the size of a frame");
        self.bytes[start..content_start].copy_from_slice(&length.to_be_bytes());
    }

    /// A string.
    pub fn string(&mut self, value: &str) {
        self.buffer(Some(value.as_bytes()));
    }

    /// A vector of strings.
    pub fn strings<S: AsRef<str>>(&mut self, values: &[S]) {
        self.length(values.len());
        for value in values {
            self.string(value.as_ref());
        }
    }
}
