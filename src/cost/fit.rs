//! The straight line through timings.
//!
//! Owns: [`Affine`], weighted least squares in relative error. Must not know: what is timed. Invariant: neither the start
//! nor the slope of a fitted line is negative, so prices are positive and monotone wherever the line is asked.

/// A timing of size `x` > 0 that took `t` > 0 ns, standing for `n` samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub x: f64,
    pub t: f64,
    pub n: f64,
}

/// `t = start + slope x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine {
    pub start: f64,
    pub slope: f64,
}

/// Sizes must span this factor before they can tell the start of a line from its slope.
const SPAN: f64 = 4.0;

impl Affine {
    /// Minimises `sum n ((start + slope x - t) / t)^2`. Where the sizes are too close together for two unknowns, `start` is
    /// `start_prior` (or the least time, if that is less) and only the slope is fitted. `None` without points.
    pub fn fit(points: &[Timing], start_prior: f64) -> Option<Self> {
        let (mut s1, mut sx, mut sxx, mut st, mut sxt) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (mut low, mut high, mut least) = (f64::INFINITY, 0f64, f64::INFINITY);
        for &Timing { x, t, n } in points {
            // Dividing the equation by t makes its error relative.
            let (one, x_t) = (1.0 / t, x / t);
            s1 += n * one * one;
            sx += n * one * x_t;
            sxx += n * x_t * x_t;
            st += n * one;
            sxt += n * x_t;
            (low, high, least) = (low.min(x), high.max(x), least.min(t));
        }
        let slope_from = |start: f64| (sxt - start * sx) / sxx;
        if points.is_empty() {
            return None;
        } else if high < SPAN * low {
            let start = start_prior.min(least);
            return Some(Self { start, slope: slope_from(start).max(0.0) });
        }
        let slope = (s1 * sxt - sx * st) / (s1 * sxx - sx * sx);
        let start = (st - slope * sx) / s1;
        Some(if slope <= 0.0 {
            Self { start: st / s1, slope: 0.0 }
        } else if start <= 0.0 {
            Self { start: 0.0, slope: slope_from(0.0) }
        } else {
            Self { start, slope }
        })
    }

    /// The line at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.start + self.slope * x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(law: impl Fn(f64) -> f64, sizes: &[f64]) -> Vec<Timing> {
        sizes.iter().map(|&x| Timing { x, t: law(x), n: 1.0 }).collect()
    }

    #[test]
    fn recovers_a_law_over_six_decades() {
        let sizes: Vec<f64> = (0..7).map(|k| 10f64.powi(k)).collect();
        let fit = Affine::fit(&points(|x| 5e3 + 0.25 * x, &sizes), 0.0).unwrap();
        assert!((fit.start - 5e3).abs() < 1e-6 && (fit.slope - 0.25).abs() < 1e-9, "{fit:?}");
    }

    #[test]
    fn close_sizes_leave_the_start_alone() {
        let fit = Affine::fit(&points(|x| 50.0 * x, &[10.0, 12.0]), 100.0).unwrap();
        assert_eq!(fit.start, 100.0);
        let fit = Affine::fit(&points(|_| 40.0, &[10.0]), 100.0).unwrap();
        assert_eq!(fit, Affine { start: 40.0, slope: 0.0 });
        assert_eq!(Affine::fit(&[], 1.0), None);
    }

    #[test]
    fn never_negative_whatever_the_points() {
        let falling = Affine::fit(&points(|x| 100.0 / x, &[1.0, 10.0, 100.0]), 0.0).unwrap();
        assert_eq!(falling.slope, 0.0);
        let convex = Affine::fit(&points(|x| x * x, &[1.0, 10.0, 100.0]), 0.0).unwrap();
        assert_eq!(convex.start, 0.0);
        assert!(convex.slope > 0.0);
    }
}
