//! What a session's scheduler was told and answered, as a file that another process can replay.
//!
//! Owns: [`Record`], the format. Must not know: how decisions are made, when it is written. Invariant: a record that reads is whole and unchanged.
//!
//! # The format
//!
//! One JSON value a line: first what the scheduler was made with (`chunkwise_record` is the version of the format), then each event with its time in ns
//! and the actions that came of it, and last how many steps there were and a hash (FNV-1a) of all lines before. A graph is written in full by the event that
//! submits it: kernels by their keys, closures as `name@version#localN`. A step at which the scheduler panicked, which ends the session, says so (`broke`)
//! in place of actions.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::device::panic_message;
use crate::error::{Error, Result};
use crate::kernel::{content_hash, hash_on};
use crate::schedule::{Action, Event, Placement, Policy, Scheduler};

/// The version of the format that is written and read.
const VERSION: u32 = 1;

/// What a scheduler was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordHead {
    chunkwise_record: u32,
    policy: String,
    stall_factor: u64,
    stall_floor_ns: u64,
}

impl RecordHead {
    pub(super) fn new(policy: String, (stall_factor, stall_floor_ns): (u64, u64)) -> Self {
        Self { chunkwise_record: VERSION, policy, stall_factor, stall_floor_ns }
    }
}

/// An event and what came of it.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordedStep {
    pub(super) at_ns: u64,
    pub(super) event: Event,
    pub(super) actions: Vec<Action>,
    /// What the scheduler's panic said, if it panicked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) broke: Option<String>,
}

/// The end.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    pub(super) steps: u64,
    pub(super) hash: u64,
}

/// A record of a session's scheduler, read back: see [`SessionBuilder::record`](super::SessionBuilder::record).
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// use chunkwise::ext::Record;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("run.record");
/// let session = Session::builder().cache_dir("").placement(Placement::Cpu).record(&path).build()?;
/// let a = Array::from(ndarray::arr2(&[[4.0, 2.0], [2.0, 5.0]])).in_session(&session);
/// assert_eq!(a.mean().compute_scalar()?, 3.25);
/// drop((a, session)); // with the last of the session the record is whole
/// let replayed = Record::read(&path)?.replay()?;
/// assert!(replayed.graphs == 1 && replayed.launches >= 1);
/// # Ok::<(), chunkwise::Error>(())
/// ```
pub struct Record {
    path: PathBuf,
    head: RecordHead,
    lines: Vec<String>,
}

/// What was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Events.
    pub events: usize,
    /// Actions that came of them, each as it is written down.
    pub actions: usize,
    /// Graphs that were submitted.
    pub graphs: usize,
    /// Launches among the actions.
    pub launches: usize,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such file; [`Error::File`] if it is no record, one of another version, cut, or changed.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |source| Error::io("read", path, source);
        let wrong = |problem: String| Error::file(path, problem);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let (mut lines, mut ended) = (Vec::new(), true);
        loop {
            let mut line = String::new();
            let no_text = |e: std::io::Error| match e.kind() {
                std::io::ErrorKind::InvalidData => wrong("it is no record of a session: it is no text".into()),
                _ => failed(e),
            };
            if file.read_line(&mut line).map_err(no_text)? == 0 {
                break;
            }
            ended = line.ends_with('\n');
            line.truncate(line.len() - usize::from(ended));
            lines.push(line);
        }
        let first = lines.first().map_or("", String::as_str);
        let version = serde_json::from_str::<serde_json::Value>(first).ok();
        match version.as_ref().and_then(|v| v.get("chunkwise_record")?.as_u64()) {
            Some(found) if found == u64::from(VERSION) => {}
            Some(found) => return Err(wrong(format!("it is a record of version {found}; this crate reads version {VERSION}"))),
            None => return Err(wrong("it is no record of a session (SessionBuilder::record writes one)".into())),
        }
        let head = serde_json::from_str(first).map_err(|e| wrong(format!("its first line is changed: {e}")))?;
        let of_line = |hash, line: &String| hash_on(hash_on(hash, line.as_bytes()), b"\n");
        let last = lines.pop().filter(|_| ended && !lines.is_empty()).unwrap_or_default();
        let Ok(tail) = serde_json::from_str::<Tail>(&last) else {
            return Err(wrong("it is cut: the session that wrote it had not ended, or could not write all of it".into()));
        };
        let found = Tail { steps: lines.len() as u64 - 1, hash: lines.iter().fold(content_hash(b""), of_line) };
        if found.steps != tail.steps {
            return Err(wrong(format!("it is cut: {} of {} steps are there", found.steps, tail.steps)));
        }
        if found != tail {
            return Err(wrong("it was changed since it was written".into()));
        }
        lines.remove(0);
        Ok(Self { path: path.to_path_buf(), head, lines })
    }

    /// The name of the policy that the session had.
    #[must_use]
    pub fn policy_name(&self) -> &str {
        &self.head.policy
    }

    /// Tells a new scheduler what the recorded one was told, and compares what it answers, byte for byte as it is written down.
    ///
    /// # Errors
    /// [`Error::Failed`] at the first answer that differs, and where the scheduler panics, be it that it did so when it was recorded;
    /// [`Error::Argument`] if the policy is one of the user's own ([`Record::replay_with`]); [`Error::File`] if a step is none.
    pub fn replay(&self) -> Result<Replayed> {
        let name = &self.head.policy;
        let number = name.strip_prefix("device ").unwrap_or(name);
        let placement: Placement = number.parse().map_err(|_| {
            Error::argument("policy of a record", name, "one of the crate's own; replay_with takes a policy of yours")
        })?;
        self.replay_with(placement.policy())
    }

    /// [`Record::replay`], with a policy of the user's own.
    ///
    /// # Errors
    /// As [`Record::replay`] but for the policy.
    pub fn replay_with(&self, policy: Box<dyn Policy>) -> Result<Replayed> {
        let mut scheduler = Scheduler::new(policy);
        scheduler.set_stall_rule(self.head.stall_factor, self.head.stall_floor_ns);
        let mut replayed = Replayed::default();
        for (number, line) in self.lines.iter().enumerate() {
            let number = number + 1;
            let wrong = |e: serde_json::Error| Error::file(&self.path, format!("step {number}: {e}"));
            let step: RecordedStep = serde_json::from_str(line).map_err(wrong)?;
            replayed.graphs += usize::from(matches!(step.event, Event::Submit { .. }));
            let mut actions = Vec::new();
            let (at_ns, event) = (step.at_ns, step.event.clone());
            let told = catch_unwind(AssertUnwindSafe(|| scheduler.step(at_ns, event, &mut actions)));
            let failed = |message| Err(Error::Failed { what: format!("replaying {}", self.path.display()), message });
            match (told.map_err(|payload| panic_message(&*payload)), &step.broke) {
                (Err(now), Some(then)) if now == *then => {
                    return failed(format!("step {number} breaks the session, as it did when it was recorded: {now}"));
                }
                (Err(now), _) => return failed(format!("step {number} panics: {now}")),
                (Ok(()), Some(then)) => {
                    return failed(format!("step {number} broke the session when it was recorded ({then}), and does not now"));
                }
                (Ok(()), None) => {}
            }
            replayed.events += 1;
            replayed.actions += actions.len();
            replayed.launches += actions.iter().filter(|a| matches!(a, Action::Run { .. })).count();
            let again = serde_json::to_string(&RecordedStep { actions, ..step }).map_err(wrong)?;
            if again != *line {
                let at = again.bytes().zip(line.bytes()).take_while(|(a, b)| a == b).count();
                let around =
                    |text: &str| text.get(at.saturating_sub(40)..(at + 60).min(text.len())).unwrap_or("...").to_owned();
                return failed(format!("step {number} had {:?}, and has {:?} now", around(line), around(&again)));
            }
        }
        Ok(replayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::runtime::Session;
    use crate::schedule::{Candidate, Choice, Ready};

    fn session(path: &Path) -> Result<Session> {
        Session::builder().threads(1).placement(Placement::Cpu).cache_dir("").record(path).build()
    }

    /// A record, as text.
    fn recorded(path: &Path) -> String {
        let session = session(path).expect("a session");
        let a = Array::from(ndarray::arr2(&[[4.0, 2.0], [2.0, 5.0]])).in_session(&session);
        assert_eq!(a.mean().compute_scalar().expect("a mean"), 3.25);
        drop((a, session));
        std::fs::read_to_string(path).expect("the record")
    }

    /// Cut anywhere, or with a byte changed anywhere: one error, which says so.
    #[test]
    fn records_that_are_not_whole_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("whole"), folder.path().join("other"));
        let text = recorded(&path);
        let read = |bytes: &[u8]| {
            std::fs::write(&other, bytes).expect("writes");
            Record::read(&other).err().map(|e| e.to_string())
        };
        assert_eq!((read(text.as_bytes()), Record::read(&path).and_then(|r| r.replay()).is_ok()), (None, true));
        let lines = text.char_indices().filter(|(_, c)| *c == '\n').map(|(at, _)| at);
        let cuts = lines.flat_map(|at| [at.saturating_sub(9), at, at + 1]).filter(|&at| at < text.len());
        for cut in cuts.collect::<Vec<_>>() {
            let error = read(&text.as_bytes()[..cut]).unwrap_or_else(|| panic!("cut at {cut}"));
            let said = ["it is cut", "changed", "no record"].iter().any(|word| error.contains(word));
            assert!(said, "cut at {cut}: {error}");
        }
        for at in (0..text.len()).step_by(5).chain(text.len().saturating_sub(80)..text.len()) {
            for flip in [1, 0x2a, 0x80] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= flip;
                let error = read(&bytes).unwrap_or_else(|| panic!("byte {at} is another"));
                let said = ["it is cut", "changed", "no record", "version"].iter().any(|word| error.contains(word));
                assert!(said && error.contains("other"), "byte {at}: {error}");
            }
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        let text = recorded(&path);
        let next = text.replacen("\"chunkwise_record\":1", "\"chunkwise_record\":2", 1);
        let junk: Vec<u8> = (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for (bytes, why) in [
            (&b""[..], "no record"),
            (b"\n", "no record"),
            (b"{\"a\": [1, 2]}\n", "no record"),
            (b"[1, 2, 3]", "no record"),
            (b"{\"chunkwise_record\":1}\n", "its first line is changed"),
            (b"{\"chunkwise_record\":\"1\"}\n", "no record"),
            (next.as_bytes(), "a record of version 2; this crate reads version 1"),
            (&junk, "no record"),
        ] {
            std::fs::write(&path, bytes).expect("writes");
            let error = Record::read(&path).err().expect("refused").to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        assert!(matches!(Record::read(folder.path().join("absent")), Err(Error::Io { action: "read", .. })));
        assert!(matches!(Record::read(folder.path()), Err(Error::Io { action: "read", .. })));
    }

    #[test]
    fn a_users_policy_is_asked_for() {
        struct Mine;
        impl Policy for Mine {
            fn name(&self) -> String {
                "mine".into()
            }
            fn place(&mut self, task: Ready, _: &[Candidate]) -> Choice {
                Choice { candidate: 0, priority: task.level_ns }
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        let session =
            Session::builder().threads(1).policy(|| Box::new(Mine)).cache_dir("").record(&path).build().expect("a session");
        let a = Array::from(ndarray::arr1(&[1.0, 2.0])).in_session(&session);
        a.mean().compute().expect("a mean");
        drop((a, session));
        let record = Record::read(&path).expect("a record");
        let error = record.replay().expect_err("whose policy?").to_string();
        assert!(record.policy_name() == "mine" && error.contains("mine") && error.contains("replay_with"), "{error}");
        assert!(record.replay_with(Box::new(Mine)).expect("the same").launches >= 1);
    }
}
