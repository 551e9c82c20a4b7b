//! From a shader to a pipeline.
//!
//! Owns: [`Compiler`], the calls of wgpu that compile. Must not know: who waits. Invariant: what fails is an error of this shader, or of the device, never a panic.
#![allow(unsafe_code)] // trusted shaders: see `try_compile`

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use wgpu::{BindGroupLayoutEntry, BufferBindingType, ShaderStages};

use super::disk::DriverCache;
use super::kept::PipelineKey;
use super::queue::QueuedProgram;
use crate::device::gpu::open::{GpuRefusal, Opened};
use crate::device::panic_message;

/// Layouts that are kept; beyond them all go. They are few, unless kernels are made that take more and more operands.
const LAYOUTS: usize = 64;

/// Compiles for one device.
pub(super) struct Compiler {
    pub(super) opened: Arc<Opened>,
    layouts: Mutex<BTreeMap<[u32; 4], wgpu::BindGroupLayout>>,
    /// What the driver has compiled in earlier sessions, too.
    pub(super) cache: OnceLock<DriverCache>,
}

impl Compiler {
    pub(super) fn new(opened: Arc<Opened>) -> Self {
        Self { opened, layouts: Mutex::default(), cache: OnceLock::new() }
    }

    /// The layout of the bindings of a program with these numbers of inputs and outputs, with scratch and fault words (0 or 1).
    pub(super) fn layout(&self, [inputs, outputs, scratch, faults]: [u32; 4]) -> Result<wgpu::BindGroupLayout, GpuRefusal> {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = [inputs, outputs, scratch, faults];
        if let Some(layout) = layouts.get(&key) {
            return Ok(layout.clone());
        }
        let entry = |binding, ty| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            // Parameters and fault words lie in buffers that all launches share.
            ty: wgpu::BindingType::Buffer {
                ty,
                has_dynamic_offset: binding == 0 || (faults > 0 && binding == inputs + outputs + scratch + 1),
                min_binding_size: None,
            },
            count: None,
        };
        let storage = |read_only| BufferBindingType::Storage { read_only };
        let writes = outputs + scratch + faults;
        let mut entries = vec![entry(0, BufferBindingType::Uniform)];
        entries.extend((1..=inputs).map(|binding| entry(binding, storage(true))));
        entries.extend((inputs + 1..=inputs + writes).map(|binding| entry(binding, storage(false))));
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
        let layout = self.opened.caught(|| Ok(self.opened.device.create_bind_group_layout(&descriptor)))?;
        if layouts.len() >= LAYOUTS {
            layouts.clear(); // one that is made anew is equal to what pipelines have
        }
        layouts.insert(key, layout.clone());
        Ok(layout)
    }

    /// What is to be compiled, and whether the driver's cache has it.
    pub(super) fn queued(&self, key: PipelineKey) -> QueuedProgram {
        QueuedProgram { is_known: self.cache.get().is_some_and(|cache| cache.has(key.hash())), key }
    }

    /// How many layouts are kept.
    #[cfg(test)]
    pub(super) fn layouts(&self) -> usize {
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The pipeline; what is refused is refused for good.
    pub(super) fn compile(&self, key: &PipelineKey) -> Result<wgpu::ComputePipeline, GpuRefusal> {
        // A compiler is a large program that may have bugs: its panic is the shader's failure.
        let made = catch_unwind(AssertUnwindSafe(|| match self.try_compile(key) {
            // An error that is somebody else's does not come twice.
            Err(GpuRefusal::Invalid(_)) => self.try_compile(key),
            outcome => outcome,
        }));
        match made {
            Ok(Err(GpuRefusal::Invalid(message))) => Err(GpuRefusal::Unfit(message)),
            Ok(outcome) => outcome,
            Err(payload) => Err(GpuRefusal::Unfit(format!("the compiler panicked: {}", panic_message(&*payload)))),
        }
    }

    fn try_compile(&self, key: &PipelineKey) -> Result<wgpu::ComputePipeline, GpuRefusal> {
        let PipelineKey { shader, real, entry, more } = key;
        let [scratch, faults] = more.map(u32::from);
        let group = self.layout([shader.inputs(), shader.outputs(), scratch, faults])?;
        let (device, name, source) = (&self.opened.device, shader.name(), shader.wgsl(*real));
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        // A counter in every loop costs up to half the speed of a product, and each word from workgroup memory would be fetched at the lesser of two
        // indices. A user's shaders have both: their loops might not end, and their indices might be anything.
        let ours = shader.is_trusted();
        (checks.force_loop_bounding, checks.bounds_checks) = (!ours, !ours);
        let (cache, round) = self.cache.get().map(DriverCache::handle).unwrap_or_default();
        let made = self.opened.caught(|| {
            let descriptor =
                wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(source.into()) };
            // SAFETY: checks are off for the crate's own shaders only: nobody else can make one that says so, and a program that a user's kernel
            // took from one of ours is not trusted (launch.rs). Their kernels make programs only for operands whose shapes and dtypes fit each
            // other (tests/gpu_bounds.rs gives each of them others), with parameters that follow from these alone. For such, loops end, as
            // their bounds are parameters; and every index is below the true length of its array: each is either held below it by a
            // comparison in the text or a constant below that of a workgroup array, and it runs every entry point with each
            // index compared.
            let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
            let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(name),
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            let descriptor = wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(entry),
                // The crate's own shaders write workgroup memory before they read it; a user's may count on WGSL's zeroes.
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: !ours,
                    ..Default::default()
                },
                cache: cache.as_ref(),
            };
            Ok(self.opened.driver.pipeline(&self.opened, &descriptor))
        })?;
        if let Some(cache) = self.cache.get() {
            cache.compiled(key.hash(), round);
        }
        Ok(made)
    }
}
