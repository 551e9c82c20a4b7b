//! Chunks of any dtype as bytes: made, run through a kernel on a GPU and on the CPU, compared.
//!
//! Owns: [`Bytes`]. Must not know: what a kernel computes. Invariant: bytes come back as they are; what differs is told with the element's place, and both elements.

use std::sync::Arc;

use bytemuck::checked;
use chunkwise::DType;
use chunkwise::device::{Body, Data, Failure, HostBuffer, Memory, Move, Output, Remote};
use chunkwise::ext::Lies;
use chunkwise::kernel::{Kernel, Scratch};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, Layout, Scalar, View};

use crate::lab::{Lab, start, wait, whole};

/// With `$t` as the element type of a dtype.
macro_rules! of_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        of_dtype!(@ $dtype, $t => $body, Bool bool, I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64, F16 chunkwise::f16,
            BF16 chunkwise::bf16, F32 f32, F64 f64, C64 chunkwise::Complex<f32>, C128 chunkwise::Complex<f64>)
    };
    (@ $dtype:expr, $t:ident => $body:expr, $($d:ident $e:ty),*) => {
        match $dtype {
            $(DType::$d => {
                type $t = $e;
                $body
            })*
            other => panic!("no element type for {other}"),
        }
    };
}

/// A contiguous chunk.
#[derive(Clone, Debug)]
pub struct Bytes {
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// Its elements; more may follow, for the sake of alignment.
    words: Vec<u128>,
}

impl Bytes {
    fn zeros(dtype: DType, shape: &[usize]) -> Self {
        let len = shape.iter().product::<usize>() * dtype.bytes();
        Self { dtype, shape: shape.to_vec(), words: vec![0; len.div_ceil(16) + 1] }
    }

    /// Elements `value(i)` in C order, as bytes.
    pub fn new(dtype: DType, shape: &[usize], value: impl Fn(usize) -> Vec<u8>) -> Self {
        let mut all = Self::zeros(dtype, shape);
        let size = dtype.bytes();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut all.words);
        (0..shape.iter().product()).for_each(|i| bytes[i * size..(i + 1) * size].copy_from_slice(&value(i)));
        all
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len() * self.dtype.bytes()]
    }

    /// Element `i`.
    pub fn element(&self, i: usize) -> &[u8] {
        &self.bytes()[i * self.dtype.bytes()..(i + 1) * self.dtype.bytes()]
    }

    /// Element `i` as a scalar.
    pub fn scalar(&self, i: usize) -> Scalar {
        of_dtype!(self.dtype, T => Scalar::from(checked::pod_read_unaligned::<T>(self.element(i))))
    }

    /// Brings it to a GPU.
    fn upload(&self, lab: &Lab) -> Remote {
        let layout = Layout::contiguous(self.dtype, &self.shape);
        let Ok(Memory::Remote(memory)) = lab.gpu.allocate(layout.bytes()) else {
            panic!("a GPU's chunks are in its own memory")
        };
        let flat: Arc<Layout> = Layout::contiguous(DType::U8, &[layout.bytes() as usize]).into();
        let here = HostBuffer::caller(&Arc::new(self.bytes().to_vec()));
        let from = Data::Host(whole(here, flat.clone()));
        moved(lab, from, Data::Remote(Remote::whole(memory.clone(), flat)), true);
        Remote::whole(memory, layout.into())
    }

    fn download(lab: &Lab, from: &Remote) -> Self {
        let mut all = Self::zeros(from.layout.dtype, &from.layout.shape);
        let flat: Arc<Layout> = Layout::contiguous(DType::U8, &[from.layout.bytes() as usize]).into();
        let buffer = HostBuffer::result::<u8>(flat.len()).expect("memory");
        let to = Data::Host(whole(buffer.clone(), flat.clone()));
        moved(lab, Data::Remote(Remote::whole(from.memory.clone(), flat)), to, false);
        let taken = chunkwise::device::take_result::<u8>(buffer).expect("nobody else has it");
        let bytes = &taken.vec[taken.start..taken.start + from.layout.bytes() as usize];
        bytemuck::cast_slice_mut::<u128, u8>(&mut all.words)[..bytes.len()].copy_from_slice(bytes);
        all
    }

    /// With its view by a layout, from a first element on.
    fn view<'a>(&'a self, first: usize, layout: &'a Layout) -> ChunkView<'a> {
        let len = self.len();
        of_dtype!(self.dtype, T => ChunkView::from_slice_at(&checked::cast_slice::<u128, T>(&self.words)[..len], first, layout))
    }
}

fn moved(lab: &Lab, from: Data, to: Data, upload: bool) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let done = Box::new(move |report| drop(sender.send(report)));
    lab.gpu.transfer(Move { from, to, upload, done });
    wait(&receiver).unwrap_or_else(|e| panic!("a move failed: {e:?}"));
}

/// An input: a chunk, and what is seen of it.
pub struct Seen {
    pub chunk: Bytes,
    pub view: View,
}

impl Seen {
    /// All of it.
    pub fn whole(chunk: Bytes) -> Self {
        let view = View::whole(&chunk.shape);
        Self { chunk, view }
    }

    /// The first element, and the layout from there.
    pub fn lies(&self) -> (usize, Layout) {
        let (offset, layout) = self.view.of(&Layout::contiguous(self.chunk.dtype, &self.chunk.shape));
        (offset as usize, layout)
    }
}

/// What a kernel makes of these on a GPU.
pub fn on_gpu(
    lab: &Lab,
    (kernel, params): (&Arc<dyn Kernel>, &[u8]),
    inputs: &[Seen],
    out: (DType, &[usize]),
) -> Result<Bytes, Failure> {
    let read = inputs.iter().map(|seen| Data::Remote(seen.chunk.upload(lab).viewed(&seen.view))).collect();
    // What was there before must not matter.
    let to = Bytes::new(out.0, out.1, |i| if out.0 == DType::Bool { vec![(i % 2) as u8] } else { vec![0xa5; out.0.bytes()] })
        .upload(lab);
    let outputs = vec![Output { to: Data::Remote(to.clone()), copy_in: None }];
    let body = Body::Run { params: params.to_vec(), inputs: read, outputs, scratch_bytes: 0 };
    wait(&start(&*lab.gpu, kernel, body, 10_000))?;
    Ok(Bytes::download(lab, &to))
}

/// The same by its CPU body.
pub fn on_cpu((kernel, params): (&dyn Kernel, &[u8]), inputs: &[Seen], (dtype, shape): (DType, &[usize])) -> Bytes {
    let lies: Vec<(usize, Layout)> = inputs.iter().map(Seen::lies).collect();
    let views: Vec<ChunkView<'_>> =
        inputs.iter().zip(&lies).map(|(seen, (first, layout))| seen.chunk.view(*first, layout)).collect();
    let metas: Vec<ChunkMeta<'_>> = lies
        .iter()
        .map(|(_, layout)| ChunkMeta::new(layout.dtype, &layout.shape))
        .chain([ChunkMeta::new(dtype, shape)])
        .collect();
    let mut scratch = vec![0u8; kernel.scratch_bytes(params, &metas) as usize + 64];
    let (mut out, layout) = (Bytes::zeros(dtype, shape), Layout::contiguous(dtype, shape));
    let len = out.len();
    of_dtype!(dtype, T => {
        let all = &mut checked::cast_slice_mut::<u128, T>(&mut out.words)[..len];
        let ran = kernel.run_cpu(params, &views, &mut [ChunkViewMut::from_slice(all, &layout)], &mut Scratch::new(&mut scratch));
        ran.expect("it runs on the CPU");
    });
    out
}

/// The operands of a launch, as a kernel is asked about them.
pub fn metas<'a>(lies: &'a [(usize, Layout)], out: (DType, &'a [usize])) -> Vec<ChunkMeta<'a>> {
    let of = |(offset, layout): &'a (usize, Layout)| {
        let mut meta = ChunkMeta::new(layout.dtype, &layout.shape);
        meta.lies = (*offset != 0 || !layout.is_contiguous()).then_some(Lies { offset: *offset, strides: &layout.strides });
        meta
    };
    lies.iter().map(of).chain([ChunkMeta::new(out.0, out.1)]).collect()
}

/// A float of any size as an `f64`, and its place among the floats of its dtype, so that neighbours are one apart.
fn float(dtype: DType, bytes: &[u8]) -> Option<(f64, i128)> {
    let place = |bits: u64, sign: u64| if bits & sign == 0 { i128::from(bits) } else { -i128::from(bits & !sign) };
    Some(match dtype {
        DType::F64 => {
            let x = f64::from_ne_bytes(bytes.try_into().ok()?);
            (x, place(x.to_bits(), 1 << 63))
        }
        DType::F32 => {
            let x = f32::from_ne_bytes(bytes.try_into().ok()?);
            (x.into(), place(x.to_bits().into(), 1 << 31))
        }
        DType::F16 => {
            let x = chunkwise::f16::from_ne_bytes(bytes.try_into().ok()?);
            (x.into(), place(x.to_bits().into(), 1 << 15))
        }
        DType::BF16 => {
            let x = chunkwise::bf16::from_ne_bytes(bytes.try_into().ok()?);
            (x.into(), place(x.to_bits().into(), 1 << 15))
        }
        _ => return None,
    })
}

/// Whether two elements are the same: to the bit, both NaN, or so many places apart; subnormal numbers may be 0.
pub fn alike(dtype: DType, found: &[u8], wanted: &[u8], ulps: f64) -> bool {
    if found == wanted {
        return true;
    }
    if dtype.is_complex() {
        let (half, part) = (found.len() / 2, if dtype == DType::C64 { DType::F32 } else { DType::F64 });
        return alike(part, &found[..half], &wanted[..half], ulps) && alike(part, &found[half..], &wanted[half..], ulps);
    }
    let (Some((x, at)), Some((y, other))) = (float(dtype, found), float(dtype, wanted)) else { return false };
    let least = if dtype == DType::F64 { f64::MIN_POSITIVE } else { f32::MIN_POSITIVE.into() };
    let near = (at - other).unsigned_abs() as f64 <= ulps && (x.is_sign_negative() == y.is_sign_negative() || x == y);
    x.is_nan() && y.is_nan() || !x.is_nan() && !y.is_nan() && (near || y != 0.0 && y.abs() < least && x == 0.0)
}

/// Errs with the first element that differs.
pub fn compare(found: &Bytes, wanted: &Bytes, ulps: f64) -> Result<(), String> {
    assert_eq!((found.dtype, &found.shape), (wanted.dtype, &wanted.shape));
    let differs = |&i: &usize| !alike(found.dtype, found.element(i), wanted.element(i), ulps);
    let bad: Vec<usize> = (0..found.len()).filter(differs).collect();
    let show = |bytes: &[u8]| match float(found.dtype, bytes) {
        Some((x, _)) => format!("{x:e} ({bytes:02x?})"),
        None => format!("{bytes:02x?}"),
    };
    match bad.first() {
        None => Ok(()),
        Some(&i) => Err(format!(
            "{} of {} differ, first {i}: {}, not {}",
            bad.len(),
            found.len(),
            show(found.element(i)),
            show(wanted.element(i))
        )),
    }
}

/// Numbers without a pattern.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 11 ^ self.0 << 40
    }
}

/// Zeros, halves, infinities, NaN, and numbers at which something ends.
const EDGES: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    3.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    1e30,
    -7e9,
    0.499_999_97,
    8_388_609.0,
    -4_503_599_627_370_497.5,
    65_519.9,
];

/// A float of any size, now and then an edge.
fn any_float(r: &mut Random, at: usize) -> f64 {
    let bits = r.next();
    match EDGES.get((bits % 40) as usize) {
        Some(&edge) if at.is_multiple_of(3) => edge,
        _ if at.is_multiple_of(5) => f64::from_bits(r.next()),
        _ => ((bits >> 20) as f64 / 2f64.powi(40) - 4096.0) * 2f64.powi((bits % 24) as i32 - 16),
    }
}

/// Elements of a dtype: edges, then numbers of all sizes.
pub fn chunk(dtype: DType, shape: &[usize], seed: u64) -> Bytes {
    let r = std::cell::RefCell::new(Random(seed | 1));
    Bytes::new(dtype, shape, |at| {
        let r = &mut *r.borrow_mut();
        let any = |r: &mut Random| any_float(r, at);
        let narrow = |x: f64, raw: u64| if raw.is_multiple_of(11) { f32::from_bits(raw as u32) } else { x as f32 };
        match dtype {
            DType::Bool => vec![(r.next() & 1) as u8],
            DType::F64 => any(r).to_ne_bytes().into(),
            DType::F32 => narrow(any(r), r.next()).to_ne_bytes().into(),
            DType::F16 | DType::BF16 => (r.next() as u16).to_ne_bytes().into(),
            DType::C64 => [narrow(any(r), 1), (r.next() % 9) as f32 - 4.0].iter().flat_map(|x| x.to_ne_bytes()).collect(),
            DType::C128 => [any(r), (r.next() % 9) as f64 - 4.0].iter().flat_map(|x| x.to_ne_bytes()).collect(),
            _ => {
                let bits = r.next();
                let small = if bits % 7 < 4 { (bits >> 8) % 20 } else { bits };
                let signed = if small & 3 == 1 { small.wrapping_neg() } else { small };
                signed.to_ne_bytes()[..dtype.bytes()].into()
            }
        }
    })
}

/// Views that show these extents of chunks of other ones.
pub fn views(m: usize, n: usize) -> Vec<(&'static str, Vec<usize>, View)> {
    let of = |shape: &[usize]| View::whole(shape);
    let wide = || of(&[m + 3, n + 5]);
    vec![
        ("whole", vec![m, n], of(&[m, n])),
        ("transposed", vec![n, m], of(&[n, m]).permute(&[1, 0]).unwrap()),
        ("a row for all", vec![n], of(&[n]).broadcast(&[m, n]).unwrap()),
        ("a column for all", vec![m, 1], of(&[m, 1]).broadcast(&[m, n]).unwrap()),
        ("one for all", vec![1, 1], of(&[1, 1]).broadcast(&[m, n]).unwrap()),
        ("flipped", vec![m, n], of(&[m, n]).slice(0, m - 1, m, -1).unwrap().slice(1, n - 1, n, -1).unwrap()),
        ("rows from four on", vec![m + 4, n], of(&[m + 4, n]).slice(0, 4, m, 1).unwrap()),
        ("a window", vec![m + 3, n + 5], wide().slice(0, 1, m, 1).unwrap().slice(1, 3, n, 1).unwrap()),
        (
            "a window at a multiple of four",
            vec![m + 3, n + 8],
            of(&[m + 3, n + 8]).slice(0, 1, m, 1).unwrap().slice(1, 4, n, 1).unwrap(),
        ),
        ("every third", vec![m, 3 * n], of(&[m, 3 * n]).slice(1, 2, n, 3).unwrap()),
        ("backwards by two", vec![2 * m, n], of(&[2 * m, n]).slice(0, 2 * m - 1, m, -2).unwrap()),
    ]
}
