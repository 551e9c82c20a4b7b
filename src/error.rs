//! The one public error.
//!
//! Owns: [`Error`], [`Result`]. Must not know: who raises what. Invariant: a variant carries facts (numbers, names, paths);
//! the sentence a person reads is made only in `Display`, and says what, where, and what to do.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What every fallible call of the crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, as facts.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes that do not fit together, or a shape that an operation cannot take.
    #[error("{op}: shape {found:?} does not fit; wanted: {wanted}")]
    Shape {
        /// The operation, as the caller wrote it.
        op: &'static str,
        /// The offending shape.
        found: Vec<usize>,
        /// What would have been right.
        wanted: String,
    },
    /// A dtype that an operation or a file cannot serve.
    #[error("{what}: its dtype, {found}, cannot be used here: {wanted}")]
    DType {
        /// What was looked at, for example `file.h5:/A`.
        what: String,
        /// The dtype found there.
        found: String,
        /// What would have been right.
        wanted: String,
    },
    /// An argument outside its range.
    #[error("{what} = {value}: {wanted}")]
    Argument {
        /// The argument's name, for example `threads`.
        what: String,
        /// The value given.
        value: String,
        /// The accepted range, and what to do: a phrase with a verb, `write a number from 1 to 9`.
        wanted: String,
    },
    /// The work cannot fit the memory limit; found before anything ran.
    #[error(
        "{what} needs {} at once, more than {}{}",
        Bytes(*requested_bytes), room(*available_bytes, space), hint(remedies)
    )]
    OutOfMemory {
        /// The task or array that sets the peak.
        what: String,
        /// Bytes needed at the peak.
        requested_bytes: u64,
        /// Bytes that the limit leaves; 0 where whoever refused did not say.
        available_bytes: u64,
        /// The memory space, for example `host`.
        space: String,
        /// What would do, each by itself; empty when nothing would.
        remedies: Vec<Remedy>,
    },
    /// Cholesky met a pivot that is not positive (or is NaN): the matrix is not positive definite.
    #[error("matrix is not positive definite: pivot {pivot:e} at row {row} (counted from 0)")]
    NotPositiveDefinite {
        /// Global row of the first bad pivot.
        row: u64,
        /// Its value.
        pivot: f64,
    },
    /// A task failed for a reason of its own.
    #[error("task {task} failed: {message}")]
    Task {
        /// Kernel and chunk, for example `gemm (12, 7, 3)`.
        task: String,
        /// Why.
        message: String,
    },
    /// Something other than a task went wrong: opening a device, moving a chunk, a thread of the library's own.
    #[error("{what} failed: {message}")]
    Failed {
        /// What was tried, for example `the move of a chunk`.
        what: String,
        /// Why, and what to do.
        message: String,
    },
    /// A device that is there, but not for this work.
    #[error("{device} cannot be used for this: {why}")]
    Unable {
        /// The device, for example `gpu0`.
        device: String,
        /// Why, and what would do.
        why: String,
    },
    /// A kernel or closure panicked. The session stays usable.
    #[error("task {task} panicked: {message}")]
    Panicked {
        /// Kernel and chunk.
        task: String,
        /// The panic's message.
        message: String,
    },
    /// A task did not end in many times its predicted time, and nothing was left to rerun it on.
    #[error(
        "task {task} has not ended after {waited_s:.1} s on {device} (predicted {predicted_s:.3} s); no other worker is left to rerun it"
    )]
    Stalled {
        /// Kernel and chunk.
        task: String,
        /// Where it ran.
        device: String,
        /// Seconds since its launch.
        waited_s: f64,
        /// Seconds it was expected to take.
        predicted_s: f64,
    },
    /// No device of the wanted kind.
    #[error("no {wanted} device: {found}")]
    NoDevice {
        /// What was asked for.
        wanted: String,
        /// What there is, and what to try.
        found: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), what_to_do(action, source.kind()))]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: Arc<std::io::Error>,
    },
    /// A file whose content is not what was asked for.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// An array in a file, or in another sink, was to be finished before all of it was written.
    #[error("{what} is not complete: {missing} of its {elements} elements were never written; write them first, or drop it")]
    Unwritten {
        /// The sink: `data.h5:/A`.
        what: String,
        /// Elements that are not there.
        missing: u64,
        /// Elements in all.
        elements: u64,
    },
    /// Arrays or handles of two sessions met in one call.
    #[error("arrays of two sessions in one call to {op}; build both with the same Session")]
    SessionMismatch {
        /// The operation.
        op: &'static str,
    },
    /// The computation was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// As `Display`: what `fn main() -> Result<()>` and `unwrap` print is the sentence, not the facts.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// An [`Error::Io`] about `path`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source: Arc::new(source) }
    }

    /// An [`Error::File`] about `path`.
    pub fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::File { path: path.into(), problem: problem.into() }
    }

    /// An [`Error::Argument`].
    pub fn argument(what: impl Into<String>, value: impl fmt::Display, wanted: impl Into<String>) -> Self {
        Self::Argument { what: what.into(), value: value.to_string(), wanted: wanted.into() }
    }
}

/// What to do when the system refuses, where its reason does not say.
fn what_to_do(action: &str, kind: std::io::ErrorKind) -> &'static str {
    match (kind, action) {
        (std::io::ErrorKind::NotFound, "create" | "write") => "; make its folder first, or give another path",
        (std::io::ErrorKind::NotFound, _) => "; look at the path, which may be relative to another folder than this program's",
        (std::io::ErrorKind::PermissionDenied, _) => "; this user may not: change the permissions, or give another path",
        (std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded, _) => {
            "; make room, or give a path on another disk"
        }
        _ => "",
    }
}

/// The value; or, for what only the caller's own mistake can cause, a panic with the error's sentence at the caller's location. A closure
/// (`unwrap_or_else(|e| panic!(..))`) would have a location of its own.
#[track_caller]
pub(crate) fn or_panic<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// What a memory has, as far as known.
fn room(available_bytes: u64, space: &str) -> String {
    match available_bytes {
        0 if space.starts_with("gpu") => format!("{space} has left"),
        0 => format!("the {space} has left"),
        some => format!("the {} of {space} memory allowed", Bytes(some)),
    }
}

fn hint(remedies: &[Remedy]) -> String {
    let all: Vec<String> = remedies.iter().map(Remedy::to_string).collect();
    if all.is_empty() { String::new() } else { format!("; try {}", all.join(", or ")) }
}

/// Something that makes work fit into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Chunks of another extent.
    Chunks {
        /// The extent along each axis, in elements.
        extent: usize,
        /// What the work then needs at most.
        needs_bytes: u64,
        /// The memory limit that it needs beside, if that is more than today's.
        limit_bytes: Option<u64>,
    },
    /// A memory limit of so many bytes, a little more than is needed: people read three digits of it.
    Limit(u64),
    /// To have the result written to a file, chunk by chunk.
    Store,
    /// Anything else, in words that follow "try".
    Other(Cow<'static, str>),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunks { extent, needs_bytes, limit_bytes: None } => {
                write!(f, ".chunks({extent}) for the arrays that it begins with, which needs {}", Bytes(*needs_bytes))
            }
            Self::Chunks { extent, limit_bytes: Some(bytes), .. } => {
                write!(f, ".chunks({extent}) for the arrays that it begins with, and {}", Self::Limit(*bytes))
            }
            Self::Limit(bytes) => write!(f, "Session::builder().memory_limit(\"{}\")", Bytes(*bytes).as_word()),
            Self::Store => f.write_str("Array::store, which writes the result to a file chunk by chunk"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// Bytes as people read them: `805 MB`, decimal units, three digits.
///
/// ```
/// use chunkwise::Bytes;
/// assert_eq!(Bytes(805_306_368).to_string(), "805 MB");
/// assert_eq!(Bytes(16).to_string(), "16 B");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// As one word, `1.5GB`: how a memory limit is written.
    #[must_use]
    pub fn as_word(self) -> String {
        self.to_string().replace(' ', "")
    }
}

mod sealed {
    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed {}
}

/// A number of bytes, or text that says one (`"1GB"`): what [`SessionBuilder::memory_limit`](crate::SessionBuilder::memory_limit) takes.
#[diagnostic::on_unimplemented(
    message = "a `{Self}` is no number of bytes",
    note = "give a `u64` (of a `usize`, `n as u64`), or text such as \"1GB\""
)]
pub trait IntoBytes: sealed::Sealed {
    #[doc(hidden)]
    fn into_bytes(self) -> Result<Bytes>;
}

macro_rules! into_bytes {
    ($($t:ty, $this:ident => $bytes:expr);*) => {$(
        impl sealed::Sealed for $t {}
        impl IntoBytes for $t {
            fn into_bytes(self) -> Result<Bytes> {
                let $this = self;
                $bytes
            }
        }
    )*};
}
into_bytes!(&str, text => text.parse(); &String, text => text.parse(); String, text => text.parse(); u64, n => Ok(Bytes(n)); Bytes, bytes => Ok(bytes));

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
            if value < 999.5 {
                break;
            }
            value /= 1000.0;
            unit = next;
        }
        let digits = if unit == "B" || value >= 99.95 {
            0
        } else if value >= 9.995 {
            1
        } else {
            2
        };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

impl std::str::FromStr for Bytes {
    type Err = Error;

    /// Reads `1GB`, `512 MiB`, `1.5e9`, `300k`; a bare number is bytes.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::argument("size", text, "write a number and a unit, such as 800MB, 1.5GB or 4GiB");
        let text = text.trim();
        let split = text.find(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.trim().parse().map_err(|_| bad())?;
        let scale: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "t" | "tb" => 1e12,
            "kib" => 1024.0,
            "mib" => 1024f64.powi(2),
            "gib" => 1024f64.powi(3),
            "tib" => 1024f64.powi(4),
            _ => return Err(bad()),
        };
        let bytes = number * scale;
        if !bytes.is_finite() || bytes < 0.0 || bytes > u64::MAX as f64 {
            return Err(bad());
        }
        Ok(Self(bytes.round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_what_they_write_and_refuse_nonsense() {
        for (text, bytes) in [("1GB", 1_000_000_000), ("512 MiB", 536_870_912), ("1.5e3", 1500), ("300k", 300_000), ("0", 0)] {
            assert_eq!(text.parse::<Bytes>().ok(), Some(Bytes(bytes)), "{text}");
        }
        for text in ["", "GB", "-1", "1 parsec", "nan", "1e300GB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!(Bytes(999_600).to_string(), "1.00 MB");
        assert_eq!(Bytes(80_000_000_000).to_string(), "80.0 GB");
    }

    /// Every variant, as whoever meets it reads it: who or what, what is wrong, and what to do.
    #[test]
    fn each_error_is_a_sentence() {
        let text = |s: &str| s.to_owned();
        let no_memory = |available_bytes, space: &str, remedies: &[Remedy]| Error::OutOfMemory {
            what: text("task gemv (1, 2)"),
            requested_bytes: 3_000_000,
            available_bytes,
            space: text(space),
            remedies: remedies.to_vec(),
        };
        let of = |limit_bytes| Remedy::Chunks { extent: 64, needs_bytes: 1_200_000, limit_bytes };
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        for (error, sentence) in [
            (
                Error::Shape { op: "matvec", found: vec![3, 2], wanted: text("a vector of shape [3]") },
                "matvec: shape [3, 2] does not fit; wanted: a vector of shape [3]",
            ),
            (
                Error::DType { what: text("a.npy"), found: text("<c16"), wanted: text("store float64") },
                "a.npy: its dtype, <c16, cannot be used here: store float64",
            ),
            (Error::argument("threads", 0, "choose 1 to 512"), "threads = 0: choose 1 to 512"),
            (
                no_memory(2_000_000, "host", &[Remedy::Other("smaller chunks".into())]),
                "task gemv (1, 2) needs 3.00 MB at once, more than the 2.00 MB of host memory allowed; try smaller chunks",
            ),
            (
                no_memory(2_000_000, "host", &[of(None), Remedy::Limit(3_100_000), Remedy::Store]),
                "task gemv (1, 2) needs 3.00 MB at once, more than the 2.00 MB of host memory allowed; try .chunks(64) for the arrays that it begins with, which needs \
                 1.20 MB, or Session::builder().memory_limit(\"3.10MB\"), or Array::store, which writes the result to a file chunk by chunk",
            ),
            (
                no_memory(1, "host", &[of(Some(2_000_000))]),
                "task gemv (1, 2) needs 3.00 MB at once, more than the 1 B of host memory allowed; try .chunks(64) for the arrays that it begins with, and \
                 Session::builder().memory_limit(\"2.00MB\")",
            ),
            (no_memory(0, "gpu0", &[]), "task gemv (1, 2) needs 3.00 MB at once, more than gpu0 has left"),
            (
                Error::NotPositiveDefinite { row: 7, pivot: -0.5 },
                "matrix is not positive definite: pivot -5e-1 at row 7 (counted from 0)",
            ),
            (Error::Task { task: text("gemv (1, 2)"), message: text("a bad day") }, "task gemv (1, 2) failed: a bad day"),
            (
                Error::Failed { what: text("the move of a chunk"), message: text("the link is down") },
                "the move of a chunk failed: the link is down",
            ),
            (
                Error::Unable { device: text("gpu0"), why: text("it has no f64, which gemv needs here; f32 would do") },
                "gpu0 cannot be used for this: it has no f64, which gemv needs here; f32 would do",
            ),
            (Error::Panicked { task: text("mine (0)"), message: text("oh no") }, "task mine (0) panicked: oh no"),
            (
                Error::NoDevice { wanted: text("such"), found: text("number 7, but this session has 0 = cpu, 1 = io") },
                "no such device: number 7, but this session has 0 = cpu, 1 = io",
            ),
            (
                Error::io("read", "a.npy", denied),
                "cannot read a.npy: permission denied; this user may not: change the permissions, or give another path",
            ),
            (Error::file("a.npy", "is a directory; name a file inside it"), "a.npy: is a directory; name a file inside it"),
            (
                Error::SessionMismatch { op: "matvec" },
                "arrays of two sessions in one call to matvec; build both with the same Session",
            ),
            (Error::Cancelled, "cancelled"),
        ] {
            assert_eq!(error.to_string(), sentence);
            assert_eq!(format!("{error:?}"), sentence, "Debug is for people too");
        }
    }
}
