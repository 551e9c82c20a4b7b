//! Attributes: small values that go with a dataset, a group or a file.
//!
//! Owns: [`Attr`], reading and writing it. Must not know: datasets' elements. Invariant: what is written is read back as it was; what is not one of these types is
//! listed by the name of its type, and left as it is.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use hdf5::types::{FloatSize, IntSize, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Attribute, Location};

use super::raw::fixed_text;
use crate::error::{Error, Result};

/// What an attribute may take, with its name: it stands in its object's header, of which HDF5 limits a part to 64 KiB. Text lies elsewhere.
const LIMIT_BYTES: usize = 64_000;

/// Of a longer name, an error shows the beginning.
const SHOWN_CHARS: usize = 60;
/// What HDF5 may put beside each attribute: its header, and a heap for text.
const BESIDE_BYTES: usize = 4096;

/// The value of an attribute: text, a number, or a list of a few.
///
/// ```
/// use chunkwise::store::Attr;
/// assert_eq!(Attr::from("m/s"), Attr::Text("m/s".to_owned()));
/// assert_eq!(Attr::from(2.5), Attr::Float(2.5));
/// assert_eq!(Attr::from([1, 2]), Attr::Integers(vec![1, 2]));
/// assert_eq!(Attr::from(["x", "y"]), Attr::Texts(vec!["x".to_owned(), "y".to_owned()]));
/// assert_eq!((Attr::from(7i64).as_f64(), Attr::from("x").as_str()), (Some(7.0), Some("x")));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Attr {
    /// UTF-8 text.
    Text(String),
    /// A list of texts: names of columns, for example.
    Texts(Vec<String>),
    /// A truth value.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A list of integers.
    Integers(Vec<i64>),
    /// An integer that has no sign.
    Unsigned(u64),
    /// A list of integers that have no sign.
    Unsigneds(Vec<u64>),
    /// A floating-point number.
    Float(f64),
    /// A list of floating-point numbers.
    Floats(Vec<f64>),
    /// Something else, by the name of its type. It cannot be written.
    Other(String),
}

impl Attr {
    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one: integers of more than 53 bits are rounded.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(n) => Some(*n as f64),
            Self::Unsigned(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            Self::Text(_) | Self::Texts(_) | Self::Bool(_) | Self::Other(_) => None,
            Self::Integers(_) | Self::Unsigneds(_) | Self::Floats(_) => None,
        }
    }
}

macro_rules! from {
    ($($t:ty => $one:ident, $list:ident as $as:ty);*) => {$(
        impl From<$t> for Attr {
            fn from(value: $t) -> Self {
                Self::$one(value.into())
            }
        }
        impl From<&[$t]> for Attr {
            fn from(values: &[$t]) -> Self {
                Self::$list(values.iter().map(|&value| <$as>::from(value)).collect())
            }
        }
    )*};
}
macro_rules! lists {
    ($($t:ty),*) => {$(
        impl<const N: usize> From<[$t; N]> for Attr {
            fn from(values: [$t; N]) -> Self {
                values[..].into()
            }
        }
        impl From<Vec<$t>> for Attr {
            fn from(values: Vec<$t>) -> Self {
                values[..].into()
            }
        }
    )*};
}
from!(i8 => Integer, Integers as i64; i16 => Integer, Integers as i64; i32 => Integer, Integers as i64; i64 => Integer, Integers as i64);
from!(u8 => Unsigned, Unsigneds as u64; u16 => Unsigned, Unsigneds as u64; u32 => Unsigned, Unsigneds as u64; u64 => Unsigned, Unsigneds as u64);
from!(f32 => Float, Floats as f64; f64 => Float, Floats as f64);
lists!(i8, i16, i32, i64, u8, u16, u32, u64, usize, f32, f64, &str);

impl From<usize> for Attr {
    fn from(value: usize) -> Self {
        (value as u64).into()
    }
}
impl From<&[usize]> for Attr {
    fn from(values: &[usize]) -> Self {
        Self::Unsigneds(values.iter().map(|&value| value as u64).collect())
    }
}

impl From<bool> for Attr {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<&str> for Attr {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<&String> for Attr {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}
impl From<String> for Attr {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<&[String]> for Attr {
    fn from(texts: &[String]) -> Self {
        Self::Texts(texts.to_vec())
    }
}
impl From<&[&str]> for Attr {
    fn from(texts: &[&str]) -> Self {
        Self::Texts(texts.iter().map(|&text| text.to_owned()).collect())
    }
}
impl From<Vec<String>> for Attr {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

/// Errs if one of the attributes of `object` cannot be written.
pub(super) fn check(attrs: &[(String, Attr)], object: &str) -> Result<()> {
    let zero = "write it without the character 0, where text ends in HDF5";
    attrs.iter().try_for_each(|(name, value)| {
        let shown = || match name.char_indices().nth(SHOWN_CHARS) {
            Some((end, _)) => format!("{:?}... ({} bytes)", &name[..end], name.len()),
            None => format!("{name:?}"),
        };
        let problem = |wanted: &str| Err(Error::argument(format!("attribute of {object}"), shown(), wanted));
        let len = match value {
            Attr::Text(text) if text.contains('\0') => return problem(zero),
            Attr::Texts(all) if all.iter().any(|text| text.contains('\0')) => return problem(zero),
            Attr::Other(what) => return problem(&format!("{what} cannot be written; give text, numbers or a truth value")),
            Attr::Text(_) | Attr::Bool(_) | Attr::Integer(_) | Attr::Unsigned(_) | Attr::Float(_) => 1,
            Attr::Texts(texts) => texts.len().saturating_mul(2), // each has an address of 16 bytes
            Attr::Integers(values) => values.len(),
            Attr::Unsigneds(values) => values.len(),
            Attr::Floats(values) => values.len(),
        };
        if name.is_empty() {
            return problem("give it a name");
        }
        if name.contains('\0') {
            return problem(zero);
        }
        if len.saturating_mul(8).saturating_add(name.len()) > LIMIT_BYTES {
            let instead =
                if name.len() > LIMIT_BYTES / 2 { "choose a shorter name" } else { "shorten the list, or write a dataset" };
            return problem(&format!("at most {} kB fit into an attribute, with its name; {instead}", LIMIT_BYTES / 1000));
        }
        Ok(())
    })
}

/// Bytes of attributes in a file, at most: each value, its name, and what HDF5 puts beside them.
pub(super) fn bytes(attrs: &[(String, Attr)]) -> u64 {
    let of = |(name, value): &(String, Attr)| {
        let text = |text: &String| text.len() + 32; // in a heap, with an address of it
        let value = match value {
            Attr::Text(value) | Attr::Other(value) => text(value),
            Attr::Texts(values) => values.iter().map(text).sum(),
            Attr::Bool(_) | Attr::Integer(_) | Attr::Unsigned(_) | Attr::Float(_) => 8,
            Attr::Integers(values) => 8 * values.len(),
            Attr::Unsigneds(values) => 8 * values.len(),
            Attr::Floats(values) => 8 * values.len(),
        };
        (name.len() + value + BESIDE_BYTES) as u64
    };
    attrs.iter().map(of).sum()
}

/// Writes attributes to an object, in place of those that it has by these names. Of two by one name, the later one.
pub(super) fn write(to: &Location, attrs: &[(String, Attr)]) -> hdf5::Result<()> {
    let there: HashSet<String> = to.attr_names()?.into_iter().collect();
    let last: HashMap<&str, &Attr> = attrs.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let mut written = HashSet::new();
    for (name, _) in attrs.iter().filter(|(name, _)| written.insert(name.as_str())) {
        if there.contains(name) {
            to.delete_attr(name)?;
        }
        write_one(to, name, last[name.as_str()])?;
    }
    Ok(())
}

fn write_one(to: &Location, name: &str, value: &Attr) -> hdf5::Result<()> {
    fn one<T: hdf5::H5Type>(to: &Location, name: &str, value: &T) -> hdf5::Result<()> {
        to.new_attr::<T>().create(name)?.write_scalar(value)
    }
    fn list<T: hdf5::H5Type>(to: &Location, name: &str, values: &[T]) -> hdf5::Result<()> {
        to.new_attr::<T>().shape([values.len()]).create(name)?.write_raw(values)
    }
    let text = |value: &str| VarLenUnicode::from_str(value).map_err(|e| hdf5::Error::from(e.to_string()));
    match value {
        Attr::Text(value) => one(to, name, &text(value)?),
        Attr::Texts(values) => list(to, name, &values.iter().map(|value| text(value)).collect::<hdf5::Result<Vec<_>>>()?),
        Attr::Bool(value) => one(to, name, value),
        Attr::Integer(value) => one(to, name, value),
        Attr::Unsigned(value) => one(to, name, value),
        Attr::Float(value) => one(to, name, value),
        Attr::Integers(values) => list(to, name, values),
        Attr::Unsigneds(values) => list(to, name, values),
        Attr::Floats(values) => list(to, name, values),
        Attr::Other(what) => Err(format!("{what} cannot be written").into()),
    }
}

/// All attributes of an object, by name.
pub(super) fn read_all(of: &Location) -> hdf5::Result<Vec<(String, Attr)>> {
    let mut names = of.attr_names()?;
    names.sort();
    names.into_iter().map(|name| Ok((name.clone(), read(&of.attr(&name)?)?))).collect()
}

/// One attribute of an object, if it has that; if not, which it has.
pub(super) fn read_one(of: &Location, name: &str) -> hdf5::Result<(Option<Attr>, Vec<String>)> {
    let mut names = of.attr_names()?;
    if names.iter().any(|other| other == name) {
        return Ok((Some(read(&of.attr(name)?)?), Vec::new()));
    }
    names.sort();
    Ok((None, names))
}

/// The value of an attribute.
pub(super) fn read(attribute: &Attribute) -> hdf5::Result<Attr> {
    let descriptor = attribute.dtype().and_then(|dtype| dtype.to_descriptor());
    let (Ok(of), Ok(space)) = (descriptor, attribute.space()) else { return Ok(Attr::Other("a type of its own".to_owned())) };
    let is_one = space.ndim() == 0 && space.size() == 1;
    if space.is_null() {
        return Ok(Attr::Other(format!("{of} without a value")));
    }
    if space.ndim() > 1 {
        return Ok(Attr::Other(format!("{of} in {} axes", space.ndim())));
    }
    Ok(match (&of, is_one) {
        (TypeDescriptor::Boolean, true) => Attr::Bool(attribute.read_scalar()?),
        // `as_str` of these takes any bytes for UTF-8.
        (TypeDescriptor::VarLenUnicode, true) => text(&of, attribute.read_scalar::<VarLenUnicode>()?.as_bytes()),
        (TypeDescriptor::VarLenAscii, true) => text(&of, attribute.read_scalar::<VarLenAscii>()?.as_bytes()),
        (TypeDescriptor::VarLenUnicode, false) => {
            texts(&of, attribute.read_raw::<VarLenUnicode>()?.iter().map(|text| text.as_bytes()))
        }
        (TypeDescriptor::VarLenAscii, false) => {
            texts(&of, attribute.read_raw::<VarLenAscii>()?.iter().map(|text| text.as_bytes()))
        }
        (TypeDescriptor::FixedUnicode(_) | TypeDescriptor::FixedAscii(_), true) => text(&of, &fixed_text(attribute)?),
        (TypeDescriptor::Integer(IntSize::U1 | IntSize::U2 | IntSize::U4 | IntSize::U8), true) => {
            Attr::Integer(attribute.read_scalar()?)
        }
        (TypeDescriptor::Integer(IntSize::U1 | IntSize::U2 | IntSize::U4 | IntSize::U8), false) => {
            Attr::Integers(attribute.read_raw()?)
        }
        (TypeDescriptor::Unsigned(IntSize::U1 | IntSize::U2 | IntSize::U4 | IntSize::U8), true) => {
            Attr::Unsigned(attribute.read_scalar()?)
        }
        (TypeDescriptor::Unsigned(IntSize::U1 | IntSize::U2 | IntSize::U4 | IntSize::U8), false) => {
            Attr::Unsigneds(attribute.read_raw()?)
        }
        (TypeDescriptor::Float(FloatSize::U4 | FloatSize::U8), true) => Attr::Float(attribute.read_scalar()?),
        (TypeDescriptor::Float(FloatSize::U4 | FloatSize::U8), false) => Attr::Floats(attribute.read_raw()?),
        (other, _) => Attr::Other(other.to_string()),
    })
}

fn texts<'a>(of: &TypeDescriptor, all: impl Iterator<Item = &'a [u8]>) -> Attr {
    let all = all.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned)).collect::<std::result::Result<_, _>>();
    all.map_or_else(|_| Attr::Other(format!("{of} that are not UTF-8")), Attr::Texts)
}

/// What is marked as ASCII may be UTF-8, or Latin-1.
fn text(of: &TypeDescriptor, bytes: &[u8]) -> Attr {
    match std::str::from_utf8(bytes) {
        Ok(text) => Attr::Text(text.to_owned()),
        Err(_) => Attr::Other(format!("{of} that is not UTF-8")),
    }
}
