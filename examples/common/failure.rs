//! How a program ends.
//!
//! Owns: exit codes and what stderr says of an error. Must not know: what was tried. Invariant: see the module above: no backtrace
//! unless `RUST_BACKTRACE` asks for one.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use chunkwise::{Bytes, Remedy};

/// What a program's body returns; `?` takes the library's errors and all others.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Flags that parse one by one but make no sense together: exit code 2.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for UsageError {}

/// A failure of a program that has more exit codes than the usual ones.
#[derive(Debug)]
pub struct CodedError {
    /// The exit code.
    pub code: u8,
    /// What happened.
    pub why: String,
}

impl fmt::Display for CodedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Error for CodedError {}

/// The body of `main`: reads the flags, runs `body`, and turns whatever happens into an exit code and a message.
pub fn run<A: clap::Parser>(body: impl FnOnce(A) -> Outcome) -> ExitCode {
    let args = A::parse(); // prints help or what is wrong with the flags, and exits with 0 or 2
    super::process::prepare();
    let panicked: &'static Mutex<String> = Box::leak(Box::default());
    let backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0");
    let usual = std::panic::take_hook();
    // Panics of chunk tasks become errors of the library; what they would print here is said again there.
    std::panic::set_hook(Box::new(move |info| {
        *panicked.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
        if backtrace {
            usual(info);
        }
    }));
    let ended = catch_unwind(AssertUnwindSafe(|| body(args).and_then(|()| super::session::end_record())));
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            complain(&describe(&*error));
            ExitCode::from(code(&*error))
        }
        Err(_) => {
            let what = panicked.lock().unwrap_or_else(PoisonError::into_inner).clone();
            complain(&format!(
                "error: this is a bug in the program: {what}\n  try     RUST_BACKTRACE=1, and report what it prints"
            ));
            ExitCode::FAILURE
        }
    }
}

fn code(error: &(dyn Error + 'static)) -> u8 {
    let own = error.downcast_ref::<CodedError>().map_or(1, |error| error.code);
    if error.is::<UsageError>() { 2 } else { own }
}

/// `error: ...`, then one line per cause that says something new, and one for each thing to try.
fn describe(error: &(dyn Error + 'static)) -> String {
    if let Some(mut bare) = error.downcast_ref::<chunkwise::Error>().cloned()
        && let chunkwise::Error::OutOfMemory { remedies, .. } = &mut bare
    {
        let each = std::mem::take(remedies).into_iter().filter_map(|remedy| in_flags(&remedy));
        let tries: String = each.map(|flags| format!("\n  try     {flags}")).collect();
        return format!("error: {bare}{tries}");
    }
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(next) = cause {
        let line = next.to_string();
        // Many errors quote their cause.
        if !text.contains(&line) {
            text.push_str(&format!("\n  cause   {line}"));
        }
        cause = next.source();
    }
    if let Some(flags) = error.downcast_ref().and_then(flags)
        && !text.contains(" --")
    {
        text.push_str(&format!("\n  flags   {flags}"));
    }
    text
}

/// The flags that have to do with an error of the library, which knows of none.
fn flags(error: &chunkwise::Error) -> Option<&'static str> {
    match error {
        chunkwise::Error::NoDevice { .. } => {
            Some("--device cpu or --device auto, or --allow-software, for tests; the program `devices` lists what there is")
        }
        chunkwise::Error::Unable { .. } => Some("--dtype f32, a smaller --chunk, or --device auto"),
        _ => None,
    }
}

/// What a user of a program can do, who sets flags; a program that can write its result chunk by chunk says so itself.
fn in_flags(remedy: &Remedy) -> Option<String> {
    let limit = |bytes: u64| format!("--memory-limit {}", Bytes(bytes).as_word());
    match remedy {
        Remedy::Chunks { extent, needs_bytes, limit_bytes: None } => {
            Some(format!("--chunk {extent} (it needs {})", Bytes(*needs_bytes)))
        }
        Remedy::Chunks { extent, limit_bytes: Some(bytes), .. } => Some(format!("--chunk {extent} with {}", limit(*bytes))),
        Remedy::Limit(bytes) => Some(limit(*bytes)),
        Remedy::Store => None,
        other => Some(other.to_string()),
    }
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}"); // nobody is left to tell
}

/// Prints a line on stdout. Ends the program quietly if nobody reads any more (`| head`).
pub fn line(text: impl fmt::Display) -> Outcome {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(format!("cannot write to stdout: {e}").into()),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(&'static str, UsageError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.1)
        }
    }

    #[test]
    fn flags_are_told_where_the_library_names_none() {
        let unable = chunkwise::Error::Unable { device: "gpu0".into(), why: "it has no f64".into() };
        let told =
            "error: gpu0 cannot be used for this: it has no f64\n  flags   --dtype f32, a smaller --chunk, or --device auto";
        assert_eq!(describe(&unable), told);
        assert_eq!(describe(&chunkwise::Error::Cancelled), "error: cancelled");
    }

    #[test]
    fn what_would_fit_is_told_in_flags() {
        let chunks = |limit_bytes| Remedy::Chunks { extent: 64, needs_bytes: 1_200_000, limit_bytes };
        let error = chunkwise::Error::OutOfMemory {
            what: "task gemv".into(),
            requested_bytes: 3_000_000,
            available_bytes: 2_000_000,
            space: "host".into(),
            remedies: vec![chunks(None), chunks(Some(1_500_000)), Remedy::Limit(3_100_000), Remedy::Store],
        };
        let told = "error: task gemv needs 3.00 MB at once, more than the 2.00 MB of host memory allowed\n  try     --chunk 64 (it \
                    needs 1.20 MB)\n  try     --chunk 64 with --memory-limit 1.50MB\n  try     --memory-limit 3.10MB";
        assert_eq!(describe(&error), told);
    }

    #[test]
    fn codes_are_told_apart() {
        let silent = CodedError { code: 3, why: "silent".into() };
        assert_eq!([code(&silent), code(&UsageError("x".into())), code(&chunkwise::Error::Cancelled)], [3, 2, 1]);
        assert_eq!(describe(&silent), "error: silent");
    }

    #[test]
    fn causes_are_told_once() {
        let cause = || UsageError("disk full".into());
        assert_eq!(describe(&Outer("cannot write x", cause())), "error: cannot write x\n  cause   disk full");
        assert_eq!(describe(&Outer("cannot write x: disk full", cause())), "error: cannot write x: disk full");
    }
}
