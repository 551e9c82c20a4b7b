//! Element types in HDF5: what those of a dataset are here, and what ours are there.
//!
//! Owns: [`ElementType`], the types of libhdf5 for each dtype. Must not know: paths, sources. Invariant: as in `raw`: the library's lock is held for all calls,
//! error printing is off, and what is opened is closed.
//!
//! HDF5 has no name for `f16`, `bf16` and complex numbers; what stands for them is what h5py writes (a float of 16 bits; a compound of `r` and `i`), and what
//! HDF5 2 calls so (a float of 8 bits exponent; its own complex class, which is read).
#![allow(unsafe_code)] // the safe wrapper cannot compare types, or make floats of other widths

use std::ffi::CStr;

use hdf5_sys::h5::H5free_memory;
use hdf5_sys::h5d::H5Dget_type;
use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5t::*;

use super::raw::library_error;
use crate::shape::DType;
use crate::store::stored::Stored;

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

/// A type of libhdf5, closed when it goes; made and dropped under the library's lock.
struct OpenType(hid_t);

impl Drop for OpenType {
    fn drop(&mut self) {
        // SAFETY: whoever made it holds the lock, and it has no other owner.
        unsafe { H5Tclose(self.0) };
    }
}

/// Looks at the element type of a dataset (not at enums: booleans are found by their members, by the caller).
pub(super) fn element_type(dataset: &hdf5::Dataset) -> ElementType {
    hdf5::silence_errors(true);
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held; `dataset` keeps its id alive.
    let id = unsafe { H5Dget_type(dataset.id()) };
    if id < 0 {
        return ElementType::Other("a type that libhdf5 cannot read");
    }
    let found = OpenType(id);
    // SAFETY: the lock is held until after the type is closed.
    unsafe { standard(found.0).map_or_else(|| unusual(found.0), ElementType::Standard) }
}

/// # Safety
/// The library's lock is held and `id` is an open type.
unsafe fn standard(id: hid_t) -> Option<Stored> {
    let known = [
        (*H5T_STD_I8LE, *H5T_STD_I8BE, DType::I8),
        (*H5T_STD_U8LE, *H5T_STD_U8BE, DType::U8),
        (*H5T_STD_I16LE, *H5T_STD_I16BE, DType::I16),
        (*H5T_STD_U16LE, *H5T_STD_U16BE, DType::U16),
        (*H5T_STD_I32LE, *H5T_STD_I32BE, DType::I32),
        (*H5T_STD_U32LE, *H5T_STD_U32BE, DType::U32),
        (*H5T_STD_I64LE, *H5T_STD_I64BE, DType::I64),
        (*H5T_STD_U64LE, *H5T_STD_U64BE, DType::U64),
        (*H5T_IEEE_F32LE, *H5T_IEEE_F32BE, DType::F32),
        (*H5T_IEEE_F64LE, *H5T_IEEE_F64BE, DType::F64),
    ];
    // SAFETY: by the caller; the standard types live as long as the library.
    let equal = |other: hid_t| unsafe { H5Tequal(id, other) > 0 };
    let found = known.into_iter().find_map(|(little, big, dtype)| {
        if equal(little) {
            return Some(Stored { dtype, big_endian: false });
        }
        equal(big).then_some(Stored { dtype, big_endian: true })
    });
    // SAFETY: by the caller.
    found.or_else(|| unsafe { half(id) }).or_else(|| unsafe { complex(id) })
}

/// Where the bits of a float of 16 bits are: sign, first bit and number of bits of the exponent, then of the fraction; and what is taken off the exponent.
type HalfFields = ([usize; 5], usize);
const HALVES: [(DType, HalfFields); 2] = [(DType::F16, ([15, 10, 5, 0, 10], 15)), (DType::BF16, ([15, 7, 8, 0, 7], 127))];

/// # Safety
/// As [`standard`].
unsafe fn half(id: hid_t) -> Option<Stored> {
    let mut fields = [0usize; 5];
    let [sign, exponent, exponent_bits, fraction, fraction_bits] = &mut fields;
    // SAFETY: by the caller; the places are written only.
    let (order, bias) = unsafe {
        let implied = H5Tget_norm(id) == H5T_norm_t::H5T_NORM_IMPLIED;
        if H5Tget_class(id) != H5T_class_t::H5T_FLOAT || H5Tget_size(id) != 2 || !implied {
            return None;
        }
        if H5Tget_fields(id, sign, exponent, exponent_bits, fraction, fraction_bits) < 0 {
            return None;
        }
        (H5Tget_order(id), H5Tget_ebias(id))
    };
    let big_endian = match order {
        H5T_order_t::H5T_ORDER_LE => false,
        H5T_order_t::H5T_ORDER_BE => true,
        _ => return None,
    };
    HALVES.iter().find(|half| half.1 == (fields, bias)).map(|half| Stored { dtype: half.0, big_endian })
}

/// # Safety
/// As [`standard`].
unsafe fn complex(id: hid_t) -> Option<Stored> {
    // SAFETY: by the caller; types that are asked for are closed under the lock.
    unsafe {
        let part = match H5Tget_class(id) {
            H5T_class_t::H5T_COMPLEX => OpenType(H5Tget_super(id)),
            H5T_class_t::H5T_COMPOUND if H5Tget_nmembers(id) == 2 => {
                let names = [member(id, 0)?, member(id, 1)?];
                if ![["r", "i"], ["re", "im"], ["real", "imag"]].iter().any(|known| names == *known) {
                    return None;
                }
                let (first, second) = (OpenType(H5Tget_member_type(id, 0)), OpenType(H5Tget_member_type(id, 1)));
                let places = [H5Tget_member_offset(id, 0), H5Tget_member_offset(id, 1)];
                if first.0 < 0 || H5Tequal(first.0, second.0) <= 0 || places != [0, H5Tget_size(first.0)] {
                    return None;
                }
                first
            }
            _ => return None,
        };
        if part.0 < 0 || H5Tget_size(id) != 2 * H5Tget_size(part.0) {
            return None;
        }
        let Stored { dtype, big_endian } = standard(part.0)?;
        match dtype {
            DType::F32 => Some(Stored { dtype: DType::C64, big_endian }),
            DType::F64 => Some(Stored { dtype: DType::C128, big_endian }),
            _ => None,
        }
    }
}

/// The name of a member of a compound.
///
/// # Safety
/// As [`standard`]; `id` is a compound.
unsafe fn member(id: hid_t, index: u32) -> Option<String> {
    // SAFETY: by the caller; the library's text ends in 0, and is given back to it.
    unsafe {
        let name = H5Tget_member_name(id, index);
        if name.is_null() {
            return None;
        }
        let text = CStr::from_ptr(name).to_string_lossy().into_owned();
        H5free_memory(name.cast());
        Some(text)
    }
}

/// # Safety
/// The library's lock is held and `id` is an open type.
unsafe fn unusual(id: hid_t) -> ElementType {
    // SAFETY: by the caller.
    let (class, bytes) = unsafe { (H5Tget_class(id), H5Tget_size(id)) };
    match class {
        // SAFETY: by the caller.
        H5T_class_t::H5T_INTEGER => match (unsafe { H5Tget_sign(id) } == H5T_sign_t::H5T_SGN_2, bytes) {
            (true, 0..=1) => ElementType::Converted(DType::I8),
            (false, 0..=1) => ElementType::Converted(DType::U8),
            (true, 2) => ElementType::Converted(DType::I16),
            (false, 2) => ElementType::Converted(DType::U16),
            (true, 3..=4) => ElementType::Converted(DType::I32),
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
        H5T_class_t::H5T_COMPOUND => ElementType::Other("a compound (records)"),
        H5T_class_t::H5T_COMPLEX => ElementType::Other("a complex number of other parts than float32 and float64"),
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

/// The type of a dataset of this dtype that is made.
pub(super) fn datatype(dtype: DType) -> hdf5::Result<hdf5::Datatype> {
    use hdf5::types::TypeDescriptor;
    if dtype == DType::Bool {
        return hdf5::Datatype::from_descriptor(&TypeDescriptor::Boolean);
    }
    hdf5::silence_errors(true);
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held; the new id has one owner.
    unsafe {
        let id = made(dtype);
        if id < 0 { Err(library_error()) } else { hdf5::from_id(id) }
    }
}

/// A new type for elements of a dtype as they lie in memory, and as we write them.
///
/// # Safety
/// The library's lock is held; whoever gets it closes it.
unsafe fn made(dtype: DType) -> hid_t {
    // SAFETY: by the caller; the standard types live as long as the library, and what is made in between is closed.
    unsafe {
        match dtype {
            DType::Bool => -1,
            DType::I8 => H5Tcopy(*H5T_STD_I8LE),
            DType::U8 => H5Tcopy(*H5T_STD_U8LE),
            DType::I16 => H5Tcopy(*H5T_STD_I16LE),
            DType::U16 => H5Tcopy(*H5T_STD_U16LE),
            DType::I32 => H5Tcopy(*H5T_STD_I32LE),
            DType::U32 => H5Tcopy(*H5T_STD_U32LE),
            DType::I64 => H5Tcopy(*H5T_STD_I64LE),
            DType::U64 => H5Tcopy(*H5T_STD_U64LE),
            DType::F32 => H5Tcopy(*H5T_IEEE_F32LE),
            DType::F64 => H5Tcopy(*H5T_IEEE_F64LE),
            DType::F16 | DType::BF16 => {
                let (_, ([sign, exponent, exponent_bits, fraction, fraction_bits], bias)) =
                    HALVES[usize::from(dtype == DType::BF16)];
                let id = H5Tcopy(*H5T_IEEE_F32LE);
                // In this order: fields must lie within the size.
                let done = H5Tset_fields(id, sign, exponent, exponent_bits, fraction, fraction_bits) >= 0
                    && H5Tset_size(id, 2) >= 0
                    && H5Tset_ebias(id, bias) >= 0;
                if done { id } else { closed(id) }
            }
            DType::C64 | DType::C128 => {
                let part = if dtype == DType::C64 { *H5T_IEEE_F32LE } else { *H5T_IEEE_F64LE };
                let id = H5Tcreate(H5T_class_t::H5T_COMPOUND, dtype.bytes());
                let done =
                    H5Tinsert(id, c"r".as_ptr(), 0, part) >= 0 && H5Tinsert(id, c"i".as_ptr(), dtype.bytes() / 2, part) >= 0;
                if done { id } else { closed(id) }
            }
        }
    }
}

/// Closes a type that could not be made.
///
/// # Safety
/// As [`made`].
unsafe fn closed(id: hid_t) -> hid_t {
    if id >= 0 {
        drop(OpenType(id));
    }
    -1
}

/// Runs `with` with the memory type for `dtype`: of booleans the file's own, of complex numbers the file's own with its members' names, in this machine's order.
///
/// # Safety
/// The library's lock is held, and `dataset` is one whose elements are numbers, one-byte enums if `dtype` is `Bool`, complex if it is complex.
pub(super) unsafe fn with_memory_type<R>(dataset: &hdf5::Dataset, dtype: DType, with: impl FnOnce(hid_t) -> R) -> R {
    // SAFETY: the dataset is open; the types are closed here.
    let memory = unsafe {
        match dtype {
            DType::Bool => OpenType(H5Dget_type(dataset.id())),
            DType::C64 | DType::C128 => {
                let own = OpenType(H5Dget_type(dataset.id()));
                OpenType(H5Tget_native_type(own.0, H5T_direction_t::H5T_DIR_ASCEND))
            }
            _ => OpenType(made(dtype)),
        }
    };
    with(memory.0)
}
