//! One submission: recording launches and copies, and what is needed to report them afterwards.
//!
//! Owns: [`BatchRecorder`], [`Submission`], [`Kit`]. Must not know: what is recorded when. Invariant: whatever was recorded is in the submission, with everything that
//! its report needs.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use smallvec::SmallVec;
use wgpu::{BufferBinding, BufferUsages, MapMode};

use super::batcher::{DISPATCHES, DownPiece, LaunchSlices, NextBatch, PARTS};
use super::driver::Load;
use super::groups::GroupKey;
use super::launch::{LaunchEnd, Running, Tally, label};
use super::link::{FilledPack, Landing, Staging};
use super::open::{GpuRefusal, Opened};
use super::pace::PaceKey;
use super::pipelines::Pipelines;
use super::plan::{LaunchStage, OperandPlace};
use super::slice::Slice;
use crate::device::Failure;
use crate::kernel::program::MOST_PARAMS;

/// Distance between the fault words of launches: the largest alignment there is.
const STRIDE: u64 = 256;
/// Distance between the parameters of dispatches: a multiple of that, and room for what a program of many views may have.
const PARAMS: u64 = 16 + MOST_PARAMS as u64;
/// Where timestamps stand in a report, behind the fault words.
const TIMES: u64 = PARTS as u64 * STRIDE;
/// Passes of a submission that are timed: copies between launches end one, which are few.
const PASSES: u32 = 8;
/// Workgroups along one axis.
const AXIS: u64 = 65_535;
/// Submissions that have room in the buffers that all share.
pub(super) const KITS: u64 = 4;

/// Buffers of which each submission has a part of its own, so that bind groups serve all submissions.
#[derive(Clone)]
pub(super) struct CommonBuffers {
    params: wgpu::Buffer,
    faults: wgpu::Buffer,
}

impl CommonBuffers {
    pub(super) fn new(opened: &Opened) -> Result<Self, GpuRefusal> {
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let params = opened.buffer(KITS * DISPATCHES as u64 * PARAMS, usage, false)?;
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        Ok(Self { params, faults: opened.buffer(KITS * TIMES, usage, false)? })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.params.size() + self.faults.size()
    }
}

/// What a submission needs for itself.
pub(super) struct Kit {
    /// Which part of the common buffers is its.
    number: u64,
    /// Mapped while nothing is under way: from here parameters are copied to the common buffer.
    params: wgpu::Buffer,
    report: wgpu::Buffer,
    times: Option<(wgpu::QuerySet, wgpu::Buffer)>,
}

impl Kit {
    pub(super) fn new(opened: &Opened, number: u64) -> Result<Self, GpuRefusal> {
        let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
        let params = opened.buffer(DISPATCHES as u64 * PARAMS, usage, true)?;
        let bytes = u64::from(PASSES) * 16;
        let report = opened.buffer(TIMES + bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST, false)?;
        let times = match opened.tick_ns {
            None => None,
            Some(_) => {
                let resolved = opened.buffer(bytes, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC, false)?;
                let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 * PASSES };
                Some((opened.caught(|| Ok(opened.device.create_query_set(&descriptor)))?, resolved))
            }
        };
        Ok(Self { number, params, report, times })
    }

    /// Another one in its place.
    pub(super) fn renewed(self, opened: &Opened) -> Result<Self, GpuRefusal> {
        opened.forget(self.bytes());
        Self::new(opened, self.number)
    }

    /// Bytes of its buffers.
    pub(super) fn bytes(&self) -> u64 {
        let resolved = self.times.as_ref().map_or(0, |t| t.1.size());
        self.params.size() + self.report.size() + resolved
    }
}

/// A launch, or part of one, in a submission.
pub(super) struct LaunchPart {
    /// What its program is called in the pace, and which plan it is of.
    pub(super) pace: PaceKey,
    pub(super) kind: u64,
    pub(super) units: f64,
    pub(super) predicted_ns: f64,
    pub(super) least_ns: f64,
    /// Whether it is the first that a pipeline runs.
    pub(super) is_new: bool,
    /// Where its fault words are, if it may have written some.
    pub(super) faults: Option<usize>,
    pub(super) tally: Option<Arc<Mutex<Tally>>>,
    /// If this is the launch's last part.
    pub(super) end: Option<LaunchEnd>,
}

/// Pieces of downloads, and where they go.
pub(super) type Landings = Vec<(DownPiece, Arc<Landing>)>;

/// What is to come of a submission.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) parts: Vec<LaunchPart>,
    /// Staging buffers that will be mapped again.
    pub(super) ups: Vec<wgpu::Buffer>,
    /// Uploads whose last piece is here.
    pub(super) uploads: u64,
    /// The staging buffer of all downloads, and what is in it.
    pub(super) pack: Option<(wgpu::Buffer, Landings)>,
    pub(super) load: Load,
    pub(super) dispatches: u64,
    /// Passes whose times are in the report.
    passes: u32,
    /// Fault words in the report.
    faults: u64,
    /// Whether a buffer could not be mapped.
    pub(super) unmapped: Arc<AtomicBool>,
}

impl Contents {
    /// Reports everything in it as failed.
    pub(super) fn fail(self, device: &str, refusal: &GpuRefusal, [ups, downs]: [&Staging; 2]) {
        for part in self.parts {
            let task = part.end.as_ref().map_or("task".into(), |end| label(&*end.kernel));
            let failure: Failure = refusal.clone().into_failure(&format!("task {task}"), device);
            match part.end {
                Some(end) => end.done.fail(failure),
                // What goes on finds it there.
                None => part.tally.iter().for_each(|tally| {
                    tally.lock().unwrap_or_else(PoisonError::into_inner).failed.get_or_insert_with(|| failure.clone());
                }),
            }
        }
        self.ups.into_iter().for_each(|staging| ups.give(staging, false));
        if let Some((staging, pieces)) = self.pack {
            downs.give(staging, false);
            for (_, landing) in pieces {
                landing.fail(refusal.clone().into_failure("a chunk's move", device));
            }
        }
    }
}

/// A submission under way.
pub(super) struct Submission {
    pub(super) index: wgpu::SubmissionIndex,
    pub(super) submitted: Instant,
    pub(super) kit: Kit,
    pub(super) contents: Contents,
}

/// Fault words of each part, and begin and end of each pass in ticks.
pub(super) type ReadReport = (Vec<[u32; 4]>, Vec<[u64; 2]>);

impl Submission {
    /// What the GPU has written about it, if it was asked.
    pub(super) fn read_report(&self) -> Option<ReadReport> {
        let Contents { passes, faults, .. } = &self.contents;
        if *passes == 0 && *faults == 0 {
            return None;
        }
        let read = || {
            let bytes = self.kit.report.get_mapped_range(..).ok()?;
            let at = |at: u64| bytes.get(at as usize..at as usize + 16);
            let words = |i: u64| Some(bytemuck::pod_read_unaligned(at(i * STRIDE)?));
            let ticks = |i: u64| Some(bytemuck::pod_read_unaligned(at(TIMES + i * 16)?));
            Some(((0..*faults).map(words).collect::<Option<_>>()?, (0..u64::from(*passes)).map(ticks).collect::<Option<_>>()?))
        };
        let found = read();
        self.kit.report.unmap();
        found
    }
}

/// A launch is queued once its pipelines are there.
fn uncompiled() -> GpuRefusal {
    GpuRefusal::Invalid("its program is not compiled".into())
}

/// A submission that is being recorded. All of it is within [`Opened::caught`].
pub(super) struct BatchRecorder<'a> {
    opened: &'a Opened,
    pipelines: &'a Pipelines,
    common: &'a CommonBuffers,
    kit: &'a Kit,
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    /// Parameters of all dispatches so far, and how many dispatches there may be.
    params: &'a mut Vec<u8>,
    expected: usize,
    /// Launches so far, those included that were refused half-way: each has fault words of its own.
    launches: usize,
    timed: bool,
    contents: Contents,
}

impl<'a> BatchRecorder<'a> {
    /// Begins to record what is in `batch`. `params` is for its own use.
    pub(super) fn new(
        opened: &'a Opened,
        pipelines: &'a Pipelines,
        (common, kit): (&'a CommonBuffers, &'a Kit),
        batch: &NextBatch,
        params: &'a mut Vec<u8>,
    ) -> Self {
        params.clear();
        let mut encoder = opened.device.create_command_encoder(&Default::default());
        let expected: usize = batch.parts.iter().map(|part| part.slices.len()).sum();
        if expected > 0 {
            let bytes = expected as u64 * PARAMS;
            let at = kit.number * DISPATCHES as u64 * PARAMS;
            encoder.copy_buffer_to_buffer(&kit.params, 0, &common.params, at, bytes);
        }
        let (timed, contents) = (batch.timed && kit.times.is_some(), Contents::default());
        Self { opened, pipelines, common, kit, encoder, pass: None, params, expected, launches: 0, timed, contents }
    }

    /// Fault words of launches that may write them are to be zero first: once, before any launch.
    pub(super) fn clear_faults(&mut self, parts: u64) {
        self.encoder.clear_buffer(&self.common.faults, self.kit.number * TIMES, Some(parts.max(1) * STRIDE));
        self.contents.faults = parts.max(1);
    }

    fn map_later(&mut self, buffer: &wgpu::Buffer, mode: MapMode) {
        let unmapped = self.contents.unmapped.clone();
        self.encoder.map_buffer_on_submit(buffer, mode, .., move |result| {
            if result.is_err() {
                unmapped.store(true, Ordering::Relaxed);
            }
        });
    }

    /// Copies a filled staging buffer to its chunks.
    pub(super) fn up(&mut self, FilledPack { buffer, pieces }: FilledPack) -> Result<(), GpuRefusal> {
        buffer.unmap();
        for piece in pieces {
            let (to, bytes) = (piece.to.buffer()?, piece.bytes.next_multiple_of(4));
            self.encoder.copy_buffer_to_buffer(&buffer, piece.offset, to, piece.at, bytes);
            self.contents.load.up_bytes += piece.bytes;
            self.contents.uploads += u64::from(piece.last);
        }
        self.map_later(&buffer, MapMode::Write);
        self.contents.ups.push(buffer);
        Ok(())
    }

    /// Copies pieces of chunks to a staging buffer.
    pub(super) fn down(&mut self, staging: wgpu::Buffer, pieces: Vec<(DownPiece, Arc<Landing>, wgpu::Buffer)>) {
        let mut all = Vec::with_capacity(pieces.len());
        for (piece, landing, from) in pieces {
            let bytes = piece.bytes.next_multiple_of(4);
            self.encoder.copy_buffer_to_buffer(&from, piece.at, &staging, piece.offset, bytes);
            self.contents.load.down_bytes += piece.bytes;
            all.push((piece, landing));
        }
        self.map_later(&staging, MapMode::Read);
        self.contents.pack = Some((staging, all));
    }

    /// Records a part of a launch.
    pub(super) fn launch(&mut self, run: &mut Running, part: &LaunchSlices) -> Result<(), GpuRefusal> {
        self.launches += 1;
        if run.plan.accepted.get().is_none() {
            self.try_out(run)?;
        }
        // Once: a launch that goes on in another submission must find what it wrote.
        for (from, to, bytes) in std::mem::take(&mut run.copy_in) {
            self.pass = None;
            self.encoder.copy_buffer_to_buffer(from.buffer()?, 0, to.buffer()?, 0, bytes.next_multiple_of(4));
        }
        let mut bound: Option<(usize, wgpu::BindGroup)> = None;
        for &(index, slice) in &part.slices {
            let Some(stage) = run.plan.stages.get(index) else { continue };
            let pipeline = run.pipelines.of(&run.plan, index, slice.pass).ok_or_else(uncompiled)?;
            let group = match bound.take() {
                Some((of, group)) if of == index => group,
                _ => self.bind(run, stage)?,
            };
            self.dispatch(stage, pipeline, &group, &slice);
            bound = Some((index, group));
        }
        Ok(())
    }

    /// Where the fault words are of the launch that was recorded last.
    pub(super) fn fault_slot(&self) -> usize {
        self.launches - 1
    }

    /// A launch is in the submission, or a part of it.
    pub(super) fn keep(&mut self, part: LaunchPart) {
        self.contents.load.launches += 1;
        self.contents.parts.push(part);
    }

    fn bind(&self, run: &Running, stage: &LaunchStage) -> Result<wgpu::BindGroup, GpuRefusal> {
        let (shader, program) = (&stage.program.shader, &stage.program);
        let more = [program.scratch_bytes > 0, program.faults].map(u32::from);
        let mut key = GroupKey { layout: [shader.inputs(), shader.outputs(), more[0], more[1]], bound: SmallVec::new() };
        let scratch = || run.scratch.as_ref().ok_or_else(|| GpuRefusal::Invalid("there is no scratch".into()));
        let mut buffers: SmallVec<[&wgpu::Buffer; 5]> = SmallVec::new();
        for place in &stage.places {
            let (buffer, of, at, bytes) = match *place {
                OperandPlace::Operand(i, bytes) => (run.operands[i].buffer()?, run.operands[i].key, 0, bytes),
                OperandPlace::Scratch { at, bytes } => (&scratch()?.buffer, scratch()?.key, at, bytes),
            };
            buffers.push(buffer);
            key.bound.push((of, at, bytes));
        }
        if program.scratch_bytes > 0 {
            buffers.push(&scratch()?.buffer);
            key.bound.push((scratch()?.key, 0, program.scratch_bytes));
        }
        let make = || self.make_group(&key, &buffers);
        // A group that may be refused is not kept.
        if run.plan.accepted.get().is_some() { self.opened.groups.of(&key, make) } else { make() }
    }

    /// Records all of a launch, once for its plan, to see whether it is accepted: a program that is refused must not take the others of its submission
    /// along. Nothing of this is submitted.
    fn try_out(&self, run: &Running) -> Result<(), GpuRefusal> {
        let tried = self.opened.caught(|| {
            let mut encoder = self.opened.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (index, stage) in run.plan.stages.iter().enumerate() {
                let group = self.bind(run, stage)?;
                for (at, of) in stage.program.passes.iter().enumerate().filter(|(_, pass)| pass.groups > 0) {
                    pass.set_pipeline(run.pipelines.of(&run.plan, index, at).ok_or_else(uncompiled)?);
                    pass.set_bind_group(0, &group, &[0, 0][..1 + usize::from(stage.program.faults)]);
                    pass.dispatch_workgroups(of.groups.min(AXIS) as u32, of.groups.div_ceil(AXIS) as u32, 1);
                }
            }
            drop(pass);
            drop(encoder.finish());
            Ok(())
        });
        match tried {
            Ok(()) => drop(run.plan.accepted.set(())),
            Err(GpuRefusal::Invalid(message)) => return Err(GpuRefusal::Unfit(message)),
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn make_group(&self, key: &GroupKey, buffers: &[&wgpu::Buffer]) -> Result<wgpu::BindGroup, GpuRefusal> {
        let layout = self.pipelines.layout(key.layout)?;
        let range = |buffer, offset, bytes: u64| {
            wgpu::BindingResource::Buffer(BufferBinding { buffer, offset, size: NonZeroU64::new(bytes.next_multiple_of(16)) })
        };
        let mut bindings: SmallVec<[_; 8]> = SmallVec::from_iter([range(&self.common.params, 0, PARAMS)]);
        bindings.extend(key.bound.iter().zip(buffers).map(|(&(_, at, bytes), &buffer)| range(buffer, at, bytes)));
        if key.layout[3] > 0 {
            bindings.push(range(&self.common.faults, 0, 16));
        }
        let entry = |(i, resource)| wgpu::BindGroupEntry { binding: i as u32, resource };
        let entries: SmallVec<[wgpu::BindGroupEntry<'_>; 8]> = bindings.into_iter().enumerate().map(entry).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
        Ok(self.opened.device.create_bind_group(&descriptor))
    }

    fn open_pass(&mut self) -> &mut wgpu::ComputePass<'static> {
        let (encoder, kit, contents) = (&mut self.encoder, self.kit, &mut self.contents);
        self.timed &= self.pass.is_some() || contents.passes < PASSES;
        let set = kit.times.as_ref().filter(|_| self.timed);
        self.pass.get_or_insert_with(|| {
            let writes = set.map(|(query_set, _)| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(2 * contents.passes),
                end_of_pass_write_index: Some(2 * contents.passes + 1),
            });
            contents.passes += u32::from(writes.is_some());
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: writes };
            encoder.begin_compute_pass(&descriptor).forget_lifetime()
        })
    }

    fn dispatch(&mut self, stage: &LaunchStage, pipeline: &wgpu::ComputePipeline, group: &wgpu::BindGroup, slice: &Slice) {
        let at = self.params.len();
        // Operands above 2^32 workgroups have no program (program.rs).
        let launch = [slice.first as u32, slice.groups as u32, slice.begin, slice.end];
        self.params.extend_from_slice(bytemuck::cast_slice(&launch));
        self.params.extend_from_slice(&stage.program.params);
        self.params.resize(at + PARAMS as usize, 0);
        let fault = (self.kit.number * PARTS as u64 + self.fault_slot() as u64) * STRIDE;
        let offsets = [(self.kit.number * DISPATCHES as u64 * PARAMS) as u32 + at as u32, fault as u32];
        let (x, y) = (slice.groups.min(AXIS), slice.groups.div_ceil(AXIS));
        self.contents.dispatches += 1;
        let pass = self.open_pass();
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &offsets[..1 + usize::from(stage.program.faults)]);
        pass.dispatch_workgroups(x as u32, y as u32, 1);
    }

    /// Whether nothing was recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.contents.parts.is_empty() && self.contents.ups.is_empty() && self.contents.pack.is_none()
    }

    /// Ends recording without a submission.
    pub(super) fn give_up(self) -> Contents {
        self.contents
    }

    /// Ends recording, and submits.
    pub(super) fn submit(mut self) -> (Contents, Result<(wgpu::SubmissionIndex, Instant), GpuRefusal>) {
        self.pass = None;
        if !self.timed {
            self.contents.passes = 0; // not all of it was timed
        }
        let passes = self.contents.passes;
        if let Some((set, resolved)) = self.kit.times.as_ref().filter(|_| passes > 0) {
            self.encoder.resolve_query_set(set, 0..2 * passes, resolved, 0);
            self.encoder.copy_buffer_to_buffer(resolved, 0, &self.kit.report, TIMES, u64::from(passes) * 16);
        }
        if self.contents.faults > 0 {
            let (at, bytes) = (self.kit.number * TIMES, self.contents.faults * STRIDE);
            self.encoder.copy_buffer_to_buffer(&self.common.faults, at, &self.kit.report, 0, bytes);
        }
        if passes > 0 || self.contents.faults > 0 {
            self.map_later(&self.kit.report.clone(), MapMode::Read);
        }
        if self.expected > 0 {
            // Launches that were refused have left their parameters out.
            self.params.resize(self.expected * PARAMS as usize, 0);
            match self.kit.params.get_mapped_range_mut(..self.params.len() as u64) {
                Ok(mut mapped) => mapped.slice(..).copy_from_slice(self.params),
                Err(error) => return (self.contents, Err(GpuRefusal::Invalid(error.to_string()))),
            }
            self.kit.params.unmap();
            self.map_later(&self.kit.params.clone(), MapMode::Write);
        }
        let submitted = Instant::now();
        let index = self.opened.driver.submit(self.opened, self.encoder.finish(), self.contents.load);
        (self.contents, index.map(|index| (index, submitted)))
    }
}
