//! One submission: recording launches and copies, and what is needed to report them afterwards.
//!
//! Owns: [`BatchRecorder`], [`Submission`], [`Kit`]. Must not know: what is recorded when. Invariant: whatever was recorded is in the batch that is
//! submitted, with everything that its report needs, or in none.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use wgpu::{BufferBinding, BufferUsages, MapMode};

use super::copies::{DownloadPiece, Up};
use super::launch::{GpuStage, LaunchEnd, Running, StageOperand, Tally};
use super::open::{GpuRefusal, Opened};
use super::pipelines::Pipelines;
use super::slice::Slice;
use crate::shape::DType;

/// Launches (or parts of them) in one submission, and dispatches.
const PARTS: usize = 64;
const DISPATCHES: usize = 256;
/// Distance between the parameters of dispatches, and between the fault words of launches: the largest alignment there is.
const STRIDE: u64 = 256;
/// Where timestamps stand in a report, behind the fault words.
const TIMES: u64 = PARTS as u64 * STRIDE;
/// Workgroups along one axis.
const AXIS: u64 = 65_535;

/// Buffers that a submission needs for itself.
pub(super) struct Kit {
    params: wgpu::Buffer,
    faults: wgpu::Buffer,
    pub(super) report: wgpu::Buffer,
    times: Option<(wgpu::QuerySet, wgpu::Buffer)>,
}

impl Kit {
    pub(super) fn new(opened: &Opened) -> Result<Self, GpuRefusal> {
        let params = opened.buffer(DISPATCHES as u64 * STRIDE, BufferUsages::UNIFORM | BufferUsages::COPY_DST, false)?;
        let faults = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let faults = opened.buffer(TIMES, faults, false)?;
        let bytes = PARTS as u64 * 16;
        let report = opened.buffer(TIMES + bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST, false)?;
        let times = match opened.tick_ns {
            None => None,
            Some(_) => {
                let resolved = opened.buffer(bytes, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC, false)?;
                let descriptor =
                    wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 * PARTS as u32 };
                Some((opened.caught(|| Ok(opened.device.create_query_set(&descriptor)))?, resolved))
            }
        };
        Ok(Self { params, faults, report, times })
    }

    /// Bytes of its buffers.
    pub(super) fn bytes(&self) -> u64 {
        let resolved = self.times.as_ref().map_or(0, |t| t.1.size());
        self.params.size() + self.faults.size() + self.report.size() + resolved
    }
}

/// A launch, or part of one, in a batch.
pub(super) struct LaunchPart {
    pub(super) tally: Arc<Mutex<Tally>>,
    /// Its share of the launch's estimate.
    pub(super) predicted_ns: f64,
    /// Whether it may have written fault words.
    pub(super) faults: bool,
    /// If this is the launch's last part.
    pub(super) end: Option<LaunchEnd>,
}

/// A submission under way.
pub(super) struct Submission {
    pub(super) index: wgpu::SubmissionIndex,
    pub(super) submitted: Instant,
    pub(super) kit: Kit,
    pub(super) parts: Vec<LaunchPart>,
    /// Staging buffers that will be mapped again.
    pub(super) ups: Vec<wgpu::Buffer>,
    pub(super) downs: Vec<(wgpu::Buffer, DownloadPiece)>,
    /// Uploads whose last piece is here.
    pub(super) uploads: u64,
    /// Bytes of all copies.
    pub(super) copied: u64,
    /// Work, and in which dtype, for the pace.
    pub(super) units: f64,
    pub(super) real: DType,
    /// Whether a report was asked for, and whether a buffer could not be mapped.
    pub(super) reports: bool,
    pub(super) unmapped: Arc<AtomicBool>,
}

impl Submission {
    /// The fault words and times (begin, end, in ticks) of each part, if they were asked for.
    pub(super) fn read_report(&self) -> Option<Vec<([u32; 4], [u64; 2])>> {
        let bytes = self.kit.report.get_mapped_range(..).ok()?;
        let words = |at: u64| bytes.get(at as usize..at as usize + 16);
        let one = |i: u64| {
            let (faults, times) = (words(i * STRIDE)?, words(TIMES + i * 16)?);
            Some((bytemuck::pod_read_unaligned(faults), bytemuck::pod_read_unaligned(times)))
        };
        (0..self.parts.len() as u64).map(one).collect()
    }
}

/// A submission that is being recorded.
pub(super) struct BatchRecorder<'a> {
    opened: &'a Opened,
    pipelines: &'a Pipelines,
    kit: Kit,
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    params: Vec<u8>,
    unmapped: Arc<AtomicBool>,
    parts: Vec<LaunchPart>,
    ups: Vec<wgpu::Buffer>,
    downs: Vec<(wgpu::Buffer, DownloadPiece)>,
    uploads: u64,
    copied: u64,
    units: f64,
    real: DType,
}

impl<'a> BatchRecorder<'a> {
    pub(super) fn new(opened: &'a Opened, pipelines: &'a Pipelines, kit: Kit) -> Self {
        let mut encoder = opened.device.create_command_encoder(&Default::default());
        encoder.clear_buffer(&kit.faults, 0, None);
        Self {
            opened,
            pipelines,
            kit,
            encoder,
            pass: None,
            params: Vec::new(),
            unmapped: Arc::default(),
            parts: Vec::new(),
            ups: Vec::new(),
            downs: Vec::new(),
            uploads: 0,
            copied: 0,
            units: 0.0,
            real: DType::F32,
        }
    }

    /// Whether a download was recorded: its staging buffer comes back only after the submission.
    pub(super) fn has_downloads(&self) -> bool {
        !self.downs.is_empty()
    }

    /// Whether nothing was recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.ups.is_empty() && self.downs.is_empty()
    }

    /// The kit of a recording that is not submitted.
    pub(super) fn give_up(self) -> Kit {
        self.kit
    }

    /// Whether it takes another part of up to `most` units in all, in this dtype.
    pub(super) fn has_room(&self, real: DType, most: f64) -> bool {
        let alike = self.parts.is_empty() || self.real == real;
        alike && self.parts.len() < PARTS && self.params.len() < DISPATCHES * STRIDE as usize && self.units < most
    }

    fn map_later(&mut self, buffer: &wgpu::Buffer, mode: MapMode) {
        let unmapped = self.unmapped.clone();
        self.encoder.map_buffer_on_submit(buffer, mode, .., move |result| {
            if result.is_err() {
                unmapped.store(true, Ordering::Relaxed);
            }
        });
    }

    /// Copies a staging buffer, whose view is gone, to its place in a chunk.
    pub(super) fn up(&mut self, Up { staging, at, bytes, last, .. }: Up, to: &wgpu::Buffer) {
        self.pass = None;
        staging.unmap();
        self.encoder.copy_buffer_to_buffer(&staging, 0, to, at, bytes.next_multiple_of(4));
        self.map_later(&staging, MapMode::Write);
        self.copied += bytes;
        self.uploads += u64::from(last);
        self.ups.push(staging);
    }

    /// Copies a piece of a chunk to a staging buffer.
    pub(super) fn down(&mut self, from: &wgpu::Buffer, staging: wgpu::Buffer, piece: DownloadPiece) {
        self.pass = None;
        self.encoder.copy_buffer_to_buffer(from, piece.at, &staging, 0, piece.bytes.next_multiple_of(4));
        self.map_later(&staging, MapMode::Read);
        self.copied += piece.bytes;
        self.downs.push((staging, piece));
    }

    /// Records as much of a launch as there is room for; gives it back if that is not all of it. `scratch` is large enough.
    pub(super) fn launch(
        &mut self,
        mut run: Box<Running>,
        scratch: Option<&wgpu::Buffer>,
        most: f64,
    ) -> Result<Option<Box<Running>>, (GpuRefusal, Box<Running>)> {
        let groups = match self.bind_all(&mut run, scratch) {
            Ok(groups) => groups,
            Err(refusal) => return Err((refusal, run)),
        };
        let (part, real, before) = (self.parts.len() as u32, run.real(), self.units);
        let several = run.stages.iter().map(|stage| stage.program.passes.len()).sum::<usize>() > 1;
        let faults = run.stages.iter().any(|stage| stage.program.faults);
        self.stamp(2 * part);
        let mut dispatched = false;
        for group in &groups {
            let Some(stage) = run.stages.front_mut() else { break };
            while !dispatched || several && self.has_room(real, most) {
                let Some((slice, units)) = stage.cursor.next(&stage.program, (most - self.units).max(1.0)) else { break };
                self.dispatch(stage, &slice, group);
                (self.units, dispatched) = (self.units + units, true);
            }
            if !stage.cursor.is_over(&stage.program) {
                break;
            }
            run.stages.pop_front();
        }
        self.stamp(2 * part + 1);
        self.real = real;
        let share = ((self.units - before) / run.units.max(1.0)).min(1.0);
        let (tally, predicted_ns) = (run.tally.clone(), share * run.estimate_ns as f64);
        let (end, rest) = if run.stages.is_empty() { (Some(run.end), None) } else { (None, Some(run)) };
        self.parts.push(LaunchPart { tally, predicted_ns, faults, end });
        Ok(rest)
    }

    /// The bind groups of a launch's stages, and the old values in its outputs.
    fn bind_all(&mut self, run: &mut Running, scratch: Option<&wgpu::Buffer>) -> Result<Vec<wgpu::BindGroup>, GpuRefusal> {
        let groups = run.stages.iter().map(|stage| self.bind(stage, scratch)).collect::<Result<_, _>>()?;
        // Once: a launch that goes on in another submission must find what it wrote.
        for (from, to, bytes) in std::mem::take(&mut run.copy_in) {
            self.pass = None;
            self.encoder.copy_buffer_to_buffer(from.buffer()?, 0, to.buffer()?, 0, bytes.next_multiple_of(4));
        }
        Ok(groups)
    }

    fn bind(
        &self,
        GpuStage { program, operands, .. }: &GpuStage,
        scratch: Option<&wgpu::Buffer>,
    ) -> Result<wgpu::BindGroup, GpuRefusal> {
        let (shader, own) = (&program.shader, program.scratch_bytes);
        let more = [own > 0, program.faults].map(u32::from);
        let layout = self.pipelines.layout([shader.inputs(), shader.outputs(), more[0], more[1]])?;
        let range = |buffer, offset, bytes: u64| {
            wgpu::BindingResource::Buffer(BufferBinding { buffer, offset, size: NonZeroU64::new(bytes.next_multiple_of(16)) })
        };
        let mut bindings = vec![range(&self.kit.params, 0, STRIDE)];
        for operand in operands {
            bindings.push(match operand {
                StageOperand::Chunk(slot, bytes) => range(slot.buffer()?, 0, *bytes),
                StageOperand::Scratch { at, bytes } => range(scratch.ok_or_else(no_scratch)?, *at, *bytes),
            });
        }
        if own > 0 {
            bindings.push(range(scratch.ok_or_else(no_scratch)?, 0, own));
        }
        if program.faults {
            bindings.push(range(&self.kit.faults, self.parts.len() as u64 * STRIDE, 16));
        }
        let entry = |(i, resource)| wgpu::BindGroupEntry { binding: i as u32, resource };
        let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings.into_iter().enumerate().map(entry).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
        self.opened.caught(|| Ok(self.opened.device.create_bind_group(&descriptor)))
    }

    fn open_pass(&mut self) -> &mut wgpu::ComputePass<'static> {
        let encoder = &mut self.encoder;
        self.pass.get_or_insert_with(|| encoder.begin_compute_pass(&Default::default()).forget_lifetime())
    }

    fn stamp(&mut self, index: u32) {
        let set = self.kit.times.as_ref().map(|t| t.0.clone());
        if let Some(set) = set {
            self.open_pass().write_timestamp(&set, index);
        }
    }

    fn dispatch(&mut self, stage: &GpuStage, slice: &Slice, group: &wgpu::BindGroup) {
        let offset = self.params.len() as u32;
        // Operands above 2^32 workgroups have no program (program.rs).
        let launch = [slice.first as u32, slice.groups as u32, slice.begin, slice.end];
        self.params.extend_from_slice(bytemuck::cast_slice(&launch));
        self.params.extend_from_slice(&stage.program.params);
        self.params.resize(offset as usize + STRIDE as usize, 0);
        let (x, y) = (slice.groups.min(AXIS), slice.groups.div_ceil(AXIS));
        let pipeline = stage.pipelines[slice.pass].clone();
        let pass = self.open_pass();
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, group, &[offset]);
        pass.dispatch_workgroups(x as u32, y as u32, 1);
    }

    /// Ends recording, and submits. After a refusal everything in the batch is to be failed.
    pub(super) fn submit(mut self) -> (Submission, Result<(), GpuRefusal>) {
        self.pass = None;
        let parts = self.parts.len() as u64;
        let timed = parts > 0 && self.kit.times.is_some();
        let reports = timed || self.parts.iter().any(|p| p.faults);
        if let Some((set, resolved)) = self.kit.times.as_ref().filter(|_| timed) {
            self.encoder.resolve_query_set(set, 0..2 * parts as u32, resolved, 0);
            self.encoder.copy_buffer_to_buffer(resolved, 0, &self.kit.report, TIMES, parts * 16);
        }
        if reports {
            self.encoder.copy_buffer_to_buffer(&self.kit.faults, 0, &self.kit.report, 0, parts * STRIDE);
            let report = self.kit.report.clone();
            self.map_later(&report, MapMode::Read);
        }
        let (opened, encoder) = (self.opened, self.encoder);
        let submitted = Instant::now();
        let mut index = None;
        let outcome = opened.caught(|| {
            if !self.params.is_empty() {
                opened.queue.write_buffer(&self.kit.params, 0, &self.params);
            }
            index = Some(opened.queue.submit([encoder.finish()]));
            Ok(())
        });
        let index = index.unwrap_or_else(|| opened.queue.submit([]));
        let batch = Submission {
            index,
            submitted,
            kit: self.kit,
            parts: self.parts,
            ups: self.ups,
            downs: self.downs,
            uploads: self.uploads,
            copied: self.copied,
            units: self.units,
            real: self.real,
            reports,
            unmapped: self.unmapped,
        };
        (batch, outcome)
    }
}

/// Launches that wait, and the sum of their estimates.
pub(super) fn waiting_ns(launches: &VecDeque<Box<Running>>) -> u64 {
    launches.iter().fold(0, |sum, run| sum.saturating_add(run.estimate_ns))
}

fn no_scratch() -> GpuRefusal {
    GpuRefusal::Invalid("there is no scratch".into()) // it was made before the launch is recorded
}
