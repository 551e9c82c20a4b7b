//! A drawing as data, and its form as SVG.
//!
//! Owns: [`Scene`], colours for light and dark, SVG. Must not know: what is drawn. Invariant: the SVG stands for itself: no scripts, no files
//! beside it.

use std::fmt::Write;

/// A colour by its purpose, so that light and dark pages have their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Behind everything.
    Page,
    /// Behind the curves.
    Panel,
    /// Lines of the grid.
    Grid,
    /// Words.
    Text,
    /// Words of less weight.
    Muted,
    /// One thread.
    One,
    /// The CPU.
    Cpu,
    /// GPUs.
    Gpu,
    /// Automatic placement.
    Auto,
    /// What no schedule can beat.
    Bound,
}

impl Ink {
    const ALL: [Self; 10] = [
        Self::Page,
        Self::Panel,
        Self::Grid,
        Self::Text,
        Self::Muted,
        Self::One,
        Self::Cpu,
        Self::Gpu,
        Self::Auto,
        Self::Bound,
    ];

    fn class(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Panel => "panel",
            Self::Grid => "grid",
            Self::Text => "text",
            Self::Muted => "muted",
            Self::One => "one",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Auto => "auto",
            Self::Bound => "bound",
        }
    }

    /// `0xrrggbb` on a light page.
    pub fn light(self) -> u32 {
        match self {
            Self::Page => 0xff_ff_ff,
            Self::Panel => 0xf6_f8_fb,
            Self::Grid => 0xdd_e3_ec,
            Self::Text => 0x1b_24_33,
            Self::Muted => 0x5d_6a_7e,
            Self::One => 0x8a_5c_d6,
            Self::Cpu => 0x1f_6f_eb,
            Self::Gpu => 0xe3_60_1c,
            Self::Auto => 0x14_90_4a,
            Self::Bound => 0x94_a1_b5,
        }
    }

    /// The same on a dark page.
    pub fn dark(self) -> u32 {
        match self {
            Self::Page => 0x0f_14_1c,
            Self::Panel => 0x18_1f_2a,
            Self::Grid => 0x2c_36_45,
            Self::Text => 0xe8_ed_f4,
            Self::Muted => 0x9a_a8_bb,
            Self::One => 0xb3_93_f0,
            Self::Cpu => 0x62_a4_ff,
            Self::Gpu => 0xff_91_52,
            Self::Auto => 0x4c_cf_85,
            Self::Bound => 0x76_84_98,
        }
    }
}

/// Where a text is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// At its left end.
    Start,
    /// In the middle.
    Middle,
    /// At its right end.
    End,
}

/// A point.
pub type At = [f64; 2];

/// One shape.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A box with round corners.
    Plate {
        /// Upper left corner.
        at: At,
        /// Width and height.
        size: At,
        /// Of the corners.
        radius: f64,
        /// Colour.
        fill: Ink,
    },
    /// A filled polygon.
    Area {
        /// Its corners.
        points: Vec<At>,
        /// Colour.
        fill: Ink,
        /// 0 to 1.
        opacity: f64,
    },
    /// A line through points.
    Line {
        /// The points.
        points: Vec<At>,
        /// Colour.
        ink: Ink,
        /// Width.
        width: f64,
        /// Length of dashes and of gaps.
        dash: Option<[f64; 2]>,
    },
    /// A mark.
    Dot {
        /// Centre.
        at: At,
        /// Radius.
        radius: f64,
        /// Colour.
        ink: Ink,
        /// Only its rim.
        hollow: bool,
    },
    /// Words on a baseline.
    Text {
        /// Where.
        at: At,
        /// Font size.
        size: f64,
        /// Colour.
        ink: Ink,
        /// Which end of the text is at `at`.
        anchor: Anchor,
        /// The words.
        text: String,
    },
}

/// A drawing.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// Shapes, the first one at the bottom.
    pub shapes: Vec<Shape>,
}

impl Scene {
    /// Adds words.
    pub fn text(&mut self, at: At, size: f64, ink: Ink, anchor: Anchor, text: impl Into<String>) {
        self.shapes.push(Shape::Text { at, size, ink, anchor, text: text.into() });
    }

    /// Adds a line.
    pub fn line(&mut self, points: Vec<At>, ink: Ink, width: f64, dash: Option<[f64; 2]>) {
        self.shapes.push(Shape::Line { points, ink, width, dash });
    }

    /// The drawing as SVG, which follows the reader's choice of light or dark.
    pub fn svg(&self) -> String {
        let (w, h, title) = (self.width, self.height, escaped(&self.title));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" \
             font-family=\"'Noto Sans', 'Helvetica Neue', Arial, sans-serif\">\n<title>{title}</title>\n<style>\n"
        );
        let rules = |svg: &mut String, colour: fn(Ink) -> u32| {
            for ink in Ink::ALL {
                let (class, colour) = (ink.class(), colour(ink));
                // Writing to a string cannot fail.
                let _ = writeln!(svg, ".f-{class}{{fill:#{colour:06x}}} .s-{class}{{stroke:#{colour:06x}}}");
            }
        };
        rules(&mut svg, Ink::light);
        svg += "@media (prefers-color-scheme: dark) {\n";
        rules(&mut svg, Ink::dark);
        svg += "}\n</style>\n";
        self.shapes.iter().for_each(|shape| element(&mut svg, shape));
        svg + "</svg>\n"
    }
}

fn element(svg: &mut String, shape: &Shape) {
    let path = |points: &[At]| {
        let steps = points.iter().enumerate().map(|(i, [x, y])| format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' }));
        steps.collect::<String>()
    };
    let _ = match shape {
        Shape::Plate { at: [x, y], size: [w, h], radius, fill } => {
            let class = fill.class();
            writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"{radius}\" class=\"f-{class}\"/>"
            )
        }
        Shape::Area { points, fill, opacity } => {
            writeln!(svg, "<path d=\"{}Z\" class=\"f-{}\" fill-opacity=\"{opacity}\"/>", path(points), fill.class())
        }
        Shape::Line { points, ink, width, dash } => {
            let dash = dash.map_or(String::new(), |[on, off]| format!(" stroke-dasharray=\"{on} {off}\""));
            let round = "stroke-linecap=\"round\" stroke-linejoin=\"round\"";
            let class = ink.class();
            writeln!(
                svg,
                "<path d=\"{}\" class=\"s-{class}\" fill=\"none\" stroke-width=\"{width}\" {round}{dash}/>",
                path(points)
            )
        }
        Shape::Dot { at: [x, y], radius, ink, hollow } => {
            let class = if *hollow { format!("f-page s-{}", ink.class()) } else { format!("f-{}", ink.class()) };
            let rim = if *hollow { " stroke-width=\"1.8\"" } else { "" };
            writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" class=\"{class}\"{rim}/>")
        }
        Shape::Text { at: [x, y], size, ink, anchor, text } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let (class, text) = (ink.class(), escaped(text));
            writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" class=\"f-{class}\">{text}</text>"
            )
        }
    };
}

/// The text as XML can hold it: names of devices are what drivers say.
fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn svg_has_both_schemes_and_escapes_words() {
        let mut scene = Scene { width: 100.0, height: 50.0, title: "a < b & c".into(), shapes: Vec::new() };
        scene.text([1.0, 2.0], 10.0, Ink::Text, Anchor::End, "x > <y>");
        scene.line(vec![[0.0, 0.0], [1.25, 2.0]], Ink::Cpu, 2.0, Some([4.0, 3.0]));
        let svg = scene.svg();
        for part in [
            "viewBox=\"0 0 100 50\"",
            "<title>a &lt; b &amp; c</title>",
            "prefers-color-scheme: dark",
            ".s-cpu{stroke:#1f6feb}",
            ".s-cpu{stroke:#62a4ff}",
            "text-anchor=\"end\" class=\"f-text\">x &gt; &lt;y&gt;</text>",
            "d=\"M0.0 0.0L1.2 2.0\"",
            "stroke-dasharray=\"4 3\"",
        ] {
            assert!(svg.contains(part), "no `{part}` in\n{svg}");
        }
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn words_can_be_read_on_both_pages() {
        let light = |rgb: u32| {
            let part = |shift: u32| {
                let v = f64::from((rgb >> shift) & 255) / 255.0;
                if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * part(16) + 0.7152 * part(8) + 0.0722 * part(0)
        };
        // The contrast ratio of the Web Content Accessibility Guidelines 2.1.
        let contrast = |a: u32, b: u32| (light(a).max(light(b)) + 0.05) / (light(a).min(light(b)) + 0.05);
        for of in [Ink::light as fn(Ink) -> u32, Ink::dark] {
            for (ink, least) in
                [(Ink::Text, 7.0), (Ink::Muted, 4.5), (Ink::Cpu, 3.0), (Ink::Gpu, 3.0), (Ink::Auto, 3.0), (Ink::One, 3.0)]
            {
                let ratio = contrast(of(ink), of(Ink::Panel));
                assert!(ratio >= least, "{ink:?}: {ratio:.1}");
            }
        }
    }
}
