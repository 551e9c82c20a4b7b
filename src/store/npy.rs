//! NumPy's `.npy`: a text header, then the elements.
//!
//! Owns: the header. Must not know: HDF5. Invariant: any bytes give a source or an error, never a panic; a header that we
//! write is the one that NumPy writes for the same array (format version 1.0, or 2.0 when long).
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::direct::{DataFile, RawArray, StoredAt};
use super::raw_source::{RawSink, RawSource};
use super::stored::Stored;
use super::transposed::TransposedSource;
use super::whole::WholeFile;
use crate::error::{Error, Result};
use crate::shape::{DType, checked_len};
use crate::task::{ChunkSink, ChunkSource, Intake};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longer headers are not headers.
const HEADER_LIMIT: u64 = 1 << 20;

/// Opens the array in `path`.
///
/// # Errors
/// [`Error::Io`] when the system refuses; [`Error::File`] for what is not a `.npy` file, or is truncated;
/// [`Error::DType`] for element types that the crate does not have.
pub(crate) fn open(path: &Path) -> Result<Arc<dyn ChunkSource>> {
    let file = DataFile::open(path)?;
    let bad = |problem: String| Error::file(path, problem);
    let mut start = [0u8; 12];
    let known = file.bytes().min(12) as usize;
    file.read(&mut start[..known], 0)?;
    if known < 10 || &start[..6] != MAGIC {
        return Err(bad("is not a .npy file: it does not begin as one; write it with numpy.save".into()));
    }
    let (text_at, length) = match start[6] {
        1 => (10, u64::from(u16::from_le_bytes([start[8], start[9]]))),
        2 | 3 if known == 12 => (12, u64::from(u32::from_le_bytes([start[8], start[9], start[10], start[11]]))),
        version => return Err(bad(format!("is of .npy version {version}; versions 1 to 3 are read"))),
    };
    if length > HEADER_LIMIT {
        return Err(bad(format!("is damaged: its header claims {length} bytes")));
    }
    let mut text = vec![0u8; length as usize];
    file.read(&mut text, text_at)?;
    let text = String::from_utf8_lossy(&text);
    let Some(header) = parse(&text) else {
        return Err(bad(format!(
            "is damaged: its header cannot be read: {}",
            text.chars().take(80).collect::<String>().trim()
        )));
    };
    let stored = stored_type(path, &header.descr)?;
    let elements =
        checked_len("npy", &header.shape).map_err(|_| bad(format!("is damaged: its shape is {:?}", header.shape)))?;
    let data_at = text_at + length;
    let end = data_at + elements as u64 * stored.dtype.bytes() as u64;
    if end > file.bytes() {
        let problem = format!(
            "is truncated: {:?} of {} end at byte {end}, the file at byte {}",
            header.shape,
            header.descr,
            file.bytes()
        );
        return Err(bad(problem));
    }
    let name = path.display().to_string();
    if header.fortran && header.shape.iter().filter(|&&n| n > 1).count() > 1 {
        return Ok(Arc::new(TransposedSource::new(name, file, data_at, header.shape, stored)));
    }
    let array = RawArray { shape: header.shape, stored, place: StoredAt::Contiguous(data_at), fill: stored.dtype.zero() };
    Ok(Arc::new(RawSource { name, file, array }))
}

/// Creates an array in `path`, which appears when the sink is finished.
///
/// # Errors
/// [`Error::Io`] when the system refuses, [`Error::File`] when `path` cannot be replaced by a file.
pub(crate) fn create(path: &Path, shape: &[usize], dtype: DType) -> Result<Arc<dyn ChunkSink>> {
    let elements = checked_len("npy", shape)?;
    let header = header(shape, dtype);
    let bytes = (elements as u64).saturating_mul(dtype.bytes() as u64).saturating_add(header.len() as u64);
    let file = WholeFile::create(path, bytes)?;
    file.write(&header, 0)?;
    file.set_len(bytes)?;
    let place = StoredAt::Contiguous(header.len() as u64);
    Ok(Arc::new(RawSink { intake: Intake::new(path.display().to_string(), shape, dtype)?, file, place }))
}

/// A `.npy` file, which holds one array, to be read: [`Npy::open`]. [`Npy::create`] writes one.
#[derive(Clone, Debug)]
pub struct Npy {
    path: PathBuf,
}

impl Npy {
    /// Opens a file to be read.
    ///
    /// # Errors
    /// As [`crate::store::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        open(&path).map(|_| Self { path })
    }

    /// A file to be written; what is there is replaced when another is complete.
    #[must_use]
    pub fn create(path: impl AsRef<Path>) -> NpyWriter {
        NpyWriter { path: path.as_ref().to_owned() }
    }

    /// The array as a source.
    ///
    /// # Errors
    /// As [`crate::store::open`].
    pub fn source(&self) -> Result<Arc<dyn ChunkSource>> {
        open(&self.path)
    }
}

/// A `.npy` file to be written: see [`Npy::create`].
#[derive(Clone, Debug)]
pub struct NpyWriter {
    path: PathBuf,
}

impl NpyWriter {
    /// A sink for an array of this shape and dtype; the file appears when it is finished.
    ///
    /// # Errors
    /// As [`crate::store::create`].
    pub fn sink(&self, shape: &[usize], dtype: DType) -> Result<Arc<dyn ChunkSink>> {
        create(&self.path, shape, dtype)
    }
}

#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// Reads `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`: these keys, each once, in any order, as NumPy asks.
fn parse(text: &str) -> Option<Header> {
    let mut rest = Rest(text);
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    rest.take("{")?;
    while rest.take("}").is_none() {
        let key = rest.string()?;
        rest.take(":")?;
        let again = match key {
            "descr" => descr.replace(rest.descr()?).is_some(),
            "fortran_order" => {
                let is_fortran = rest.take("True").is_some();
                fortran.replace(is_fortran || rest.take("False").map(|()| false)?).is_some()
            }
            "shape" => shape.replace(rest.shape()?).is_some(),
            _ => return None,
        };
        if again {
            return None;
        }
        if rest.take(",").is_none() {
            rest.take("}")?;
            break;
        }
    }
    rest.0.trim().is_empty().then_some(Header { descr: descr?, fortran: fortran?, shape: shape? })
}

/// What is left of a header.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Goes past `token` and the blanks before it, if it comes next.
    fn take(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.take("'").is_some() { '\'' } else { self.take("\"").map(|()| '"')? };
        let (inside, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(inside)
    }

    fn descr(&mut self) -> Option<String> {
        if !self.0.trim_start().starts_with(['[', '(']) {
            return self.string().map(str::to_owned);
        }
        // Whatever is in its brackets: it is refused later, by this name.
        let mut depth = 0;
        loop {
            self.0 = &self.0[self.0.find(['[', '(', ']', ')', '\'', '"'])?..];
            match self.0.chars().next()? {
                '\'' | '"' => drop(self.string()?),
                bracket => {
                    depth += if matches!(bracket, '[' | '(') { 1 } else { -1 };
                    self.0 = &self.0[1..];
                    if depth == 0 {
                        return Some("a structured type".to_owned());
                    }
                }
            }
        }
    }

    /// A tuple: `()`, `(3,)`, `(3, 4)`, and from Python 2 `(3L, 4L)`.
    fn shape(&mut self) -> Option<Vec<usize>> {
        self.take("(")?;
        let mut shape = Vec::new();
        let mut comma = true;
        while self.take(")").is_none() {
            if !comma {
                return None;
            }
            self.0 = self.0.trim_start();
            let end = self.0.find(|c: char| !c.is_ascii_digit())?;
            let (digits, rest) = self.0.split_at(end);
            if digits.len() > 1 && digits.starts_with('0') {
                return None;
            }
            shape.push(digits.parse().ok()?);
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            comma = self.take(",").is_some();
        }
        (shape.len() != 1 || comma).then_some(shape)
    }
}

fn stored_type(path: &Path, descr: &str) -> Result<Stored> {
    let refuse = || {
        Error::DType {
        what: path.display().to_string(),
        found: descr.to_owned(),
        wanted: "store booleans, integers of 8 to 64 bits, float16, float32, float64, complex64 or complex128 (a.astype(\"float64\"))".into(),
    }
    };
    let (order, kind) = descr.split_at_checked(1).ok_or_else(refuse)?;
    let Some(&(dtype, _)) = KINDS.iter().find(|known| known.1 == kind) else { return Err(refuse()) };
    match order {
        // Two bytes of anything are `|V2`.
        "|" | "=" | ">" if dtype == DType::BF16 => Err(refuse()),
        "<" | "|" | "=" => Ok(Stored { dtype, big_endian: false }),
        ">" => Ok(Stored { dtype, big_endian: true }),
        _ => Err(refuse()),
    }
}

/// What NumPy calls each dtype, without its byte order. For bfloat16 it has no name: the Python package `ml_dtypes` writes two plain bytes.
const KINDS: &[(DType, &str)] = &[
    (DType::Bool, "b1"),
    (DType::I8, "i1"),
    (DType::U8, "u1"),
    (DType::I16, "i2"),
    (DType::U16, "u2"),
    (DType::I32, "i4"),
    (DType::U32, "u4"),
    (DType::I64, "i8"),
    (DType::U64, "u8"),
    (DType::F16, "f2"),
    (DType::BF16, "V2"),
    (DType::F32, "f4"),
    (DType::F64, "f8"),
    (DType::C64, "c8"),
    (DType::C128, "c16"),
];

fn header(shape: &[usize], dtype: DType) -> Vec<u8> {
    let kind = KINDS.iter().find(|known| known.0 == dtype).map_or("", |known| known.1);
    let order = if dtype.bytes() == 1 { "|" } else { "<" };
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let text = format!("{{'descr': '{order}{kind}', 'fortran_order': False, 'shape': ({}{comma}), }}", extents.join(", "));
    let long = text.len() > 60_000;
    let before = if long { 12 } else { 10 };
    // Padded with spaces and ended by a newline, so that the elements begin at a multiple of 64 bytes.
    let total = (before + text.len() + 1).next_multiple_of(64);
    let mut bytes = MAGIC.to_vec();
    bytes.extend([if long { 2 } else { 1 }, 0]);
    let length = (total - before) as u32;
    bytes.extend(&length.to_le_bytes()[..if long { 4 } else { 2 }]);
    bytes.extend(text.as_bytes());
    bytes.resize(total - 1, b' ');
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_headers_and_numpys_variants() {
        for &dtype in DType::ALL {
            let text = String::from_utf8(header(&[3], dtype)[10..].to_vec()).unwrap();
            assert_eq!(stored_type(Path::new("x"), &parse(&text).unwrap().descr).unwrap(), Stored::of(dtype), "{text}");
        }
        assert!(stored_type(Path::new("x"), "|V2").is_err(), "two bytes of anything");
        for shape in [vec![], vec![0], vec![5], vec![3, 4], vec![1, 2, 3, 4]] {
            let bytes = header(&shape, DType::F64);
            assert_eq!(bytes.len() % 64, 0);
            assert_eq!(parse(std::str::from_utf8(&bytes[10..]).unwrap()).unwrap().shape, shape);
        }
        let old = "{\"shape\": (3L, 4L), \"fortran_order\" : True , \"descr\": \">i2\"}";
        assert_eq!(parse(old), Some(Header { descr: ">i2".into(), fortran: true, shape: vec![3, 4] }));
        assert_eq!(parse("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': ()}").unwrap().descr, "a structured type");
        for bad in [
            "",
            "{}",
            "'descr'",
            "'descr': '<f8', 'fortran_order': 1, 'shape': (2,)",
            "'descr': '<f8', 'fortran_order': False, 'shape': (-1,)",
            "'descr': '<f8', 'fortran_order': False, 'shape': (1",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'shape': (2,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'more': 1}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2,)} x",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2,)",
            "{'descr': '<f8', 'fortran_order': False 'shape': (2,)}",
            "{'descr': [('a', '<f8'), 'fortran_order': False, 'shape': (2,)}",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let shape = |tuple: &str| parse(&format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {tuple}, }}\n"));
        for bad in ["(2,,3)", "(02, 3)", "(,)", "(2)", "(2 3)", "(2, 3", "(2,, )", "(-1,)", "(2.0,)", "[2, 3]", "2"] {
            assert_eq!(shape(bad), None, "{bad}");
        }
        for (good, extents) in [("()", &[][..]), ("(0,)", &[0]), ("( 2 ,3 )", &[2, 3]), ("(2, 3,)", &[2, 3]), ("(10L,)", &[10])]
        {
            assert_eq!(shape(good).unwrap().shape, extents, "{good}");
        }
    }
}
