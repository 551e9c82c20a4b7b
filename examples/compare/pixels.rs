//! A drawing as PNG, and how wide words are in it.
//!
//! Owns: the font, and how SVG becomes pixels. Must not know: what is drawn. Invariant: widths are of the font that the PNG is drawn with, which is
//! part of the program, so that pictures are the same on machines without fonts.

use std::error::Error;
use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

use crate::compare::scene::Scene;

/// Noto Sans, which has about the widths of what a browser takes where it is not installed.
const FONT: &[u8] = notosans::REGULAR_TTF;

/// Its glyphs, and `None` should they not be readable, which a test excludes.
static FACE: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::new(FONT).ok());

/// The drawing as PNG, `scale` pixels per unit, on a light page.
///
/// # Errors
/// If its SVG is none.
pub fn png(scene: &Scene, scale: f64) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_source(fontdb::Source::Binary(Arc::new(FONT)));
    let options = Options { fontdb: Arc::new(fonts), ..Options::default() };
    let tree = Tree::from_str(&scene.svg(), &options)?;
    let [width, height] = [scene.width, scene.height].map(|extent| (extent * scale).round() as u32);
    let mut pixels = Pixmap::new(width, height).ok_or("a picture without pixels")?;
    resvg::render(&tree, Transform::from_scale(scale as f32, scale as f32), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}

/// Memory that this takes: the pixels, twice, and the file; the shapes and the font.
pub fn bytes(scene: &Scene, scale: f64) -> u64 {
    (12.0 * scene.width * scene.height * scale * scale) as u64 + (16 << 20)
}

/// How wide words are.
pub fn text_width(text: &str, size: f64) -> f64 {
    let Some(face) = &*FACE else { return 0.5 * size * text.chars().count() as f64 };
    let (glyphs, widths) = (face.charmap(), face.glyph_metrics(Size::new(size as f32), LocationRef::default()));
    let width = |c: char| widths.advance_width(glyphs.map(c).unwrap_or_default()).unwrap_or_default();
    text.chars().map(|c| f64::from(width(c))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::scene::{Anchor, Ink};

    #[test]
    fn words_are_as_wide_as_measured() {
        for text in ["bound of the GPU, data there", "mmm", "iii", "95 % · 1000 × 1000", "≥ 1 µs² ± 2 m"] {
            let mut scene = Scene { width: 400.0, height: 60.0, title: String::new(), shapes: Vec::new() };
            scene.text([10.0, 40.0], 20.0, Ink::Text, Anchor::Start, text);
            let picture = image::load_from_memory(&png(&scene, 1.0).unwrap()).unwrap().into_rgba8();
            let drawn = picture.enumerate_pixels().filter(|(_, _, pixel)| pixel.0[3] > 60);
            let (last, end) = (drawn.map(|(x, _, _)| x).max().unwrap(), 10.0 + text_width(text, 20.0));
            assert!((f64::from(last) - end).abs() < 4.0, "{text}: ends at {last}, measured {end}");
        }
    }

    #[test]
    fn the_font_has_all_that_is_written() {
        let glyphs = FACE.as_ref().unwrap().charmap();
        for c in (33u8..127).map(char::from).chain("±×²·µ≥".chars()) {
            assert!(glyphs.map(c).is_some(), "{c}");
        }
    }

    #[test]
    fn what_no_page_can_show_is_no_error() {
        let mut scene = Scene { width: 30.0, height: 30.0, title: "\0 <".into(), shapes: Vec::new() };
        scene.text([-10.0, 400.0], 20.0, Ink::Text, Anchor::Middle, "a\u{1}\u{ffff}b & 語");
        scene.line(vec![[-50.0, -50.0], [60.0, 5.0], [500.0, 80.0]], Ink::Cpu, 3.0, Some([3.0, 2.0]));
        png(&scene, 1.0).unwrap();
        assert!(png(&Scene { width: 0.0, ..scene }, 1.0).is_err());
    }
}
