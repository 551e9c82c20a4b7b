//! The report's way out: table on stdout, files in the folder, also when the run is interrupted.
//!
//! Owns: who writes what when. Must not know: what it says. Invariant: files are written once, by whoever ends the run: the program, or
//! the thread that an interrupt wakes; a full disk loses no numbers, and a closed stdout no files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use chunkwise::Error;

use crate::common::{self, Fallible, Outcome, can_write, line, terminal, wrapped, write_whole};
use crate::compare::study::Study;
use crate::compare::{chart, page, pixels, tables, words};

/// How long an interrupt waits for a row that is being stored, in steps of 10 ms.
const PATIENCE: usize = 100;

/// Pixels of a PNG per unit of the drawing.
const PIXELS: f64 = 2.0;

/// Makes the folder, and checks that files can be written there.
///
/// # Errors
/// [`Error::Io`] if the system refuses; [`Error::File`] if it is a file.
pub fn prepare(folder: &Path) -> Result<(), Error> {
    if folder.metadata().is_ok_and(|m| !m.is_dir()) {
        return Err(Error::file(folder, "is not a folder; --out names another"));
    }
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    can_write(&folder.join("compare.json"))
}

/// Shows and writes a study.
#[derive(Clone)]
pub struct Reporter {
    folder: PathBuf,
    json: bool,
    quiet: bool,
    /// Whether somebody has begun to report.
    begun: Arc<AtomicBool>,
}

impl Reporter {
    /// For this folder and these flags.
    pub fn new(folder: PathBuf, json: bool, quiet: bool) -> Self {
        Self { folder, json, quiet, begun: Arc::default() }
    }

    /// From now on Ctrl-C reports what is there.
    pub fn on_interrupt(&self, study: &Arc<Mutex<Study>>) {
        let (reporter, study) = (self.clone(), study.clone());
        common::on_interrupt(move || {
            for _ in 0..PATIENCE {
                match study.try_lock() {
                    Ok(mut study) => return reporter.interrupted(&mut study),
                    Err(TryLockError::Poisoned(study)) => return reporter.interrupted(&mut study.into_inner()),
                    Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        });
    }

    fn interrupted(&self, study: &mut Study) {
        study.interrupted = true;
        // What fails here cannot be helped any more, and the exit code says "interrupted" anyhow.
        if let Err(error) = self.report(study) {
            eprintln!("error: {error}");
        }
    }

    /// Reports a study that is complete.
    ///
    /// # Errors
    /// If stdout or a file cannot be written; if a result differed.
    pub fn finish(&self, study: &mut Study) -> Outcome {
        self.report(study)?;
        match study.differences.len() {
            0 => Ok(()),
            n => Err(format!(
                "{n} result(s) differ from the CPU's by more than is allowed:\n  {}",
                study.differences.join("\n  ")
            )
            .into()),
        }
    }

    fn report(&self, study: &mut Study) -> Outcome {
        if self.begun.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        study.conclude();
        // Files first, because a reader of stdout may be gone; the numbers are shown even if no file could be written.
        let written = self.write(study);
        if self.json {
            line(serde_json::to_string(&*study)?)?;
        } else if !self.quiet {
            summary(study).iter().try_for_each(line)?;
            wrote(study).iter().try_for_each(line)?;
        }
        written
    }

    /// All files; those before a failure are listed as written. The JSON file comes last, so that it can name the others.
    fn write(&self, study: &mut Study) -> Outcome {
        let (scenes, mut short) = (chart::all(study), None);
        for (name, scene) in &scenes {
            let (svg, png) = (self.folder.join(format!("{name}.svg")), self.folder.join(format!("{name}.png")));
            let text = scene.svg();
            write_whole(&svg, |to| to.write_all(text.as_bytes()))?;
            study.wrote.push(svg.display().to_string());
            // Without memory for the pixels there are still the numbers.
            let painted =
                common::room(&format!("drawing {}", png.display()), pixels::bytes(scene, PIXELS), "the .svg beside it");
            match painted {
                Ok(()) => {
                    let picture = pixels::png(scene, PIXELS)?;
                    write_whole(&png, |to| to.write_all(&picture))?;
                }
                Err(error) => {
                    short = Some(error);
                    continue;
                }
            }
            study.wrote.insert(study.wrote.len() - 1, png.display().to_string());
        }
        let names: Vec<&str> = scenes.iter().map(|s| s.0.as_str()).collect();
        let text = page::markdown(study, &names);
        self.write_text("compare.md", study, |_| Ok(text))?;
        self.write_text("compare.json", study, |study| Ok(serde_json::to_string_pretty(study)? + "\n"))?;
        short.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The file is listed first, so that the JSON names itself too.
    fn write_text(&self, name: &str, study: &mut Study, text: impl FnOnce(&Study) -> Fallible<String>) -> Outcome {
        let path = self.folder.join(name);
        study.wrote.push(path.display().to_string());
        let written = text(study).and_then(|text| Ok(write_whole(&path, |to| to.write_all(text.as_bytes()))?));
        if written.is_err() {
            study.wrote.pop();
        }
        written
    }
}

/// The files that a person opens first (a picture, page, data), and the number of the others.
fn wrote(study: &Study) -> Vec<String> {
    let picture = study.wrote.iter().find(|path| path.ends_with(".png"));
    let rest = study.wrote.iter().filter(|path| path.ends_with(".md") || path.ends_with(".json"));
    let mut lines: Vec<String> = picture.into_iter().chain(rest).map(|path| format!("wrote {path}")).collect();
    match study.wrote.len() - lines.len() {
        0 => {}
        others => lines.push(format!("and {others} more beside them: pictures, as .png and .svg")),
    }
    lines
}

/// What a person sees.
fn summary(study: &Study) -> Vec<String> {
    let (width, colour) = terminal();
    let (table, notes) = tables::results(study);
    // Sentences as narrow as on any screen; a table has the room that there is.
    let wrap = |text: String| wrapped(&text, width.min(80));
    let mut lines: Vec<String> = words::head(study).into_iter().flat_map(wrap).collect();
    lines.push(String::new());
    lines.extend(table.lines(width, colour));
    lines.extend(notes.iter().enumerate().flat_map(|(i, note)| wrap(format!("[{}] {note}", i + 1))));
    lines.push(String::new());
    if !study.conclusions.is_empty() {
        lines.push("On this machine:".into());
    }
    lines.extend(study.conclusions.iter().cloned().flat_map(wrap));
    lines.extend(words::warnings(study).into_iter().flat_map(wrap));
    lines
}
