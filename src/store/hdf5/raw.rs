//! Calls of libhdf5 that the safe wrapper lacks: reading a box into a buffer, links' values, filters,
//! attributes of any type, the file behind a dataset.
//!
//! Owns: every `unsafe` call of libhdf5 but those about element types (`types`). Must not know: paths, sources. Invariant: each function holds the library's lock
//! for all its calls, turns error printing off for its thread first, and closes what it opens.
#![allow(unsafe_code)] // the safe wrapper reads into fresh arrays only: one more copy and allocation per read

use std::ffi::{CStr, CString, c_char};

use hdf5_sys::h5a::{H5Aclose, H5Acreate2, H5Aread, H5Awrite};
use hdf5_sys::h5d::{H5D_fill_value_t, H5Dopen2, H5Dread, H5Dwrite, H5Dwrite_chunk};
use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5l::{H5L_info2_t, H5L_type_t, H5Lget_info2, H5Lget_val, H5Lunpack_elink_val};
use hdf5_sys::h5p::{H5P_DEFAULT, H5Pfill_value_defined, H5Pget_fill_value, H5Pget_filter2, H5Pget_nfilters};
use hdf5_sys::h5s::{H5S_seloper_t, H5Sclose, H5Screate_simple, H5Sget_select_npoints, H5Sselect_hyperslab};
use hdf5_sys::h5t::{H5T_str_t, H5Tget_strpad, H5Treclaim};
use hdf5_sys::h5z::H5Zfilter_avail;

use super::types::with_memory_type;
use crate::shape::{AxisRange, DType, Scalar};
use crate::store::stored::from_memory;

/// The fill value, as `dtype`; zero if there is none.
pub(super) fn fill(dataset: &hdf5::Dataset, dtype: DType) -> hdf5::Result<Scalar> {
    hdf5::silence_errors(true);
    let (mut native, mut defined) = ([0u8; 16], H5D_fill_value_t::default() as i32);
    let list = dataset.dcpl()?;
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held, `list` keeps its id alive, and no memory type is longer than 16 bytes. Of a damaged one libhdf5 must not be asked
    // for the value: it looks at a type that is not there.
    unsafe {
        if H5Pfill_value_defined(list.id(), (&raw mut defined).cast()) < 0 {
            return Err(library_error());
        }
        let get = |id| H5Pget_fill_value(list.id(), id, native.as_mut_ptr().cast());
        if defined == H5D_fill_value_t::H5D_FILL_VALUE_USER_DEFINED as i32 && with_memory_type(dataset, dtype, get) < 0 {
            return Err(library_error());
        }
    }
    Ok(from_memory(dtype, &native))
}

/// A filter of a dataset.
pub(super) struct StoredFilter {
    /// Its registered number.
    pub(super) id: i32,
    /// What the writer called it.
    pub(super) name: String,
    /// Whether this library has it, or finds a plugin for it.
    pub(super) available: bool,
}

/// The filters of a dataset, in the order in which they were applied.
pub(super) fn filters(dataset: &hdf5::Dataset) -> hdf5::Result<Vec<StoredFilter>> {
    hdf5::silence_errors(true);
    let list = dataset.dcpl()?;
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held and `list` keeps its id alive.
    let count = u32::try_from(unsafe { H5Pget_nfilters(list.id()) }).map_err(|_| library_error())?;
    let one = |index| {
        let mut name: [c_char; 128] = [0; 128];
        let (mut flags, mut values, mut config) = (0, 0, 0);
        // SAFETY: as above; no parameter values are asked for (their count is 0), and at most `name.len()` bytes of the name,
        // the last of which stays the 0 that it is.
        let id = unsafe {
            let (no_values, name) = (std::ptr::null_mut(), name.as_mut_ptr());
            H5Pget_filter2(list.id(), index, &mut flags, &mut values, no_values, 127, name, &mut config)
        };
        if id < 0 {
            return Err(library_error());
        }
        // SAFETY: the last byte of `name` is 0. The second call takes a number.
        let (name, available) = unsafe { (CStr::from_ptr(name.as_ptr()), H5Zfilter_avail(id) > 0) };
        Ok(StoredFilter { id, name: name.to_string_lossy().into_owned(), available })
    };
    (0..count).map(one).collect()
}

/// What a link says, without following it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// An object of this file.
    Hard,
    /// Another path of this file.
    Soft(String),
    /// A path in another file: (file, path).
    External(String, String),
    /// Of a kind that a program defined for itself.
    Unknown,
}

/// The link at `path`, as seen from `group`; its groups exist. `None` if there is none.
pub(super) fn link(group: &hdf5::Group, path: &str) -> Option<Link> {
    hdf5::silence_errors(true);
    let path = CString::new(path).ok()?;
    let _lock = hdf5_sys::LOCK.lock();
    let mut info = std::mem::MaybeUninit::<H5L_info2_t>::zeroed();
    // SAFETY: the lock is held, `group` keeps its id alive, `path` ends in 0; zeroes are a valid info.
    let info = unsafe {
        if H5Lget_info2(group.id(), path.as_ptr(), info.as_mut_ptr(), H5P_DEFAULT) < 0 {
            return None;
        }
        info.assume_init()
    };
    if info.type_ == H5L_type_t::H5L_TYPE_HARD {
        return Some(Link::Hard);
    }
    // SAFETY: for links that are not hard, the union holds the value's size.
    let size = unsafe { *{ info }.u.val_size() };
    let mut value = vec![0u8; size + 1]; // one more, so that it ends in 0 whatever the file holds
    // SAFETY: as above; at most `size` bytes are written to `value`.
    if unsafe { H5Lget_val(group.id(), path.as_ptr(), value.as_mut_ptr().cast(), size, H5P_DEFAULT) } < 0 {
        return None;
    }
    match info.type_ {
        H5L_type_t::H5L_TYPE_SOFT => Some(Link::Soft(text(&value))),
        H5L_type_t::H5L_TYPE_EXTERNAL => {
            let (mut flags, mut file, mut object) = (0, std::ptr::null(), std::ptr::null());
            // SAFETY: the call checks that `size` bytes hold two strings that end in 0, and points at them.
            let (file, object) = unsafe {
                if H5Lunpack_elink_val(value.as_ptr().cast(), size, &mut flags, &mut file, &mut object) < 0 {
                    return None;
                }
                (CStr::from_ptr(file), CStr::from_ptr(object))
            };
            Some(Link::External(file.to_string_lossy().into_owned(), object.to_string_lossy().into_owned()))
        }
        _ => Some(Link::Unknown),
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// Opens a dataset with a chunk cache of its own, of `bytes`.
pub(super) fn open_with_cache(file: &hdf5::File, path: &str, bytes: usize) -> hdf5::Result<hdf5::Dataset> {
    hdf5::silence_errors(true);
    let mut list = hdf5::plist::DatasetAccess::build();
    let list = list.chunk_cache(521, bytes, 0.75).finish()?;
    let path = CString::new(path).map_err(|_| hdf5::Error::from("a path with a 0 in it"))?;
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held, `file` and `list` keep their ids alive, `path` ends in 0; the new id has one owner.
    unsafe {
        let id = H5Dopen2(file.id(), path.as_ptr(), list.id());
        if id < 0 { Err(library_error()) } else { hdf5::from_id(id) }
    }
}

/// A second descriptor of the very file that libhdf5 reads the dataset from (its `sec2` driver), whatever stands under the
/// name by now; `None` where there is none.
#[cfg(unix)]
pub(super) fn descriptor(file: &hdf5::File) -> Option<std::io::Result<std::fs::File>> {
    use hdf5::plist::file_access::FileDriver;
    hdf5::silence_errors(true);
    // Only of this driver is it known what its handle is.
    if !matches!(file.fapl().ok()?.get_driver(), Ok(FileDriver::Sec2)) {
        return None;
    }
    let _lock = hdf5_sys::LOCK.lock();
    let mut handle: *mut std::ffi::c_void = std::ptr::null_mut();
    // SAFETY: the lock is held and `file` keeps its id alive; the sec2 driver's handle is a pointer to its descriptor, which
    // is open as long as the file is.
    unsafe {
        if hdf5_sys::h5f::H5Fget_vfd_handle(file.id(), H5P_DEFAULT, &mut handle) < 0 || handle.is_null() {
            return None;
        }
        let open = std::os::fd::BorrowedFd::borrow_raw(*handle.cast::<std::ffi::c_int>());
        Some(open.try_clone_to_owned().map(std::fs::File::from))
    }
}

/// An attribute, taken out of its file.
pub(super) struct SavedAttribute {
    name: String,
    dtype: hdf5::Datatype,
    space: hdf5::Dataspace,
    /// The value as libhdf5 has it in memory; `u64` so that pointers in it are aligned.
    value: Vec<u64>,
}

impl SavedAttribute {
    /// Reads an attribute of any type.
    pub(super) fn read(attribute: &hdf5::Attribute, name: String) -> hdf5::Result<Self> {
        hdf5::silence_errors(true);
        let (dtype, space) = (attribute.dtype()?, attribute.space()?);
        let bytes = dtype.size().saturating_mul(space.size());
        let mut value = vec![0u64; bytes.div_ceil(8)];
        let _lock = hdf5_sys::LOCK.lock();
        // SAFETY: the lock is held; `attribute` and `dtype` keep their ids alive; `value` has a place for every element of the
        // attribute's space in its own type.
        if bytes > 0 && unsafe { H5Aread(attribute.id(), dtype.id(), value.as_mut_ptr().cast()) } < 0 {
            return Err(library_error());
        }
        Ok(Self { name, dtype, space, value })
    }

    /// Writes it to another dataset of the same file.
    pub(super) fn write(&self, dataset: &hdf5::Dataset) -> hdf5::Result<()> {
        hdf5::silence_errors(true);
        let name = CString::new(self.name.as_str()).map_err(|_| hdf5::Error::from("a name with a 0 in it"))?;
        let _lock = hdf5_sys::LOCK.lock();
        // SAFETY: the lock is held; all ids are kept alive by `self` and `dataset`; the attribute's id is closed once; `value`
        // is what `read` filled for this type and space.
        unsafe {
            let (dtype, space) = (self.dtype.id(), self.space.id());
            let id = H5Acreate2(dataset.id(), name.as_ptr(), dtype, space, H5P_DEFAULT, H5P_DEFAULT);
            if id < 0 {
                return Err(library_error());
            }
            let status = if self.value.is_empty() { 0 } else { H5Awrite(id, dtype, self.value.as_ptr().cast()) };
            let error = if status < 0 { Err(library_error()) } else { Ok(()) };
            H5Aclose(id);
            error
        }
    }
}

impl Drop for SavedAttribute {
    fn drop(&mut self) {
        if self.value.is_empty() {
            return;
        }
        let _lock = hdf5_sys::LOCK.lock();
        // SAFETY: as for `read`; what it allocated for variable-length values is freed here, once.
        unsafe { H5Treclaim(self.dtype.id(), self.space.id(), H5P_DEFAULT, self.value.as_mut_ptr().cast()) };
    }
}

/// The text of an attribute that is one text of fixed length, without what fills it up.
pub(super) fn fixed_text(attribute: &hdf5::Attribute) -> hdf5::Result<Vec<u8>> {
    let saved = SavedAttribute::read(attribute, String::new())?;
    let mut text: Vec<u8> = bytemuck::cast_slice(&saved.value)[..saved.dtype.size()].to_vec();
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held, and `saved` keeps the id alive.
    if unsafe { H5Tget_strpad(saved.dtype.id()) } == H5T_str_t::H5T_STR_SPACEPAD {
        text.truncate(text.trim_ascii_end().len());
    } else if let Some(end) = text.iter().position(|&byte| byte == 0) {
        text.truncate(end);
    }
    Ok(text)
}

/// Reads the box `axes` of a dataset into `to`, in C order, as `dtype` (booleans: as the bytes in the file).
///
/// # Panics
/// If `to` is not as long as the box.
pub(super) fn read_box(dataset: &hdf5::Dataset, axes: &[AxisRange], dtype: DType, to: &mut [u8]) -> hdf5::Result<()> {
    let points: usize = axes.iter().map(|a| a.len).product();
    assert_eq!(to.len(), points * dtype.bytes(), "buffer for {axes:?} of {dtype}");
    let to = to.as_mut_ptr().cast();
    // SAFETY: `to` has as many elements as the box, of the memory type's length.
    transfer(dataset, axes, dtype, |id, memory, space| unsafe { H5Dread(dataset.id(), id, memory, space, H5P_DEFAULT, to) })
}

/// Writes the box `axes` of a dataset from `from`, in C order, as `dtype` (booleans: as bytes).
///
/// # Panics
/// If `from` is not as long as the box.
pub(super) fn write_box(dataset: &hdf5::Dataset, axes: &[AxisRange], dtype: DType, from: &[u8]) -> hdf5::Result<()> {
    let points: usize = axes.iter().map(|a| a.len).product();
    assert_eq!(from.len(), points * dtype.bytes(), "buffer for {axes:?} of {dtype}");
    let from = from.as_ptr().cast();
    // SAFETY: `from` has as many elements as the box, of the memory type's length.
    transfer(dataset, axes, dtype, |id, memory, space| unsafe { H5Dwrite(dataset.id(), id, memory, space, H5P_DEFAULT, from) })
}

/// Writes a chunk that has gone through the dataset's filters: the one that begins at `at`.
///
/// # Panics
/// If `at` is not of the dataset's rank.
pub(super) fn write_packed(dataset: &hdf5::Dataset, at: &[usize], bytes: &[u8]) -> hdf5::Result<()> {
    hdf5::silence_errors(true);
    assert_eq!(at.len(), dataset.ndim(), "a chunk of a dataset of {:?}", dataset.shape());
    let at: Vec<u64> = at.iter().map(|&i| i as u64).collect();
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held; `dataset` keeps its id alive; `at` has its rank, and libhdf5 refuses what is no chunk's beginning; it reads the bytes only.
    let done = unsafe { H5Dwrite_chunk(dataset.id(), H5P_DEFAULT, 0, at.as_ptr(), bytes.len(), bytes.as_ptr().cast()) };
    if done < 0 { Err(library_error()) } else { Ok(()) }
}

/// Writes a zero of the dataset's own type to one element: whatever libhdf5 has not allocated of its chunk (or of all, without chunks), it
/// allocates then.
pub(super) fn write_zero(dataset: &hdf5::Dataset, at: &[usize], dtype: DType) -> hdf5::Result<()> {
    let axes: Vec<AxisRange> = at.iter().map(|&start| AxisRange { start, len: 1, step: 1 }).collect();
    let zero = [0u8; 16];
    let from = zero.as_ptr().cast();
    // SAFETY: no type has more than 16 bytes.
    transfer(dataset, &axes, dtype, |id, memory, space| unsafe { H5Dwrite(dataset.id(), id, memory, space, H5P_DEFAULT, from) })
}

/// Calls `call` with the memory type, a memory space of as many points as the box has, and the dataset's space with the box selected. The
/// caller has checked that `axes` are of the dataset's rank.
fn transfer(
    dataset: &hdf5::Dataset,
    axes: &[AxisRange],
    dtype: DType,
    call: impl FnOnce(hid_t, hid_t, hid_t) -> i32,
) -> hdf5::Result<()> {
    hdf5::silence_errors(true);
    let points: usize = axes.iter().map(|a| a.len).product();
    let space = dataset.space()?;
    let list = |f: fn(&AxisRange) -> usize| axes.iter().map(|a| f(a) as u64).collect::<Vec<u64>>();
    let (start, stride, count) = (list(|a| a.start), list(|a| a.step), list(|a| a.len));
    let _lock = hdf5_sys::LOCK.lock();
    // SAFETY: the lock is held; `space` and `dataset` keep their ids alive; the three lists have the dataset's rank, which
    // the caller checked, or libhdf5 reads none of them.
    unsafe {
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
        let done = with_memory_type(dataset, dtype, |id| {
            let status = call(id, memory, space.id());
            // Here, because each further call, those that close what was opened too, begins with an empty error stack.
            if status < 0 { Err(library_error()) } else { Ok(()) }
        });
        H5Sclose(memory);
        done
    }
}

pub(super) fn library_error() -> hdf5::Error {
    hdf5::Error::query().unwrap_or_else(|e| e)
}
