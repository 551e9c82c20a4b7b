//! Views of chunk bytes: every layout against plain indexing. Owns: the properties. Must not know: tiles. Invariant: every test compares numbers.

use super::*;
use crate::shape::View;
use proptest::prelude::*;

#[test]
fn rows_of_a_window() {
    let data: Vec<i32> = (0..12).collect();
    let layout = Layout { dtype: DType::I32, shape: vec![2, 2], strides: vec![4, 1] };
    let view = ChunkView::from_slice(&data[5..], &layout);
    assert_eq!(view.rows::<i32>().collect::<Vec<_>>(), [[5, 6], [9, 10]]);
    assert!(view.try_slice::<i32>().is_none());
    let mut out = vec![0; 4];
    let flat = Layout::contiguous(DType::I32, &[2, 2]);
    ChunkViewMut::from_slice(&mut out, &flat).copy_from(view);
    assert_eq!(out, [5, 6, 9, 10]);
}

#[test]
fn layouts_that_leave_their_memory_are_refused() {
    let layout =
        |shape: &[usize], strides: &[isize]| Layout { dtype: DType::I32, shape: shape.into(), strides: strides.into() };
    for bad in
        [layout(&[2, 2], &[-2, 1]), layout(&[5], &[]), layout(&[usize::MAX, usize::MAX], &[0, 0]), layout(&[4], &[isize::MAX])]
    {
        assert_eq!(bad.checked_span(), None, "{bad:?}");
        let view = std::panic::catch_unwind(|| ChunkView::from_slice(&[1, 2, 3, 4], &bad).shape().len());
        assert!(view.is_err(), "{bad:?}");
    }
}

#[test]
fn empty_rows_have_no_address() {
    let layout = Layout::contiguous(DType::I32, &[5, 0]);
    assert!(ChunkView::from_slice(&[0i32; 0], &layout).rows::<i32>().all(<[i32]>::is_empty));
    let mut none = [0i32; 0];
    assert!(ChunkViewMut::from_slice(&mut none, &layout).row_mut::<i32>(4).is_empty());
    // Strides that would lead from the slice to address 0, which no slice may have.
    let to_null = (usize::MAX - none.as_ptr().addr() + 1) / 4;
    let layout = Layout { strides: vec![to_null as isize, 1], ..layout };
    assert!(ChunkView::from_slice(&none, &layout).row::<i32>(1).is_empty());
    let mut to = ChunkViewMut::from_slice(&mut none, &layout);
    assert!(to.row_mut::<i32>(1).is_empty() && to.rows_mut::<i32>().all(|row| row.is_empty()));
    to.copy_from(ChunkView::from_slice(&[0i32; 0], &layout));
}

#[test]
fn an_opaque_value_has_no_elements() {
    let layout = Layout::contiguous(DType::U8, &[]);
    let value = Opaque { value: Arc::new("a value"), bytes: 8 };
    let panics = |what: &mut dyn FnMut()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)).is_err();
    let mut place = None;
    assert!(panics(&mut || ChunkViewMut::of_opaque(&mut place, &layout).copy_from(ChunkView::from_slice(&[1u8], &layout))));
    let mut bytes = [0u8];
    let from = ChunkView::of_opaque(&value, &layout);
    assert!(panics(&mut || ChunkViewMut::from_slice(&mut bytes, &layout).copy_from(from)));
    assert!(panics(&mut || assert_eq!(from.at::<u8>(0, 0), 0)));
    assert_eq!(from.opaque().and_then(|v| v.downcast_ref::<&str>()), Some(&"a value"));
}

#[test]
#[should_panic(expected = "chunk holds i32, not f32")]
fn another_dtype_panics() {
    let layout = Layout::contiguous(DType::I32, &[1]);
    let _ = ChunkView::from_slice(&[1], &layout).slice::<f32>();
}

/// Where index `i` of a layout lies, in elements from its first.
fn place(layout: &Layout, mut i: usize) -> isize {
    let mut at = 0;
    for (&n, &stride) in layout.shape.iter().zip(&layout.strides).rev() {
        at += (i % n) as isize * stride;
        i /= n;
    }
    at
}

/// A layout, the number of its first element in memory, and the size of that memory: any signs, zeros, orders, gaps.
fn layouts(distinct: bool) -> impl Strategy<Value = (Layout, usize, usize)> {
    let axis = (prop_oneof![4 => 1usize..6, 2 => 7usize..40, 1 => Just(0)], 0isize..4, any::<bool>());
    let order = |axes: Vec<(usize, isize, bool)>| Just(axes).prop_shuffle();
    (prop::collection::vec(axis, 0..5).prop_flat_map(order), any::<u64>(), 0usize..5).prop_map(move |(axes, seed, slack)| {
        let mut order: Vec<usize> = (0..axes.len()).collect();
        order.sort_by_key(|&k| seed.rotate_left(7 * k as u32) & 0xff);
        let (mut strides, mut step) = (vec![0; axes.len()], 1);
        for k in order {
            let (n, gap, flipped) = axes[k];
            strides[k] = if flipped { -step } else { step };
            if gap == 3 && !distinct {
                strides[k] = 0;
            } else {
                step = step * (n.max(1) as isize) + gap;
            }
        }
        let layout = Layout { dtype: DType::I32, shape: axes.iter().map(|axis| axis.0).collect(), strides };
        let (before, from) = layout.reach().unwrap();
        (layout, before + slack, before + from + 2 * slack)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_layout_is_read_and_copied((layout, first, len) in layouts(false), at in any::<[u16; 4]>(), crosswise in any::<bool>()) {
        let data: Vec<i32> = (0..len as i32).collect();
        let view = ChunkView::from_slice_at(&data, first, &layout);
        let wanted: Vec<i32> = (0..layout.len()).map(|i| data[first.checked_add_signed(place(&layout, i)).unwrap()]).collect();
        let (rows, columns) = layout.rows();
        let found: Vec<i32> = (0..rows).flat_map(|r| (0..columns).map(move |i| view.at(r, i))).collect();
        prop_assert_eq!(&found, &wanted);
        if layout.has_row_slices() {
            prop_assert_eq!(view.rows::<i32>().collect::<Vec<_>>().concat(), wanted.clone());
        }
        prop_assert!(view.try_slice::<i32>().is_none_or(|all| all == wanted));
        let plain = Layout::contiguous(DType::I32, &layout.shape);
        let mut copied = vec![-1; wanted.len()];
        ChunkViewMut::from_slice(&mut copied, &plain).copy_from(view);
        prop_assert_eq!(&copied, &wanted);

        let [a, b, c, d] = at.map(usize::from);
        let (top, left) = (a % (rows + 1), b % (columns + 1));
        let (high, wide) = (c % (rows - top + 1), d % (columns - left + 1));
        let (steps, size) = if crosswise { ([1, high + 1], (high + 1) * wide) } else { ([wide + 2, 1], (wide + 2) * high) };
        let mut part = vec![-1; size];
        view.read(top..top + high, left..left + wide, &mut part, steps);
        for i in 0..high {
            for j in 0..wide {
                prop_assert_eq!(part[i * steps[0] + j * steps[1]], view.at::<i32>(top + i, left + j));
            }
        }
        prop_assert_eq!(part.iter().filter(|&&v| v >= 0).count(), high * wide);
    }

    #[test]
    fn every_layout_is_written((layout, first, len) in layouts(true), seed in any::<u16>()) {
        let wanted: Vec<i32> = (0..layout.len() as i32).collect();
        let plain = Layout::contiguous(DType::I32, &layout.shape);
        let [mut copied, mut written, mut set] = [(); 3].map(|()| vec![-1i32; len]);
        ChunkViewMut::from_slice_at(&mut copied, first, &layout).copy_from(ChunkView::from_slice(&wanted, &plain));
        let mut to = ChunkViewMut::from_slice_at(&mut written, first, &layout);
        let (rows, columns) = layout.rows();
        let cut = usize::from(seed) % (columns + 1);
        for r in 0..rows {
            let row = &wanted[r * columns..(r + 1) * columns];
            to.write(r, 0, &row[..cut]);
            to.write(r, cut, &row[cut..]);
        }
        let mut to = ChunkViewMut::from_slice_at(&mut set, first, &layout);
        (0..wanted.len()).for_each(|i| to.set(i / columns, i % columns, wanted[i]));
        let mut expected = vec![-1; len];
        (0..wanted.len()).for_each(|i| expected[first.checked_add_signed(place(&layout, i)).unwrap()] = wanted[i]);
        prop_assert_eq!((&copied, &written, &set), (&expected, &expected, &expected));
        if layout.has_row_slices() && layout.shape.len() == 2 {
            let mut rows_written = vec![-1i32; len];
            let mut to = ChunkViewMut::from_slice_at(&mut rows_written, first, &layout);
            to.rows_mut::<i32>().enumerate().for_each(|(r, row)| row.copy_from_slice(&wanted[r * columns..(r + 1) * columns]));
            prop_assert_eq!(rows_written, expected);
        }
    }
}

#[test]
fn large_transposes_of_each_size_are_right() {
    fn check<T: Element>(value: impl Fn(usize) -> T) {
        let (m, n) = (70, 131);
        let data: Vec<T> = (0..m * n).map(value).collect();
        let whole = Layout::contiguous(T::DTYPE, &[m, n]);
        let turned = View::whole(&[m, n]).permute(&[1, 0]).unwrap().slice(1, m - 1, m, -1).unwrap();
        let (first, layout) = turned.of(&whole);
        let plain = Layout::contiguous(T::DTYPE, &[n, m]);
        let mut out = vec![T::default(); m * n];
        ChunkViewMut::from_slice(&mut out, &plain).copy_from(ChunkView::from_slice_at(&data, first as usize, &layout));
        assert!((0..m * n).all(|i| out[i] == data[(m - 1 - i % m) * n + i / m]), "{}", T::DTYPE);
    }
    check(|i| i % 3 == 1);
    check(|i| (i % 251) as u8);
    check(|i| i as f32);
    check(|i| i as i64);
}

#[test]
fn what_leaves_its_memory_or_lies_on_itself_is_refused() {
    let layout =
        |shape: &[usize], strides: &[isize]| Layout { dtype: DType::I32, shape: shape.into(), strides: strides.into() };
    let refused = |first: usize, layout: &Layout| {
        let read = std::panic::catch_unwind(|| ChunkView::from_slice_at(&[0i32; 6], first, layout).shape().len()).is_err();
        let write =
            std::panic::catch_unwind(|| ChunkViewMut::from_slice_at(&mut [0i32; 6], first, layout).row_count()).is_err();
        (read, write)
    };
    assert_eq!(refused(5, &layout(&[2, 3], &[-3, -1])), (false, false));
    assert_eq!(refused(4, &layout(&[2, 3], &[-3, -1])), (true, true), "one before the slice");
    assert_eq!(refused(3, &layout(&[2, 2], &[-3, 2])), (false, false));
    assert_eq!(refused(4, &layout(&[2, 2], &[-3, 2])), (true, true), "one behind");
    assert_eq!(refused(7, &layout(&[0], &[1])), (true, true));
    assert_eq!(refused(0, &layout(&[6, 2], &[1, 0])), (false, true), "two indices, one element");
    assert_eq!(refused(1, &layout(&[3, 3], &[1, 1])), (false, true));
    let view = layout(&[2, 3], &[0, 1]);
    let view = ChunkView::from_slice(&[1i32, 2, 3], &view);
    let fails = |read: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).is_err();
    assert!(fails(&|| view.read(0..2, 0..3, &mut [0i32; 5], [3, 1])), "no room");
    assert!(
        fails(&|| view.read(0..3, 0..3, &mut [0i32; 9], [3, 1])) && fails(&|| view.read(0..2, 1..4, &mut [0i32; 9], [3, 1]))
    );
    assert!(
        fails(&|| view.read(0..2, 0..3, &mut [0i32; 9], [usize::MAX, 2]))
            && fails(&|| view.read(0..1, 0..1, &mut [0f32], [1, 1]))
    );
    assert!(!fails(&|| view.read(0..2, 0..3, &mut [0i32; 6], [3, 1])));
}
