//! Calls of libhdf5 that the safe wrapper lacks: reading a box into a buffer, comparing types.
//!
//! Owns: every `unsafe` call of libhdf5. Must not know: paths, sources. Invariant: each function holds the library's lock
//! for all its calls, turns error printing off for its thread first, and closes what it opens.
#![allow(unsafe_code)] // the safe wrapper reads into fresh arrays only: one more copy and allocation per read

use hdf5_sys::h5d::{H5Dget_type, H5Dread};
use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5p::{H5P_DEFAULT, H5Pget_fill_value, H5Pget_nfilters};
use hdf5_sys::h5s::{H5S_seloper_t, H5Sclose, H5Screate_simple, H5Sget_select_npoints, H5Sselect_hyperslab};
use hdf5_sys::h5t::{
    H5T_IEEE_F32BE, H5T_IEEE_F32LE, H5T_IEEE_F64BE, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, H5T_NATIVE_FLOAT, H5T_NATIVE_INT32,
    H5T_NATIVE_INT64, H5T_NATIVE_UINT8, H5T_NATIVE_UINT32, H5T_NATIVE_UINT64, H5T_STD_I8BE, H5T_STD_I8LE, H5T_STD_I16BE,
    H5T_STD_I16LE, H5T_STD_I32BE, H5T_STD_I32LE, H5T_STD_I64BE, H5T_STD_I64LE, H5T_STD_U8BE, H5T_STD_U8LE, H5T_STD_U16BE,
    H5T_STD_U16LE, H5T_STD_U32BE, H5T_STD_U32LE, H5T_STD_U64BE, H5T_STD_U64LE, H5T_class_t, H5T_sign_t, H5Tclose, H5Tequal,
    H5Tget_class, H5Tget_sign, H5Tget_size,
};

use crate::shape::{AxisRange, DType};
use crate::store::stored::{Number, Stored};

/// What the elements of a dataset are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementType {
    /// A standard number format, whose bytes we can read ourselves.
    Standard(Stored),
    /// Another number format, which libhdf5 converts exactly to this dtype.
    Converted(DType),
    /// Not a number, or none that a dtype can hold: what it is.
    Other(&'static str),
}

/// Looks at the element type of a dataset (not at enums: booleans are found by their members, by the caller).
pub(super) fn element_type(dataset: &hdf5::Dataset) -> ElementType {
    hdf5::silence_errors(true);
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held; `dataset` keeps its id alive; the type id is closed below, once.
    unsafe {
        let id = H5Dget_type(dataset.id());
        if id < 0 {
            return ElementType::Other("a type that libhdf5 cannot read");
        }
        let found = standard(id).map_or_else(|| unusual(id), ElementType::Standard);
        H5Tclose(id);
        found
    }
}

/// # Safety
/// The library's lock is held and `id` is an open type.
unsafe fn standard(id: hid_t) -> Option<Stored> {
    let known = [
        (*H5T_STD_I8LE, *H5T_STD_I8BE, Number::I8),
        (*H5T_STD_U8LE, *H5T_STD_U8BE, Number::U8),
        (*H5T_STD_I16LE, *H5T_STD_I16BE, Number::I16),
        (*H5T_STD_U16LE, *H5T_STD_U16BE, Number::U16),
        (*H5T_STD_I32LE, *H5T_STD_I32BE, Number::I32),
        (*H5T_STD_U32LE, *H5T_STD_U32BE, Number::U32),
        (*H5T_STD_I64LE, *H5T_STD_I64BE, Number::I64),
        (*H5T_STD_U64LE, *H5T_STD_U64BE, Number::U64),
        (*H5T_IEEE_F32LE, *H5T_IEEE_F32BE, Number::F32),
        (*H5T_IEEE_F64LE, *H5T_IEEE_F64BE, Number::F64),
    ];
    // SAFETY: by the caller; the standard types live as long as the library.
    let equal = |other: hid_t| unsafe { H5Tequal(id, other) > 0 };
    known.into_iter().find_map(|(little, big, number)| {
        if equal(little) {
            return Some(Stored { number, big_endian: false });
        }
        equal(big).then_some(Stored { number, big_endian: true })
    })
}

/// # Safety
/// The library's lock is held and `id` is an open type.
unsafe fn unusual(id: hid_t) -> ElementType {
    // SAFETY: by the caller.
    let (class, bytes) = unsafe { (H5Tget_class(id), H5Tget_size(id)) };
    match class {
        // SAFETY: by the caller.
        H5T_class_t::H5T_INTEGER => match (unsafe { H5Tget_sign(id) } == H5T_sign_t::H5T_SGN_2, bytes) {
            (true, 0..=4) | (false, 0..=2) => ElementType::Converted(DType::I32),
            (false, 3..=4) => ElementType::Converted(DType::U32),
            (true, 5..=8) => ElementType::Converted(DType::I64),
            (false, 5..=8) => ElementType::Converted(DType::U64),
            _ => ElementType::Other("an integer of more than 64 bits"),
        },
        H5T_class_t::H5T_FLOAT => match bytes {
            0..=2 => ElementType::Converted(DType::F32),
            3..=8 => ElementType::Converted(DType::F64),
            _ => ElementType::Other("a float of more than 64 bits (long double)"),
        },
        H5T_class_t::H5T_STRING => ElementType::Other("a string"),
        H5T_class_t::H5T_COMPOUND => ElementType::Other("a compound (records, or complex numbers)"),
        H5T_class_t::H5T_REFERENCE => ElementType::Other("a reference"),
        H5T_class_t::H5T_ENUM => ElementType::Other("an enumeration"),
        H5T_class_t::H5T_VLEN => ElementType::Other("variable-length lists"),
        H5T_class_t::H5T_ARRAY => ElementType::Other("an array in each element"),
        H5T_class_t::H5T_TIME => ElementType::Other("a time"),
        H5T_class_t::H5T_BITFIELD => ElementType::Other("a bit field"),
        H5T_class_t::H5T_OPAQUE => ElementType::Other("opaque bytes"),
        _ => ElementType::Other("of a class that is not known"),
    }
}

/// The library's type for elements of `dtype` in memory; `None` for booleans, which are read in the file's own type.
fn memory_type(dtype: DType) -> Option<hid_t> {
    Some(match dtype {
        DType::Bool => return None,
        DType::U8 => *H5T_NATIVE_UINT8,
        DType::I32 => *H5T_NATIVE_INT32,
        DType::U32 => *H5T_NATIVE_UINT32,
        DType::I64 => *H5T_NATIVE_INT64,
        DType::U64 => *H5T_NATIVE_UINT64,
        DType::F32 => *H5T_NATIVE_FLOAT,
        DType::F64 => *H5T_NATIVE_DOUBLE,
    })
}

/// Runs `with` with the memory type for `dtype`.
///
/// # Safety
/// The library's lock is held, and `dataset` is one whose elements are numbers, or one-byte enums if `dtype` is `Bool`.
unsafe fn with_memory_type<R>(dataset: &hdf5::Dataset, dtype: DType, with: impl FnOnce(hid_t) -> R) -> R {
    if let Some(id) = memory_type(dtype) {
        return with(id);
    }
    // SAFETY: the dataset is open; its type is closed below, once.
    unsafe {
        let id = H5Dget_type(dataset.id());
        let result = with(id);
        H5Tclose(id);
        result
    }
}

/// The fill value in native bytes of `dtype`; zero if there is none.
pub(super) fn fill(dataset: &hdf5::Dataset, dtype: DType) -> [u8; 8] {
    hdf5::silence_errors(true);
    let mut native = [0u8; 8];
    let Ok(list) = dataset.dcpl() else { return native };
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held, `list` keeps its id alive, and no memory type is longer than 8 bytes.
    let status = unsafe { with_memory_type(dataset, dtype, |id| H5Pget_fill_value(list.id(), id, native.as_mut_ptr().cast())) };
    if status < 0 { [0; 8] } else { native }
}

/// Number of filters; `None` if it cannot be told.
pub(super) fn filter_count(dataset: &hdf5::Dataset) -> Option<usize> {
    hdf5::silence_errors(true);
    let list = dataset.dcpl().ok()?;
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held and `list` keeps its id alive.
    usize::try_from(unsafe { H5Pget_nfilters(list.id()) }).ok()
}

/// Reads the box `axes` of a dataset into `to`, in C order, as `dtype` (booleans: as the bytes in the file).
///
/// # Errors
/// What libhdf5 says.
///
/// # Panics
/// If `to` is not as long as the box.
pub(super) fn read_box(dataset: &hdf5::Dataset, axes: &[AxisRange], dtype: DType, to: &mut [u8]) -> hdf5::Result<()> {
    let points: usize = axes.iter().map(|a| a.len).product();
    assert_eq!(to.len(), points * dtype.bytes(), "buffer for {axes:?} of {dtype}");
    hdf5::silence_errors(true);
    let space = dataset.space()?;
    let list = |f: fn(&AxisRange) -> usize| axes.iter().map(|a| f(a) as u64).collect::<Vec<u64>>();
    let (start, stride, count) = (list(|a| a.start), list(|a| a.step), list(|a| a.len));
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held; `space` and `dataset` keep their ids alive; the three lists have the dataset's rank, which
    // the caller checked; the memory space has as many points as `to` has elements (asserted above and checked here), and
    // the memory type is as long as `dtype`.
    let done = unsafe {
        if !axes.is_empty()
            && H5Sselect_hyperslab(
                space.id(),
                H5S_seloper_t::H5S_SELECT_SET,
                start.as_ptr(),
                stride.as_ptr(),
                count.as_ptr(),
                std::ptr::null(),
            ) < 0
        {
            return Err(library_error());
        }
        if H5Sget_select_npoints(space.id()) != points as i64 {
            return Err("the dataset's shape is not what it was".into());
        }
        let length = [points as u64];
        let memory = H5Screate_simple(1, length.as_ptr(), std::ptr::null());
        let status = with_memory_type(dataset, dtype, |id| {
            H5Dread(dataset.id(), id, memory, space.id(), H5P_DEFAULT, to.as_mut_ptr().cast())
        });
        H5Sclose(memory);
        status
    };
    if done < 0 { Err(library_error()) } else { Ok(()) }
}

fn library_error() -> hdf5::Error {
    hdf5::Error::query().unwrap_or_else(|e| e)
}
