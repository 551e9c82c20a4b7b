//! Attributes: small values that go with a dataset, a group or a file.
//!
//! Owns: [`Attr`], reading and writing it. Must not know: datasets' elements. Invariant: what is written is read back as it was; what is not one of these types is
//! listed by the name of its type, and left as it is.

use std::str::FromStr;

use hdf5::types::{FloatSize, IntSize, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Attribute, Location};

use super::raw::fixed_text;
use crate::error::{Error, Result};

/// What an attribute may take, with its name: it stands in its object's header, of which HDF5 limits a part to 64 KiB. Text lies elsewhere.
const LIMIT_BYTES: usize = 64_000;

/// The value of an attribute: text, a number, or a few numbers.
///
/// ```
/// use chunkwise::store::Attr;
/// assert_eq!(Attr::from("m/s"), Attr::Text("m/s".to_owned()));
/// assert_eq!(Attr::from(2.5), Attr::Floats(vec![2.5], true));
/// assert_eq!(Attr::from(&[1i64, 2][..]), Attr::Integers(vec![1, 2], false));
/// assert_eq!((Attr::from(7i64).as_f64(), Attr::from("x").as_str()), (Some(7.0), Some("x")));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Attr {
    /// UTF-8 text.
    Text(String),
    /// A truth value.
    Bool(bool),
    /// Integers; whether it is one number and not a list.
    Integers(Vec<i64>, bool),
    /// Integers that have no sign; whether it is one number and not a list.
    Unsigned(Vec<u64>, bool),
    /// Floating-point numbers; whether it is one number and not a list.
    Floats(Vec<f64>, bool),
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
            Self::Integers(all, true) => all.first().map(|&n| n as f64),
            Self::Unsigned(all, true) => all.first().map(|&n| n as f64),
            Self::Floats(all, true) => all.first().copied(),
            Self::Text(_) | Self::Bool(_) | Self::Other(_) | Self::Integers(..) | Self::Unsigned(..) | Self::Floats(..) => None,
        }
    }
}

macro_rules! from {
    ($($t:ty => $variant:ident as $as:ty),*) => {$(
        impl From<$t> for Attr {
            fn from(value: $t) -> Self {
                Self::$variant(vec![value.into()], true)
            }
        }
        impl From<&[$t]> for Attr {
            fn from(values: &[$t]) -> Self {
                Self::$variant(values.iter().map(|&value| <$as>::from(value)).collect(), false)
            }
        }
        impl From<Vec<$t>> for Attr {
            fn from(values: Vec<$t>) -> Self {
                values[..].into()
            }
        }
    )*};
}
from!(i32 => Integers as i64, i64 => Integers as i64, u32 => Unsigned as u64, u64 => Unsigned as u64, f32 => Floats as f64, f64 => Floats as f64);

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
impl From<String> for Attr {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Errs if one of the attributes of `object` cannot be written.
pub(super) fn check(attrs: &[(String, Attr)], object: &str) -> Result<()> {
    let zero = "write it without the character 0, where text ends in HDF5";
    attrs.iter().try_for_each(|(name, value)| {
        let problem = |wanted: &str| Err(Error::argument(format!("attribute of {object}"), format!("{name:?}"), wanted));
        let len = match value {
            Attr::Text(text) if text.contains('\0') => return problem(zero),
            Attr::Other(what) => return problem(&format!("{what} cannot be written; give text, numbers or a truth value")),
            Attr::Text(_) | Attr::Bool(_) => 0,
            Attr::Integers(values, _) => values.len(),
            Attr::Unsigned(values, _) => values.len(),
            Attr::Floats(values, _) => values.len(),
        };
        if let Attr::Integers(_, true) | Attr::Unsigned(_, true) | Attr::Floats(_, true) = value
            && len != 1
        {
            return problem("one number is one number; say that it is a list");
        }
        if name.is_empty() {
            return problem("give it a name");
        }
        if name.contains('\0') {
            return problem(zero);
        }
        if len.saturating_mul(8).saturating_add(name.len()) > LIMIT_BYTES {
            return problem(&format!("at most {} numbers fit into an attribute, not {len}; write a dataset", LIMIT_BYTES / 8));
        }
        Ok(())
    })
}

/// Writes attributes to an object, in place of those that it has by these names.
pub(super) fn write(to: &Location, attrs: &[(String, Attr)]) -> hdf5::Result<()> {
    attrs.iter().try_for_each(|(name, value)| {
        if to.attr_names()?.contains(name) {
            to.delete_attr(name)?;
        }
        write_one(to, name, value)
    })
}

fn write_one(to: &Location, name: &str, value: &Attr) -> hdf5::Result<()> {
    fn all<T: hdf5::H5Type + Copy>(to: &Location, name: &str, values: &[T], is_one: bool) -> hdf5::Result<()> {
        match (is_one, values.first()) {
            (true, Some(one)) => to.new_attr::<T>().create(name)?.write_scalar(one),
            _ => to.new_attr::<T>().shape([values.len()]).create(name)?.write_raw(values),
        }
    }
    match value {
        Attr::Text(text) => {
            let text = VarLenUnicode::from_str(text).map_err(|e| hdf5::Error::from(e.to_string()))?;
            to.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&text)
        }
        Attr::Bool(value) => to.new_attr::<bool>().create(name)?.write_scalar(value),
        Attr::Integers(values, is_one) => all(to, name, values, *is_one),
        Attr::Unsigned(values, is_one) => all(to, name, values, *is_one),
        Attr::Floats(values, is_one) => all(to, name, values, *is_one),
        Attr::Other(what) => Err(format!("{what} cannot be written").into()),
    }
}

/// All attributes of an object, by name.
pub(super) fn read_all(of: &Location) -> hdf5::Result<Vec<(String, Attr)>> {
    let mut names = of.attr_names()?;
    names.sort();
    names.into_iter().map(|name| Ok((name.clone(), read(&of.attr(&name)?)?))).collect()
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
        (TypeDescriptor::FixedUnicode(_) | TypeDescriptor::FixedAscii(_), true) => text(&of, &fixed_text(attribute)?),
        (TypeDescriptor::Integer(IntSize::U1 | IntSize::U2 | IntSize::U4 | IntSize::U8), _) => {
            Attr::Integers(attribute.read_raw::<i64>()?, is_one)
        }
        (TypeDescriptor::Unsigned(IntSize::U1 | IntSize::U2 | IntSize::U4 | IntSize::U8), _) => {
            Attr::Unsigned(attribute.read_raw::<u64>()?, is_one)
        }
        (TypeDescriptor::Float(FloatSize::U4 | FloatSize::U8), _) => Attr::Floats(attribute.read_raw::<f64>()?, is_one),
        (other, _) => Attr::Other(other.to_string()),
    })
}

/// What is marked as ASCII may be UTF-8, or Latin-1.
fn text(of: &TypeDescriptor, bytes: &[u8]) -> Attr {
    match std::str::from_utf8(bytes) {
        Ok(text) => Attr::Text(text.to_owned()),
        Err(_) => Attr::Other(format!("{of} that is not UTF-8")),
    }
}
