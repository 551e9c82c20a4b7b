//! What is said: one line of JSON per measurement, and why there is none.
//!
//! Owns: [`Teller`], [`Trouble`], how the program ends. Must not know: what is measured. Invariant: a line with `ok: true` is of something that was
//! measured and right, or that was left out with a reason; after the first that is over time, nothing more is tried.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{CodedError, Outcome, leave, line};

/// Why there is no measurement.
#[derive(Debug)]
pub enum Trouble {
    /// It did not work.
    Failed(String),
    /// The result is not right.
    Wrong(String),
    /// Time is over, or the GPU does not answer.
    Over(String),
    /// This machine has no room for it.
    Skipped(String),
}

/// A measurement, or why there is none.
pub type Measured<T = Value> = Result<T, Trouble>;

/// Something did not work.
pub fn failed(what: impl std::fmt::Debug) -> Trouble {
    Trouble::Failed(format!("{what:?}"))
}

/// The exit code when time was over.
const OVER: u8 = 3;

/// Says what was measured, or why it was not; counts troubles.
#[derive(Default)]
pub struct Teller {
    troubles: usize,
    over: Option<String>,
}

impl Teller {
    /// Measures and tells, unless time is over.
    ///
    /// # Errors
    /// If nobody can be told.
    pub fn tell(&mut self, of: &str, measure: impl FnOnce() -> Measured) -> Outcome {
        if self.over.is_some() {
            return Ok(());
        }
        let (what, why) = match measure() {
            Ok(mut told) => {
                told["ok"] = true.into();
                return line(told);
            }
            Err(Trouble::Skipped(why)) => return line(json!({ "what": "skipped", "of": of, "why": why, "ok": true })),
            Err(Trouble::Failed(why)) => ("failed", why),
            Err(Trouble::Wrong(why)) => ("wrong", why),
            Err(Trouble::Over(why)) => {
                self.over = Some(format!("{of}: {why}"));
                ("over", why)
            }
        };
        self.troubles += 1;
        complain(&format!("{what}: {of}: {why}"));
        line(json!({ "what": what, "of": of, "why": why, "ok": false }))
    }

    /// Whether nothing more is tried.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// How the program ends.
    pub fn end(self) -> Outcome {
        match (self.over, self.troubles) {
            (Some(why), _) => Err(CodedError { code: OVER, why }.into()),
            (None, 0) => Ok(()),
            (None, n) => Err(format!("{n} of the measurements failed or were wrong").into()),
        }
    }
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}"); // who reads may have gone
}

/// Ends the program after this time, whatever a driver does.
///
/// # Errors
/// If there is no thread to see to it.
pub fn end_after(limit: Duration) -> Outcome {
    let ends = move || {
        std::thread::sleep(limit);
        complain("over: the driver does not return");
        leave(OVER)
    };
    std::thread::Builder::new().name("deadline".into()).spawn(ends).map_err(|e| format!("no thread for the deadline: {e}"))?;
    Ok(())
}
