//! Escape counts as a picture.
//!
//! Owns: the colour map, downscaling, PNG. Must not know: how counts were computed. Invariant: points that never escaped are
//! black, and nothing else is; averaging is done in linear light, so that a downscaled picture is as bright as the original.

use std::io::Write;
use std::path::Path;

use chunkwise::Error;
use ndarray::ArrayView2;

use super::write_whole;

/// Pictures are at most this many pixels wide and high; larger counts are averaged down to it.
pub const LONGEST_SIDE: usize = 4000;

/// Counts below this have a colour each; above, 64 share an octave, which no eye can tell.
const EXACT: usize = 4096;
const PER_OCTAVE: f64 = 64.0;

/// The colour map, from points that leave at once to points that almost stay: `#rrggbb` at each position.
const STOPS: [(f64, u32); 7] = [
    (0.00, 0x0a1033),
    (0.22, 0x1d3f8f),
    (0.45, 0x3fa0d0),
    (0.62, 0xd8ecd8),
    (0.76, 0xf6c85f),
    (0.90, 0xd9622b),
    (1.00, 0x6e1423),
];

/// Escape counts, with the number of iterations: that count means "never escaped".
#[derive(Clone, Copy)]
pub struct Counts<'a> {
    /// The counts; row 0 is drawn at the top.
    pub rows: ArrayView2<'a, i32>,
    /// Iterations after which a point counts as staying.
    pub iterations: u32,
}

impl Counts<'_> {
    /// Colours the counts, averaging squares of pixels down until no side exceeds `longest` (see [`LONGEST_SIDE`]), and writes them as PNG
    /// row by row: there is never a whole picture in memory.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses.
    pub fn write_png(&self, path: &Path, longest: usize) -> Result<(), Error> {
        let mut painter = Painter::new(self, longest);
        write_png(path, (painter.height, painter.width), |y, rgb| painter.row(y, rgb))
    }
}

/// Makes counts into rows of pixels.
struct Painter<'a> {
    counts: ArrayView2<'a, i32>,
    palette: Palette,
    /// Rows and columns of counts in a pixel.
    factor: usize,
    height: usize,
    width: usize,
    sums: Vec<[f32; 3]>,
}

impl<'a> Painter<'a> {
    fn new(counts: &Counts<'a>, longest: usize) -> Self {
        let (height, width) = counts.rows.dim();
        let factor = height.max(width).div_ceil(longest.max(1)).max(1);
        let (height, width) = (height.div_ceil(factor), width.div_ceil(factor));
        Self { counts: counts.rows, palette: palette(counts), factor, height, width, sums: vec![[0f32; 3]; width] }
    }

    /// Puts the pixels of row `y` behind what is in `rgb`.
    fn row(&mut self, y: usize, rgb: &mut Vec<u8>) {
        let (factor, (height, width)) = (self.factor, self.counts.dim());
        let rows = y * factor..((y + 1) * factor).min(height);
        let row_count = rows.len();
        self.sums.fill([0.0; 3]);
        for row in rows {
            for (x, &count) in self.counts.row(row).iter().enumerate() {
                let colour = self.palette.linear[self.palette.index(count)];
                let sum = &mut self.sums[x / factor];
                (0..3).for_each(|c| sum[c] += colour[c]);
            }
        }
        for (x, sum) in self.sums.iter().enumerate() {
            let columns = factor.min(width - x * factor);
            rgb.extend(sum.map(|s| to_srgb(s / (row_count * columns) as f32)));
        }
    }
}

fn write_png(path: &Path, (height, width): (usize, usize), mut row: impl FnMut(usize, &mut Vec<u8>)) -> Result<(), Error> {
    let io = |e| match e {
        png::EncodingError::IoError(e) => e,
        other => std::io::Error::other(other),
    };
    write_whole(path, |to| {
        let mut encoder = png::Encoder::new(to, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::Fast);
        encoder.set_filter(png::Filter::Adaptive);
        let mut writer = encoder.write_header().map_err(io)?;
        let mut stream = writer.stream_writer().map_err(io)?;
        let mut rgb = Vec::with_capacity(3 * width);
        for y in 0..height {
            rgb.clear();
            row(y, &mut rgb);
            stream.write_all(&rgb)?;
        }
        stream.finish().map_err(io)?;
        writer.finish().map_err(io)
    })
}

/// Linear-light colour of each class of counts.
struct Palette {
    linear: Vec<[f32; 3]>,
    iterations: i64,
}

impl Palette {
    /// The class of a count; the last one is that of points that stay.
    fn index(&self, count: i32) -> usize {
        if i64::from(count) >= self.iterations { self.linear.len() - 1 } else { class(count) }
    }
}

fn class(count: i32) -> usize {
    let count = count.max(0) as usize;
    if count < EXACT { count } else { EXACT + (PER_OCTAVE * (count as f64 / EXACT as f64).log2()) as usize }
}

/// Half by the logarithm of the count, half by the share of escaping pixels below it: so that 20 iterations and 20 000 both use
/// the whole map, and neighbouring bands stay apart.
fn palette(counts: &Counts<'_>) -> Palette {
    let last = i32::try_from(counts.iterations).unwrap_or(i32::MAX);
    let classes = class(last.saturating_sub(1).max(0)) + 1;
    let mut histogram = vec![0u64; classes];
    counts.rows.iter().filter(|&&c| c < last).for_each(|&c| histogram[class(c)] += 1);
    let escaped = histogram.iter().sum::<u64>().max(1) as f64;
    let first = histogram.iter().position(|&n| n > 0).unwrap_or(0);
    let highest = histogram.iter().rposition(|&n| n > 0).unwrap_or(0);
    let span = ((highest - first) as f64).ln_1p().max(f64::MIN_POSITIVE);
    let mut below = 0u64;
    let mut linear: Vec<[f32; 3]> = Vec::with_capacity(classes + 1);
    for (class, &here) in histogram.iter().enumerate() {
        let by_count = (class.saturating_sub(first) as f64).ln_1p() / span;
        let by_share = (below as f64 + 0.5 * here as f64) / escaped;
        linear.push(colour((0.5 * by_count + 0.5 * by_share).clamp(0.0, 1.0)));
        below += here;
    }
    linear.push([0.0; 3]);
    Palette { linear, iterations: i64::from(last) }
}

/// The map at `t` in 0..=1, interpolated in Oklab (equal steps look equal), as linear sRGB.
fn colour(t: f64) -> [f32; 3] {
    let upper = STOPS.iter().position(|(at, _)| *at >= t).unwrap_or(STOPS.len() - 1).max(1);
    let ((from_at, from), (to_at, to)) = (STOPS[upper - 1], STOPS[upper]);
    let share = ((t - from_at) / (to_at - from_at)).clamp(0.0, 1.0);
    let (from, to) = (to_oklab(from_hex(from)), to_oklab(from_hex(to)));
    from_oklab(std::array::from_fn(|c| from[c] + share * (to[c] - from[c]))).map(|v| v.clamp(0.0, 1.0) as f32)
}

fn from_hex(rgb: u32) -> [f64; 3] {
    [rgb >> 16, rgb >> 8, rgb].map(|byte| {
        let v = f64::from(byte & 255) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    })
}

fn to_srgb(linear: f32) -> u8 {
    let v = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
    (v * 255.0).round() as u8 // saturates
}

/// Linear sRGB to Oklab (B. Ottosson, "A perceptual color space for image processing", 2020).
fn to_oklab([r, g, b]: [f64; 3]) -> [f64; 3] {
    let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
    let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
    let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
    [
        0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
        1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
        0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
    ]
}

fn from_oklab([l, a, b]: [f64; 3]) -> [f64; 3] {
    let long = (l + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let mid = (l - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let short = (l - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * long - 3.307_711_591_3 * mid + 0.230_969_929_2 * short,
        -1.268_438_004_6 * long + 2.609_757_401_1 * mid - 0.341_319_396_5 * short,
        -0.004_196_086_3 * long - 0.703_418_614_7 * mid + 1.707_614_701_0 * short,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(data: &[i32], (height, width): (usize, usize), iterations: u32, longest: usize) -> image::RgbImage {
        let counts = Counts { rows: ArrayView2::from_shape((height, width), data).unwrap(), iterations };
        let (mut painter, mut rgb) = (Painter::new(&counts, longest), Vec::new());
        (0..painter.height).for_each(|y| painter.row(y, &mut rgb));
        image::RgbImage::from_raw(painter.width as u32, painter.height as u32, rgb).unwrap()
    }

    fn pixel(picture: &image::RgbImage, y: usize, x: usize) -> [u8; 3] {
        picture[(x as u32, y as u32)].0
    }

    #[test]
    fn only_points_that_stay_are_black() {
        for iterations in [1, 20, 5000, 3_000_000] {
            let data: Vec<i32> = (0..100).map(|i| (f64::from(iterations) * f64::from(i) / 99.0) as i32).collect();
            let picture = painted(&data, (10, 10), iterations as u32, 100);
            for (i, &count) in data.iter().enumerate() {
                assert_eq!(pixel(&picture, i / 10, i % 10) == [0, 0, 0], count == iterations, "{count} of {iterations}");
            }
        }
    }

    #[test]
    fn the_map_passes_through_its_stops_and_has_no_jump() {
        for (at, hex) in STOPS {
            let wanted = [hex >> 16, hex >> 8, hex].map(|v| v as u8);
            assert_eq!(colour(at).map(to_srgb), wanted, "{at}");
        }
        let mut before = to_oklab(colour(0.0).map(f64::from));
        for i in 1..=1000 {
            let now = to_oklab(colour(f64::from(i) / 1000.0).map(f64::from));
            let step: f64 = before.iter().zip(now).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            assert!(step < 0.01, "{i}: {step}");
            before = now;
        }
    }

    #[test]
    fn downscaling_averages_light_and_keeps_ragged_edges() {
        // A checkerboard of black and one colour: half its light, wherever the picture is cut.
        let data: Vec<i32> = (0..7 * 9).map(|i| if (i / 9 + i % 9) % 2 == 0 { 5 } else { 1 }).collect();
        let (full, half) = (painted(&data, (7, 9), 5, 9), painted(&data, (7, 9), 5, 5));
        assert_eq!((full.dimensions(), half.dimensions()), ((9, 7), (5, 4)));
        let bright = colour(0.25); // by count 0, by share half
        assert_eq!(pixel(&half, 0, 0), bright.map(|v| to_srgb(v / 2.0)));
        assert_eq!(pixel(&half, 3, 4), [0, 0, 0], "the corner is one black pixel");
    }

    #[test]
    fn a_png_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        let data = [1, 2, 3, 4, 5, 6];
        Counts { rows: ArrayView2::from_shape((2, 3), &data).unwrap(), iterations: 6 }.write_png(&path, 3).unwrap();
        assert_eq!(image::open(&path).unwrap().to_rgb8(), painted(&data, (2, 3), 6, 3));
    }
}
