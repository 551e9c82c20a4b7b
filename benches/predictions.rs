//! What the scheduler expects of programs that it has never seen, beside what they take: `cargo bench --bench predictions [-- --test]`. On the CPU, and on every GPU there is (a software one among them: of that the ratios
//! say whether the model works, the times nothing). Each expression is predicted by a session that has calibrated and seen nothing else, and by one that has seen all those before it in the list.
//!
//! Owns: ratios. Must not know: how anything is predicted. Invariant: what is measured is the median of runs after the first; a program is new to the session that predicts it.

use std::path::Path;

use chunkwise::ext::DeviceKind;
use chunkwise::ndarray::Array2;
use chunkwise::shape::{Element, Float};
use chunkwise::{Array, Placement, RunReport, Session, where_};

/// An expression of two arrays, run once.
type Case<T> = (&'static str, fn(&Array<T>, &Array<T>) -> RunReport);

/// The set of the example `expressions`, and some that are mostly of one class.
fn cases<T: Float>() -> Vec<Case<T>> {
    fn horner<T: Float>(x: &Array<T>, degree: u8) -> Array<T> {
        (0..degree).fold(x * T::from_f64(1.5), |sum, k| (sum + T::from_f64(f64::from(k))) * x)
    }
    vec![
        ("a x x + b x + sin(x)", |x, _| ran(&(x * x * T::from_f64(1.5) + x * T::from_f64(0.25) + x.sin()))),
        ("where(x > h, a x, b - x)", |x, _| ran(&where_(&x.gt(T::from_f64(0.5)), x * T::from_f64(1.5), x - T::from_f64(0.25)))),
        ("Horner, degree 5", |x, _| ran(&horner(x, 5))),
        ("exp(x)", |x, _| ran(&x.exp())),
        ("x + y", |x, y| ran(&(x + y))),
        ("Horner, degree 40", |x, _| ran(&horner(x, 40))),
        ("sin(x) exp(-y y) + log(x + 2)", |x, y| ran(&(x.sin() * (-(y * y)).exp() + (x + T::from_f64(2.0)).log()))),
        ("powf(x, y)", |x, y| ran(&x.powf(y))),
        ("sqrt(x) / (y + 1)", |x, y| ran(&(x.sqrt() / (y + T::from_f64(1.0))))),
        ("sum", |x, _| ran(&x.sum())),
        ("mean", |x, _| ran(&x.mean())),
        ("var", |x, _| ran(&x.var(0.0))),
        ("min", |x, _| ran(&x.min())),
        ("argmax", |x, _| ran(&x.argmax())),
        ("sum of exp(x)", |x, _| ran(&x.exp().sum())),
    ]
}

fn ran<T: Element>(array: &Array<T>) -> RunReport {
    array.run().expect("it runs").1
}

/// Touches and frees as much memory as a case takes: a virtual machine has given what is free back to its host, and pays for its return.
fn touch<T>(numbers: usize) {
    std::hint::black_box(vec![1u8; 6 * numbers * size_of::<T>()]);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Predicted and measured seconds of a task of the run's longest part, on a device of this name.
fn longest(report: &RunReport, device: &str) -> Option<[f64; 2]> {
    let rows = report.comparison().rows.into_iter().filter(|row| row.device == device);
    let all = |row: &chunkwise::ext::ComparisonRow| row.measured_s * row.tasks as f64;
    rows.max_by(|a, b| all(a).total_cmp(&all(b))).map(|row| [row.predicted_s, row.measured_s])
}

/// Where sessions find what others have measured.
struct Lab<'a> {
    device: &'a str,
    placement: Placement,
    calibrated: &'a Path,
    runs: usize,
}

impl Lab<'_> {
    fn session(&self, folder: &Path) -> Session {
        let builder = Session::builder().placement(self.placement).allow_software(true).cache_dir(folder);
        builder.build().expect("a session")
    }

    /// A session that has calibrated and seen nothing.
    fn fresh(&self, folder: &Path) -> Session {
        for entry in std::fs::read_dir(self.calibrated).expect("a folder").flatten() {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("a copy");
            }
        }
        self.session(folder)
    }

    fn compare<T: Float>(&self, numbers: &[[T; 2]], side: usize) {
        let arrays = |session: &Session| {
            [0, 1].map(|which| {
                let of = numbers.iter().map(|pair| pair[which]).collect();
                Array::from(Array2::from_shape_vec((side, side), of).expect("a square")).in_session(session)
            })
        };
        let folder = tempfile::tempdir().expect("a folder");
        let going_on = self.fresh(folder.path());
        let [gx, gy] = arrays(&going_on);
        let (mut alone, mut after) = (Vec::new(), Vec::new());
        for (name, case) in cases::<T>() {
            let folder = tempfile::tempdir().expect("a folder");
            let session = self.fresh(folder.path());
            let [x, y] = arrays(&session);
            let Some([expected, _]) = longest(&case(&x, &y), self.device) else {
                println!("{:<10} {} {name:30} does not run there", self.device, T::DTYPE);
                continue;
            };
            let measured = (0..self.runs).filter_map(|_| {
                touch::<T>(numbers.len());
                longest(&case(&x, &y), self.device).map(|both| both[1])
            });
            let measured = median(measured.collect());
            let [later, _] = longest(&case(&gx, &gy), self.device).expect("as before");
            (0..self.runs).for_each(|_| _ = case(&gx, &gy));
            let off = |predicted: f64| (predicted / measured).max(measured / predicted);
            alone.push(off(expected));
            after.push(off(later));
            println!(
                "{:<10} {} {name:30} measured {:9.3} ms, calibrated {:6.2}, after others {:6.2}",
                self.device,
                T::DTYPE,
                measured * 1e3,
                expected / measured,
                later / measured
            );
        }
        if !alone.is_empty() {
            let (alone, after) = (median(alone), median(after));
            println!(
                "{:<10} {} off by a factor of {alone:.2} after calibration, {after:.2} after others (medians)",
                self.device,
                T::DTYPE
            );
        }
    }
}

fn main() {
    let (side, runs) = if std::env::args().any(|a| a == "--test") { (200, 2) } else { (2048, 7) };
    let calibrated = tempfile::tempdir().expect("a folder");
    let first = Session::builder().allow_software(true).cache_dir(calibrated.path()).build().expect("a session");
    first.calibrate();
    let devices = first.devices();
    drop(first);
    let mut rng = 0u64;
    let mut number = || {
        rng = rng.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (rng >> 11) as f64 / (1u64 << 53) as f64
    };
    let numbers: Vec<[f64; 2]> = (0..side * side).map(|_| [number(), number()]).collect();
    let singles: Vec<[f32; 2]> = numbers.iter().map(|pair| pair.map(|x| x as f32)).collect();
    for spec in devices.iter().filter(|spec| spec.kind != DeviceKind::Io) {
        let placement = if spec.gpu.is_some() { Placement::Gpu } else { Placement::Cpu };
        let lab = Lab { device: &spec.name, placement, calibrated: calibrated.path(), runs };
        lab.compare(&singles, side);
        if spec.gpu.is_none_or(|gpu| gpu.f64) {
            lab.compare(&numbers, side);
        }
    }
}
