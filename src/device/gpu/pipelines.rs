//! Compiled shaders, made on a thread of their own.
//!
//! Owns: [`Pipelines`]. Must not know: launches. Invariant: nobody waits for a compiler but the launches that need its pipeline.
#![allow(unsafe_code)] // trusted shaders: see `compile`

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wgpu::{BindGroupLayoutEntry, BufferBindingType, ShaderStages};

use super::open::{Opened, Refusal};
use crate::device::panic_message;
use crate::kernel::{Program, SHADERS, Shader};
use crate::shape::DType;

/// What tells pipelines apart: the shader (its address: a user's may have the name of one of ours), `f64`, entry point, scratch,
/// fault words.
type Key = (usize, bool, &'static str, bool, bool);

enum State {
    Compiling,
    Ready(wgpu::ComputePipeline),
    Failed(Refusal),
}

/// All pipelines of one device.
pub(super) struct Pipelines {
    opened: Arc<Opened>,
    states: Mutex<BTreeMap<Key, State>>,
    layouts: Mutex<BTreeMap<[u32; 4], wgpu::BindGroupLayout>>,
    requests: Sender<(Key, &'static Shader)>,
}

impl Pipelines {
    /// Starts the compiling thread; it calls `compiled` after each pipeline.
    pub(super) fn start(opened: Arc<Opened>, name: &str, compiled: impl Fn() + Send + 'static) -> std::io::Result<Arc<Self>> {
        let (requests, wanted) = channel();
        let this = Arc::new(Self { opened, states: Mutex::default(), layouts: Mutex::default(), requests });
        let weak = Arc::downgrade(&this);
        let serve = move |wanted: Receiver<(Key, &'static Shader)>| {
            for (key, shader) in wanted {
                let Some(this) = weak.upgrade() else { return };
                this.serve(key, shader);
                drop(this);
                compiled();
            }
        };
        std::thread::Builder::new().name(format!("chunkwise-{name}-compile")).spawn(move || serve(wanted))?;
        Ok(this)
    }

    fn serve(&self, key: Key, shader: &'static Shader) {
        // A compiler is a large program that may have bugs: its panic is the shader's failure.
        let made = catch_unwind(AssertUnwindSafe(|| self.compile(key, shader)));
        let state = match made {
            Ok(Ok(pipeline)) => State::Ready(pipeline),
            Ok(Err(Refusal::Invalid(message))) => State::Failed(Refusal::Unfit(message)),
            Ok(Err(refusal)) => State::Failed(refusal),
            Err(payload) => State::Failed(Refusal::Unfit(format!("the compiler panicked: {}", panic_message(&*payload)))),
        };
        self.states().insert(key, state);
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<Key, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pipelines of a program's passes; `None` while they are being compiled.
    pub(super) fn of(&self, program: &Program) -> Result<Option<Vec<wgpu::ComputePipeline>>, Refusal> {
        let mut ready = Vec::with_capacity(program.passes.len());
        let mut complete = true;
        let mut states = self.states();
        for pass in &program.passes {
            let wide = program.real == DType::F64;
            let key = (std::ptr::from_ref(program.shader).addr(), wide, pass.entry, program.scratch_bytes > 0, program.faults);
            match states.get(&key) {
                Some(State::Ready(pipeline)) => ready.push(pipeline.clone()),
                Some(State::Failed(refusal)) => return Err(refusal.clone()),
                Some(State::Compiling) => complete = false,
                None => {
                    complete = false;
                    states.insert(key, State::Compiling);
                    if self.requests.send((key, program.shader)).is_err() {
                        return Err(Refusal::Lost("its compiling thread has ended".into()));
                    }
                }
            }
        }
        Ok(complete.then_some(ready))
    }

    /// The layout of the bindings of a program with these numbers of inputs and outputs, with scratch and fault words (0 or 1).
    pub(super) fn layout(&self, [inputs, outputs, scratch, faults]: [u32; 4]) -> Result<wgpu::BindGroupLayout, Refusal> {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = [inputs, outputs, scratch, faults];
        if let Some(layout) = layouts.get(&key) {
            return Ok(layout.clone());
        }
        let entry = |binding, ty| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: binding == 0, min_binding_size: None },
            count: None,
        };
        let storage = |read_only| BufferBindingType::Storage { read_only };
        let writes = outputs + scratch + faults;
        let mut entries = vec![entry(0, BufferBindingType::Uniform)];
        entries.extend((1..=inputs).map(|binding| entry(binding, storage(true))));
        entries.extend((inputs + 1..=inputs + writes).map(|binding| entry(binding, storage(false))));
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
        let layout = self.opened.caught(|| Ok(self.opened.device.create_bind_group_layout(&descriptor)))?;
        layouts.insert(key, layout.clone());
        Ok(layout)
    }

    fn compile(
        &self,
        (_, wide, entry, scratch, faults): Key,
        shader: &'static Shader,
    ) -> Result<wgpu::ComputePipeline, Refusal> {
        let group = self.layout([shader.inputs, shader.outputs, u32::from(scratch), u32::from(faults)])?;
        let (device, name) = (&self.opened.device, shader.name);
        let source = format!("alias Real = {};\n{}", if wide { "f64" } else { "f32" }, shader.source);
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        // A counter in every loop costs up to half the speed of a product. A user's loops have it: they might not end.
        let ours = SHADERS.iter().any(|ours| std::ptr::eq(*ours, shader));
        checks.force_loop_bounding = !ours;
        self.opened.caught(|| {
            let descriptor =
                wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(source.into()) };
            // SAFETY: all checks stay on but that of loops, and this only for the crate's own shaders, whose loops end (their bounds
            // are parameters).
            let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
            let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(name),
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            Ok(device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(entry),
                // The crate's own shaders write workgroup memory before they read it; a user's may count on WGSL's zeroes.
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: !ours,
                    ..Default::default()
                },
                cache: None,
            }))
        })
    }
}
