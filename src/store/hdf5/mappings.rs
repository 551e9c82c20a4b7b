//! The parts of a virtual dataset, which the safe wrapper does not give.
//!
//! Owns: [`mappings`]. Must not know: what the parts are read from. Invariant: as of raw.rs: libhdf5's lock is held for all its calls, error
//! printing is off, and what is opened is closed.
#![allow(unsafe_code)] // the safe wrapper lacks these calls

use std::ffi::c_char;

use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5p::{
    H5Pget_virtual_count, H5Pget_virtual_dsetname, H5Pget_virtual_filename, H5Pget_virtual_srcspace, H5Pget_virtual_vspace,
};
use hdf5_sys::h5s::{
    H5Sclose, H5Sget_regular_hyperslab, H5Sget_select_bounds, H5Sget_select_npoints, H5Sget_simple_extent_ndims,
    H5Sis_regular_hyperslab,
};

use super::raw::{library_error, text};

/// A part of a virtual dataset, and of the dataset that it is read from.
pub(super) struct Mapping {
    /// The source's file; `.` is the virtual dataset's own.
    pub(super) file: String,
    /// Its path there.
    pub(super) dataset: String,
    /// What is taken of it.
    pub(super) from: Selected,
    /// Where that stands.
    pub(super) to: Selected,
}

/// The bounds of a selection.
pub(super) struct Selected {
    /// First and last index, for each axis; the last one may be without end.
    pub(super) bounds: Vec<(u64, u64)>,
    /// How many of the elements within the bounds there are for one that is selected; 1 if that is not known.
    pub(super) spread: u64,
    /// Of a selection that repeats itself: for each axis from where to where, and how many there are in a row.
    pub(super) steps: Option<Vec<(u64, u64)>>,
}

/// The parts of a virtual dataset.
pub(super) fn mappings(dataset: &hdf5::Dataset) -> hdf5::Result<Vec<Mapping>> {
    hdf5::silence_errors(true);
    let list = dataset.dcpl()?;
    let _lock = hdf5_sys::LOCK.lock();
    let mut count = 0;
    // SAFETY: the lock is held and `list` keeps its id alive.
    if unsafe { H5Pget_virtual_count(list.id(), &mut count) } < 0 {
        return Err(library_error());
    }
    let name = |ask: unsafe extern "C" fn(hid_t, usize, *mut c_char, usize) -> isize, index| {
        // SAFETY: as above; the first call writes nothing, the second at most the length that it is told.
        unsafe {
            let length = usize::try_from(ask(list.id(), index, std::ptr::null_mut(), 0)).map_err(|_| library_error())?;
            let mut name = vec![0u8; length + 1];
            if ask(list.id(), index, name.as_mut_ptr().cast(), name.len()) < 0 {
                return Err(library_error());
            }
            Ok(text(&name))
        }
    };
    let space = |ask: unsafe extern "C" fn(hid_t, usize) -> hid_t, index| {
        // SAFETY: as above; the new space is closed once.
        unsafe {
            let space = ask(list.id(), index);
            let found = if space < 0 { Err(library_error()) } else { selected(space) };
            H5Sclose(space);
            found
        }
    };
    let mapping = |index| {
        // A part without elements, of which libhdf5 cannot give the bounds (nor those of what it is read from).
        let Some(to) = space(H5Pget_virtual_vspace, index)? else { return Ok(None) };
        let Some(from) = space(H5Pget_virtual_srcspace, index)? else { return Ok(None) };
        let (file, dataset) = (name(H5Pget_virtual_filename, index)?, name(H5Pget_virtual_dsetname, index)?);
        Ok(Some(Mapping { file, dataset, from, to }))
    };
    (0..count).filter_map(|index| mapping(index).transpose()).collect()
}

/// What is selected of a dataspace; `None` if nothing is.
///
/// # Safety
/// The library's lock is held and `space` is an open dataspace.
unsafe fn selected(space: hid_t) -> hdf5::Result<Option<Selected>> {
    // SAFETY: by the caller; both lists have the space's rank.
    let (bounds, points, steps) = unsafe {
        if H5Sget_select_npoints(space) == 0 {
            return Ok(None);
        }
        let rank = usize::try_from(H5Sget_simple_extent_ndims(space)).map_err(|_| library_error())?;
        let (mut first, mut last) = (vec![0u64; rank], vec![0u64; rank]);
        if rank > 0 && H5Sget_select_bounds(space, first.as_mut_ptr(), last.as_mut_ptr()) < 0 {
            return Err(library_error());
        }
        let mut steps = None;
        if rank > 0 && H5Sis_regular_hyperslab(space) > 0 {
            let [mut start, mut stride, mut count, mut block] = [(); 4].map(|()| vec![0u64; rank]);
            let lists = [&mut start, &mut stride, &mut count, &mut block].map(|list| list.as_mut_ptr());
            if H5Sget_regular_hyperslab(space, lists[0], lists[1], lists[2], lists[3]) < 0 {
                return Err(library_error());
            }
            steps = Some(stride.into_iter().zip(block).map(|(stride, block)| (stride.max(1), block.max(1))).collect());
        }
        (first.into_iter().zip(last).collect::<Vec<_>>(), H5Sget_select_npoints(space), steps)
    };
    let all = bounds.iter().map(|(a, b)| b.saturating_sub(*a).saturating_add(1)).fold(1, u64::saturating_mul);
    let known = u64::try_from(points).ok().filter(|&points| points > 0 && all < u64::MAX);
    Ok(Some(Selected { bounds, spread: known.map_or(1, |points| all.div_ceil(points)), steps }))
}
