//! Writing a record while a session runs.
//!
//! Owns: [`Recorder`], the thread that writes, what waits for it. Must not know: the format. Invariants: under the record's name is what was there before
//! until the record is whole; nothing is written under the scheduler's lock; nobody waits for a disk that takes nothing, but for a time that ends.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::driver::Inner;
use super::record::{RecordHead, RecordedStep, Tail};
use crate::device::caught;
use crate::error::{Error, Result};
use crate::kernel::{content_hash, hash_on};
use crate::schedule::{Action, Event};
use crate::store::WholeFile;

/// Steps that may wait to be written, some 200 bytes each, before those who report wait for the disk.
const MOST_WAITING: usize = 1 << 14;
/// A record whose disk takes nothing for so long, while too much waits for it, is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of a session waits for a disk that takes nothing: a whole record may lie in the system's memory still.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// How long the end of a session waits for its last warning to be taken: whoever ends it may hold what the warning waits for.
const TELLING: Duration = Duration::from_secs(1);

/// How far the writer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Writes,
    /// It has not got on for too long; nobody waits for it any more, which somebody is told.
    GivenUp,
    /// The record is whole, or there is none.
    Ended,
    /// And who wants to know why knows.
    Told,
}

/// What waits to be written.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: Mutex<BacklogState>,
    changed: Condvar,
    /// Bytes that the disk has taken.
    taken: AtomicU64,
}

#[derive(Default)]
struct BacklogState {
    steps: usize,
    phase: Phase,
}

impl Backlog {
    fn waiting(&self) -> MutexGuard<'_, BacklogState> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step is written; says how far the writer is.
    fn written(&self) -> Phase {
        let mut waiting = self.waiting();
        waiting.steps -= 1;
        if waiting.steps == MOST_WAITING / 2 {
            self.changed.notify_all();
        }
        waiting.phase
    }

    fn reaches(&self, phase: Phase) {
        let mut waiting = self.waiting();
        waiting.phase = waiting.phase.max(phase);
        self.changed.notify_all();
    }

    /// Returns the state once it is `done`, or the disk has taken nothing for as long as `patience`.
    fn until(&self, patience: Duration, done: impl Fn(&BacklogState) -> bool) -> MutexGuard<'_, BacklogState> {
        let mut waiting = self.waiting();
        let (mut taken, mut end) = (self.taken.load(Ordering::Relaxed), Instant::now() + patience);
        while !done(&waiting) {
            let (before, now) = (std::mem::replace(&mut taken, self.taken.load(Ordering::Relaxed)), Instant::now());
            if taken != before {
                end = now + patience;
            }
            let Some(left) = end.checked_duration_since(now).filter(|left| !left.is_zero()) else { break };
            waiting = self.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting
    }

    /// Returns once half of what may wait does. Gives the record up if the disk takes nothing any more, and says so to the first who finds out.
    pub(super) fn wait(&self) -> Option<&'static str> {
        self.wait_for(PATIENCE)
    }

    fn wait_for(&self, patience: Duration) -> Option<&'static str> {
        let few = |waiting: &BacklogState| waiting.steps <= MOST_WAITING / 2 || waiting.phase > Phase::Writes;
        let mut waiting = self.until(patience, few);
        if few(&waiting) {
            return None;
        }
        waiting.phase = Phase::GivenUp;
        self.changed.notify_all();
        Some("there is no record of this session: its disk has taken nothing of it for seconds")
    }
}

/// Writes a record, on a thread of its own.
pub(super) struct Recorder {
    steps: Option<mpsc::Sender<RecordedStep>>,
    /// What the scheduler is told just now.
    telling: Option<(u64, Event)>,
    backlog: Arc<Backlog>,
    writer: Option<ThreadId>,
    warn: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Recorder {
    /// Creates the file, under a temporary name.
    ///
    /// # Errors
    /// As [`WholeFile::create`]; [`Error::Io`] if there is no thread for it.
    pub(super) fn new(path: &Path, head: RecordHead, warn: Arc<dyn Fn(&str) + Send + Sync>) -> Result<Self> {
        let file = WholeFile::create(path, 0)?;
        let (steps, noted) = mpsc::channel::<RecordedStep>();
        let (name, backlog, tells) = (path.to_path_buf(), Arc::new(Backlog::default()), warn.clone());
        let waiting = backlog.clone();
        let write = move || {
            let whole = || match write_all(file.file(), &head, &noted, &waiting) {
                Ok(true) if waiting.waiting().phase == Phase::Writes => file.finish(),
                Ok(_) => Ok(()), // nothing to replay, or given up: what was there stays
                Err(error) => Err(Error::io("write", &name, error)),
            };
            let whole = catch_unwind(AssertUnwindSafe(whole)).unwrap_or_else(|payload| Err(caught("writing it", &*payload)));
            drop((noted, file));
            let given_up = waiting.waiting().phase == Phase::GivenUp;
            waiting.reaches(Phase::Ended);
            if let Some(error) = whole.err().filter(|_| !given_up) {
                let _ = catch_unwind(AssertUnwindSafe(|| tells(&format!("there is no record of this session: {error}"))));
            }
            waiting.reaches(Phase::Told);
        };
        let failed = |source| Error::io("write", path, source);
        let writer = std::thread::Builder::new().name("chunkwise-record".into()).spawn(write).map_err(failed)?;
        Ok(Self { steps: Some(steps), telling: None, backlog, writer: Some(writer.thread().id()), warn })
    }

    /// What the scheduler is about to be told.
    pub(super) fn tells(&mut self, at_ns: u64, event: Event) {
        self.telling = Some((at_ns, event));
    }

    /// What came of it.
    pub(super) fn answered(&mut self, actions: &[Action]) {
        self.note(actions.to_vec(), None);
    }

    /// It has panicked.
    pub(super) fn broke(&mut self, message: &str) {
        self.note(Vec::new(), Some(message.to_owned()));
    }

    fn note(&mut self, actions: Vec<Action>, broke: Option<String>) {
        let (Some((at_ns, event)), Some(steps)) = (self.telling.take(), &self.steps) else { return };
        let mut waiting = self.backlog.waiting();
        if waiting.phase == Phase::Writes {
            waiting.steps += 1;
            drop(waiting);
            let _ = steps.send(RecordedStep { at_ns, event, actions, broke }); // a writer that has ended has said why
        }
    }

    /// What is to be waited for if more waits to be written than should.
    pub(super) fn backlog(&self) -> Option<Arc<Backlog>> {
        let waiting = self.backlog.waiting();
        (waiting.steps > MOST_WAITING && waiting.phase == Phase::Writes).then(|| self.backlog.clone())
    }

    /// Has the record ended, and its end told.
    fn end(&mut self, last_patience: Duration) {
        self.steps = None;
        // Its warning may have held the session last.
        if self.writer.take().is_none_or(|writer| writer == std::thread::current().id()) {
            return;
        }
        let phase = self.backlog.until(last_patience, |waiting| waiting.phase > Phase::Writes).phase;
        match phase {
            Phase::Writes => {
                self.backlog.reaches(Phase::GivenUp);
                let text = "the record of this session is not written yet: its disk has taken nothing of it for a minute";
                let _ = catch_unwind(AssertUnwindSafe(|| (self.warn)(text))); // in a destructor
            }
            Phase::Ended => drop(self.backlog.until(TELLING, |waiting| waiting.phase == Phase::Told)),
            Phase::GivenUp | Phase::Told => {}
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end(LAST_PATIENCE);
    }
}

/// Ends a record with the last of its session's handles: whoever finishes a task may hold the rest of the session for a moment longer, and a program that
/// ends does not wait for that.
pub(super) struct Ending(pub(super) Arc<Inner>);

impl Drop for Ending {
    fn drop(&mut self) {
        let recorder = self.0.lock().recorder.take();
        drop(recorder);
    }
}

/// A file, the hash of what is written to it, and who waits for that.
struct Hashed<'a> {
    file: &'a File,
    hash: u64,
    backlog: &'a Backlog,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash = hash_on(self.hash, &bytes[..count]);
        self.backlog.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Writes all steps, unless the record is given up; whether any of them was a graph's.
fn write_all(file: &File, head: &RecordHead, noted: &mpsc::Receiver<RecordedStep>, backlog: &Backlog) -> std::io::Result<bool> {
    let mut file = BufWriter::new(Hashed { file, hash: content_hash(b""), backlog });
    let (mut steps, mut any) = (0, false);
    serde_json::to_writer(&mut file, head)?;
    file.write_all(b"\n")?;
    for step in noted {
        serde_json::to_writer(&mut file, &step)?;
        file.write_all(b"\n")?;
        steps += 1;
        any |= matches!(step.event, Event::Submit { .. });
        if backlog.written() > Phase::Writes {
            return Ok(false);
        }
    }
    file.flush()?;
    let tail = Tail { steps, hash: file.get_ref().hash };
    serde_json::to_writer(&mut file, &tail)?;
    file.write_all(b"\n")?;
    file.flush()?;
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::runtime::{Record, Session, SessionBuilder};
    use crate::schedule::Placement;

    fn builder(path: &Path) -> SessionBuilder {
        Session::builder().threads(1).placement(Placement::Cpu).cache_dir("").record(path)
    }

    fn work(session: &Session) {
        let a = Array::from(ndarray::arr1(&[1.0; 2])).in_session(session);
        assert_eq!(a.mean().compute_scalar().expect("a mean"), 1.0);
    }

    #[test]
    fn paths_that_cannot_be_written_are_errors_of_the_builder() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path().join("absent/x"), folder.path().to_owned(), std::path::PathBuf::new()] {
            let error = builder(&path).build().expect_err("no session");
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
            let is_named = matches!(&error, Error::Io { .. } | Error::File { .. });
            assert!(if path.as_os_str().is_empty() { matches!(&error, Error::Argument { .. }) } else { is_named }, "{error}");
        }
    }

    /// What was there stays until there is another record, whole; two sessions do not write one, however it is spelt.
    #[test]
    fn a_record_is_replaced_by_a_whole_one_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, same) =
            (folder.path().join("x"), folder.path().join("../").join(folder.path().file_name().expect("a name")).join("x"));
        let files = || std::fs::read_dir(folder.path()).expect("a folder").count();
        let text = || std::fs::read_to_string(&path).expect("the record");
        let one = builder(&path).build().expect("a session");
        for path in [&path, &same] {
            let error = builder(path).build().expect_err("two writers of one file").to_string();
            assert!(error.contains("already being written"), "{error}");
        }
        work(&one);
        assert_eq!((path.exists(), files()), (false, 1));
        drop(one);
        let first = text();
        drop(builder(&path).build().expect("a session")); // which does nothing
        assert_eq!((text(), files()), (first.clone(), 1));

        let two = builder(&path).build().expect("a session");
        (0..2).for_each(|_| work(&two));
        assert_eq!((text(), files()), (first.clone(), 2));
        drop(two);
        assert_ne!(text(), first);
        assert_eq!((files(), Record::read(&path).and_then(|r| r.replay()).expect("a replay").graphs), (1, 2));
    }

    /// One warning; and what it waits for may be in the hands of who ends the session.
    #[test]
    fn a_record_that_cannot_be_finished_is_a_warning_that_nobody_waits_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("inner/x");
        std::fs::create_dir(folder.path().join("inner")).expect("a folder");
        let heard = Arc::new(Mutex::new(Vec::<String>::new()));
        let says = heard.clone();
        let session =
            builder(&path).warnings(move |text| says.lock().expect("whole").push(text.into())).build().expect("a session");
        work(&session);
        std::fs::remove_dir_all(folder.path().join("inner")).expect("removes");
        let held = heard.lock().expect("whole");
        drop(session);
        drop(held);
        let end = Instant::now() + Duration::from_secs(20);
        while heard.lock().expect("whole").is_empty() && Instant::now() < end {
            std::thread::yield_now();
        }
        let heard = heard.lock().expect("whole").clone();
        assert!(
            heard.len() == 1 && heard[0].contains("there is no record of this session") && heard[0].contains("inner"),
            "{heard:?}"
        );
    }

    fn stuck() -> (Recorder, mpsc::Receiver<RecordedStep>) {
        let (steps, noted) = mpsc::channel();
        let warn = Arc::new(|text: &str| panic!("{text}"));
        (Recorder { steps: Some(steps), telling: None, backlog: Arc::default(), writer: None, warn }, noted)
    }

    fn note(recorder: &mut Recorder, times: usize) {
        for _ in 0..times {
            recorder.tells(0, Event::Tick);
            recorder.answered(&[]);
        }
    }

    /// Whoever reports waits for a disk that is slower than what is to be written.
    #[test]
    fn what_waits_to_be_written_is_bounded() {
        let (mut recorder, noted) = stuck();
        note(&mut recorder, MOST_WAITING);
        assert!(recorder.backlog().is_none());
        note(&mut recorder, 1);
        let backlog = recorder.backlog().expect("too many");
        let (asked, patience) = (Instant::now(), Duration::from_secs(600));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| backlog.wait_for(patience));
            for _ in 0..=MOST_WAITING / 2 {
                assert!(!waiter.is_finished() && noted.recv().is_ok());
                backlog.written();
            }
            assert_eq!(waiter.join().expect("is told"), None);
        });
        assert!(recorder.backlog().is_none() && asked.elapsed() < patience);
        // A writer that ends is not waited for.
        note(&mut recorder, MOST_WAITING);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| backlog.wait_for(patience));
            backlog.reaches(Phase::Ended);
            assert_eq!(waiter.join().expect("is told"), None);
        });
        assert!(recorder.backlog().is_none() && asked.elapsed() < patience);
    }

    /// One that takes nothing is not waited for again, nor kept in memory; one that takes a little is.
    #[test]
    fn a_disk_that_hangs_costs_the_record_and_one_wait() {
        let (mut recorder, noted) = stuck();
        note(&mut recorder, MOST_WAITING + 1);
        let (backlog, patience) = (recorder.backlog().expect("too many"), Duration::from_millis(300));
        let asked = Instant::now();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| backlog.wait_for(patience));
            while asked.elapsed() < patience * 3 {
                backlog.taken.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
            assert!(waiter.join().expect("gives up").is_some_and(|why| why.contains("no record")));
        });
        assert!(asked.elapsed() >= patience * 3 && recorder.backlog().is_none());
        assert_eq!(backlog.wait_for(Duration::from_secs(600)), None); // told once, and nobody waits
        note(&mut recorder, 9);
        assert_eq!(noted.try_iter().count(), MOST_WAITING + 1);
    }

    /// Nor by the end of the session, which says so once.
    #[test]
    fn the_end_of_a_session_does_not_wait_for_ever() {
        let (mut recorder, noted) = stuck();
        let heard = Arc::new(Mutex::new(Vec::<String>::new()));
        let says = heard.clone();
        recorder.warn = Arc::new(move |text| says.lock().expect("whole").push(text.into()));
        let writer = std::thread::spawn(move || drop(noted.iter().last())); // until no more can come
        recorder.writer = Some(writer.thread().id());
        note(&mut recorder, 3);
        recorder.end(Duration::from_millis(100));
        writer.join().expect("ends");
        assert_eq!(recorder.backlog.waiting().phase, Phase::GivenUp);
        recorder.end(Duration::from_secs(600));
        let heard = heard.lock().expect("whole").clone();
        assert!(heard.len() == 1 && heard[0].contains("not written yet"), "{heard:?}");
    }
}
