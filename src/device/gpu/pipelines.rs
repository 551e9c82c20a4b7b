//! Compiled shaders, made on a thread of their own.
//!
//! Owns: [`Pipelines`]. Must not know: launches. Invariant: nobody waits for a compiler but the launches that need its pipeline; what two shaders
//! share is compiled once, whoever made them.
#![allow(unsafe_code)] // trusted shaders: see `compile`

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wgpu::{BindGroupLayoutEntry, BufferBindingType, ShaderStages};

use super::open::{GpuRefusal, Opened};
use crate::device::panic_message;
use crate::kernel::{Pass, Program, Shader};
use crate::shape::DType;

/// What tells pipelines apart.
#[derive(Clone)]
struct PipelineKey {
    shader: Arc<Shader>,
    real: DType,
    entry: Cow<'static, str>,
    /// Whether scratch is bound, and fault words.
    more: [bool; 2],
}

impl PipelineKey {
    fn new(program: &Program, pass: &Pass) -> Self {
        Self { shader: program.shader.clone(), real: program.real, entry: pass.entry.clone(), more: more(program) }
    }

    /// Whether this pass of this program needs it. Shaders are compared in full: equal hashes of their contents say little.
    fn is(&self, program: &Program, pass: &Pass) -> bool {
        let same = Arc::ptr_eq(&self.shader, &program.shader) || self.shader == program.shader;
        same && self.real == program.real && self.entry == pass.entry && self.more == more(program)
    }
}

fn more(program: &Program) -> [bool; 2] {
    [program.scratch_bytes > 0, program.faults]
}

enum PipelineState {
    Compiling,
    Ready(wgpu::ComputePipeline),
    Failed(GpuRefusal),
}

/// All pipelines of one device.
pub(super) struct Pipelines {
    opened: Arc<Opened>,
    /// By the hash of the shader's content.
    states: Mutex<BTreeMap<u64, Vec<(PipelineKey, PipelineState)>>>,
    layouts: Mutex<BTreeMap<[u32; 4], wgpu::BindGroupLayout>>,
    /// What is to be compiled, and its place in `states`.
    requests: Sender<(PipelineKey, (u64, usize))>,
}

impl Pipelines {
    /// Starts the compiling thread; it calls `compiled` after each pipeline.
    pub(super) fn start(opened: Arc<Opened>, name: &str, compiled: impl Fn() + Send + 'static) -> std::io::Result<Arc<Self>> {
        let (requests, wanted) = channel();
        let this = Arc::new(Self { opened, states: Mutex::default(), layouts: Mutex::default(), requests });
        let weak = Arc::downgrade(&this);
        let serve = move |requests: Receiver<(PipelineKey, (u64, usize))>| {
            for (recipe, place) in requests {
                let Some(this) = weak.upgrade() else { return };
                this.serve(&recipe, place);
                drop(this);
                compiled();
            }
        };
        std::thread::Builder::new().name(format!("chunkwise-{name}-compile")).spawn(move || serve(wanted))?;
        Ok(this)
    }

    fn serve(&self, recipe: &PipelineKey, (content, index): (u64, usize)) {
        // A compiler is a large program that may have bugs: its panic is the shader's failure.
        let made = catch_unwind(AssertUnwindSafe(|| self.compile(recipe)));
        let state = match made {
            Ok(Ok(pipeline)) => PipelineState::Ready(pipeline),
            Ok(Err(GpuRefusal::Invalid(message))) => PipelineState::Failed(GpuRefusal::Unfit(message)),
            Ok(Err(refusal)) => PipelineState::Failed(refusal),
            Err(payload) => {
                PipelineState::Failed(GpuRefusal::Unfit(format!("the compiler panicked: {}", panic_message(&*payload))))
            }
        };
        if let Some(slot) = self.states().get_mut(&content).and_then(|alike| alike.get_mut(index)) {
            slot.1 = state; // nothing is ever taken out
        }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<(PipelineKey, PipelineState)>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pipelines of a program's passes; `None` while they are being compiled.
    pub(super) fn of(&self, program: &Program) -> Result<Option<Vec<wgpu::ComputePipeline>>, GpuRefusal> {
        let mut ready = Vec::with_capacity(program.passes.len());
        let mut complete = true;
        let content = program.shader.content();
        let mut states = self.states();
        let alike = states.entry(content).or_default();
        for pass in &program.passes {
            match alike.iter().find(|(recipe, _)| recipe.is(program, pass)).map(|(_, state)| state) {
                Some(PipelineState::Ready(pipeline)) => ready.push(pipeline.clone()),
                Some(PipelineState::Failed(refusal)) => return Err(refusal.clone()),
                Some(PipelineState::Compiling) => complete = false,
                None => {
                    complete = false;
                    let (recipe, place) = (PipelineKey::new(program, pass), (content, alike.len()));
                    alike.push((recipe.clone(), PipelineState::Compiling));
                    if self.requests.send((recipe, place)).is_err() {
                        return Err(GpuRefusal::Lost("its compiling thread has ended".into()));
                    }
                }
            }
        }
        Ok(complete.then_some(ready))
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
        layouts.insert(key, layout.clone());
        Ok(layout)
    }

    fn compile(&self, recipe: &PipelineKey) -> Result<wgpu::ComputePipeline, GpuRefusal> {
        match self.try_compile(recipe) {
            // An error that is somebody else's does not come twice, and what is refused is refused for good.
            Err(GpuRefusal::Invalid(_)) => self.try_compile(recipe),
            outcome => outcome,
        }
    }

    fn try_compile(&self, recipe: &PipelineKey) -> Result<wgpu::ComputePipeline, GpuRefusal> {
        let PipelineKey { shader, real, entry, more } = recipe;
        let [scratch, faults] = more.map(u32::from);
        let group = self.layout([shader.inputs(), shader.outputs(), scratch, faults])?;
        let (device, name, source) = (&self.opened.device, shader.name(), shader.wgsl(*real));
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        // A counter in every loop costs up to half the speed of a product, and each word from workgroup memory would be fetched at the lesser of two
        // indices. A user's shaders have both: their loops might not end, and their indices might be anything.
        let ours = shader.is_trusted();
        (checks.force_loop_bounding, checks.bounds_checks) = (!ours, !ours);
        self.opened.caught(|| {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kernel::Work;

    /// A program whose shader was made just now.
    fn made(name: &str, factor: u32, real: DType) -> Program {
        let text = format!(
            "@group(0) @binding(1) var<storage, read_write> y: array<Real>;
             @compute @workgroup_size(1) fn run() {{ y[0] = Real({factor}); }}
             @compute @workgroup_size(1) fn again() {{ y[0] += Real({factor}); }}"
        );
        let shader = Shader::new(name.to_owned(), text).with_operands(0, 1).into();
        let passes = ["run", "again"].map(|entry| Pass::new(entry.to_owned(), 1, 0));
        Program::new(&shader, real, &[], passes.into(), Work::default())
    }

    #[test]
    fn what_is_one_shader_is_compiled_once() {
        let Some(adapter) = crate::device::gpu::adapters::any() else { return };
        let opened = Arc::new(Opened::new(&adapter).unwrap());
        let (sender, compiled) = channel();
        let pipelines = Pipelines::start(opened, "test", move || sender.send(()).unwrap_or(())).unwrap();
        // The two names have one hash (FNV-1a, 64 bits).
        let (name, namesake) = ("8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ");
        let [one, other] = [name, namesake].map(|name| made(name, 1, DType::F32));
        assert!(one.shader != other.shader && one.shader.content() == other.shader.content());
        let mut expected = 0;
        for (factor, program) in [(1, one), (1, other), (2, made(name, 2, DType::F32)), (1, made(name, 1, DType::F64))] {
            if program.real == DType::F64 && !adapter.has_f64 {
                continue;
            }
            assert!(pipelines.of(&program).unwrap().is_none(), "it is another one");
            (0..2).for_each(|_| compiled.recv_timeout(Duration::from_secs(120)).unwrap());
            expected += 2;
            let [run, again] = &pipelines.of(&program).unwrap().unwrap()[..] else { panic!("two passes") };
            assert_ne!(run, again);
            let anew = made(program.shader.name(), factor, program.real);
            assert!(!Arc::ptr_eq(&anew.shader, &program.shader) && anew.shader == program.shader);
            assert_eq!(pipelines.of(&anew).unwrap().unwrap(), [run.clone(), again.clone()]);
        }
        assert_eq!(pipelines.states().values().map(Vec::len).sum::<usize>(), expected);
        assert!(compiled.try_recv().is_err());
    }
}
