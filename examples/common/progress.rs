//! A progress bar for people, and only for people.
//!
//! Owns: whether and how progress is shown. Must not know: what progresses. Invariant: nothing is drawn on a stderr that is not a
//! terminal, with `--json` or `--quiet`, or for work that ends within half a second.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::CommonArgs;

/// Work shorter than this shows nothing: a bar that flashes is noise.
const PATIENCE: Duration = Duration::from_millis(500);

/// Progress of one piece of work. May be fed from any thread; dropping it takes the bar off the screen.
pub struct Progress {
    label: String,
    unit: &'static str,
    shown: bool,
    colour: bool,
    started: Instant,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    /// Progress of `label` (a word or two).
    pub fn start(args: &CommonArgs, label: &str) -> Self {
        Self::counting(args, label, "tasks")
    }

    /// Progress of `label`, in steps that are called `unit` (plural).
    pub fn counting(args: &CommonArgs, label: &str, unit: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        let colour = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let shown = terminal && !args.json && !args.quiet;
        Self { label: label.to_owned(), unit, shown, colour, started: Instant::now(), bar: OnceLock::new() }
    }

    /// `done` of `total` steps are finished.
    pub fn set(&self, done: u64, total: u64) {
        if !self.shown || self.started.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_init(|| self.draw(total));
        bar.set_length(total);
        bar.set_position(done);
    }

    /// What is being done now, behind the bar.
    pub fn say(&self, what: &str) {
        if let Some(bar) = self.bar.get() {
            bar.set_message(what.to_owned());
        }
    }

    fn draw(&self, total: u64) -> ProgressBar {
        let bar = if self.colour { "{bar:30.cyan/white}" } else { "[{bar:30}]" };
        let counts = format!("{{percent:>3}} %  {{human_pos}}/{{human_len}} {}", self.unit);
        let template = format!("{{prefix}} {bar} {counts}  {{elapsed}} gone, {{eta}} to go  {{wide_msg}}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let style = if self.colour { style } else { style.progress_chars("=> ") };
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10)).with_style(style);
        bar.set_prefix(self.label.clone());
        bar.with_elapsed(self.started.elapsed())
    }
}

/// A wait whose end nobody can tell; dropping it takes its line off the screen.
pub struct Waiting(Option<(Sender<()>, JoinHandle<()>)>);

impl Waiting {
    /// Says `what` is waited for, if it lasts.
    pub fn start(args: &CommonArgs, what: &'static str) -> Self {
        let progress = Progress::start(args, what);
        if !progress.shown {
            return Self(None);
        }
        let (sender, ended) = channel();
        let show = move || {
            if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed} gone")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)).with_style(style);
            line.set_message(what);
            while ended.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                line.tick();
            }
            line.finish_and_clear();
        };
        let thread = std::thread::Builder::new().name("waiting".into()).spawn(show);
        Self(thread.ok().map(|thread| (sender, thread))) // without one nothing is shown
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.0.take() {
            drop(sender);
            let _ = thread.join(); // it only draws
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
