//! Runs example programs with small input.
//!
//! Owns: running them; `built.rs` finds them. Must not know: any program. Invariant: each run has an empty folder of its own, an environment
//! without surprises, and a time limit.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::built;
pub use crate::folder::Folder;

/// An example program about to be run.
pub struct Example {
    command: Command,
    folder: PathBuf,
    /// If it runs in one that goes with it.
    own: Option<Folder>,
    limit: Duration,
    stdout_to: Option<PathBuf>,
    closes_stdout: bool,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Output {
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// The exit code; 128 + the signal's number if a signal ended it.
    pub code: i32,
    /// The command line, for messages.
    pub command: String,
}

/// The example `name`, built if need be, in an empty folder and with no arguments yet.
#[track_caller]
pub fn example(name: &str) -> Example {
    let program = built::program(name);
    let own = Folder::new(name);
    let folder = own.path().to_owned();
    let mut command = Command::new(program);
    // What a person's shell may have set must not change what is tested; measured history must not either.
    for variable in ["RUST_BACKTRACE", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command.env("CHUNKWISE_CACHE_DIR", folder.join("cache")).current_dir(&folder);
    Example { command, folder, own: Some(own), limit: Duration::from_secs(120), stdout_to: None, closes_stdout: false }
}

impl Example {
    /// Adds arguments, separated by blanks in `line`.
    pub fn args(mut self, line: &str) -> Self {
        self.command.args(line.split_whitespace());
        self
    }

    /// Adds one argument, blanks and all.
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in `folder`, which stays, instead of in one that is removed.
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self.folder = folder.to_owned();
        self.own = None;
        self
    }

    /// Runs it in `folder`, with the measured costs of earlier runs there.
    pub fn with_history(self, folder: &Path) -> Self {
        let cache = folder.join("cache").display().to_string();
        self.within(folder).env("CHUNKWISE_CACHE_DIR", &cache)
    }

    /// Its stdout is a pipe that nobody reads any more, as before `| head` has ended.
    pub fn closed_stdout(mut self) -> Self {
        self.closes_stdout = true;
        self
    }

    /// Its stdout is this file.
    pub fn stdout_to(mut self, path: &str) -> Self {
        self.stdout_to = Some(path.into());
        self
    }

    /// It may write files of so many blocks of 512 bytes (`ulimit -f`, which needs a shell).
    #[cfg(unix)]
    pub fn file_size_limit(self, blocks: usize) -> Self {
        self.limited(&format!("ulimit -f {blocks}"))
    }

    /// It may have so many KiB of addresses (`ulimit -v`).
    #[cfg(unix)]
    pub fn address_limit(self, kib: usize) -> Self {
        self.limited(&format!("ulimit -v {kib}"))
    }

    /// It is started with this signal ignored, `INT` or `TERM`, as `nohup` does.
    #[cfg(unix)]
    pub fn ignoring(self, signal: &str) -> Self {
        self.limited(&format!("trap '' {signal}"))
    }

    #[cfg(unix)]
    fn limited(mut self, limit: &str) -> Self {
        let mut limited = Command::new("sh");
        limited.arg("-c").arg(format!("{limit} && exec \"$0\" \"$@\"")).arg(self.command.get_program());
        limited.args(self.command.get_args()).current_dir(&self.folder);
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        self.command = limited;
        self
    }

    /// Gives it up after `limit`; two minutes unless told.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Output {
        let limit = self.limit;
        self.start().wait(limit)
    }

    /// Starts it, for tests that do something meanwhile.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let stdout = match &self.stdout_to {
            Some(path) => std::fs::OpenOptions::new().write(true).open(path).expect("stdout opens").into(),
            None => Stdio::piped(),
        };
        let spawned = self.command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|e| panic!("cannot start {:?}: {e}", self.command));
        let pipe = child.stdout.take().filter(|_| !self.closes_stdout);
        let stdout = pipe.map_or_else(|| read_all(std::io::empty()), read_all);
        let stderr = read_all(child.stderr.take().expect("piped"));
        Running { child, example: self, stdout, stderr }
    }
}

type Reader = std::thread::JoinHandle<String>;

/// A thread that reads a pipe to its end, so that the program never blocks on it.
fn read_all(mut pipe: impl Read + Send + 'static) -> Reader {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes); // what came before an error is still shown
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A program that runs.
pub struct Running {
    child: Child,
    example: Example,
    stdout: Reader,
    stderr: Reader,
}

impl Running {
    /// Its process id, for signals.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The folder that it runs in.
    pub fn folder(&self) -> &Path {
        &self.example.folder
    }

    /// Whether it is over.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waits").is_some()
    }

    /// Sends it a signal, `INT` or `TERM`, as a shell would.
    #[cfg(unix)]
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {name}");
    }

    /// Waits, at most 30 seconds, until its folder holds a file whose name contains `part`.
    #[track_caller]
    pub fn wait_for_file(&self, part: &str) {
        let started = Instant::now();
        let has = |folder: &Path| {
            let mut names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name());
            names.any(|name| name.to_string_lossy().contains(part))
        };
        while !has(self.folder()) {
            assert!(started.elapsed() < Duration::from_secs(30), "no file `{part}` came in {:?}", self.example.command);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end, at most `limit`.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Output {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                break status;
            }
            if started.elapsed() > limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("{:?} did not end within {limit:?}", self.example.command);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = |reader: Reader| reader.join().expect("reader does not panic");
        let (stdout, stderr) = (text(self.stdout), text(self.stderr));
        Output { stdout, stderr, code: code(status), command: format!("{:?}", self.example.command) }
    }
}

#[cfg(unix)]
fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(-1)
}

#[cfg(not(unix))]
fn code(status: std::process::ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

impl Output {
    /// Fails the test unless the program succeeded without a word on stderr about trouble.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.code == 0 && !self.stderr.contains("error:"), "{self:#?}");
        self
    }

    /// Fails the test unless the program failed cleanly: exit code 1, and `error: ...` that contains all of `words`, without a
    /// panic or a backtrace.
    #[track_caller]
    pub fn failure(self, words: &[&str]) -> Self {
        assert!(self.code == 1 && self.stderr.contains("error: "), "{self:#?}");
        for noise in ["panicked at", "stack backtrace", "RUST_BACKTRACE"] {
            assert!(!self.stderr.contains(noise), "{self:#?}");
        }
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in {self:#?}");
        }
        self
    }

    /// The one JSON object on the one line of stdout.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.stdout.trim_end().lines().count(), 1, "not one line: {self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self:#?}"))
    }
}

/// Writes a `.npy` file of `f64`.
#[track_caller]
pub fn write_npy(path: &Path, shape: &[usize], values: &[f64]) {
    let extents: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({extents}), }}");
    header.push_str(&" ".repeat((64 - (11 + header.len()) % 64) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    std::fs::write(path, bytes).expect("writes the file");
}

/// The elements of a `.npy` file of version 1, `N` bytes each, made into numbers by `number`.
#[track_caller]
pub fn read_npy<const N: usize, T>(path: &Path, number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let data = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let (words, rest) = bytes[data..].as_chunks::<N>();
    assert!(rest.is_empty(), "{} holds {} bytes of data", path.display(), bytes.len() - data);
    words.iter().map(|&word| number(word)).collect()
}

/// A file of `tests/data`.
pub fn data(name: &str) -> String {
    format!("{}/../data/{name}", env!("CARGO_MANIFEST_DIR"))
}
