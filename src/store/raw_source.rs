//! The source and the sink of an uncompressed array in a file, whatever its format.
//!
//! Owns: [`RawSource`], [`RawSink`]. Must not know: how the place of the array was found. Invariant: no lock is held while
//! bytes are read or written.

use super::coalesce::{scan_chunks, worthwhile};
use super::direct::{DataFile, RawArray, StoredAt, write_region};
use super::whole::WholeFile;
use crate::error::{Error, Result};
use crate::kernel::Lane;
use crate::shape::{ChunkView, ChunkViewMut, DType, Region, Scalar};
use crate::task::{Block, ChunkSink, ChunkSource, Intake, PieceSource, scan_by_pieces};

/// Reads by position.
pub(crate) struct RawSource {
    pub(crate) name: String,
    pub(crate) file: DataFile,
    pub(crate) array: RawArray,
}

impl RawSource {
    fn table_chunk(&self) -> Option<&[usize]> {
        match &self.array.place {
            StoredAt::Chunked(table) => Some(table.chunk()),
            _ => None,
        }
    }
}

/// Errs unless `out` can take `region` of an array of this dtype.
pub(crate) fn check_output(name: &str, dtype: DType, region: &Region, out: &ChunkViewMut<'_>) -> Result<()> {
    if out.shape() != region.shape() {
        return Err(Error::Shape {
            op: "read",
            found: out.shape().to_vec(),
            wanted: format!("{:?}, the region's", region.shape()),
        });
    }
    let wanted = out.layout().dtype;
    if wanted == dtype || wanted.is_float() && !dtype.is_complex() {
        return Ok(());
    }
    let others = [DType::F32, DType::F64].iter().filter(|&&other| other != dtype && !dtype.is_complex());
    let names: Vec<String> = std::iter::once(&dtype).chain(others).map(DType::to_string).collect();
    let wanted = format!("read it as {}, and convert after", names.join(" or "));
    Err(Error::DType { what: name.to_owned(), found: out.layout().dtype.to_string(), wanted })
}

/// Errs unless `region` lies inside an array of this shape: regions may come from another array.
pub(crate) fn check_region(shape: &[usize], region: &Region) -> Result<()> {
    if region.is_within(shape) {
        return Ok(());
    }
    Err(Error::Shape { op: "region", found: shape.to_vec(), wanted: format!("{:?} inside it", region.axes()) })
}

impl ChunkSource for RawSource {
    fn converts(&self) -> bool {
        !self.dtype().is_complex()
    }

    fn shape(&self) -> &[usize] {
        &self.array.shape
    }

    fn dtype(&self) -> DType {
        self.array.stored.dtype
    }

    fn storage_chunks(&self) -> Option<&[usize]> {
        self.table_chunk()
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn version_token(&self) -> String {
        format!("{}@{}", self.name, self.file.token())
    }

    fn access(&self) -> String {
        let chunks = match &self.array.place {
            StoredAt::Chunked(table) => format!(" ({} chunks written)", table.len()),
            StoredAt::Contiguous(_) => String::new(),
            StoredAt::Absent => " (nothing written)".into(),
        };
        let order = if self.array.stored.is_swapped() { ", bytes swapped" } else { "" };
        format!("positioned reads{order}{chunks}")
    }

    fn lane(&self) -> Lane {
        Lane::Compute
    }

    fn constant(&self, region: &Region) -> Option<Scalar> {
        self.array.constant(region)
    }

    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        check_output(&self.name, self.dtype(), region, out)?;
        check_region(&self.array.shape, region)?;
        self.file.check()?;
        self.array.read(&self.file, region, out)
    }

    fn scan(&self, region: &Region, scratch: &mut [u8], each: &mut dyn FnMut(Block<'_>)) -> Result<()> {
        check_region(&self.array.shape, region)?;
        self.file.check()?; // once, not for every block
        if !region.is_empty() && worthwhile(&self.array, scratch.len().saturating_sub(64)) {
            // Nothing is asked of chunks one by one where there are none: the array may be far larger than its file.
            if let Some(value) = self.array.constant(region) {
                each(Block::Constant { value, count: region.len() as u64 });
                return Ok(());
            }
            return scan_chunks(self, region, scratch, each);
        }
        scan_by_pieces(self, (self.dtype(), self.table_chunk()), region, scratch, each)
    }
}

impl PieceSource for RawSource {
    fn constant(&self, region: &Region) -> Option<Scalar> {
        self.array.constant(region)
    }
    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        self.array.read(&self.file, region, out)
    }
}

/// Writes by position into a file that is its own, and appears whole.
pub(crate) struct RawSink {
    pub(crate) intake: Intake,
    pub(crate) file: WholeFile,
    pub(crate) place: StoredAt,
}

impl ChunkSink for RawSink {
    fn intake(&self) -> &Intake {
        &self.intake
    }

    fn put(&self, region: &Region, chunk: ChunkView<'_>) -> Result<()> {
        write_region((self.intake.shape(), &self.place), region, chunk, &mut |bytes, at| self.file.write(bytes, at))
    }

    fn commit(&self) -> Result<()> {
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{AxisRange, Layout};

    /// Element `(r, c)` of the arrays below, 17 x 23, is `(23 r + c) / 4 - 3`.
    fn check_steps(source: &dyn ChunkSource) {
        for (rows, cols) in
            [((0, 17, 1), (1, 8, 3)), ((2, 5, 3), (0, 23, 1)), ((16, 1, 9), (22, 1, 1)), ((1, 4, 5), (0, 2, 22))]
        {
            let axis = |(start, len, step)| AxisRange { start, len, step };
            let region = Region::from_axes(vec![axis(rows), axis(cols)]);
            let wanted: Vec<f64> = (0..rows.1)
                .flat_map(|r| (0..cols.1).map(move |c| ((rows.0 + r * rows.2) * 23 + cols.0 + c * cols.2) as f64 / 4.0 - 3.0))
                .collect();
            let mut out = vec![0.0; region.len()];
            let layout = Layout::contiguous(DType::F64, &region.shape());
            source.read(&region, &mut ChunkViewMut::from_slice(&mut out, &layout)).unwrap();
            assert_eq!(out, wanted, "{} {region:?}", source.access());
            let mut sum = 0.0;
            let add = |block: Block<'_>| match block {
                Block::Values(values) => sum += values.slice::<f64>().iter().sum::<f64>(),
                Block::Constant { value, count } => sum += value.to_f64() * count as f64,
            };
            source.scan(&region, &mut [0; 200], &mut { add }).unwrap();
            assert_eq!(sum, wanted.iter().sum::<f64>());
        }
        let outside = Region::all(&[17, 24]);
        let layout = Layout::contiguous(DType::F64, &[17, 24]);
        let mut out = vec![0.0; 17 * 24];
        assert!(source.read(&outside, &mut ChunkViewMut::from_slice(&mut out, &layout)).is_err());
        assert!(source.read(&Region::all(&[17, 23]), &mut ChunkViewMut::from_slice(&mut out, &layout)).is_err());
        let layout = Layout::contiguous(DType::I32, &[17, 23]);
        let mut out = vec![0i32; 17 * 23];
        let error = source.read(&Region::all(&[17, 23]), &mut ChunkViewMut::from_slice(&mut out, &layout)).unwrap_err();
        assert!(matches!(error, Error::DType { .. }), "{error}");
    }

    #[test]
    fn steps_and_what_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let sink = crate::store::create(&path.display().to_string(), &[17, 23], DType::F64, None).unwrap();
        let values: Vec<f64> = (0..17 * 23).map(|i| f64::from(i) / 4.0 - 3.0).collect();
        let layout = Layout::contiguous(DType::F64, &[17, 23]);
        sink.write(&Region::all(&[17, 23]), ChunkView::from_slice(&values, &layout)).unwrap();
        sink.finish().unwrap();
        check_steps(&*crate::store::open(&path.display().to_string()).unwrap());
    }

    #[cfg(feature = "hdf5")]
    #[test]
    fn steps_over_storage_chunks() {
        for (file, name) in [("chunked", "edge"), ("chunked", "gzip"), ("chunked", "big"), ("latest", "single")] {
            let spec = format!("{}/tests/data/{file}.h5:/{name}", env!("CARGO_MANIFEST_DIR"));
            check_steps(&*crate::store::open(&spec).unwrap());
        }
    }
}
