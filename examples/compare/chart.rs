//! Time against size, both logarithmic: one drawing per workload, and one of all.
//!
//! Owns: axes, curves, legend, where words go. Must not know: pixels, SVG. Invariant: what is drawn is a median, its interval, a bound or a
//! crossing of the study; nothing is fitted or smoothed.

use chunkwise::shape::DType;

use crate::compare::duel::Crossing;
use crate::compare::measure::{Lane, State};
use crate::compare::pixels::text_width;
use crate::compare::scene::{Anchor, At, Ink, Scene, Shape};
use crate::compare::study::{Row, Study};
use crate::compare::words;
use crate::compare::work::Workload;

/// Left of the curves, for the labels of the time axis; below, for those of sizes; above, for the panel's name.
const MARGIN: [f64; 3] = [58.0, 40.0, 30.0];

/// What title, machine and a legend of one line take; what each further line of the legend does.
const HEAD: f64 = 92.0;
const LEGEND_LINE: f64 = 20.0;

/// Dashes and opacity of what shows between which sizes a challenger begins to win.
const BEGINS: Option<[f64; 2]> = Some([1.0, 4.0]);
const BAND: f64 = 0.09;

/// A drawing and the stem of its files' names.
pub fn all(study: &Study) -> Vec<(String, Scene)> {
    let mut workloads: Vec<Workload> = study.groups().into_iter().map(|g| g.0).collect();
    workloads.dedup();
    let drawn = |w: &Workload| study.rows.iter().any(|r| r.workload == *w && r.lanes.iter().any(|m| m.median().is_some()));
    workloads.retain(drawn);
    if workloads.is_empty() {
        return Vec::new();
    }
    let one = |&workload: &Workload| (workload.name().to_owned(), of_workload(study, workload));
    let mut scenes: Vec<(String, Scene)> = workloads.iter().map(one).collect();
    if workloads.len() > 1 {
        scenes.insert(0, ("compare".into(), overview(study, &workloads)));
    }
    scenes
}

/// One workload: a panel per precision.
fn of_workload(study: &Study, workload: Workload) -> Scene {
    let dtypes: Vec<DType> = study.groups().into_iter().filter(|g| g.0 == workload).map(|g| g.1).collect();
    let (width, height) = (if dtypes.len() > 1 { 980.0 } else { 560.0 }, 500.0);
    let rows: Vec<&Row> = study.rows.iter().filter(|r| r.workload == workload).collect();
    let name = format!("{}: time against size", capital(workload.title()));
    let (mut scene, top) = page(study, &rows, [width, height], &name);
    let height = scene.height;
    let each = (width - 48.0 - 20.0 * (dtypes.len() - 1) as f64) / dtypes.len() as f64;
    let range = time_range(&rows);
    for (index, &dtype) in dtypes.iter().enumerate() {
        let at = [24.0 + index as f64 * (each + 20.0), top];
        let panel = Panel { at, size: [each, height - top - 24.0], name: dtype.to_string(), range, small: false };
        panel.draw(&mut scene, study, (workload, dtype));
    }
    scene
}

/// All workloads in memory, four panels in a line (two workloads in two precisions); the one in a file has a drawing of its own.
fn overview(study: &Study, workloads: &[Workload]) -> Scene {
    let shown = study.groups().into_iter().filter(|g| workloads.contains(&g.0) && g.0 != Workload::BlockedMeanFile);
    let panels: Vec<(Workload, DType)> = shown.collect();
    let columns = panels.len().clamp(2, 4);
    let (each, gap) = ([250.0, 250.0], 12.0);
    let lines = panels.len().div_ceil(columns) as f64;
    let width = 48.0 + columns as f64 * (each[0] + gap) - gap;
    let rows: Vec<&Row> = study.rows.iter().filter(|r| panels.contains(&(r.workload, r.dtype))).collect();
    let height = HEAD + lines * (each[1] + gap) - gap + 24.0;
    let (mut scene, top) = page(study, &rows, [width, height], "Time against size");
    for (index, &(workload, dtype)) in panels.iter().enumerate() {
        let at = [24.0 + (index % columns) as f64 * (each[0] + gap), top + (index / columns) as f64 * (each[1] + gap)];
        let range = time_range(&study.rows.iter().filter(|r| r.workload == workload).collect::<Vec<_>>());
        let name = format!("{}, {dtype}", workload.name().replace('_', " "));
        Panel { at, size: each, name, range, small: true }.draw(&mut scene, study, (workload, dtype));
    }
    scene
}

/// A page with title, machine and the legend of what is drawn of these rows, and where it is free below them: at [`HEAD`] if the legend
/// has one line; further down, and the page as much higher, if it has more.
fn page(study: &Study, rows: &[&Row], [width, height]: At, title: &str) -> (Scene, f64) {
    let machine = &study.machine;
    let entries = legend(study, rows);
    let (places, lines) = places(&entries, width - 48.0);
    let shift = (lines - 1) as f64 * LEGEND_LINE;
    let height = height + shift;
    let mut scene = Scene { width, height, title: title.to_owned(), shapes: Vec::new() };
    scene.shapes.push(Shape::Plate { at: [0.0, 0.0], size: [width, height], radius: 0.0, fill: Ink::Page });
    scene.text([24.0, 36.0], 21.0, Ink::Text, Anchor::Start, title);
    let mut facts = format!("{}, {} threads, {}", machine.cpu, machine.threads, machine.simd);
    machine.gpus.iter().for_each(|gpu| facts += &format!(" · {gpu}"));
    let (percent, more) = words::confidence(study);
    facts += &format!(" · medians, bars: interval of {percent}{more} · {}", &study.date[..study.date.len().min(10)]);
    if study.interrupted {
        facts = format!("INTERRUPTED · {facts}");
    }
    scene.text([24.0, 56.0], 12.0, Ink::Muted, Anchor::Start, fitted(&facts, width - 48.0, 12.0));
    for (entry, [x, y]) in entries.iter().zip(places) {
        entry.draw(&mut scene, [24.0 + x, 76.0 + y]);
    }
    (scene, HEAD + shift)
}

/// What a line or band of the drawing means.
struct Entry {
    name: String,
    ink: Ink,
    dash: Option<[f64; 2]>,
    /// Marks on the line, and whether they are hollow.
    mark: Option<bool>,
    band: bool,
}

impl Entry {
    /// Words of the legend.
    const SIZE: f64 = 12.5;

    /// What it takes of a line.
    fn width(&self) -> f64 {
        31.0 + text_width(&self.name, Self::SIZE)
    }

    fn draw(&self, scene: &mut Scene, [x, y]: At) {
        scene.line(vec![[x, y - 4.0], [x + 24.0, y - 4.0]], self.ink, 2.2, self.dash);
        if let Some(hollow) = self.mark {
            scene.shapes.push(Shape::Dot { at: [x + 12.0, y - 4.0], radius: 3.6, ink: self.ink, hollow });
        }
        scene.text([x + 31.0, y], Self::SIZE, Ink::Text, Anchor::Start, self.name.as_str());
        if self.band {
            let points = [[0.0, -11.0], [24.0, -11.0], [24.0, 3.0], [0.0, 3.0]].map(|[dx, dy]| [x + dx, y + dy]);
            scene.shapes.push(Shape::Area { points: points.to_vec(), fill: self.ink, opacity: BAND });
        }
    }
}

/// Where the entries stand, in lines of this width; how many lines.
fn places(entries: &[Entry], width: f64) -> (Vec<At>, usize) {
    let (mut x, mut lines) = (0.0, 1);
    let place = |entry: &Entry| {
        if x > 0.0 && x + entry.width() > width {
            (x, lines) = (0.0, lines + 1);
        }
        let at = [x, (lines - 1) as f64 * LEGEND_LINE];
        x += entry.width() + 22.0;
        at
    };
    (entries.iter().map(place).collect(), lines)
}

fn legend(study: &Study, rows: &[&Row]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let has_curve = |lane: &&Lane| rows.iter().any(|r| r.median(**lane).is_some());
    for lane in study.lanes.iter().filter(has_curve) {
        let (ink, dash, hollow) = look(*lane);
        entries.push(Entry { name: study.lane_name(*lane), ink, dash, mark: Some(hollow), band: false });
    }
    let mut bound = |name: &str, ink: Ink, of: fn(&Row) -> Option<f64>| {
        if bounded(rows, of).next().is_some() {
            entries.push(Entry { name: name.into(), ink, dash: Some([2.0, 4.0]), mark: None, band: false });
        }
    };
    bound("bound of the CPU", Ink::Bound, cpu_bound);
    bound("bound of the GPU, data there", Ink::Gpu, gpu_bound);
    let groups = study.groups().into_iter().filter(|g| rows.iter().any(|r| (r.workload, r.dtype) == *g));
    let crossed = |duel| groups.clone().any(|(w, t)| matches!(study.crossing(w, t, duel), Some(Crossing::Between { .. })));
    // One for cold and resident: their lines differ as their curves do.
    if let Some(duel) = study.duels().into_iter().rev().find(|&duel| crossed(duel)) {
        let gpu = duel.0.device == "gpu";
        let name = if gpu { "where the GPU overtakes" } else { "where more threads overtake" };
        let (ink, dash, _) = look(duel.0);
        entries.push(Entry { name: name.into(), ink, dash: dash.or(BEGINS), mark: None, band: true });
    }
    entries
}

fn cpu_bound(row: &Row) -> Option<f64> {
    row.bound_s
}

fn gpu_bound(row: &Row) -> Option<f64> {
    Some(row.gpu_bound_s?.resident)
}

/// Sizes and bounds of the rows that were measured: what is drawn of them.
fn bounded(rows: &[&Row], bound: fn(&Row) -> Option<f64>) -> impl Iterator<Item = (usize, f64)> {
    let measured = rows.iter().filter(|r| r.lanes.iter().any(|m| m.median().is_some()));
    measured.filter_map(move |r| Some((r.n, bound(r)?)))
}

/// A lane's colour, dashes, and whether its marks are hollow: cold ones are.
fn look(lane: Lane) -> (Ink, Option<[f64; 2]>, bool) {
    let ink = match lane.device {
        "one" => Ink::One,
        "cpu" => Ink::Cpu,
        "gpu" => Ink::Gpu,
        _ => Ink::Auto,
    };
    let cold = lane.state == State::Cold;
    (ink, cold.then_some([5.0, 5.0]), cold)
}

/// One pair of axes.
struct Panel {
    at: At,
    size: At,
    name: String,
    range: [f64; 2],
    small: bool,
}

impl Panel {
    fn draw(&self, scene: &mut Scene, study: &Study, (workload, dtype): (Workload, DType)) {
        let rows = study.rows_of(workload, dtype);
        let ([x, y], [w, h]) = (self.at, self.size);
        scene.shapes.push(Shape::Plate { at: self.at, size: self.size, radius: 10.0, fill: Ink::Panel });
        scene.text([x + 14.0, y + 21.0], if self.small { 12.5 } else { 14.0 }, Ink::Text, Anchor::Start, self.name.as_str());
        let words = crossing_words(study, (workload, dtype));
        if self.small {
            let size = 10.5 * ((w - 24.0) / text_width(&words, 10.5)).min(1.0);
            scene.text([x + 14.0, y + 36.0], size, Ink::Muted, Anchor::Start, words);
        } else {
            scene.text([x + w - 16.0, y + 21.0], 12.0, Ink::Muted, Anchor::End, words);
        }
        let measured: Vec<&&Row> = rows.iter().filter(|r| r.lanes.iter().any(|m| m.median().is_some())).collect();
        let (Some(first), Some(last)) = (measured.first(), measured.last()) else {
            scene.text([x + w / 2.0, y + h / 2.0], 12.0, Ink::Muted, Anchor::Middle, "nothing was measured");
            return;
        };
        // A bisection may have found a crossing left of the first row.
        let crossed = study.duels().into_iter().filter_map(|duel| study.crossing(workload, dtype, duel));
        let least = crossed.filter_map(|c| if let Crossing::Between { low, .. } = c { Some(low) } else { None });
        let least = least.fold(first.n, usize::min) as f64;
        let pad = if first.n == last.n { 2.0 } else { (last.n as f64 / first.n as f64).powf(0.06) };
        let axes = Axes {
            left: x + MARGIN[0],
            right: x + w - 16.0,
            top: y + MARGIN[2] + if self.small { 16.0 } else { 0.0 },
            bottom: y + h - MARGIN[1],
            sizes: [least / pad, last.n as f64 * pad],
            times: self.range,
        };
        axes.grid(scene, &measured.iter().map(|r| r.n).collect::<Vec<_>>(), self.small);
        for (of, ink) in [(cpu_bound as fn(&Row) -> Option<f64>, Ink::Bound), (gpu_bound, Ink::Gpu)] {
            bound(scene, &axes, bounded(&rows, of).map(|(n, s)| [axes.x(n as f64), axes.y(s)]).collect(), ink);
        }
        crossings(scene, &axes, study, (workload, dtype));
        for (index, &lane) in study.lanes.iter().enumerate() {
            // Side by side, so that no interval hides another.
            let aside = 1.8 * (index as f64 - 0.5 * (study.lanes.len() - 1) as f64);
            curve(scene, &axes, &rows, (lane, aside));
        }
    }
}

/// Where sizes and times lie.
struct Axes {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    sizes: [f64; 2],
    times: [f64; 2],
}

impl Axes {
    fn x(&self, n: f64) -> f64 {
        let share = (n / self.sizes[0]).ln() / (self.sizes[1] / self.sizes[0]).ln();
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    fn y(&self, seconds: f64) -> f64 {
        let share = (seconds / self.times[0]).ln() / (self.times[1] / self.times[0]).ln();
        self.bottom - share.clamp(0.0, 1.0) * (self.bottom - self.top)
    }

    fn grid(&self, scene: &mut Scene, sizes: &[usize], small: bool) {
        let font = if small { 10.5 } else { 12.0 };
        for tick in time_ticks(self.times) {
            let y = self.y(tick);
            scene.line(vec![[self.left, y], [self.right, y]], Ink::Grid, 1.0, None);
            scene.text([self.left - 8.0, y + 4.0], font, Ink::Muted, Anchor::End, time_label(tick));
        }
        // From the largest size down, so that it always has its label.
        let mut free = f64::INFINITY;
        for &n in sizes.iter().rev() {
            let (x, label) = (self.x(n as f64), n.to_string());
            scene.line(vec![[x, self.top], [x, self.bottom]], Ink::Grid, 1.0, None);
            let half = text_width(&label, font) / 2.0;
            if x + half < free {
                scene.text([x, self.bottom + 16.0], font, Ink::Muted, Anchor::Middle, label);
                free = x - half - 8.0;
            }
        }
        let middle = (self.left + self.right) / 2.0;
        scene.text([middle, self.bottom + 31.0], font - 0.5, Ink::Muted, Anchor::Middle, "n, of n × n");
    }
}

/// A roofline; what lies below that of the CPU is shaded.
fn bound(scene: &mut Scene, axes: &Axes, points: Vec<At>, ink: Ink) {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
    let mut area = points.clone();
    area.extend([[last[0], axes.bottom], [first[0], axes.bottom]]);
    if points.len() > 1 && ink == Ink::Bound {
        scene.shapes.push(Shape::Area { points: area, fill: ink, opacity: 0.13 });
    }
    scene.line(points, ink, 1.8, Some([2.0, 4.0]));
}

/// A band between the sizes, or a line where they are near each other.
fn crossings(scene: &mut Scene, axes: &Axes, study: &Study, (workload, dtype): (Workload, DType)) {
    for duel in study.duels() {
        let Some(Crossing::Between { low, high }) = study.crossing(workload, dtype, duel) else { continue };
        let (ink, dash, _) = look(duel.0);
        let (x0, x1) = (axes.x(low as f64), axes.x(high as f64));
        if x1 - x0 > 3.0 {
            let points = vec![[x0, axes.top], [x1, axes.top], [x1, axes.bottom], [x0, axes.bottom]];
            scene.shapes.push(Shape::Area { points, fill: ink, opacity: BAND });
        }
        scene.line(vec![[x1, axes.top], [x1, axes.bottom]], ink, 1.2, dash.or(BEGINS));
    }
}

/// Who wins from where, in a few words.
fn crossing_words(study: &Study, (workload, dtype): (Workload, DType)) -> String {
    let one = |duel: (Lane, Lane)| {
        let answer = study.crossing(workload, dtype, duel)?.short();
        let state = if duel.0.state == State::Cold { "cold" } else { "resident" };
        Some(if duel.0.device == "gpu" { format!("{state} {answer}") } else { answer })
    };
    let answers: Vec<String> = study.duels().into_iter().filter_map(one).collect();
    let unclear = answers.iter().all(|answer| answer.ends_with("unclear"));
    match (answers.is_empty(), study.lanes.contains(&Lane::GPU)) {
        (true, _) => String::new(),
        (_, true) => format!("gpu wins: {}", answers.join(", ")),
        (_, false) if unclear => format!("whether {} threads win: unclear", study.machine.threads),
        (_, false) => format!("{} threads win: {}", study.machine.threads, answers.join(", ")),
    }
}

fn curve(scene: &mut Scene, axes: &Axes, rows: &[&Row], (lane, aside): (Lane, f64)) {
    let (ink, dash, hollow) = look(lane);
    let summaries = rows.iter().filter_map(|r| Some((r.n, r.lane(lane)?.summary?)));
    let points: Vec<(At, [f64; 2])> =
        summaries.map(|(n, s)| ([axes.x(n as f64) + aside, axes.y(s.median)], [axes.y(s.low), axes.y(s.high)])).collect();
    // Automatic placement lies over the device that it chose; both are to be seen.
    let width = if lane.device == "auto" { 1.5 } else { 2.6 };
    scene.line(points.iter().map(|p| p.0).collect(), ink, width, dash);
    for (at, [low, high]) in points {
        if low - high > 3.0 {
            scene.line(vec![[at[0], low], [at[0], high]], ink, 1.4, None);
        }
        scene.shapes.push(Shape::Dot { at, radius: 3.6, ink, hollow });
    }
}

/// The times of these rows, bounds included, with some air.
fn time_range(rows: &[&Row]) -> [f64; 2] {
    let medians = rows.iter().flat_map(|r| r.lanes.iter().filter_map(|m| m.summary).flat_map(|s| [s.low, s.high]));
    let bounds = bounded(rows, cpu_bound).chain(bounded(rows, gpu_bound)).map(|b| b.1);
    let all: Vec<f64> = medians.chain(bounds).filter(|t| *t > 0.0 && t.is_finite()).collect();
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let most = all.iter().copied().fold(0.0, f64::max);
    if most > 0.0 { [least / 1.5, most * 1.9] } else { [1e-3, 1.0] }
}

/// Powers of ten; where there are fewer than three, 2 and 5 times them too.
fn time_ticks([from, to]: [f64; 2]) -> Vec<f64> {
    let inside = |t: &f64| *t >= from && *t <= to;
    let decades = || (-9..6).map(|e| 10f64.powi(e));
    let tens: Vec<f64> = decades().filter(inside).collect();
    if tens.len() >= 3 { tens } else { decades().flat_map(|t| [t, 2.0 * t, 5.0 * t]).filter(inside).collect() }
}

/// `10 ms`.
fn time_label(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 0.95 => (s, "s"),
        s if s >= 0.95e-3 => (s * 1e3, "ms"),
        s if s >= 0.95e-6 => (s * 1e6, "us"),
        s => (s * 1e9, "ns"),
    };
    format!("{value:.0} {unit}")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// The text, cut with `...` where it is too wide.
fn fitted(text: &str, width: f64, size: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut cut = text.to_owned();
    while !cut.is_empty() && text_width(&cut, size) + text_width("...", size) > width {
        cut.pop();
    }
    cut.trim_end().to_owned() + "..."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(time_ticks([0.9e-3, 1.1]), [1e-3, 1e-2, 0.1, 1.0]);
        let near: Vec<String> = time_ticks([0.004, 0.03]).into_iter().map(time_label).collect();
        assert_eq!(near, ["5 ms", "10 ms", "20 ms"]);
        assert_eq!([1e-9, 2e-6, 5e-4, 1.0, 20.0].map(time_label), ["1 ns", "2 us", "500 us", "1 s", "20 s"]);
    }

    #[test]
    fn a_long_legend_has_more_lines() {
        let named = |name: &str| Entry { name: name.into(), ink: Ink::Cpu, dash: None, mark: None, band: false };
        let entries = ["one", "two", "a name that has no room beside the others"].map(named);
        let width = entries[2].width();
        let (at, lines) = places(&entries, width);
        assert!(lines == 2 && at[0] == [0.0, 0.0] && at[1][0] > 31.0 && at[2] == [0.0, LEGEND_LINE], "{at:?}");
        assert_eq!(places(&entries, 10.0 * width).1, 1);
        assert_eq!((places(&entries, 1.0).1, places(&[], 1.0).1), (3, 1), "one to a line, however narrow");
    }

    #[test]
    fn long_facts_are_cut_to_the_page() {
        assert_eq!(fitted("short", 100.0, 12.0), "short");
        let cut = fitted(&"long ".repeat(50), 100.0, 12.0);
        assert!(cut.ends_with("...") && text_width(&cut, 12.0) <= 100.0, "{cut}");
    }

    #[test]
    fn axes_are_logarithmic() {
        let axes = Axes { left: 0.0, right: 100.0, top: 0.0, bottom: 100.0, sizes: [1.0, 100.0], times: [1e-3, 1e1] };
        assert!((axes.x(10.0) - 50.0).abs() < 1e-9 && (axes.y(0.1) - 50.0).abs() < 1e-9);
        assert_eq!((axes.y(1e-9), axes.x(1e9)), (100.0, 100.0));
    }
}
