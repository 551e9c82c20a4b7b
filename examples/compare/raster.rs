//! A drawing as pixels.
//!
//! Owns: coverage of shapes and letters, blending. Must not know: what is drawn. Invariant: every shape is drawn by its coverage of each
//! pixel, so that edges are smooth at any scale.
//!
//! Letters are outlines of Roboto (Apache License 2.0) from `glyphs.txt`, because a machine in a rack may have no fonts.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::common::Picture;
use crate::scene::{Anchor, At, Ink, Scene, Shape};

/// Lines per pixel at which outlines are sampled; across, coverage is exact.
const SUBLINES: usize = 5;

/// Straight pieces of a curve.
const PIECES: usize = 6;

/// The drawing at `scale` pixels per unit, on a light page.
pub fn draw(scene: &Scene, scale: f64) -> Picture {
    let (width, height) = ((scene.width * scale).round() as usize, (scene.height * scale).round() as usize);
    let mut canvas = Canvas { width, height, rgb: vec![255.0; 3 * width * height] };
    scene.shapes.iter().for_each(|shape| canvas.shape(shape, scale));
    let rgb = canvas.rgb.iter().map(|&v| v.round() as u8).collect(); // saturates
    Picture { height, width, rgb }
}

/// Memory that drawing takes: the canvas, the pixels, the shapes.
pub fn bytes(scene: &Scene, scale: f64) -> u64 {
    (15.0 * scene.width * scene.height * scale * scale) as u64 + (8 << 20)
}

/// How wide words are.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| glyph(c).map_or(0.5, |g| g.advance)).sum::<f64>() * size
}

struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<f32>,
}

impl Canvas {
    fn shape(&mut self, shape: &Shape, scale: f64) {
        let scaled = |points: &[At]| -> Vec<At> { points.iter().map(|[x, y]| [x * scale, y * scale]).collect() };
        match shape {
            Shape::Plate { at, size, radius, fill } => {
                let [x, y] = at.map(|v| v * scale);
                let ([w, h], r) = (size.map(|v| v * scale), radius * scale);
                let inside = |px: f64, py: f64| {
                    let dx = (px - x - w / 2.0).abs() - (w / 2.0 - r);
                    let dy = (py - y - h / 2.0).abs() - (h / 2.0 - r);
                    dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0) - r
                };
                self.near([x, y, x + w, y + h], *fill, 1.0, |px, py| 0.5 - inside(px, py));
            }
            Shape::Area { points, fill, opacity } => self.fill(&[scaled(points)], *fill, *opacity),
            Shape::Line { points, ink, width, dash } => {
                let half = width * scale / 2.0;
                let points = scaled(points);
                let pieces = match dash {
                    Some(lengths) => dashes(&points, lengths.map(|v| v * scale)),
                    None => vec![points],
                };
                pieces.iter().for_each(|piece| self.line(piece, half, *ink));
            }
            Shape::Dot { at, radius, ink, hollow } => {
                let ([x, y], r) = (at.map(|v| v * scale), radius * scale);
                let disc = |r: f64| move |px: f64, py: f64| 0.5 + r - (px - x).hypot(py - y);
                let rim = if *hollow { 0.9 * scale } else { 0.0 };
                let reach = r + rim + 1.0;
                let within = [x - reach, y - reach, x + reach, y + reach];
                self.near(within, *ink, 1.0, disc(r + rim));
                if *hollow {
                    self.near(within, Ink::Page, 1.0, disc(r - rim));
                }
            }
            Shape::Text { at, size, ink, anchor, text } => {
                let size = size * scale;
                let shift = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => 0.5,
                    Anchor::End => 1.0,
                };
                let mut x = at[0] * scale - shift * text_width(text, size);
                for c in text.chars() {
                    if let Some(glyph) = glyph(c) {
                        let place = |[px, py]: At| [x + px * size, at[1] * scale - py * size];
                        let outline: Vec<Vec<At>> =
                            glyph.contours.iter().map(|c| c.iter().copied().map(place).collect()).collect();
                        self.fill(&outline, *ink, 1.0);
                        x += glyph.advance * size;
                    }
                }
            }
        }
    }

    /// A line with round ends and corners: a pixel is covered as far as the nearest piece covers it.
    fn line(&mut self, points: &[At], half: f64, ink: Ink) {
        let [x0, y0, x1, y1] = bounds(points);
        let reach = half + 1.0;
        self.near([x0 - reach, y0 - reach, x1 + reach, y1 + reach], ink, 1.0, |px, py| {
            let nearest = points.windows(2).map(|w| to_segment([px, py], w[0], w[1])).fold(f64::INFINITY, f64::min);
            0.5 + half - nearest
        });
    }

    /// Covers pixels within a box as `coverage` (clamped to 0..1) says of their centres.
    fn near(&mut self, [x0, y0, x1, y1]: [f64; 4], ink: Ink, opacity: f64, coverage: impl Fn(f64, f64) -> f64) {
        for y in clamp(y0 - 1.0, self.height)..clamp(y1 + 2.0, self.height) {
            for x in clamp(x0 - 1.0, self.width)..clamp(x1 + 2.0, self.width) {
                self.blend(x, y, ink, opacity * coverage(x as f64 + 0.5, y as f64 + 0.5).clamp(0.0, 1.0));
            }
        }
    }

    /// Fills outlines, nonzero winding.
    fn fill(&mut self, outline: &[Vec<At>], ink: Ink, opacity: f64) {
        let [x0, y0, x1, y1] =
            outline.iter().fold([f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY], |b, c| {
                let [x0, y0, x1, y1] = bounds(c);
                [b[0].min(x0), b[1].min(y0), b[2].max(x1), b[3].max(y1)]
            });
        let (left, right) = (clamp(x0, self.width), clamp(x1 + 1.0, self.width));
        let mut row = vec![0.0f64; right.saturating_sub(left)];
        for y in clamp(y0, self.height)..clamp(y1 + 1.0, self.height) {
            row.fill(0.0);
            for line in 0..SUBLINES {
                let at = y as f64 + (line as f64 + 0.5) / SUBLINES as f64;
                for (from, to) in spans(outline, at) {
                    add(&mut row, from - left as f64, to - left as f64);
                }
            }
            for (x, &covered) in row.iter().enumerate() {
                self.blend(left + x, y, ink, opacity * covered / SUBLINES as f64);
            }
        }
    }

    fn blend(&mut self, x: usize, y: usize, ink: Ink, share: f64) {
        if share <= 0.0 {
            return;
        }
        let share = share.min(1.0) as f32;
        let pixel = &mut self.rgb[3 * (y * self.width + x)..][..3];
        for (value, shift) in pixel.iter_mut().zip([16, 8, 0]) {
            let wanted = ((ink.light() >> shift) & 255) as f32;
            *value += share * (wanted - *value);
        }
    }
}

fn clamp(v: f64, most: usize) -> usize {
    (v.floor().max(0.0) as usize).min(most)
}

fn bounds(points: &[At]) -> [f64; 4] {
    points.iter().fold([f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY], |b, &[x, y]| {
        [b[0].min(x), b[1].min(y), b[2].max(x), b[3].max(y)]
    })
}

/// Distance from a point to a piece of a line.
fn to_segment([px, py]: At, [ax, ay]: At, [bx, by]: At) -> f64 {
    let (dx, dy) = (bx - ax, by - ay);
    let long = dx * dx + dy * dy;
    let along = if long > 0.0 { (((px - ax) * dx + (py - ay) * dy) / long).clamp(0.0, 1.0) } else { 0.0 };
    (px - ax - along * dx).hypot(py - ay - along * dy)
}

/// The insides of outlines along a horizontal line: from, to.
fn spans(outline: &[Vec<At>], y: f64) -> Vec<(f64, f64)> {
    let mut crossings: Vec<(f64, i32)> = Vec::new();
    for contour in outline {
        for (i, &[ax, ay]) in contour.iter().enumerate() {
            let [bx, by] = contour[(i + 1) % contour.len()];
            if (ay <= y) != (by <= y) {
                crossings.push((ax + (y - ay) / (by - ay) * (bx - ax), if by > ay { 1 } else { -1 }));
            }
        }
    }
    crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut inside = Vec::new();
    let mut winding = 0;
    for pair in crossings.windows(2) {
        winding += pair[0].1;
        if winding != 0 {
            inside.push((pair[0].0, pair[1].0));
        }
    }
    inside
}

/// Adds how much of each pixel of a row lies between `from` and `to`.
fn add(row: &mut [f64], from: f64, to: f64) {
    let (from, to) = (from.max(0.0), to.min(row.len() as f64));
    if to <= from {
        return;
    }
    for (x, covered) in row.iter_mut().enumerate().take(to.ceil() as usize).skip(from.floor() as usize) {
        *covered += (to.min(x as f64 + 1.0) - from.max(x as f64)).max(0.0);
    }
}

/// The dashes of a line.
fn dashes(points: &[At], [on, off]: [f64; 2]) -> Vec<Vec<At>> {
    let mut all = Vec::new();
    let (mut drawing, mut left) = (true, on);
    let mut piece: Vec<At> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let ([mut x, mut y], [bx, by]) = (pair[0], pair[1]);
        loop {
            let rest = (bx - x).hypot(by - y);
            if rest <= left {
                left -= rest;
                piece.push([bx, by]);
                break;
            }
            (x, y) = (x + left / rest * (bx - x), y + left / rest * (by - y));
            piece.push([x, y]);
            let done = std::mem::replace(&mut piece, vec![[x, y]]);
            if drawing {
                all.push(done);
            }
            drawing = !drawing;
            left = if drawing { on } else { off };
        }
    }
    if drawing && piece.len() > 1 {
        all.push(piece);
    }
    all
}

/// A letter of font size 1, y upwards.
struct Glyph {
    advance: f64,
    contours: Vec<Vec<At>>,
}

fn glyph(c: char) -> Option<&'static Glyph> {
    static ALL: OnceLock<BTreeMap<char, Glyph>> = OnceLock::new();
    let all = ALL.get_or_init(|| include_str!("glyphs.txt").lines().skip(1).filter_map(read_glyph).collect());
    all.get(&c).or_else(|| all.get(&'?'))
}

/// `A652 M..L..Q..Z`.
fn read_glyph(line: &str) -> Option<(char, Glyph)> {
    let c = line.chars().next()?;
    let (advance, path) = line[c.len_utf8()..].split_once(' ')?;
    let mut contours: Vec<Vec<At>> = Vec::new();
    let mut rest = path;
    while let Some(command) = rest.chars().next() {
        let body = &rest[1..];
        let end = body.find(|c: char| c.is_ascii_uppercase()).unwrap_or(body.len());
        let numbers: Vec<f64> =
            body[..end].split_whitespace().filter_map(|n| n.parse().ok()).map(|n: f64| n / 1000.0).collect();
        match (command, &numbers[..]) {
            ('M', &[x, y]) => contours.push(vec![[x, y]]),
            ('L', &[x, y]) => contours.last_mut()?.push([x, y]),
            ('Q', &[cx, cy, x, y]) => curve(contours.last_mut()?, [cx, cy], [x, y]),
            _ => {}
        }
        rest = &body[end..];
    }
    Some((c, Glyph { advance: advance.parse::<f64>().ok()? / 1000.0, contours }))
}

/// Appends a quadratic curve, in straight pieces.
fn curve(contour: &mut Vec<At>, [cx, cy]: At, [x, y]: At) {
    let Some(&[ax, ay]) = contour.last() else { return };
    for piece in 1..=PIECES {
        let t = piece as f64 / PIECES as f64;
        let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
        contour.push([a * ax + b * cx + c * x, a * ay + b * cy + c * y]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(shape: Shape) -> Picture {
        draw(&Scene { width: 10.0, height: 10.0, title: String::new(), shapes: vec![shape] }, 1.0)
    }

    /// How dark the picture is: the area covered by black, in pixels.
    fn area(picture: &Picture, ink: Ink) -> f64 {
        let full = 255.0 - f64::from(ink.light() >> 16);
        picture.rgb.chunks(3).map(|p| (255.0 - f64::from(p[0])) / full).sum()
    }

    #[test]
    fn shapes_cover_their_area() {
        let square = vec![[1.25, 2.5], [7.25, 2.5], [7.25, 6.0], [1.25, 6.0]];
        let found = area(&drawn(Shape::Area { points: square, fill: Ink::Text, opacity: 1.0 }), Ink::Text);
        assert!((found - 21.0).abs() < 0.7, "{found}");
        let found = area(&drawn(Shape::Dot { at: [5.0, 5.0], radius: 3.0, ink: Ink::Text, hollow: false }), Ink::Text);
        assert!((found - 9.0 * std::f64::consts::PI).abs() < 0.3, "{found}");
        let line = |dash| Shape::Line { points: vec![[2.0, 5.0], [8.0, 5.0]], ink: Ink::Text, width: 2.0, dash };
        let (whole, dashed) = (area(&drawn(line(None)), Ink::Text), area(&drawn(line(Some([0.5, 2.5]))), Ink::Text));
        assert!((whole - 12.0 - std::f64::consts::PI).abs() < 0.4, "{whole}");
        assert!(dashed > 0.2 * whole && dashed < 0.8 * whole, "{dashed} of {whole}");
        let plate = Shape::Plate { at: [1.0, 1.0], size: [8.0, 4.0], radius: 0.0, fill: Ink::Text };
        let found = area(&drawn(plate), Ink::Text);
        assert!((found - 32.0).abs() < 0.5, "{found}");
    }

    #[test]
    fn every_letter_has_an_outline_and_holes_are_holes() {
        for c in (33u8..127).map(char::from).chain("±×²·µ≥".chars()) {
            let glyph = glyph(c).unwrap();
            assert!(glyph.advance > 0.1 && !glyph.contours.is_empty(), "{c}");
        }
        let letter = |c: &str| {
            let text = Shape::Text { at: [0.0, 9.0], size: 12.0, ink: Ink::Text, anchor: Anchor::Start, text: c.into() };
            area(&drawn(text), Ink::Text)
        };
        assert!(letter("l") > 5.0 && letter("l") < letter("m"));
        assert!(letter("o") < 25.0, "the hole is not filled: {}", letter("o"));
        assert!(text_width("mm", 10.0) > text_width("il", 10.0) * 2.0);
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let far = vec![[-50.0, -50.0], [60.0, 5.0], [500.0, 80.0]];
        for dash in [None, Some([3.0, 2.0])] {
            drawn(Shape::Line { points: far.clone(), ink: Ink::Cpu, width: 3.0, dash });
        }
        drawn(Shape::Area { points: far, fill: Ink::Cpu, opacity: 0.5 });
        drawn(Shape::Text { at: [-30.0, 400.0], size: 20.0, ink: Ink::Cpu, anchor: Anchor::Middle, text: "outside".into() });
    }
}
