//! Who wins: at one size and over all sizes, decided once for table, chart, page and sentence.
//!
//! Owns: [`Verdict`], [`Crossing`], and their words. Must not know: lanes, clocks, how words are shown. Invariant: whatever is told of two lanes
//! is told from these two, and a crossing claims nothing of a size that the verdict there denies.

use serde::Serialize;

use crate::compare::stats::Summary;

/// Times whose ratio is within this of 1 are called level: nobody should care.
pub const LEVEL: f64 = 1.05;

/// The confidence that an interval must have to decide anything: five sweeps.
pub const SURE: f64 = 0.9;

/// How a challenger does against another at one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "verdict")]
pub enum Verdict {
    /// It is faster by this factor, of the medians.
    Wins {
        /// 1.05 or more.
        factor: f64,
    },
    /// It is slower by this factor, of the medians.
    Loses {
        /// 1.05 or more.
        factor: f64,
    },
    /// They differ by less than 5 %.
    Level,
    /// The two cannot be told apart.
    Unclear,
}

impl Verdict {
    /// From the two medians, and the ratio of the challenger's times to the other's, paired by rounds. The ratio decides whether anything is
    /// known; the medians say how much, so that whoever divides the times of a table finds the factor beside them. Where the two do not
    /// agree on who is faster, nothing is known.
    pub fn of(paired: &Summary, [mine, other]: [f64; 2]) -> Self {
        let ratio = mine / other;
        let near = ratio < LEVEL && ratio > 1.0 / LEVEL;
        let inside = paired.high < LEVEL && paired.low > 1.0 / LEVEL;
        match paired.below(1.0) {
            _ if paired.confidence < SURE => Self::Unclear,
            Some(_) if near => Self::Level,
            None if near && inside => Self::Level,
            Some(true) if ratio < 1.0 => Self::Wins { factor: 1.0 / ratio },
            Some(false) if ratio > 1.0 => Self::Loses { factor: ratio },
            _ => Self::Unclear,
        }
    }

    /// Whether the challenger is faster.
    pub fn wins(self) -> bool {
        matches!(self, Self::Wins { .. })
    }

    /// Whether the challenger is slower.
    pub fn loses(self) -> bool {
        matches!(self, Self::Loses { .. })
    }

    /// `1.9x`, `0.53x`, `level`, `unclear`: how many times as fast the challenger is.
    pub fn short(self) -> String {
        match self {
            Self::Wins { factor } => times(factor),
            Self::Loses { factor } => times(1.0 / factor),
            Self::Level => "level".into(),
            Self::Unclear => "unclear".into(),
        }
    }
}

/// `1.9x`.
pub fn times(value: f64) -> String {
    format!("{}x", factor(value))
}

/// Two digits: `0.53`, `1.9`, `12`, `140`.
pub fn factor(value: f64) -> String {
    match value {
        v if v >= 9.95 => format!("{v:.0}"),
        v if v >= 0.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// At which sizes a challenger wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "answer")]
pub enum Crossing {
    /// At every size tried.
    Always {
        /// The smallest one.
        from: usize,
    },
    /// From this size on; below it loses nowhere, but does not win everywhere.
    From {
        /// The smallest size of those above which it always wins.
        from: usize,
    },
    /// Not at `low`, but at `high` and above.
    Between {
        /// The largest size known where it does not win.
        low: usize,
        /// The smallest size known where it does.
        high: usize,
    },
    /// At `won`, but not at the next size, and nowhere above.
    Until {
        /// The largest size where it wins.
        won: usize,
        /// The next one.
        not: usize,
        /// Whether it loses there, rather than being level or unclear.
        loses: bool,
    },
    /// At no size; it loses at some.
    Never {
        /// The largest size tried.
        up_to: usize,
    },
    /// No size has a clear winner.
    Unclear {
        /// The largest size tried.
        up_to: usize,
    },
}

impl Crossing {
    /// What measured sizes say by themselves, in ascending order. The last change counts. `None` without sizes.
    pub fn of_rows(rows: &[(usize, Verdict)]) -> Option<Self> {
        let &(up_to, _) = rows.last()?;
        let Some(won) = rows.iter().rposition(|r| r.1.wins()) else {
            let loses = rows.iter().any(|r| r.1.loses());
            return Some(if loses { Self::Never { up_to } } else { Self::Unclear { up_to } });
        };
        if let Some(&(not, verdict)) = rows.get(won + 1) {
            return Some(Self::Until { won: rows[won].0, not, loses: verdict.loses() });
        }
        let Some(before) = rows.iter().rposition(|r| !r.1.wins()) else { return Some(Self::Always { from: rows[0].0 }) };
        let high = rows[before + 1].0;
        let lost = rows.iter().rev().find(|r| r.1.loses());
        Some(lost.map_or(Self::From { from: high }, |&(low, _)| Self::Between { low, high }))
    }

    /// Finds the crossing between `low` and `high` by bisection (of the logarithm), until the ends differ by less than `ratio`.
    /// `wins` runs both at a size. It is assumed that the answer changes at most once; if it does not, some change is found.
    ///
    /// # Errors
    /// Those of `wins`.
    pub fn bisect<E>(low: usize, high: usize, ratio: f64, mut wins: impl FnMut(usize) -> Result<bool, E>) -> Result<Self, E> {
        let (mut low, mut high) = (low.min(high).max(1), high.max(low).max(1));
        if !wins(high)? {
            return Ok(Self::Never { up_to: high });
        }
        if low == high || wins(low)? {
            return Ok(Self::Always { from: low });
        }
        while high - low > 1 && high as f64 / low as f64 > ratio {
            let middle = ((low as f64 * high as f64).sqrt().round() as usize).clamp(low + 1, high - 1);
            *(if wins(middle)? { &mut high } else { &mut low }) = middle;
        }
        Ok(Self::Between { low, high })
    }

    /// Whether it claims nothing that these measured sizes deny: a bisection that does is not believed.
    pub fn holds(self, rows: &[(usize, Verdict)]) -> bool {
        let all = |which: &dyn Fn(usize) -> bool, what: &dyn Fn(Verdict) -> bool| {
            rows.iter().filter(|r| which(r.0)).all(|r| what(r.1))
        };
        let no_win = |v: Verdict| !v.wins();
        match self {
            Self::Always { from } => all(&|n| n >= from, &Verdict::wins) && all(&|n| n < from, &|_| false),
            Self::From { from } => all(&|n| n >= from, &Verdict::wins) && all(&|n| n < from, &|v| !v.loses()),
            Self::Between { low, high } => all(&|n| n >= high, &Verdict::wins) && all(&|n| n == low, &no_win),
            Self::Until { won, not, loses } => {
                let as_said = |v: Verdict| v.loses() == loses;
                all(&|n| n == not, &as_said)
                    && all(&|n| n == won, &Verdict::wins)
                    && all(&|n| n > won, &no_win)
                    && all(&|n| n > won && n < not, &|_| false)
            }
            Self::Never { .. } => all(&|_| true, &no_win),
            Self::Unclear { .. } => all(&|_| true, &|v| !v.wins() && !v.loses()),
        }
    }

    /// For table and chart, after the challenger's name or the word "wins": `always`, `from 1000..2000`.
    pub fn short(self) -> String {
        match self {
            Self::Always { .. } => "always".into(),
            Self::From { from } => format!("from {from}"),
            Self::Between { low, high } => format!("from {low}..{high}"),
            Self::Until { won, not, loses: true } => format!("at {won}, not {not}"),
            Self::Until { won, not, loses: false } => format!("at {won}, not clearly {not}"),
            Self::Never { .. } => "never".into(),
            Self::Unclear { .. } => "unclear".into(),
        }
    }

    /// For sentences and the page, after the challenger's name: `wins from between 1000² and 2000² on`.
    pub fn long(self) -> String {
        let sharp = |low: usize, high: usize| high as f64 / low as f64 <= 1.25;
        match self {
            Self::Always { .. } => "wins at every size tried".into(),
            Self::From { from } => format!("wins from {from}² on, unclear below"),
            Self::Between { low, high } if sharp(low, high) => format!("wins from {high}² on"),
            Self::Between { low, high } => format!("wins from between {low}² and {high}² on"),
            Self::Until { won, not, loses: true } => format!("wins at {won}², not at {not}²"),
            Self::Until { won, not, loses: false } => format!("wins at {won}², not clearly at {not}²"),
            Self::Never { .. } => "wins at no size tried".into(),
            Self::Unclear { .. } => "neither wins nor loses clearly at any size".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: Verdict = Verdict::Wins { factor: 2.0 };
    const L: Verdict = Verdict::Loses { factor: 2.0 };
    const U: Verdict = Verdict::Unclear;

    fn summary(low: f64, high: f64, confidence: f64) -> Summary {
        Summary { n: 6, median: 0.5 * (low + high), low, high, confidence, min: low, max: high }
    }

    #[test]
    fn a_verdict_needs_a_clear_ratio_and_medians_that_agree() {
        let of = |low, high, mine| Verdict::of(&summary(low, high, 0.97), [mine, 1.0]);
        assert_eq!((of(0.4, 0.6, 0.5), of(1.9, 2.1, 2.0)), (W, L));
        assert_eq!(of(0.4, 1.1, 0.5), U, "the interval holds 1");
        assert_eq!(of(0.4, 0.6, 1.5), U, "the medians say otherwise");
        assert_eq!([of(0.9, 0.99, 0.97), of(1.01, 1.2, 1.03), of(0.98, 1.02, 1.001)], [Verdict::Level; 3]);
        assert_eq!(of(0.5, 2.0, 1.0), U, "near by chance");
        assert_eq!(Verdict::of(&summary(0.4, 0.6, 0.75), [0.5, 1.0]), U, "three sweeps decide nothing");
        assert_eq!([W, L, Verdict::Level, U].map(Verdict::short), ["2.0x", "0.50x", "level", "unclear"]);
        assert_eq!([0.54, 0.997, 1.96, 9.96, 139.7].map(factor), ["0.54", "1.0", "2.0", "10", "140"]);
    }

    /// All sequences of up to five verdicts: what is concluded holds, and what holds is distinguished.
    #[test]
    fn crossings_claim_what_the_rows_say() {
        let rows = |verdicts: &[Verdict]| verdicts.iter().enumerate().map(|(i, &v)| (i + 1, v)).collect::<Vec<_>>();
        for length in 1..=5u32 {
            for code in 0..3usize.pow(length) {
                let verdicts: Vec<Verdict> = (0..length).map(|i| [W, L, U][code / 3usize.pow(i) % 3]).collect();
                let crossing = Crossing::of_rows(&rows(&verdicts)).unwrap();
                assert!(crossing.holds(&rows(&verdicts)), "{crossing:?} of {verdicts:?}");
                let flipped: Vec<Verdict> = verdicts.iter().map(|v| if v.wins() { L } else { W }).collect();
                assert!(!crossing.holds(&rows(&flipped)), "{crossing:?} of {flipped:?}");
            }
        }
        let of = |verdicts: &[Verdict]| Crossing::of_rows(&rows(verdicts));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[W, W]), Some(Crossing::Always { from: 1 }));
        assert_eq!(of(&[U, W]), Some(Crossing::From { from: 2 }));
        assert_eq!(of(&[L, W, W]), Some(Crossing::Between { low: 1, high: 2 }));
        assert_eq!(of(&[L, U, W]), Some(Crossing::Between { low: 1, high: 3 }));
        assert_eq!(of(&[W, L, W]), Some(Crossing::Between { low: 2, high: 3 }));
        assert_eq!(of(&[L, W, U]), Some(Crossing::Until { won: 2, not: 3, loses: false }));
        assert_eq!(of(&[W, L, L]), Some(Crossing::Until { won: 1, not: 2, loses: true }));
        assert_eq!(of(&[U, L, U]), Some(Crossing::Never { up_to: 3 }));
        assert_eq!(of(&[U, Verdict::Level]), Some(Crossing::Unclear { up_to: 2 }));
    }

    #[test]
    fn crossings_are_found_where_they_are() {
        for true_size in [2, 3, 100, 777, 5000] {
            let mut runs = 0;
            let found = Crossing::bisect(1, 10_000, 1.1, |n| {
                runs += 1;
                Ok::<_, ()>(n >= true_size)
            });
            let Ok(Crossing::Between { low, high }) = found else { panic!("{found:?}") };
            assert!(low < true_size && true_size <= high, "{low} < {true_size} <= {high}");
            assert!(high - low == 1 || high as f64 / low as f64 <= 1.1, "{low}..{high}");
            assert!(runs <= 10, "{runs}");
        }
        let fixed = |answer: bool| Crossing::bisect(10, 1000, 1.1, |_| Ok::<_, ()>(answer)).unwrap();
        assert_eq!((fixed(true), fixed(false)), (Crossing::Always { from: 10 }, Crossing::Never { up_to: 1000 }));
        assert_eq!(Crossing::bisect(10, 1000, 1.1, |_| Err::<bool, _>("gone")), Err("gone"));
        // Not monotone: it ends, and says a change.
        let odd = Crossing::bisect(1, 1000, 1.01, |n| Ok::<_, ()>(n == 1000 || (n > 20 && n % 3 == 0))).unwrap();
        assert!(matches!(odd, Crossing::Between { .. }));
    }
}
